-- One row per sample whose answer is not the full model's, with what is needed to look at it.
CREATE TABLE flips AS
WITH changed AS (
    SELECT
        grid.*, sample_id,
        CASE  -- NULL where there is no grade
            WHEN neg_flip THEN 'neg_flip'
            WHEN pos_flip THEN 'pos_flip'
            WHEN wrong_to_other THEN 'wrong_to_other'
            WHEN right_to_other THEN 'right_to_other'
        END AS class
    FROM outcomes
    JOIN grid USING (cell_id, full_cell_id)
    JOIN sample_ids USING (full_cell_id, sample)
    WHERE ok AND NOT agrees
)
SELECT
    model, dataset, changed.method, changed.weights, changed.keep, changed.seed, sample_id,
    this.group_id, this.cluster_id, this.image_hash, this.category,
    class,
    reference.prediction_parsed AS full_answer,
    this.prediction_parsed AS reduced_answer,
    reference.prediction AS full_prediction,
    this.prediction AS reduced_prediction,
    reference.margin AS margin_full,
    this.margin AS margin_reduced,
    this.option_labels,  -- none where the question is open
    reference.option_logprobs AS full_option_logprobs,
    this.option_logprobs AS reduced_option_logprobs,
    this.kl_full_to_this AS kl,
    this.kept_indices,
    this.n_visual_full
FROM changed
JOIN samples AS this USING (model, dataset, method, keep, seed, sample_id)
JOIN (FROM samples WHERE method = 'full') AS reference USING (model, dataset, sample_id)
ORDER BY model, dataset, changed.method, changed.keep, changed.seed, sample_id;
