-- Are answers lost where the full model was least sure? Its margin is over the options where there are any, else over
-- all tokens, and the two are no one scale.
CREATE TEMP VIEW by_margin AS
SELECT
    cell_id, full_cell_id, sample, agrees, neg_flip, full_margin AS margin,
    CASE WHEN n_options > 0 THEN 'options' ELSE 'tokens' END AS channel
FROM outcomes
WHERE ok AND isfinite(full_margin);

-- Fifths of the full cell, the least sure first, so that all cells count the same samples in each.
CREATE TABLE margins AS
WITH fifths AS (
    SELECT
        cell_id AS full_cell_id, sample,
        ntile(5) OVER (PARTITION BY cell_id, channel ORDER BY margin, sample) AS fifth
    FROM by_margin
    WHERE cell_id = full_cell_id
)
SELECT
    model, dataset, method, weights, keep, seed, channel, fifth,
    min(margin)::DOUBLE AS margin_min, max(margin)::DOUBLE AS margin_max,
    count(*) AS n,
    occurrences(NOT agrees) AS n_changed,
    mean(NOT agrees) AS divergence_rate,
    count(neg_flip) AS n_graded,
    mean(neg_flip) AS neg_flip
FROM by_margin
JOIN fifths USING (full_cell_id, sample)
JOIN grid USING (cell_id)
GROUP BY ALL
ORDER BY model, dataset, method, keep, seed, channel, fifth;

-- The chance that the full model was less sure of an answer that changed than of one that did not; equal margins count
-- half. 0.5 is no use, NULL where nothing or everything changed.
CREATE TEMP TABLE margin_measures AS
WITH
ties AS (
    SELECT cell_id, channel, margin, count_if(NOT agrees) AS changed, count_if(agrees) AS stayed
    FROM by_margin
    GROUP BY ALL
),
above AS (
    SELECT
        cell_id, channel, changed, stayed,
        coalesce(sum(stayed) OVER (
            PARTITION BY cell_id, channel ORDER BY margin DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ), 0) AS surer
    FROM ties
)
SELECT
    cell_id, channel, 'margin_auroc' AS measure,
    sum(changed * (2 * surer + stayed)) / nullif(2 * sum(changed) * sum(stayed), 0) AS value,
    NULL::DOUBLE AS full_value,
    sum(changed + stayed)::BIGINT AS n
FROM above
GROUP BY cell_id, channel;

DROP VIEW by_margin;
