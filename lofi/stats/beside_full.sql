-- Every sample of one (model, dataset) that ran, beside the same sample of its full cell: what is measured of the two, read
-- once. Of the tokens at the first answer position that is the place of the full model's first token a* among those that lead here, and how far
-- a* is ahead of the best other one, as the full model's margin is where there are no options.
CREATE OR REPLACE TEMP TABLE beside_full AS
WITH
here AS (
    FROM read_parquet(getvariable('pair_files'), union_by_name = true, hive_partitioning = false)
    WHERE status = 'ok'
),
pairs AS (
    SELECT
        cell_id, sample, cluster,
        this.scoring_mode = 'generate' AS generated,
        this.correct, reference.correct AS full_correct,
        len(this.option_logprobs) >= 2 AND len(reference.option_logprobs) = len(this.option_logprobs) AS has_options,
        list_position(this.option_labels, this.target) AS target_place,
        this.option_logprobs, reference.option_logprobs AS full_option_logprobs,
        list_position(this.topk_token_ids, reference.first_token) AS place,
        len(this.topk_token_ids) >= 5 AS ranked,
        this.topk_logprobs, this.ref_topk_logprobs[1]::DOUBLE AS first_token_logprob,
        reference.margin AS full_margin,
        this.kl_full_to_this, this.kl_this_to_full, this.js, this.tv,
        this.prediction, reference.prediction AS full_prediction,
        this.gen_token_ids, reference.gen_token_ids AS full_gen_token_ids,
        this.gen_logprobs, reference.gen_logprobs AS full_gen_logprobs,
        this.finish_reason, reference.finish_reason AS full_finish_reason
    FROM here AS this
    JOIN grid USING (model, dataset, method, keep, seed)
    JOIN (
        SELECT
            full_cell_id, sample, cluster, sample_id, correct, option_logprobs, topk_token_ids[1] AS first_token, margin,
            prediction, gen_token_ids, gen_logprobs, finish_reason
        FROM here
        JOIN (SELECT model, dataset, full_cell_id FROM grid WHERE method = 'full') USING (model, dataset)
        JOIN sample_ids USING (full_cell_id, sample_id)
        WHERE method = 'full'
    ) AS reference USING (full_cell_id, sample_id)
)
SELECT
    cell_id, sample, cluster, generated, correct, full_correct,
    kl_full_to_this, kl_this_to_full, js, tv, place, ranked, full_margin,
    CASE WHEN len(option_logprobs) = 0 THEN
        first_token_logprob - topk_logprobs[CASE WHEN place = 1 THEN 2 ELSE 1 END]
    END AS answer_margin,
    target_place,
    CASE WHEN has_options THEN option_logprobs END AS option_logprobs,
    CASE WHEN has_options THEN full_option_logprobs END AS full_option_logprobs,
    CASE WHEN generated THEN prediction END AS prediction,
    CASE WHEN generated THEN full_prediction END AS full_prediction,
    CASE WHEN generated THEN gen_token_ids END AS gen_token_ids,
    CASE WHEN generated THEN full_gen_token_ids END AS full_gen_token_ids,
    CASE WHEN generated THEN gen_logprobs END AS gen_logprobs,
    CASE WHEN generated THEN full_gen_logprobs END AS full_gen_logprobs,
    CASE WHEN generated THEN finish_reason END AS finish_reason,
    CASE WHEN generated THEN full_finish_reason END AS full_finish_reason
FROM pairs;
