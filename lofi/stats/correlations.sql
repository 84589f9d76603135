-- Does a change of the spectrum go with agreement? One row per scope and variable: one primary question was declared
-- before looking; all the others are exploratory and have a p value adjusted within their scope (Benjamini-Hochberg).
CREATE TABLE correlations AS
WITH variables AS (SELECT DISTINCT variable, delta, statistic, site, tokens, centred FROM points)
SELECT
    scope, delta, statistic, site, tokens, centred, "primary", n_cells, n_groups,
    pearson, low, high, spearman, kendall, p, p_adjusted, p_methods, resampled, note
FROM tests JOIN variables USING (variable)
ORDER BY "primary" DESC, scope, delta, statistic, site, tokens, centred;
