-- Self-agreement: one row per (model, dataset, method, keep, variant), seeds pooled.
CREATE TABLE stability AS
SELECT
    model, dataset, method, keep, variant,
    count(DISTINCT image) FILTER (ok) AS n_images,
    count_if(NOT ok)::BIGINT AS n_errors,  -- of rows: images times seeds
    mean(overlap) AS overlap,              -- mean |S and S'| / |S|: S kept under float32, S' under the variant
    any_value(overlap_low) AS overlap_low,
    any_value(overlap_high) AS overlap_high,
    mean(identical) AS identical,          -- mean 1[S = S']
    min(overlap) AS worst
FROM kept_sets LEFT JOIN stability_intervals USING (place)
GROUP BY model, dataset, method, keep, variant
ORDER BY model, dataset, method, keep, variant;
