-- The bins of a reliability diagram: how sure the answers in each are, and how many of them are right.
CREATE TABLE calibration AS
SELECT model, dataset, method, weights, keep, seed, channel, binning, bin, n, confidence, accuracy
FROM calibration_bins JOIN grid USING (cell_id)
ORDER BY model, dataset, method, keep, seed, channel, binning, bin;
