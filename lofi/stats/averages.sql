-- One row per model, method and keep: means over all datasets of the model, of each dataset the mean over its seeds. NULL
-- where one of the datasets lacks the value, because means over other datasets are no comparison.
CREATE TABLE averages AS
WITH
by_measure AS (
    SELECT
        model, dataset, method, keep, seed,
        max(value) FILTER (measure = 'relative_above_chance') AS relative_above_chance
    FROM measures
    WHERE topic = 'answers'
    GROUP BY ALL
),
of_datasets AS (
    SELECT
        model, dataset, method, weights, keep,
        sum(n)::BIGINT AS n,
        mean(agreement) AS agreement, mean(relative_accuracy) AS relative_accuracy,
        mean(relative_above_chance) AS relative_above_chance
    FROM cells JOIN by_measure USING (model, dataset, method, keep, seed)
    GROUP BY model, dataset, method, weights, keep
),
sizes AS (SELECT model, count(DISTINCT dataset) AS n_of_model FROM cells GROUP BY model)
SELECT
    model, method, weights, keep,
    count(*) AS n_datasets,
    any_value(n_of_model) AS n_datasets_of_model,
    sum(n)::BIGINT AS n,
    CASE WHEN count(agreement) = any_value(n_of_model) THEN mean(agreement) END AS agreement,
    CASE WHEN count(relative_accuracy) = any_value(n_of_model) THEN mean(relative_accuracy) END AS relative_accuracy,
    CASE WHEN count(relative_above_chance) = any_value(n_of_model) THEN mean(relative_above_chance) END
        AS relative_above_chance,
    -- the root mean square of the relative accuracies
    CASE WHEN count(relative_accuracy) = any_value(n_of_model) THEN sqrt(mean(relative_accuracy ** 2)) END AS op_rms
FROM of_datasets JOIN sizes USING (model)
GROUP BY model, method, weights, keep
ORDER BY model, method, keep;
