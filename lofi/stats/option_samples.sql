-- What the logits of the options say of each sample, P the full model's and Q this run's: probabilities over the options
-- alone. a* is the option that the full model prefers.
CREATE OR REPLACE TEMP TABLE option_samples AS
WITH
raw AS (
    SELECT
        cell_id, cluster, sample, generated, correct, full_correct,
        option_logprobs::DOUBLE[] AS z, full_option_logprobs::DOUBLE[] AS full_z, target_place AS y
    FROM beside_full
    WHERE option_logprobs IS NOT NULL
),
totals AS (SELECT *, log_sum_exp(z) AS z_total, log_sum_exp(full_z) AS full_z_total FROM raw),
logs AS (
    SELECT
        *, minus_each(z, z_total) AS log_q, minus_each(full_z, full_z_total) AS log_p,
        list_position(full_z, list_max(full_z)) AS a
    FROM totals
),
shares AS (
    SELECT
        *,
        list_transform(log_q, lambda x: exp(x)) AS q, list_transform(log_p, lambda x: exp(x)) AS p,
        list_transform(list_zip(log_p, log_q), lambda x: ln((exp(x[1]) + exp(x[2])) / 2)) AS log_m,
        mean_ranks(z) AS ranks, mean_ranks(full_z) AS full_ranks,
        pair_signs(z) AS signs, pair_signs(full_z) AS full_signs,
        ahead(z, a) AS answer_margin, ahead(full_z, a) AS full_margin
    FROM logs
)
SELECT
    cell_id, cluster, sample, generated, correct, full_correct,
    list_kl(p, log_p, log_q) AS kl,
    list_kl(q, log_q, log_p) AS kl_reverse,
    (list_kl(p, log_p, log_m) + list_kl(q, log_q, log_m)) / 2 AS js,
    list_sum(list_transform(list_zip(p, q), lambda x: abs(x[1] - x[2]))) / 2 AS tv,
    -- an order of fewer than four options says little (decided here: a product of lists fails where other rows have none)
    CASE WHEN len(z) >= 4 THEN list_pearson(full_ranks, ranks) END AS spearman,
    CASE WHEN len(z) >= 4 THEN list_kendall(full_signs, signs) END AS kendall,
    1 + len(list_filter(z, lambda x: x > z[a])) AS full_rank,
    answer_margin,  -- below 0 where another option than a* is preferred here
    answer_margin - full_margin AS margin_change,
    list_max(q) AS confidence, list_max(p) AS full_confidence,
    -log_q[y] AS nll, -log_p[y] AS full_nll,
    -- sum_v (q_v - 1[v = y])^2
    list_dot_product(q, q) - 2 * q[y] + 1 AS brier, list_dot_product(p, p) - 2 * p[y] + 1 AS full_brier
FROM shares;
