-- Everything that would make a comparison meaningless: one row per problem and cell, worst kind first.
WITH
references_of AS (
    SELECT
        model, dataset, min(cell_id) AS cell_id,
        count_if(method = 'full') AS n_full,
        count_if(method = 'floor') AS n_floor
    FROM grid
    GROUP BY model, dataset
),
full_ids AS (SELECT cell_id AS full_cell_id, sample_id FROM full_answers),
-- Where each row of a cell has its one partner in the full cell, and each sample of that has one here, no id is repeated,
-- foreign or absent; only other cells are looked at one by one.
whole_cells AS (
    SELECT cell_id
    FROM (SELECT cell_id, count(*) AS n, count(DISTINCT sample) AS n_samples FROM paired GROUP BY cell_id)
    JOIN grid USING (cell_id)
    JOIN (SELECT full_cell_id, count(*) AS n_full FROM full_ids GROUP BY full_cell_id) USING (full_cell_id)
    WHERE n = n_rows AND n = n_full AND n_samples = n_full
),
odd_cells AS (SELECT cell_id, full_cell_id FROM grid ANTI JOIN whole_cells USING (cell_id)),
odd_ids AS (SELECT cell_id, full_cell_id, sample_id FROM answers SEMI JOIN odd_cells USING (cell_id)),
foreign_ids AS (
    SELECT cell_id, sample_id
    FROM odd_ids ANTI JOIN full_ids USING (full_cell_id, sample_id)
    WHERE full_cell_id IS NOT NULL
),
absent_ids AS (
    SELECT cell_id, sample_id
    FROM odd_cells JOIN full_ids USING (full_cell_id)
    ANTI JOIN odd_ids USING (cell_id, sample_id)
),
bad_pairs AS (
    SELECT
        CASE
            WHEN doc <> full_doc THEN 'other_doc'
            WHEN target_key <> full_target_key THEN 'other_target'
            WHEN setting <> full_setting THEN 'other_setting'
            WHEN cluster_id <> full_cluster_id THEN 'other_cluster'
            WHEN agrees AND graded AND correct <> full_correct THEN 'regraded'
            WHEN NOT isfinite(coalesce(kl, 0) + coalesce(js, 0) + coalesce(tv, 0)) THEN 'not_finite'
        END AS problem,
        cell_id, sample_id
    FROM paired
    WHERE ok
),
two_scorers AS (
    SELECT cell_id
    FROM full_scorers
    QUALIFY scorer <> first_value(scorer) OVER (PARTITION BY dataset ORDER BY cell_id, scorer)
),
problems AS (
    SELECT 1 AS rank, 'no_full' AS problem, cell_id, NULL AS sample_id FROM references_of WHERE n_full = 0
    UNION ALL
    SELECT 1, 'many_full', cell_id, NULL FROM references_of WHERE n_full > 1
    UNION ALL
    SELECT 2, 'many_floor', cell_id, NULL FROM references_of WHERE n_floor > 1
    UNION ALL
    SELECT 3, 'repeated', cell_id, sample_id FROM odd_ids GROUP BY cell_id, sample_id HAVING count(*) > 1
    UNION ALL
    SELECT 4, 'foreign_ids', cell_id, sample_id FROM foreign_ids
    UNION ALL
    SELECT 5, 'absent_ids', cell_id, sample_id FROM absent_ids
    UNION ALL
    SELECT 6, problem, cell_id, sample_id FROM bad_pairs WHERE problem IS NOT NULL
    UNION ALL
    SELECT 7, 'two_scorers', cell_id, NULL FROM two_scorers
)
SELECT problem, cell_id, model, dataset, method, keep, seed, count(*) AS n, min(sample_id, 3) AS examples
FROM problems JOIN grid USING (cell_id)
GROUP BY rank, problem, cell_id, model, dataset, method, keep, seed
ORDER BY rank, problem, cell_id;
