-- What the logits at the first answer position say: of the options alone, renormalised, and of all tokens.
CREATE OR REPLACE TEMP TABLE logit_measures AS
WITH
of_options AS (
    SELECT
        cell_id, count(*) AS n, count(finite(spearman)) AS n_spearman, count(finite(kendall)) AS n_kendall,
        mean(kl) AS kl, mean(kl_reverse) AS kl_reverse, mean(js) AS js, mean(tv) AS tv,
        mean(spearman) AS spearman, mean(kendall) AS kendall,
        mean(full_rank) AS full_rank, mean(full_rank <= 2) AS full_in_top2,
        mean(answer_margin) AS answer_margin, mean(margin_change) AS margin_change,
        mean(answer_margin < 0) AS other_preferred,
        count(where_both(nll, full_nll, 1)) AS n_target,
        mean_where_both(nll, full_nll, nll) AS nll, mean_where_both(nll, full_nll, full_nll) AS full_nll
    FROM option_samples
    GROUP BY cell_id
),
-- The rank of the full model's first token is known only where it is among the tokens that lead here.
of_tokens AS (
    SELECT
        cell_id,
        count(finite(kl_full_to_this)) AS n, count(finite(answer_margin - full_margin)) AS n_margin,
        mean(kl_full_to_this) AS kl, mean(kl_this_to_full) AS kl_reverse, mean(js) AS js, mean(tv) AS tv,
        count_if(ranked)::BIGINT AS n_ranked,
        mean(CASE WHEN ranked THEN coalesce(place = 1, false) END) AS same_first_token,
        mean(CASE WHEN ranked THEN coalesce(place <= 5, false) END) AS full_in_top5,
        mean_where_both(answer_margin, full_margin, answer_margin) AS answer_margin,
        mean_where_both(answer_margin, full_margin, answer_margin - full_margin) AS margin_change
    FROM beside_full
    GROUP BY cell_id
)
SELECT cell_id, 'options' AS channel, unnest([
    {measure: 'kl', value: kl, full_value: NULL::DOUBLE, n: n},
    {measure: 'kl_reverse', value: kl_reverse, full_value: NULL, n: n},
    {measure: 'js', value: js, full_value: NULL, n: n},
    {measure: 'tv', value: tv, full_value: NULL, n: n},
    {measure: 'spearman', value: spearman, full_value: NULL, n: n_spearman},
    {measure: 'kendall', value: kendall, full_value: NULL, n: n_kendall},
    {measure: 'full_rank', value: full_rank, full_value: NULL, n: n},
    {measure: 'full_in_top2', value: full_in_top2, full_value: NULL, n: n},
    {measure: 'answer_margin', value: answer_margin, full_value: answer_margin - margin_change, n: n},
    {measure: 'other_preferred', value: other_preferred, full_value: NULL, n: n},
    {measure: 'nll', value: nll, full_value: full_nll, n: n_target}
], recursive := true)
FROM of_options
UNION ALL BY NAME
SELECT cell_id, 'tokens' AS channel, unnest([
    {measure: 'kl', value: kl, full_value: NULL::DOUBLE, n: n},
    {measure: 'kl_reverse', value: kl_reverse, full_value: NULL, n: n},
    {measure: 'js', value: js, full_value: NULL, n: n},
    {measure: 'tv', value: tv, full_value: NULL, n: n},
    {measure: 'same_first_token', value: same_first_token, full_value: NULL, n: n_ranked},
    {measure: 'full_in_top5', value: full_in_top5, full_value: NULL, n: n_ranked},
    {measure: 'answer_margin', value: answer_margin, full_value: answer_margin - margin_change, n: n_margin}
], recursive := true)
FROM of_tokens;
