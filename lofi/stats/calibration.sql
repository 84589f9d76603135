-- Reliability: in each bin of confidence, how sure the answers are and how many of them are right. 15 bins, of equal
-- numbers of samples or of equal width.
CREATE TEMP TABLE binned AS
SELECT
    * EXCLUDE (sample_id),
    ntile(15) OVER (PARTITION BY cell_id, channel, of_full ORDER BY confidence, sample_id) AS mass_bin,
    least(floor(confidence * 15)::BIGINT, 14) + 1 AS width_bin
FROM confidences;
DROP TABLE confidences;

CREATE TEMP TABLE bins AS
SELECT
    cell_id, channel, of_full, binning, bin,
    count(*) AS n,
    mean(confidence) AS confidence,
    mean(correct) AS accuracy,
    -- the variance of the number right, were every confidence true
    total(confidence * (1 - confidence)) AS variance
FROM (
    SELECT cell_id, channel, of_full, confidence, correct, unnest([
        {binning: 'equal_mass', bin: mass_bin},
        {binning: 'equal_width', bin: width_bin}
    ], recursive := true)
    FROM binned
)
GROUP BY ALL;

CREATE TABLE calibration AS
SELECT model, dataset, method, weights, keep, seed, channel, binning, bin, n, confidence, accuracy
FROM bins JOIN grid USING (cell_id)
WHERE NOT of_full
ORDER BY model, dataset, method, keep, seed, channel, binning, bin;

CREATE TEMP TABLE calibration_measures AS
WITH
gaps AS (
    SELECT
        cell_id, channel, of_full, binning,
        total(n * abs(confidence - accuracy)) / sum(n) AS ece,
        -- What ece would be on average if every confidence were true: the gap of a bin is then near normal, and the
        -- mean of |x| is sqrt(2 / pi) of its deviation.
        total(sqrt(2 * variance / pi())) / sum(n) AS ece_null
    FROM bins
    GROUP BY ALL
),
-- Risk and coverage: answers are given from the surest down; equally sure ones in any order, so each as their mean.
ranked AS (
    SELECT
        cell_id, channel, of_full,
        row_number() OVER surest AS k,
        sum((NOT correct)::INTEGER) OVER (surest RANGE UNBOUNDED PRECEDING) AS errors,
        count(*) OVER (surest RANGE UNBOUNDED PRECEDING) AS covered,
        sum((NOT correct)::INTEGER) OVER tied AS tied_errors,
        count(*) OVER tied AS n_tied,
        confidence, brier
    FROM binned
    WINDOW
        surest AS (PARTITION BY cell_id, channel, of_full ORDER BY confidence DESC),
        tied AS (PARTITION BY cell_id, channel, of_full, confidence)
),
scores AS (
    SELECT
        cell_id, channel, of_full, count(*) AS n,
        mean((errors - tied_errors + (k - covered + n_tied) * tied_errors / n_tied) / k) AS aurc,
        mean(brier) AS brier, mean(confidence) AS confidence
    FROM ranked
    GROUP BY ALL
),
runs_of AS (
    SELECT scores.*, by_mass.ece, by_mass.ece_null, by_width.ece AS ece_width
    FROM scores
    JOIN (FROM gaps WHERE binning = 'equal_mass') AS by_mass USING (cell_id, channel, of_full)
    JOIN (FROM gaps WHERE binning = 'equal_width') AS by_width USING (cell_id, channel, of_full)
),
compared AS (
    SELECT cell_id, channel, this.n, unnest([
        {measure: 'confidence', value: this.confidence, full_value: reference.confidence},
        {measure: 'ece', value: this.ece, full_value: reference.ece},
        {measure: 'ece_null', value: this.ece_null, full_value: reference.ece_null},
        {measure: 'ece_corrected', value: this.ece - this.ece_null, full_value: reference.ece - reference.ece_null},
        {measure: 'ece_equal_width', value: this.ece_width, full_value: reference.ece_width},
        {measure: 'brier', value: this.brier, full_value: reference.brier},
        {measure: 'aurc', value: this.aurc, full_value: reference.aurc}
    ], recursive := true)
    FROM (FROM runs_of WHERE NOT of_full) AS this
    JOIN (FROM runs_of WHERE of_full) AS reference USING (cell_id, channel)
)
SELECT cell_id, channel, measure, value, full_value, n FROM compared;

DROP TABLE bins;
