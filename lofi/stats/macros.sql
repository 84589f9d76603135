-- Sums run over 128-bit integers (units of 2^-64), so a mean does not depend on the order in which threads see
-- the rows: the same samples give the same bytes. Values that are NULL or not finite are left out; the mean of
-- nothing is NULL.
CREATE TEMP MACRO is_value(x) AS coalesce(isfinite(x::DOUBLE), false);
CREATE TEMP MACRO n_values(x) AS count(*) FILTER (is_value(x));
CREATE TEMP MACRO total(x) AS
    sum(CASE WHEN is_value(x) THEN (x::DOUBLE * 18446744073709551616.0::DOUBLE)::HUGEINT END)::DOUBLE
    / 18446744073709551616.0::DOUBLE;
CREATE TEMP MACRO mean(x) AS total(x) / nullif(n_values(x), 0);
CREATE TEMP MACRO occurrences(flag) AS sum(flag::INTEGER)::BIGINT;  -- NULL, not 0, where every flag is NULL

CREATE TEMP MACRO difference(a, b) AS a::DOUBLE - b::DOUBLE;
CREATE TEMP MACRO log_ratio(a, b) AS CASE WHEN a > 0 AND b > 0 THEN ln(a::DOUBLE) - ln(b::DOUBLE) END;

-- One statistic of the reduced run against the full run, over the samples where both have it.
CREATE TEMP MACRO compare(reduced, full_run) AS {
    value: mean(CASE WHEN is_value(full_run) THEN reduced END),
    full_value: mean(CASE WHEN is_value(reduced) THEN full_run END),
    delta: mean(difference(reduced, full_run)),  -- mean(x_reduced - x_full)
    dlog: mean(log_ratio(reduced, full_run)),    -- mean(ln x_reduced - ln x_full), where both are positive
    n: n_values(difference(reduced, full_run)),
    n_dlog: n_values(log_ratio(reduced, full_run))
};
