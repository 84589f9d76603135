-- Every sample that ran, beside the same sample of its full cell: what is read in passing, because all of it at once
-- would not fit into memory.
CREATE TEMP VIEW beside_full AS
SELECT
    cell_id, this.sample_id, coalesce(this.cluster_id, this.sample_id) AS cluster_id,
    this.scoring_mode = 'generate' AS generated,
    this.target, this.option_labels,
    this.correct, reference.correct AS full_correct,
    this.option_logprobs, reference.option_logprobs AS full_option_logprobs,
    this.topk_token_ids, reference.topk_token_ids AS full_topk_token_ids,
    this.topk_logprobs, this.ref_topk_logprobs,
    reference.margin AS full_margin,
    this.kl_full_to_this, this.kl_this_to_full, this.js, this.tv,
    this.prediction, reference.prediction AS full_prediction,
    this.prediction_parsed, reference.prediction_parsed AS full_prediction_parsed,
    this.gen_token_ids, reference.gen_token_ids AS full_gen_token_ids,
    this.gen_logprobs, reference.gen_logprobs AS full_gen_logprobs,
    this.finish_reason, reference.finish_reason AS full_finish_reason
FROM samples AS this
JOIN grid USING (model, dataset, method, keep, seed)
JOIN (FROM samples WHERE method = 'full') AS reference USING (model, dataset, sample_id)
WHERE this.status = 'ok' AND reference.status = 'ok';
