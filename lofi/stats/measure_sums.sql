-- Sums by image of those measures that have intervals, of what noise can move in each sample. A mean is `total` over `n`.
-- The expected calibration error keeps its bins: 0 to 14 are those of this run, 15 to 29 those of the full run.
CREATE TEMP TABLE measure_sums AS
WITH moves AS (
    SELECT cell_id, cluster_id, unnest([
        {channel: 'answer', measure: 'divergence_rate', part: 0, moved: (NOT agrees)::INTEGER::DOUBLE, counts: true},
        {channel: 'tokens', measure: 'kl', part: 0, moved: kl, counts: true}
    ], recursive := true)
    FROM outcomes
    WHERE ok
    UNION ALL
    SELECT cell_id, cluster_id, unnest([
        {channel: 'options', measure: 'kl', part: 0, moved: kl, counts: true},
        {channel: 'options', measure: 'answer_margin', part: 0, moved: margin_change, counts: true},
        {channel: 'options', measure: 'nll', part: 0, moved: nll - full_nll, counts: true}
    ], recursive := true)
    FROM option_samples
    UNION ALL BY NAME
    SELECT cell_id, cluster_id, channel, NOT of_full AS counts, unnest([
        {measure: 'brier', part: 0, moved: CASE WHEN of_full THEN -brier ELSE brier END},
        {measure: 'ece', part: mass_bin - 1 + CASE WHEN of_full THEN 15 ELSE 0 END, moved: confidence - correct::INTEGER}
    ], recursive := true)
    FROM binned
)
SELECT cell_id, cluster, channel, measure, part, total(moved) AS total, count_if(counts)::DOUBLE AS n
FROM moves JOIN (SELECT cell_id, cluster_id, cluster FROM clusters) USING (cell_id, cluster_id)
WHERE isfinite(moved)
GROUP BY ALL
ORDER BY channel, measure, cell_id;  -- as they are read

DROP TABLE binned;
DROP TABLE option_samples;
