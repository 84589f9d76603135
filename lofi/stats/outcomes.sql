-- What became of each answer. An answer that agrees is in none of the four classes, one that changed in exactly one:
-- 1 - agreement = neg_flip + pos_flip + wrong_to_other + right_to_other. All NULL where there is no grade.
CREATE TEMP TABLE outcomes AS
SELECT
    cell_id, full_cell_id, sample, cluster, category, l2_category, group_key, figure_key, unrotated,
    ok, agrees, unparsed, full_unparsed, says_yes, full_says_yes,
    task_type, n_options, position, full_position, answer_key, full_answer_key,
    CASE WHEN graded THEN NOT agrees AND full_correct AND NOT correct END AS neg_flip,
    CASE WHEN graded THEN NOT agrees AND NOT full_correct AND correct END AS pos_flip,
    CASE WHEN graded THEN NOT agrees AND NOT full_correct AND NOT correct END AS wrong_to_other,
    CASE WHEN graded THEN NOT agrees AND full_correct AND correct END AS right_to_other,
    CASE WHEN graded THEN correct END AS correct,
    CASE WHEN graded THEN full_correct END AS full_correct,
    score, full_score, margin, full_margin, kl, js, tv,
    n_visual_kept, n_visual_full, mean_visual_tokens, n_layers, row_tokens, row_pairs,
    answer_mass, top1_is_option,
    t_vision_ms, t_select_ms, t_prefill_ms, t_decode_ms
FROM paired;

CREATE TEMP TABLE sample_ids AS SELECT cell_id AS full_cell_id, sample, sample_id, cluster FROM full_answers;

DROP VIEW full_scorers;
DROP VIEW paired;
DROP TABLE full_answers;
DROP TABLE answers;

-- Sums by image, for the bootstrap: images are what is resampled, since questions about one image go together.
CREATE TEMP TABLE clusters AS
SELECT
    dataset, cell_id, cluster,
    count(*) AS n, occurrences(agrees) AS n_agree,
    count(correct) AS n_graded, coalesce(occurrences(correct), 0) AS n_correct,
    coalesce(occurrences(neg_flip), 0) AS n_neg_flip,
    coalesce(occurrences(full_correct), 0) AS n_full_correct
FROM outcomes JOIN grid USING (cell_id)
WHERE ok
GROUP BY dataset, cell_id, cluster;
