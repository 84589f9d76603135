-- One row per cell. Every rate is over the n samples that ran without error in this cell and in its full cell, and of
-- these those n_graded that have a grade where it is about right and wrong;
-- A and B are the correctness of the full and of this answer (f and r).
CREATE TABLE cells AS
WITH
counts AS (
    SELECT
        cell_id,
        count_if(ok)::BIGINT AS n,
        count_if(NOT ok)::BIGINT AS n_errors,
        count(correct) FILTER (ok) AS n_graded  -- what every rate about right and wrong is over
    FROM outcomes
    GROUP BY cell_id
),
rates AS (
    SELECT
        cell_id,
        mean(correct) AS accuracy,             -- mean B
        mean(full_correct) AS accuracy_full,   -- mean A, over the same samples
        mean(score) AS score,                  -- mean soft score
        mean(agrees) AS agreement,             -- mean 1[r = f]
        mean(neg_flip) AS neg_flip,            -- mean 1[r != f, A = 1, B = 0]
        mean(pos_flip) AS pos_flip,            -- mean 1[r != f, A = 0, B = 1]
        mean(wrong_to_other) AS wrong_to_other,  -- mean 1[r != f, A = 0, B = 0]
        mean(right_to_other) AS right_to_other,  -- mean 1[r != f, A = 1, B = 1]
        occurrences(agrees) AS n_agree,
        occurrences(neg_flip) AS n_neg_flip,
        occurrences(pos_flip) AS n_pos_flip,
        occurrences(wrong_to_other) AS n_wrong_to_other,
        occurrences(right_to_other) AS n_right_to_other,
        mean(kl) AS kl,                        -- mean sum P ln(P / Q), P full, Q this, over the whole vocabulary
        mean(js) AS js,                        -- mean of (KL(P || M) + KL(Q || M)) / 2, M = (P + Q) / 2
        mean(tv) AS tv,                        -- mean of sum |P - Q| / 2
        mean(n_visual_kept) AS kept_tokens,    -- after the last prune
        min(n_visual_kept) AS kept_tokens_min,
        max(n_visual_kept) AS kept_tokens_max,
        mean(n_visual_full) AS full_tokens,
        mean(mean_visual_tokens) AS layer_mean_tokens,  -- the mean over LLM layers: the budget to compare at
        mean(row_tokens / n_layers) AS decoder_tokens,  -- visual and question tokens, the mean over LLM layers
        mean(row_tokens) AS row_tokens,
        mean(row_pairs) AS row_pairs,
        mean(answer_mass) AS answer_mass,      -- probability on the options at the first answer position
        mean(top1_is_option) AS top1_is_option,
        mean(unparsed) AS unparsed,
        mean(margin) AS margin                 -- best minus second
    FROM outcomes
    WHERE ok
    GROUP BY cell_id
),
makings AS (
    SELECT
        model, dataset, method, keep, seed,
        string_agg(DISTINCT device, '; ' ORDER BY device) AS device,
        max((provenance ->> '$.decoder.flops_per_token')::DOUBLE) AS flops_per_token,
        max((provenance ->> '$.decoder.flops_per_pair')::DOUBLE) AS flops_per_pair,
        max((provenance ->> '$.decoder.cache_bytes_per_token')::DOUBLE) AS cache_bytes_per_token
    FROM (
        SELECT
            *,
            CASE provenance ->> '$.device'
                WHEN 'cpu' THEN concat('cpu (', provenance ->> '$.machine.processor', ')')
                ELSE provenance ->> '$.device'
            END AS device
        FROM runs
    )
    GROUP BY model, dataset, method, keep, seed
),
floors AS (
    SELECT
        model, dataset,
        agreement AS agreement_floor, kl AS kl_floor, js AS js_floor, tv AS tv_floor
    FROM grid JOIN rates USING (cell_id)
    WHERE method = 'floor'
)
SELECT
    model, dataset, method, weights, keep, keep_ratio, seed, n, n_errors, n_graded,
    accuracy, accuracy_low, accuracy_high, accuracy_full,
    accuracy / nullif(accuracy_full, 0) AS relative_accuracy,
    score,
    agreement,
    -- The full cell agrees with itself by definition: no sampling error.
    CASE WHEN method = 'full' THEN agreement ELSE agreement_low END AS agreement_low,
    CASE WHEN method = 'full' THEN agreement ELSE agreement_high END AS agreement_high,
    -- Without a floor nobody knows how much of a divergence is numerical noise.
    bool_or(method = 'floor') OVER (PARTITION BY model, dataset) AS has_floor,
    agreement_floor,
    agreement_floor - agreement AS divergence_excess,  -- (1 - agreement) - (1 - agreement_floor)
    neg_flip,
    CASE WHEN method = 'full' THEN neg_flip ELSE neg_flip_low END AS neg_flip_low,
    CASE WHEN method = 'full' THEN neg_flip ELSE neg_flip_high END AS neg_flip_high,
    pos_flip, wrong_to_other, right_to_other,
    n_agree, n_neg_flip, n_pos_flip, n_wrong_to_other, n_right_to_other,
    kl, js, tv, kl_floor, js_floor, tv_floor,
    kept_tokens, kept_tokens_min, kept_tokens_max, full_tokens, layer_mean_tokens, decoder_tokens,
    -- of one answer's row behind the image; NULL where the sample files do not say what a token costs
    row_tokens * flops_per_token + row_pairs * flops_per_pair AS prefill_flops,
    row_tokens * cache_bytes_per_token AS cache_bytes,  -- keys and values of all layers
    answer_mass, top1_is_option, unparsed, margin,
    device,
    wide_spectra.* EXCLUDE (model, dataset, method, keep, seed)
FROM grid
JOIN counts USING (cell_id)
LEFT JOIN rates USING (cell_id)
LEFT JOIN intervals USING (cell_id)
LEFT JOIN makings USING (model, dataset, method, keep, seed)
LEFT JOIN floors USING (model, dataset)
LEFT JOIN wide_spectra USING (model, dataset, method, keep, seed)
ORDER BY model, dataset, method, keep, seed;
