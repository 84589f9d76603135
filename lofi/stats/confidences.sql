-- How sure each answer is, and whether it is right, here and in the full run: the highest probability over the options
-- where the answer is read from them, the likelihood of the whole text where it is generated.
CREATE OR REPLACE TEMP TABLE confidences AS
WITH paired_confidences AS (
    SELECT
        cell_id, 'options' AS channel, cluster, sample, correct, full_correct, confidence, full_confidence,
        brier, full_brier
    FROM option_samples
    WHERE NOT generated
    UNION ALL
    SELECT
        cell_id, 'text', cluster, sample, correct, full_correct, confidence, full_confidence,
        (confidence - correct::INTEGER) ** 2, (full_confidence - full_correct::INTEGER) ** 2
    FROM (
        SELECT
            *,
            least(1, exp(list_sum(gen_logprobs::DOUBLE[]))) AS confidence,
            least(1, exp(list_sum(full_gen_logprobs::DOUBLE[]))) AS full_confidence
        FROM beside_full
        WHERE generated AND len(gen_logprobs) > 0 AND len(full_gen_logprobs) > 0
    )
)
FROM paired_confidences
WHERE correct IS NOT NULL AND full_correct IS NOT NULL AND isfinite(confidence) AND isfinite(full_confidence);
