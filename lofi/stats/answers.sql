-- Every sample's answer, read once from the files: what checks, rates and intervals are made of.

CREATE TEMP TABLE grid AS
SELECT
    *,
    max(cell_id) FILTER (method = 'full') OVER (PARTITION BY model, dataset) AS full_cell_id
FROM (
    SELECT
        row_number() OVER (ORDER BY model, dataset, method, keep, seed)::INTEGER AS cell_id,
        model, dataset, method, keep, seed,
        min(weights) AS weights,
        mean(keep_ratio) AS keep_ratio,
        count(*) AS n_rows
    FROM samples
    GROUP BY model, dataset, method, keep, seed
);

-- How samples were asked and graded. A table must not mix two of these where it compares.
CREATE TEMP MACRO setting_of(scorer, scorer_version, scoring_mode, prompt_style, template_hash, image_mode) AS
    hash(scorer, scorer_version, scoring_mode, prompt_style, template_hash, image_mode);
CREATE TEMP TABLE settings AS
SELECT DISTINCT
    setting_of(scorer, scorer_version, scoring_mode, prompt_style, template_hash, image_mode) AS setting,
    concat_ws(' ', coalesce(scorer, 'no scorer'), scorer_version) AS scorer,
    scoring_mode, prompt_style, template_hash, image_mode
FROM samples
WHERE status = 'ok';

CREATE TEMP TABLE answers AS
SELECT
    cell_id, full_cell_id, sample_id,
    coalesce(cluster_id, sample_id) AS cluster_id,
    category, l2_category,
    -- Groups are only ever compared, so their hashes do.
    hash(coalesce(group_id, sample_id)) AS group_key,
    CASE WHEN figure_id IS NOT NULL THEN hash(figure_id) END AS figure_key,
    sample_id = coalesce(group_id, sample_id) AS unrotated,
    hash(doc_hash) AS doc,
    hash(target) AS target_key,
    setting_of(scorer, scorer_version, scoring_mode, prompt_style, template_hash, image_mode) AS setting,
    status = 'ok' AS ok,
    -- Two unparsed answers are the same answer only if their texts are, but for case and outer space.
    CASE
        WHEN prediction_parsed IS NOT NULL THEN 'parsed ' || prediction_parsed
        ELSE 'unparsed ' || lower(trim(coalesce(prediction, ''), e' \t\r\n\f\v'))
    END AS answer,
    prediction_parsed IS NULL AS unparsed,
    CASE prediction_parsed WHEN 'yes' THEN true WHEN 'no' THEN false END AS says_yes,
    task_type,
    coalesce(len(option_labels), 0) AS n_options,
    -- 0 where what was said is none of the options
    CASE WHEN len(option_labels) > 0 THEN coalesce(list_position(option_labels, prediction_parsed), 0) END AS position,
    correct, score, margin,
    kl_full_to_this AS kl, js, tv,
    n_visual_kept, n_visual_full, mean_visual_tokens,
    -- what a prefill costs: tokens in the rows of all decoder layers, and pairs of them
    len(n_kept_per_layer) AS n_layers,
    list_sum([visual::DOUBLE + n_text_tokens FOR visual IN n_kept_per_layer]) AS row_tokens,
    list_sum([(visual::DOUBLE + n_text_tokens) ** 2 FOR visual IN n_kept_per_layer]) AS row_pairs,
    answer_mass, top1_is_option,
    t_vision_ms, t_select_ms, t_prefill_ms, t_decode_ms
FROM samples JOIN grid USING (model, dataset, method, keep, seed);

-- The answers of full cells, their samples and images by number, in the order of their ids: what is joined and grouped
-- by. Images on which no sample ran in any full cell come last, so that those that are resampled have no gaps.
CREATE TEMP TABLE full_answers AS
WITH images AS (
    SELECT
        dataset, cluster_id,
        row_number() OVER (PARTITION BY dataset ORDER BY bool_or(ok) DESC, cluster_id)::INTEGER - 1 AS cluster
    FROM answers JOIN (SELECT cell_id, dataset FROM grid) USING (cell_id)
    WHERE cell_id = full_cell_id
    GROUP BY dataset, cluster_id
)
SELECT
    answers.*, cluster,
    row_number() OVER (PARTITION BY cell_id ORDER BY sample_id)::INTEGER - 1 AS sample
FROM answers
JOIN (SELECT cell_id, dataset FROM grid) USING (cell_id)
JOIN images USING (dataset, cluster_id)
WHERE cell_id = full_cell_id;

-- One row per sample of a cell, beside the same sample of its full cell.
CREATE TEMP VIEW paired AS
SELECT
    this.* EXCLUDE (ok),
    this.ok AND reference.ok AS ok,
    reference.sample, reference.cluster,
    this.answer = reference.answer AS agrees,
    this.correct IS NOT NULL AND reference.correct IS NOT NULL AS graded,
    reference.correct AS full_correct,
    reference.says_yes AS full_says_yes,
    reference.unparsed AS full_unparsed,
    reference.position AS full_position,
    reference.score AS full_score,
    reference.margin AS full_margin,
    -- Answers are only ever compared and counted, so their hashes do.
    hash(this.answer) AS answer_key,
    hash(reference.answer) AS full_answer_key,
    reference.target_key AS full_target_key,
    reference.doc AS full_doc,
    reference.setting AS full_setting,
    reference.cluster_id AS full_cluster_id
FROM answers AS this
JOIN full_answers AS reference
    ON reference.cell_id = this.full_cell_id AND reference.sample_id = this.sample_id;

-- How each model's full answers to a dataset were graded.
CREATE TEMP VIEW full_scorers AS
SELECT DISTINCT cell_id, model, dataset, scorer
FROM (SELECT DISTINCT cell_id, setting FROM full_answers WHERE ok)
JOIN settings USING (setting)
JOIN grid USING (cell_id);
