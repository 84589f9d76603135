-- One row per cell: how long a sample took, the mean over those that ran. A table of its own, because times are all that
-- differs when the same sweep runs again on the same machine: every other table then has the same bytes.
CREATE TABLE timings AS
SELECT
    model, dataset, method, keep, seed,
    mean(t_vision_ms) AS t_vision_ms,
    mean(t_select_ms) AS t_select_ms,
    mean(t_prefill_ms) AS t_prefill_ms,
    mean(t_decode_ms) AS t_decode_ms
FROM grid LEFT JOIN (FROM outcomes WHERE ok) AS ran USING (cell_id)
GROUP BY model, dataset, method, keep, seed
ORDER BY model, dataset, method, keep, seed;
