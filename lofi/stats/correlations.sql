-- Does a change of the spectrum go with agreement? One primary question was declared before looking; all the
-- others are exploratory and get a p value adjusted within their scope (Benjamini-Hochberg).
CREATE TABLE correlations AS
WITH
variables AS (SELECT DISTINCT variable, delta, statistic, site, tokens, centred FROM points),
named AS (
    SELECT
        * EXCLUDE (variable),
        delta = 'dlog' AND statistic = 'ipr_u' AND site = 'projector' AND tokens = 'visual' AND centred
            AS "primary"
    FROM tests JOIN variables USING (variable)
),
ranked AS (
    SELECT
        *,
        count(p) OVER (PARTITION BY scope, "primary") AS n_tests,
        count(p) OVER (PARTITION BY scope, "primary" ORDER BY p) AS place  -- ties share the last place
    FROM named
)
SELECT
    scope, delta, statistic, site, tokens, centred, "primary", n_cells, n_groups,
    pearson, low, high, spearman, p,
    -- p_adjusted(i) = min over j >= i of p(j) n_tests / j; the primary is a family of its own
    CASE WHEN p IS NOT NULL THEN min(p * n_tests / place) OVER (
        PARTITION BY scope, "primary" ORDER BY p DESC
    ) END AS p_adjusted,
    resampled, note
FROM ranked
ORDER BY "primary" DESC, scope, delta, statistic, site, tokens, centred;
