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

-- Of lists: the logits of a question's options.
CREATE TEMP MACRO log_sum_exp(logs) AS list_max(logs) + ln(list_sum(list_transform(logs, lambda x: exp(x - list_max(logs)))));
CREATE TEMP MACRO minus_each(logs, total_of) AS list_transform(logs, lambda x: x - total_of);
CREATE TEMP MACRO list_kl(p, log_p, log_q) AS greatest(0, list_dot_product(p, log_p) - list_dot_product(p, log_q));
CREATE TEMP MACRO mean_ranks(xs) AS list_transform(
    xs, lambda x: len(list_filter(xs, lambda y: y < x)) + (len(list_filter(xs, lambda y: y = x)) + 1) / 2
);
-- Pearson's r of two lists; NULL where one of them is constant.
CREATE TEMP MACRO list_pearson(xs, ys) AS
    (len(xs) * list_dot_product(xs, ys) - list_sum(xs) * list_sum(ys)) / nullif(
        sqrt(len(xs) * list_dot_product(xs, xs) - list_sum(xs) ** 2)
        * sqrt(len(ys) * list_dot_product(ys, ys) - list_sum(ys) ** 2), 0
    );
-- sign(x_i - x_j) over all i, j: their product adds up to twice the concordant minus the discordant pairs.
CREATE TEMP MACRO pair_signs(xs) AS flatten(
    list_transform(xs, lambda x: list_transform(xs, lambda y: sign(x - y)::DOUBLE))
);
CREATE TEMP MACRO list_kendall(a, b) AS
    list_dot_product(a, b) / nullif(sqrt(list_dot_product(a, a) * list_dot_product(b, b)), 0);

-- How far the option at a place is ahead of the best of the others.
CREATE TEMP MACRO ahead(logs, place) AS
    logs[place] - list_max(list_concat(list_slice(logs, 1, place - 1), list_slice(logs, place + 1, len(logs))));
