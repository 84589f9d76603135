-- Sums run over 128-bit integers (units of 2^-64), so they do not depend on the order in which threads see the rows:
-- the same samples give the same bytes. NULL and values that are not finite are left out; the mean of nothing is NULL.
CREATE TEMP MACRO total(x) AS
    sum((x::DOUBLE * 18446744073709551616.0::DOUBLE)::HUGEINT)::DOUBLE / 18446744073709551616.0::DOUBLE;
CREATE TEMP MACRO finite(x) AS CASE WHEN isfinite(x::DOUBLE) THEN x END;
CREATE TEMP MACRO mean(x) AS total(finite(x)) / nullif(count(finite(x)), 0);
CREATE TEMP MACRO occurrences(flag) AS sum(flag::INTEGER)::BIGINT;  -- NULL, not 0, where every flag is NULL

-- A number of the reduced run beside that of the full run, over the samples where both have it.
CREATE TEMP MACRO where_both(a, b, x) AS CASE WHEN isfinite(a::DOUBLE - b::DOUBLE) THEN x END;
CREATE TEMP MACRO mean_where_both(a, b, x) AS total(where_both(a, b, x)) / nullif(count(where_both(a, b, 1)), 0);
