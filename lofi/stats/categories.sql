-- One row per cell and category of question.
CREATE TABLE categories AS
SELECT
    model, dataset, method, keep, seed, category,
    count(*) AS n,
    mean(correct) AS accuracy,
    mean(agrees) AS agreement,
    mean(neg_flip) AS neg_flip
FROM outcomes JOIN grid USING (cell_id)
WHERE ok AND category IS NOT NULL
GROUP BY ALL
ORDER BY model, dataset, method, keep, seed, category;
