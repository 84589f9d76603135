-- One row per sample file: whose it is, how many rows and errors it holds, and how it was made.
CREATE TABLE runs AS
WITH contents AS (
    SELECT
        filename AS file,
        min(model) AS model, min(dataset) AS dataset, min(method) AS method, min(keep) AS keep, min(seed) AS seed,
        count(*) AS rows,
        count_if(status <> 'ok')::BIGINT AS errors,
        -- one of each in a file, but for the mode where questions of one dataset are of several kinds
        min(prompt_style) AS prompt_style, min(scorer) AS scorer, min(scorer_version) AS scorer_version,
        string_agg(DISTINCT scoring_mode, ', ' ORDER BY scoring_mode) AS scoring_mode,
        min(template_hash) AS template_hash, min(image_mode) AS image_mode
    FROM read_parquet(
        getvariable('sample_files'), union_by_name = true, hive_partitioning = false, filename = true
    )
    GROUP BY filename
)
SELECT
    path, key, model, dataset, method, keep, seed,
    coalesce(rows, 0) AS rows,
    coalesce(errors, 0) AS errors,
    prompt_style, scorer, scorer_version, scoring_mode, template_hash, image_mode,
    provenance
FROM stamps LEFT JOIN contents USING (file)
ORDER BY path;
