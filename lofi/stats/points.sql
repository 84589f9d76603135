-- What the correlations are about, for every spectral delta. full and floor are no treatments and stay out, and so do
-- quantised weights, which change answers while every visual token enters the LLM as it did. Three kinds of points:
--   method  one per (model, dataset, method, keep), the mean over its seeds
--   random  one per (model, dataset, method, keep, seed) of the random reducers: no choice of tokens plays a part
--   excess  a method's point less the mean of the random ones at its (model, dataset, keep), on both sides
-- Methods that set their own count (keep 'auto') share no keep: each is a group of its own within
-- (model, dataset, keep), which says nothing there.
CREATE TEMP TABLE points AS
WITH
responses AS (
    SELECT
        model, dataset, method, keep, seed, agreement,
        ln(coalesce(layer_mean_tokens, kept_tokens) / nullif(full_tokens, 0)) AS ln_keep,
        list_contains(getvariable('random_methods'), method) AS is_random
    FROM cells
    WHERE weights = 'none' AND method NOT IN ('full', 'floor') AND agreement IS NOT NULL
),
changes AS (
    SELECT *
    FROM (
        SELECT model, dataset, method, keep, seed, statistic, site, tokens, centred, delta AS d, dlog
        FROM spectra SEMI JOIN responses USING (model, dataset, method, keep, seed)
    ) UNPIVOT INCLUDE NULLS (change FOR delta IN (d, dlog))
),
methods AS (
    SELECT model, dataset, method, keep, is_random, mean(agreement) AS agreement, mean(ln_keep) AS ln_keep
    FROM responses
    GROUP BY ALL
),
of_methods AS (
    SELECT
        'method' AS kind, model, dataset, method, keep, NULL::INTEGER AS seed, is_random,
        delta, statistic, site, tokens, centred, agreement, ln_keep, mean(change) AS change
    FROM changes JOIN methods USING (model, dataset, method, keep)
    GROUP BY ALL
),
of_seeds AS (
    SELECT
        'random' AS kind, model, dataset, method, keep, seed, is_random,
        delta, statistic, site, tokens, centred, agreement, ln_keep, change
    FROM changes JOIN responses USING (model, dataset, method, keep, seed)
    WHERE is_random
),
baselines AS (
    SELECT model, dataset, keep, mean(agreement) AS agreement FROM responses WHERE is_random GROUP BY ALL
),
baseline_changes AS (
    SELECT model, dataset, keep, delta, statistic, site, tokens, centred, mean(change) AS change
    FROM of_seeds
    GROUP BY ALL
),
of_excess AS (
    SELECT
        'excess' AS kind, model, dataset, of_methods.method, keep, of_methods.seed, is_random,
        delta, statistic, site, tokens, centred,
        of_methods.agreement - baselines.agreement AS agreement,
        ln_keep,
        of_methods.change - baseline_changes.change AS change
    FROM of_methods
    JOIN baselines USING (model, dataset, keep)
    JOIN baseline_changes USING (model, dataset, keep, delta, statistic, site, tokens, centred)
    WHERE NOT is_random
)
SELECT
    kind, model, dataset, method, keep,
    dense_rank() OVER (PARTITION BY kind ORDER BY model, dataset, method, keep, seed)::INTEGER - 1 AS point,
    dense_rank() OVER (ORDER BY delta, statistic, site, tokens, centred)::INTEGER - 1 AS variable,
    dense_rank() OVER (ORDER BY model, dataset)::INTEGER - 1 AS model_dataset,
    dense_rank() OVER (ORDER BY model, dataset, keep, CASE WHEN keep = 'auto' THEN method END)::INTEGER - 1
        AS model_dataset_keep,
    dense_rank() OVER (ORDER BY method)::INTEGER - 1 AS method_id,
    delta, statistic, site, tokens, centred,
    agreement, ln_keep, change
FROM (FROM of_methods UNION ALL FROM of_seeds UNION ALL FROM of_excess)
ORDER BY kind, point, variable;
