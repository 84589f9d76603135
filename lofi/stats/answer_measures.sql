-- What became of the answers of each cell, beyond the rates that `cells` has.
CREATE TEMP TABLE answer_measures AS
WITH
-- Which answer, or which option's place, became which; only where answers are labels of options.
exchanged AS (
    SELECT cell_id, unnest([
        {kind: 'answer', full_said: full_answer_key, said: answer_key},
        {kind: 'position', full_said: full_position::UBIGINT, said: position::UBIGINT}
    ], recursive := true), task_type
    FROM outcomes
    WHERE ok AND task_type IN ('mcq', 'yesno')
),
pairs AS (
    SELECT cell_id, kind, full_said, said, count(*) AS n
    FROM exchanged
    WHERE kind = 'answer' OR task_type = 'mcq'
    GROUP BY ALL
),
histograms AS (
    SELECT cell_id, kind, class, sum(n_full)::BIGINT AS n_full, sum(n_this)::BIGINT AS n_this
    FROM (
        SELECT cell_id, kind, unnest([
            {class: full_said, n_full: n, n_this: 0},
            {class: said, n_full: 0, n_this: n}
        ], recursive := true)
        FROM pairs
    )
    GROUP BY ALL
),
priors AS (
    SELECT
        cell_id,
        sum(n_full) FILTER (kind = 'answer')::BIGINT AS n_labelled,
        -- p_e = sum_v P(f = v) P(r = v)
        sum(n_full * n_this) FILTER (kind = 'answer') / sum(n_full) FILTER (kind = 'answer') ** 2 AS met_by_chance,
        sum(abs(n_full - n_this)) FILTER (kind = 'answer') / (2 * sum(n_full) FILTER (kind = 'answer')) AS answer_drift,
        sum(n_full) FILTER (kind = 'position')::BIGINT AS n_mcq,
        sum(abs(n_full - n_this)) FILTER (kind = 'position') / (2 * sum(n_full) FILTER (kind = 'position'))
            AS position_drift
    FROM histograms
    GROUP BY cell_id
),
rates AS (
    SELECT
        cell_id,
        mean(CASE WHEN task_type IN ('mcq', 'yesno') THEN agrees END) AS agreement_labelled,
        count_if(task_type = 'yesno')::BIGINT AS n_yesno,
        mean(CASE WHEN task_type = 'yesno' THEN coalesce(says_yes, false) END) AS yes_rate,
        mean(CASE WHEN task_type = 'yesno' THEN coalesce(full_says_yes, false) END) AS yes_rate_full,
        mean(CASE WHEN task_type = 'mcq' THEN position = 1 END) AS first_option,
        mean(CASE WHEN task_type = 'mcq' THEN full_position = 1 END) AS first_option_full,
        mean(full_unparsed) AS unparsed_full,
        count_if(correct)::BIGINT AS n_right,
        count_if(full_correct)::BIGINT AS n_right_full,
        count(where_both(score, full_score, 1)) AS n_scored,
        mean_where_both(score, full_score, score) AS score_both,
        mean_where_both(score, full_score, full_score) AS score_full,
        mean(where_both(score, full_score, greatest(score::DOUBLE - full_score, 0))) AS score_gain,
        mean(where_both(score, full_score, greatest(full_score::DOUBLE - score, 0))) AS score_loss,
        -- A guess hits one of n_options; no guess hits an open answer.
        mean(CASE WHEN correct IS NULL THEN NULL WHEN n_options > 0 THEN 1 / n_options ELSE 0 END) AS chance
    FROM outcomes
    WHERE ok
    GROUP BY cell_id
),
joined AS (
    SELECT
        *,
        n_neg_flip AS b, n_pos_flip AS c,
        n_graded - n_right AS n_wrong,
        accuracy * accuracy_full + (1 - accuracy) * (1 - accuracy_full) AS grades_met_by_chance
    FROM grid
    JOIN cells USING (model, dataset, method, keep, seed)
    LEFT JOIN rates USING (cell_id)
    LEFT JOIN priors USING (cell_id)
)
SELECT cell_id, 'answer' AS channel, unnest([
    {measure: 'divergence_rate', value: (n - n_agree) / nullif(n, 0), full_value: NULL::DOUBLE, n: n},
    {measure: 'neg_flip', value: neg_flip, full_value: NULL, n: n_graded},
    {measure: 'pos_flip', value: pos_flip, full_value: NULL, n: n_graded},
    {measure: 'wrong_to_other', value: wrong_to_other, full_value: NULL, n: n_graded},
    {measure: 'right_to_other', value: right_to_other, full_value: NULL, n: n_graded},
    {measure: 'flips', value: (b + c) / nullif(n_graded, 0), full_value: NULL, n: n_graded},
    {measure: 'all_flips', value: (b + c + n_wrong_to_other) / nullif(n_graded, 0), full_value: NULL, n: n_graded},
    -- the change is (c - b) / n
    {measure: 'accuracy', value: accuracy, full_value: accuracy_full, n: n_graded},
    {measure: 'hidden_ratio', value: (b + c) / nullif(abs(c - b), 0), full_value: NULL, n: b + c},
    {measure: 'cancellation', value: 1 - abs(c - b) / nullif(b + c, 0), full_value: NULL, n: b + c},
    {measure: 'neg_flip_given_right', value: b / nullif(n_right_full, 0), full_value: NULL, n: n_right_full},
    {measure: 'backward_compatibility', value: 1 - b / nullif(n_right_full, 0), full_value: NULL, n: n_right_full},
    -- of the wrong answers here, those that were right
    {measure: 'error_novelty', value: b / nullif(n_wrong, 0), full_value: NULL, n: n_wrong},
    {measure: 'win_loss', value: c / nullif(b, 0), full_value: NULL, n: b + c},
    {measure: 'kappa', value: (agreement_labelled - met_by_chance) / nullif(1 - met_by_chance, 0), full_value: NULL,
        n: coalesce(n_labelled, 0)},
    {measure: 'kappa_correct', value: (1 - (b + c) / n_graded - grades_met_by_chance) / nullif(1 - grades_met_by_chance, 0),
        full_value: NULL, n: n_graded},
    {measure: 'answer_drift', value: answer_drift, full_value: NULL, n: coalesce(n_labelled, 0)},
    {measure: 'position_drift', value: position_drift, full_value: NULL, n: coalesce(n_mcq, 0)},
    {measure: 'first_option', value: first_option, full_value: first_option_full, n: coalesce(n_mcq, 0)},
    {measure: 'yes_rate', value: yes_rate, full_value: yes_rate_full, n: coalesce(n_yesno, 0)},
    {measure: 'relative_accuracy', value: relative_accuracy, full_value: NULL, n: n_graded},
    {measure: 'chance', value: chance, full_value: NULL, n: n_graded},
    {measure: 'relative_above_chance',
        value: CASE WHEN accuracy_full > chance THEN (accuracy - chance) / (accuracy_full - chance) END,
        full_value: NULL, n: n_graded},
    {measure: 'score', value: score_both, full_value: score_full, n: coalesce(n_scored, 0)},
    {measure: 'score_gain', value: score_gain, full_value: NULL, n: coalesce(n_scored, 0)},
    {measure: 'score_loss', value: score_loss, full_value: NULL, n: coalesce(n_scored, 0)},
    {measure: 'unparsed', value: unparsed, full_value: unparsed_full, n: n}
], recursive := true)
FROM joined;
