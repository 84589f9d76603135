-- What each method keeps of one image under rounded or noised features, against what it keeps under float32 ones.
CREATE TEMP TABLE kept_sets AS
WITH compared AS (
    SELECT
        model, dataset, method, keep, variant, image_hash,
        status = 'ok' AS ok,
        CASE
            WHEN status <> 'ok' THEN NULL
            WHEN n_kept > 0 THEN n_same / n_kept
            ELSE (n_kept_variant = 0)::INTEGER::DOUBLE  -- a method that drops every token
        END AS overlap,
        CASE WHEN status = 'ok' THEN n_same = n_kept AND n_kept_variant = n_kept END AS identical
    FROM stability_rows
)
SELECT
    * REPLACE (round(overlap * 4294967296) / 4294967296 AS overlap),  -- units of 2^-32: sums are exact in any order
    dense_rank() OVER (ORDER BY model, dataset, method, keep, variant)::INTEGER - 1 AS place,
    dense_rank() OVER (PARTITION BY dataset ORDER BY image_hash)::INTEGER - 1 AS image
FROM compared;
