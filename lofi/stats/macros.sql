-- Sums run over 128-bit integers (units of 2^-64), so they do not depend on the order in which threads see the rows:
-- the same samples give the same bytes. NULL and values that are not finite are left out; the mean of nothing is NULL.
CREATE TEMP MACRO total(x) AS
    sum((x::DOUBLE * 18446744073709551616.0::DOUBLE)::HUGEINT)::DOUBLE / 18446744073709551616.0::DOUBLE;
CREATE TEMP MACRO finite(x) AS CASE WHEN isfinite(x::DOUBLE) THEN x END;
CREATE TEMP MACRO mean(x) AS total(finite(x)) / nullif(count(finite(x)), 0);
CREATE TEMP MACRO occurrences(flag) AS sum(flag::INTEGER)::BIGINT;  -- NULL, not 0, where every flag is NULL

-- One statistic of the reduced run against the full run, over the samples where both have it.
CREATE TEMP MACRO where_both(a, b, x) AS CASE WHEN isfinite(a::DOUBLE - b::DOUBLE) THEN x END;
CREATE TEMP MACRO log_ratio(a, b) AS
    where_both(a, b, CASE WHEN a > 0 AND b > 0 THEN ln(a::DOUBLE) - ln(b::DOUBLE) END);
CREATE TEMP MACRO mean_where_both(a, b, x) AS total(where_both(a, b, x)) / nullif(count(where_both(a, b, 1)), 0);
CREATE TEMP MACRO compare(reduced, full_run) AS {
    value: mean_where_both(reduced, full_run, reduced),
    full_value: mean_where_both(reduced, full_run, full_run),
    -- delta = mean(x_reduced - x_full), as the difference of the two exact sums
    delta: mean_where_both(reduced, full_run, reduced) - mean_where_both(reduced, full_run, full_run),
    -- dlog = mean(ln x_reduced - ln x_full), over the samples where both are positive
    dlog: total(log_ratio(reduced, full_run)) / nullif(count(log_ratio(reduced, full_run)), 0),
    n: count(where_both(reduced, full_run, 1)),
    n_dlog: count(log_ratio(reduced, full_run))
};
