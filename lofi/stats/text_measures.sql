-- Generated answers beside those of the full model: as texts, and token by token.
CREATE OR REPLACE TEMP TABLE text_measures AS
WITH
texts AS (
    SELECT
        cell_id,
        prediction, full_prediction, gen_token_ids AS ids, full_gen_token_ids AS full_ids,
        normal_text(prediction) AS normal, normal_text(full_prediction) AS full_normal,
        finish_reason = 'length' AS truncated, full_finish_reason = 'length' AS full_truncated
    FROM beside_full
    WHERE generated AND prediction IS NOT NULL AND full_prediction IS NOT NULL
),
near AS (
    SELECT
        *,
        prediction = full_prediction AS identical,
        normal = full_normal AS same_normal,
        CASE WHEN normal = full_normal THEN 1 ELSE text_anls(normal, full_normal) END AS anls,
        CASE WHEN normal = full_normal THEN 1 ELSE text_f1(normal, full_normal) END AS token_f1,
        greatest(len(ids), len(full_ids)) AS longer,
        -- the first place where the tokens differ, from 0; NULL where they do not
        list_position(
            list_transform(range(1, greatest(len(ids), len(full_ids)) + 1), lambda i: ids[i] IS DISTINCT FROM full_ids[i]), true
        ) - 1 AS first_divergent
    FROM texts
),
sums AS (
    SELECT
        cell_id, count(*) AS n,
        mean(identical) AS identical, mean(same_normal) AS same_normal,
        mean(anls) AS anls, mean(token_f1) AS token_f1,
        mean(first_divergent) AS first_divergent, count(first_divergent) AS n_divergent,
        mean(CASE WHEN longer > 0 THEN coalesce(first_divergent / longer, 1) END) AS common_share,
        count_if(longer > 0)::BIGINT AS n_tokens,
        mean(CASE WHEN len(full_ids) > 0 THEN len(ids) / len(full_ids) END) AS length_ratio,
        count_if(len(full_ids) > 0 AND ids IS NOT NULL)::BIGINT AS n_lengths,
        mean(truncated) AS truncated, mean(full_truncated) AS full_truncated
    FROM near
    GROUP BY cell_id
)
SELECT cell_id, 'text' AS channel, unnest([
    {measure: 'identical', value: identical, full_value: NULL::DOUBLE, n: n},
    {measure: 'same_normal', value: same_normal, full_value: NULL, n: n},
    {measure: 'anls', value: anls, full_value: NULL, n: n},
    {measure: 'token_f1', value: token_f1, full_value: NULL, n: n},
    {measure: 'first_divergent', value: first_divergent, full_value: NULL, n: n_divergent},
    {measure: 'common_share', value: common_share, full_value: NULL, n: n_tokens},
    {measure: 'length_ratio', value: length_ratio, full_value: NULL, n: n_lengths},
    {measure: 'truncated', value: truncated, full_value: full_truncated, n: n}
], recursive := true)
FROM sums;
