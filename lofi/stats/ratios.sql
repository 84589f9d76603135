-- What figures of whole datasets are made of: ratios of sums, so that the bootstrap can take them from sums by image.
-- `figures` says which dataset needs which ratio, of all its samples or within each of its categories.

-- Every sample twice: held against the right answer, and against the full model's. `hit` is NULL where the sample did
-- not run or has no grade. `label_yes` follows from what was said and whether that was right; it stays unknown where
-- neither yes nor no was said, and no figure asks for it there.
CREATE TEMP VIEW hits AS
SELECT
    cell_id, dataset, cluster_id, category, l2_category, group_key, figure_key, unrotated, says_yes,
    unnest([
        {
            basis: 'correct',
            hit: CASE WHEN ok THEN correct END,
            worth: CASE WHEN ok AND correct IS NOT NULL THEN score::DOUBLE END,
            label_yes: says_yes = correct
        },
        {
            basis: 'agreement',
            hit: CASE WHEN ok THEN agrees END,
            worth: CASE WHEN ok THEN agrees::INTEGER::DOUBLE END,
            label_yes: full_says_yes
        }
    ], recursive := true)
FROM outcomes JOIN grid USING (cell_id)
WHERE dataset IN (SELECT dataset FROM figures);

CREATE TEMP VIEW parts AS
SELECT *
FROM (
    SELECT
        * EXCLUDE (category, l2_category),
        CASE within WHEN 'category' THEN category WHEN 'l2_category' THEN l2_category ELSE '' END AS part
    FROM hits JOIN (SELECT DISTINCT dataset, within FROM figures) USING (dataset)
)
WHERE part IS NOT NULL;

CREATE TEMP TABLE ratios AS
WITH
of_samples AS (
    SELECT
        cell_id, dataset, basis, within, part, cluster_id,
        count(hit) AS n,
        count(*) FILTER (hit) AS hits,
        total(finite(worth)) AS worth,
        count(*) FILTER (says_yes AND hit IS NOT NULL) AS yes,
        count(*) FILTER (says_yes AND label_yes AND hit IS NOT NULL) AS true_yes,
        count(*) FILTER (NOT says_yes AND label_yes AND hit IS NOT NULL) AS false_no,
        count(*) FILTER (unrotated AND hit IS NOT NULL) AS n_unrotated,
        count(*) FILTER (unrotated AND hit) AS unrotated_hits
    FROM parts
    GROUP BY ALL
),
-- A group of which a sample failed is left out, as a failed sample is. One whose samples lie in several clusters is
-- resampled with the first of them.
groups AS (
    SELECT cell_id, dataset, basis, within, part, min(cluster_id) AS cluster_id, count(*) AS n, count(*) FILTER (hit) AS hits
    FROM parts
    WHERE dataset IN (SELECT dataset FROM figures WHERE ratio IN ('groups', 'pairs'))
    GROUP BY cell_id, dataset, basis, within, part, group_key
    HAVING count(hit) = count(*)
),
of_groups AS (
    SELECT
        cell_id, dataset, basis, within, part, cluster_id,
        sum(n) AS n, sum(hits) AS hits, sum(CASE WHEN hits = n THEN n ELSE 0 END) AS n_whole,
        count(*) AS n_groups, count(*) FILTER (hits = n) AS whole_groups
    FROM groups
    GROUP BY ALL
),
of_figures AS (
    SELECT
        cell_id, dataset, basis, within, part, cluster_id,
        sum(n) AS n, count(*) AS n_groups, count(*) FILTER (hits = n) AS whole_groups
    FROM (
        SELECT
            cell_id, dataset, basis, within, part, min(cluster_id) AS cluster_id,
            count(*) AS n, count(*) FILTER (hit) AS hits
        FROM parts
        WHERE figure_key IS NOT NULL AND dataset IN (SELECT dataset FROM figures WHERE ratio = 'figures')
        GROUP BY cell_id, dataset, basis, within, part, figure_key
        HAVING count(hit) = count(*)
    )
    GROUP BY ALL
),
every_ratio AS (
    SELECT
        * EXCLUDE (n, hits, worth, yes, true_yes, false_no, n_unrotated, unrotated_hits),
        unnest([
            {ratio: 'samples', numerator: hits::DOUBLE, denominator: n, n: n},
            {ratio: 'score', numerator: worth, denominator: n, n: n},
            {ratio: 'unrotated', numerator: unrotated_hits::DOUBLE, denominator: n_unrotated, n: n_unrotated},
            {ratio: 'precision', numerator: true_yes::DOUBLE, denominator: yes, n: n},
            {ratio: 'recall', numerator: true_yes::DOUBLE, denominator: true_yes + false_no, n: n},
            -- 2 true yes / (2 true yes + false yes + false no)
            {ratio: 'f1', numerator: 2 * true_yes::DOUBLE, denominator: true_yes + yes + false_no, n: n},
            {ratio: 'yes', numerator: yes::DOUBLE, denominator: CASE basis WHEN 'correct' THEN n END, n: n}
        ], recursive := true)
    FROM of_samples
    UNION ALL
    SELECT
        * EXCLUDE (n, hits, n_whole, n_groups, whole_groups),
        unnest([
            {ratio: 'groups', numerator: whole_groups::DOUBLE, denominator: n_groups, n: n::BIGINT},
            -- the mean of the share of hits and the share of whole groups, where all groups are pairs
            {ratio: 'pairs', numerator: (hits + n_whole)::DOUBLE, denominator: 2 * n::BIGINT, n: n::BIGINT}
        ], recursive := true)
    FROM of_groups
    UNION ALL
    SELECT
        * EXCLUDE (n, n_groups, whole_groups),
        unnest([{ratio: 'figures', numerator: whole_groups::DOUBLE, denominator: n_groups, n: n::BIGINT}],
            recursive := true)
    FROM of_figures
)
SELECT cell_id, dataset, basis, ratio, within, part, cluster, coalesce(numerator, 0) AS numerator, denominator, n
FROM every_ratio
JOIN (SELECT DISTINCT dataset, ratio, within FROM figures) USING (dataset, ratio, within)
JOIN (SELECT DISTINCT dataset, cluster_id, cluster FROM clusters) USING (dataset, cluster_id)
WHERE denominator IS NOT NULL;

DROP VIEW parts;
DROP VIEW hits;

-- Which ratios each figure adds up, with which weights. Ratios and figures are numbered within their dataset.
CREATE TEMP TABLE terms AS
WITH found AS (
    SELECT
        *, dense_rank() OVER (PARTITION BY dataset ORDER BY basis, ratio, within, part)::INTEGER - 1 AS ratio_id
    FROM (SELECT DISTINCT dataset, basis, ratio, within, part FROM ratios)
),
chosen AS (
    SELECT *, CASE pool WHEN 'each' THEN nullif(part, '') END AS category
    FROM figures JOIN found USING (dataset, ratio, within)
    WHERE len(among) = 0 OR list_contains(among, part)
)
SELECT
    dataset, basis, ratio, within, part, ratio_id, place, metric, category,
    dense_rank() OVER (PARTITION BY dataset ORDER BY place, category, basis DESC)::INTEGER - 1 AS figure_id,
    CASE pool WHEN 'mean' THEN scale / count(*) OVER (PARTITION BY dataset, basis, place) ELSE scale END AS weight
FROM chosen;
