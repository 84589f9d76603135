-- How often each reduced cell went wrong, image by image. A sample that failed, here or in its full cell, and one
-- without a grade count as having gone wrong: nobody can show that they did not. NULL where no sample has a grade.
WITH
totals AS (
    SELECT
        cell_id,
        count(*)::BIGINT AS n,
        count_if(NOT ok)::BIGINT AS n_errors,
        count(correct) FILTER (ok) > 0 AS graded,
        mean(CASE WHEN ok THEN mean_visual_tokens END) AS layer_mean_tokens
    FROM outcomes
    GROUP BY cell_id
),
of_images AS (
    SELECT
        cell_id,
        count(*)::INTEGER AS samples,
        unnest([
            {risk: 'negative_flip', events: count_if(coalesce(NOT ok OR neg_flip, true))::INTEGER},
            {risk: 'flip', events: count_if(coalesce(NOT ok OR neg_flip OR pos_flip, true))::INTEGER},
            {risk: 'divergence', events: count_if(NOT ok OR NOT agrees)::INTEGER}
        ], recursive := true)
    FROM outcomes
    GROUP BY cell_id, cluster
),
of_patterns AS (
    SELECT cell_id, risk, samples, events, count(*)::INTEGER AS images
    FROM of_images
    GROUP BY ALL
),
patterns AS (
    SELECT
        cell_id, risk,
        sum(images)::BIGINT AS n_images,
        sum(events * images)::BIGINT AS n_events,
        -- how many images have so many samples of which so many went wrong: all that a bound needs
        list({samples: samples, events: events, images: images} ORDER BY samples, events) AS patterns
    FROM of_patterns
    GROUP BY cell_id, risk
)
SELECT
    model, dataset, method, keep, seed, layer_mean_tokens, risk, n, n_images, n_errors,
    CASE WHEN known THEN n_events END AS n_events,
    CASE WHEN known THEN n_events / n END AS rate,
    CASE WHEN known THEN patterns ELSE [] END AS patterns
FROM (SELECT *, graded OR risk = 'divergence' AS known FROM totals JOIN patterns USING (cell_id))
JOIN grid USING (cell_id)
WHERE method <> 'full'
ORDER BY model, dataset, method, keep, seed, risk;
