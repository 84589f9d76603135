-- What the correlations are about: one point per (model, dataset, method, keep), the mean over its seeds,
-- for every spectral delta. full and floor are no treatments and stay out, and so do quantised weights, which change
-- answers while every visual token enters the LLM as it did. Methods that set their own count (keep
-- 'auto') share no keep: each is a group of its own within (model, dataset, keep), which says nothing there.
CREATE TEMP TABLE points AS
WITH
changes AS (
    SELECT *
    FROM (
        SELECT model, dataset, method, keep, seed, statistic, site, tokens, centred, delta AS d, dlog
        FROM spectra
        WHERE method NOT IN ('full', 'floor')
    ) UNPIVOT INCLUDE NULLS (change FOR delta IN (d, dlog))
),
responses AS (
    SELECT model, dataset, method, keep, mean(agreement) AS agreement
    FROM cells
    WHERE weights = 'none'
    GROUP BY ALL
)
SELECT
    dense_rank() OVER (ORDER BY model, dataset, method, keep)::INTEGER - 1 AS point,
    dense_rank() OVER (ORDER BY delta, statistic, site, tokens, centred)::INTEGER - 1 AS variable,
    dense_rank() OVER (ORDER BY model, dataset)::INTEGER - 1 AS model_dataset,
    dense_rank() OVER (ORDER BY model, dataset, keep, CASE WHEN keep = 'auto' THEN method END)::INTEGER - 1
        AS model_dataset_keep,
    delta, statistic, site, tokens, centred,
    agreement,
    mean(change) AS change
FROM changes JOIN responses USING (model, dataset, method, keep)
WHERE agreement IS NOT NULL
GROUP BY model, dataset, method, keep, delta, statistic, site, tokens, centred, agreement
ORDER BY point, variable;
