-- What a cell's agreement is forecast from: one row per (model, dataset, method, keep), the mean over its seeds. Nothing
-- here needs a right answer, and but for `n_agree`, which is what the forecast is measured by, nothing needs an answer.
CREATE TEMP TABLE forecast_points AS
WITH
treated AS (
    SELECT
        model, dataset, method, keep,
        sum(n)::BIGINT AS n,
        sum(n_agree)::BIGINT AS n_agree,
        mean(agreement) AS agreement,
        mean(ln(kept_tokens / nullif(full_tokens, 0))) AS ln_kept,
        mean(ln(coalesce(layer_mean_tokens, kept_tokens) / nullif(full_tokens, 0))) AS ln_layers
    FROM cells
    WHERE weights = 'none' AND method NOT IN ('full', 'floor') AND agreement IS NOT NULL AND kept_tokens > 0
    GROUP BY ALL
),
-- The full model's margins on the target data, as its distribution.
margins AS (
    SELECT model, dataset, quantile_cont(ln(1 + margin), [0.05, 0.1, 0.25, 0.5, 0.75]) AS margins
    FROM outcomes JOIN grid USING (cell_id, full_cell_id)
    WHERE cell_id = full_cell_id AND ok AND margin >= 0 AND isfinite(margin)
    GROUP BY model, dataset
)
SELECT
    row_number() OVER (ORDER BY model, dataset, method, keep)::INTEGER - 1 AS point,
    dense_rank() OVER (ORDER BY model, dataset)::INTEGER - 1 AS model_dataset,
    *
FROM treated LEFT JOIN margins USING (model, dataset)
ORDER BY point;

-- Shifts of the spectra, for the statistics that are forecast from: enough to describe a spectrum, few enough to fit.
CREATE TEMP TABLE forecast_shifts AS
SELECT
    forecast_points.point,
    dense_rank() OVER (ORDER BY site, tokens, statistic, centred)::INTEGER - 1 AS variable,
    change
FROM points JOIN forecast_points USING (model, dataset, method, keep)
WHERE
    kind = 'method' AND delta = 'dlog'
    AND (statistic IN ('ipr_u', 'entropy_norm', 'top1_energy') AND centred OR statistic = 'ipr')
ORDER BY forecast_points.point, variable;
