-- One row per (model, dataset, method, keep): the rates of `cells` over the samples of all seeds together.
CREATE TABLE methods AS
WITH
seeds AS (
    SELECT model, dataset, method, keep, min(weights) AS weights, count(*) AS n_seeds
    FROM grid
    GROUP BY model, dataset, method, keep
),
rates AS (
    SELECT
        model, dataset, method, keep,
        sum(n)::BIGINT AS n,
        sum(n_graded)::BIGINT AS n_graded,
        sum(n_agree) / nullif(sum(n), 0) AS agreement,
        sum(n_correct) / nullif(sum(n_graded), 0) AS accuracy,
        sum(n_neg_flip) / nullif(sum(n_graded), 0) AS neg_flip
    FROM (SELECT * EXCLUDE (dataset) FROM clusters) JOIN grid USING (cell_id)
    GROUP BY model, dataset, method, keep
)
SELECT
    model, dataset, method, weights, keep, n_seeds,
    coalesce(n, 0) AS n, coalesce(n_graded, 0) AS n_graded,  -- samples, each counted in every seed
    agreement,
    -- The full cell agrees with itself by definition: no sampling error.
    CASE WHEN method = 'full' THEN agreement ELSE agreement_low END AS agreement_low,
    CASE WHEN method = 'full' THEN agreement ELSE agreement_high END AS agreement_high,
    accuracy, accuracy_low, accuracy_high,
    neg_flip,
    CASE WHEN method = 'full' THEN neg_flip ELSE neg_flip_low END AS neg_flip_low,
    CASE WHEN method = 'full' THEN neg_flip ELSE neg_flip_high END AS neg_flip_high
FROM seeds
LEFT JOIN rates USING (model, dataset, method, keep)
LEFT JOIN method_intervals USING (model, dataset, method, keep)
ORDER BY model, dataset, method, keep;
