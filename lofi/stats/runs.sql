-- One row per sample file: whose it is, how many rows and errors it holds, and how it was made.
CREATE TABLE runs AS
WITH contents AS (
    SELECT
        filename AS file,
        min(model) AS model, min(dataset) AS dataset, min(method) AS method, min(keep) AS keep, min(seed) AS seed,
        count(*) AS rows,
        count_if(status <> 'ok')::BIGINT AS errors
    FROM read_parquet(
        getvariable('sample_files'), union_by_name = true, hive_partitioning = false, filename = true
    )
    GROUP BY filename
)
SELECT
    path, key, model, dataset, method, keep, seed,
    coalesce(rows, 0) AS rows,
    coalesce(errors, 0) AS errors,
    provenance
FROM stamps LEFT JOIN contents USING (file)
ORDER BY path;
