-- Every measure of every cell, in one shape: its value, that of the full model over the same samples where it has one of
-- its own, and how much of it a second run of the full model shows as well.
CREATE TABLE measures AS
WITH
found AS (
    SELECT 'answers' AS topic, cell_id, channel, measure, value, full_value, n FROM answer_measures
    UNION ALL BY NAME
    SELECT 'logits' AS topic, * FROM logit_measures
    UNION ALL BY NAME
    SELECT 'margins' AS topic, * FROM margin_measures
    UNION ALL BY NAME
    SELECT 'texts' AS topic, * FROM text_measures
    UNION ALL BY NAME
    SELECT 'calibration' AS topic, * FROM calibration_measures
),
compared AS (
    SELECT
        cell_id, model, dataset, method, weights, keep, seed, topic, channel, measure, value, full_value,
        value - full_value AS change,
        coalesce(n, 0) AS n,
        -- what noise can move: the change where the full model has a value of its own
        CASE WHEN full_value IS NULL THEN value ELSE value - full_value END AS moved
    FROM found JOIN grid USING (cell_id)
),
floors AS (
    SELECT model, dataset, topic, channel, measure, moved AS floor, n AS n_floor
    FROM compared
    WHERE method = 'floor'
)
SELECT
    model, dataset, method, weights, keep, seed, topic, channel, measure, value, full_value, change,
    -- Of the change where there is one, else of the value; of agreement there is one interval, which `cells` has.
    CASE measure WHEN 'divergence_rate' THEN 1 - agreement_high ELSE low END AS low,
    CASE measure WHEN 'divergence_rate' THEN 1 - agreement_low ELSE high END AS high,
    floor,
    -- A difference of two ratios says nothing.
    CASE WHEN measure NOT IN ('hidden_ratio', 'cancellation', 'win_loss', 'error_novelty', 'margin_auroc', 'chance', 'ece_null')
        THEN moved - floor END AS excess,
    excess_low, excess_high,
    n, n_floor
FROM compared
LEFT JOIN floors USING (model, dataset, topic, channel, measure)
JOIN (SELECT model, dataset, method, keep, seed, agreement_low, agreement_high FROM cells)
    USING (model, dataset, method, keep, seed)
LEFT JOIN measure_bounds USING (cell_id, channel, measure)
ORDER BY model, dataset, method, keep, seed, topic, channel, measure;
