-- One row per cell, site, token set, centring and statistic: its mean, the full run's mean over the same
-- samples, and the two deltas. Raw IPR moves with the token count alone; ipr_u does not.

CREATE TEMP VIEW spectrum_rows AS
SELECT model, dataset, method, keep, seed, sample_id, unnest(spectra, recursive := true)
FROM samples
WHERE status = 'ok';

CREATE TABLE spectra AS
WITH compared AS (
    SELECT
        model, dataset, this.method, this.keep, this.seed, site, tokens, centred,
        compare(this.ipr, reference.ipr) AS ipr,
        compare(this.ipr_u, reference.ipr_u) AS ipr_u,
        compare(this.ipr_l1, reference.ipr_l1) AS ipr_l1,
        compare(this.entropy, reference.entropy) AS entropy,
        compare(this.entropy_norm, reference.entropy_norm) AS entropy_norm,
        compare(this.erank_energy, reference.erank_energy) AS erank_energy,
        compare(this.erank_rv, reference.erank_rv) AS erank_rv,
        compare(this.stable_rank, reference.stable_rank) AS stable_rank,
        compare(this.top1_energy, reference.top1_energy) AS top1_energy,
        compare(this.k90, reference.k90) AS k90,
        compare(this.k95, reference.k95) AS k95,
        compare(this.k99, reference.k99) AS k99,
        compare(this.max_row_share, reference.max_row_share) AS max_row_share
    FROM spectrum_rows AS this
    JOIN (FROM spectrum_rows WHERE method = 'full') AS reference
        USING (model, dataset, sample_id, site, tokens, centred)
    GROUP BY ALL
),
long_form AS (
    UNPIVOT compared
    ON COLUMNS(* EXCLUDE (model, dataset, method, keep, seed, site, tokens, centred))
    INTO NAME statistic VALUE compared_value
)
SELECT
    model, dataset, method, keep, seed, site, tokens, centred, statistic,
    unnest(compared_value)
FROM long_form
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
