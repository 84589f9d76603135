-- What figures of whole datasets are made of: ratios of sums, so that the bootstrap can take them from sums by image.
-- `figures` says which dataset needs which ratio, of all its samples or within each of its categories.

-- What each sample is, held against the right answer (`hit`) and against the full model's (`same`); NULL where it did not
-- run or has no grade. `label_yes` follows from what was said and whether that was right; it stays unknown where neither
-- yes nor no was said, and no figure asks for it there.
CREATE TEMP VIEW parts AS
SELECT *
FROM (
    SELECT
        cell_id, cluster, group_key, figure_key, unrotated, says_yes,
        CASE WHEN ok THEN correct END AS hit,
        CASE WHEN ok THEN agrees END AS same,
        CASE WHEN ok AND correct IS NOT NULL THEN score END AS worth,
        says_yes = correct AS label_yes,
        full_says_yes,
        within,
        CASE within WHEN 'category' THEN category WHEN 'l2_category' THEN l2_category ELSE '' END AS part
    FROM outcomes
    JOIN (SELECT cell_id, dataset FROM grid) USING (cell_id)
    JOIN (SELECT DISTINCT dataset, within FROM figures) USING (dataset)
)
WHERE part IS NOT NULL;

-- The same, once for each thing that it is held against: for what is counted by groups of samples.
CREATE TEMP VIEW held AS
SELECT cell_id, within, part, cluster, group_key, figure_key, unnest([
    {basis: 'correct', hit: hit},
    {basis: 'agreement', hit: same}
], recursive := true)
FROM parts;

CREATE TEMP TABLE ratios AS
WITH
of_images AS (
    SELECT
        cell_id, within, part, cluster,
        count(hit) AS n, count(same) AS n_same,
        count_if(hit) AS hits, count_if(same) AS same_hits,
        total(finite(worth)) AS worth,
        count_if(says_yes AND hit IS NOT NULL) AS yes, count_if(says_yes AND same IS NOT NULL) AS same_yes,
        count_if(says_yes AND label_yes AND hit IS NOT NULL) AS true_yes,
        count_if(says_yes AND full_says_yes AND same IS NOT NULL) AS same_true_yes,
        count_if(NOT says_yes AND label_yes AND hit IS NOT NULL) AS false_no,
        count_if(NOT says_yes AND full_says_yes AND same IS NOT NULL) AS same_false_no,
        count_if(unrotated AND hit IS NOT NULL) AS n_unrotated, count_if(unrotated AND same IS NOT NULL) AS same_unrotated,
        count_if(unrotated AND hit) AS unrotated_hits, count_if(unrotated AND same) AS same_unrotated_hits
    FROM parts
    GROUP BY ALL
),
of_samples AS (
    SELECT cell_id, within, part, cluster, unnest([
        {
            basis: 'correct', n: n, hits: hits, worth: worth, yes: yes, true_yes: true_yes, false_no: false_no,
            n_unrotated: n_unrotated, unrotated_hits: unrotated_hits
        },
        {
            basis: 'agreement', n: n_same, hits: same_hits, worth: same_hits::DOUBLE, yes: same_yes,
            true_yes: same_true_yes, false_no: same_false_no, n_unrotated: same_unrotated,
            unrotated_hits: same_unrotated_hits
        }
    ], recursive := true)
    FROM of_images
),
-- A group of which a sample failed is left out, as a failed sample is. One whose samples lie in several clusters is
-- resampled with the first of them.
groups AS (
    SELECT cell_id, basis, within, part, min(cluster) AS cluster, count(*) AS n, count_if(hit) AS hits
    FROM held
    WHERE cell_id IN (SELECT cell_id FROM grid JOIN figures USING (dataset) WHERE ratio IN ('groups', 'pairs'))
    GROUP BY cell_id, basis, within, part, group_key
    HAVING count(hit) = count(*)
),
of_groups AS (
    SELECT
        cell_id, basis, within, part, cluster,
        sum(n)::BIGINT AS n, sum(hits)::BIGINT AS hits, sum(CASE WHEN hits = n THEN n ELSE 0 END)::BIGINT AS n_whole,
        count(*) AS n_groups, count_if(hits = n) AS whole_groups
    FROM groups
    GROUP BY ALL
),
of_figures AS (
    SELECT
        cell_id, basis, within, part, cluster,
        sum(n)::BIGINT AS n, count(*) AS n_groups, count_if(hits = n) AS whole_groups
    FROM (
        SELECT cell_id, basis, within, part, min(cluster) AS cluster, count(*) AS n, count_if(hit) AS hits
        FROM held
        WHERE
            figure_key IS NOT NULL
            AND cell_id IN (SELECT cell_id FROM grid JOIN figures USING (dataset) WHERE ratio = 'figures')
        GROUP BY cell_id, basis, within, part, figure_key
        HAVING count(hit) = count(*)
    )
    GROUP BY ALL
),
asked AS (
    SELECT cell_id, dataset, ratio, within
    FROM grid JOIN (SELECT DISTINCT dataset, ratio, within FROM figures) USING (dataset)
),
every_ratio AS (
    SELECT
        cell_id, dataset, basis, ratio, within, part, cluster,
        CASE ratio
            WHEN 'samples' THEN hits::DOUBLE
            WHEN 'score' THEN worth
            WHEN 'unrotated' THEN unrotated_hits::DOUBLE
            WHEN 'precision' THEN true_yes::DOUBLE
            WHEN 'recall' THEN true_yes::DOUBLE
            -- 2 true yes / (2 true yes + false yes + false no)
            WHEN 'f1' THEN 2 * true_yes::DOUBLE
            WHEN 'yes' THEN yes::DOUBLE
        END AS numerator,
        CASE ratio
            WHEN 'unrotated' THEN n_unrotated
            WHEN 'precision' THEN yes
            WHEN 'recall' THEN true_yes + false_no
            WHEN 'f1' THEN true_yes + yes + false_no
            WHEN 'yes' THEN CASE basis WHEN 'correct' THEN n END
            ELSE n
        END AS denominator,
        n
    FROM of_samples JOIN asked USING (cell_id, within)
    WHERE ratio NOT IN ('groups', 'pairs', 'figures')
    UNION ALL
    SELECT
        cell_id, dataset, basis, ratio, within, part, cluster,
        -- of pairs the mean of the share of hits and the share of whole groups, where all groups are pairs
        CASE ratio WHEN 'groups' THEN whole_groups ELSE hits + n_whole END::DOUBLE AS numerator,
        CASE ratio WHEN 'groups' THEN n_groups ELSE 2 * n END AS denominator,
        n
    FROM of_groups JOIN asked USING (cell_id, within)
    WHERE ratio IN ('groups', 'pairs')
    UNION ALL
    SELECT cell_id, dataset, basis, ratio, within, part, cluster, whole_groups::DOUBLE, n_groups, n
    FROM of_figures JOIN asked USING (cell_id, within)
    WHERE ratio = 'figures'
)
SELECT cell_id, dataset, basis, ratio, within, part, cluster, coalesce(numerator, 0) AS numerator, denominator, n
FROM every_ratio
SEMI JOIN (SELECT DISTINCT dataset, cluster FROM clusters) USING (dataset, cluster)
WHERE denominator IS NOT NULL;

DROP VIEW held;
DROP VIEW parts;

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
