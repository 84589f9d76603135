-- One row per cell and figure of its dataset, held against the right answers and against the full model's.
CREATE TABLE metrics AS
WITH
rates AS (
    SELECT
        cell_id, basis, ratio, within, part, sum(n)::BIGINT AS n,
        total(numerator) / nullif(sum(denominator), 0) AS rate
    FROM ratios
    GROUP BY ALL
),
valued AS (
    SELECT
        cell_id, figure_id, place, metric, category, basis,
        -- Without one of its parts a figure would be of another dataset.
        CASE WHEN count(rate) = count(*) THEN total(weight * rate) END AS value,
        coalesce(sum(n), 0)::BIGINT AS n,
        round(sum(weight), 6) AS most
    FROM grid
    JOIN terms USING (dataset)
    LEFT JOIN rates USING (cell_id, basis, ratio, within, part)
    GROUP BY ALL
)
SELECT
    model, dataset, method, keep, seed, metric, category, basis, value,
    -- The full cell agrees with itself by definition: no sampling error.
    CASE WHEN method = 'full' AND basis = 'agreement' THEN value ELSE low END AS low,
    CASE WHEN method = 'full' AND basis = 'agreement' THEN value ELSE high END AS high,
    n,  -- samples, also where groups of them are counted
    CASE most WHEN 1 THEN 'share' ELSE 'of ' || most::BIGINT END AS unit
FROM valued
JOIN grid USING (cell_id)
LEFT JOIN figure_intervals USING (cell_id, figure_id)
ORDER BY model, dataset, method, keep, seed, place, category, basis DESC;
