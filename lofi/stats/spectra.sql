-- One row per cell, site, token set, centring and statistic: its mean, the full run's mean over the same
-- samples, and the two deltas. Raw IPR moves with the token count alone; ipr_u does not.

CREATE TABLE spectra AS
FROM spectral_means
ORDER BY model, dataset, method, keep, seed, site, tokens, centred, statistic;

-- The same as columns, to stand beside the cells: {statistic}_{site}_{tokens}_{raw|centred}, d_..., dlog_...
CREATE TEMP TABLE wide_spectra AS
WITH named AS (
    SELECT
        *,
        concat_ws('_', statistic, site, tokens, CASE WHEN centred THEN 'centred' ELSE 'raw' END) AS name
    FROM spectra
),
columns_of AS (
    SELECT model, dataset, method, keep, seed, name, value FROM named
    UNION ALL
    SELECT model, dataset, method, keep, seed, 'd_' || name, delta FROM named
    UNION ALL
    SELECT model, dataset, method, keep, seed, 'dlog_' || name, dlog FROM named
)
PIVOT columns_of ON name USING first(value) GROUP BY model, dataset, method, keep, seed;
