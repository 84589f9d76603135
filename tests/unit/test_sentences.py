"""The sentences of the answer, written for whatever outcome the data have."""

import pytest

from lofi.report import sentences
from tests.unit.audits import audit_of, cell, correlation


def test_harsh_names_both_losses_their_intervals_n_and_the_floor():
    found = sentences.harsh(audit_of(cell("lofi", agreement=0.8, accuracy=0.75), floor=0.99))
    assert "changes 20.0 %" in found.headline.replace("\xa0", " ")
    text = found.detail.replace("\xa0", " ")
    assert "from 80.0 % to 75.0 % [73.0, 77.0] (−5.0 points)" in text
    assert "changes 20.0 % [18.0, 22.0] of the answers" in text
    assert "4.0 changed answers for each one that accuracy shows" in text
    assert "n = 500 answers" in text
    assert "noise floor" in text
    assert "changes 1.0 % (n = 500)" in text


@pytest.mark.parametrize(
    ("agreement", "accuracy", "floor", "words"),
    [
        (0.8, 0.791, 1.0, "Accuracy hardly moves"),
        (0.8, 0.85, 1.0, "Accuracy rises"),
        (0.9, 0.7, 1.0, "nearly every changed answer"),
        (1.0, 0.8, 1.0, "changes no answer at all"),
        (0.97, 0.79, 0.96, "no more answers than running the full model twice"),
        (0.7, 0.6, 1.0, "costs 20.0 points of accuracy but changes 30.0 %"),
    ],
)
def test_harsh_headline_fits_the_outcome(agreement, accuracy, floor, words):
    found = sentences.harsh(audit_of(cell("lofi", agreement=agreement, accuracy=accuracy), floor=floor))
    assert words in found.headline.replace("\xa0", " ")


def test_harsh_takes_the_lowest_keep_and_says_when_nothing_can_be_averaged():
    both = audit_of(cell("lofi", "0.5000", 0.95), cell("lofi", "16", 0.6))
    assert "16 visual tokens" in sentences.harsh(both).detail
    ragged = audit_of(cell("lofi", "0.5000", dataset="d"), datasets=("d", "e"))
    assert "No keep was run" in sentences.harsh(ragged).headline
    assert "undefined" in sentences.harsh(audit_of(cell("lofi", agreement=None))).headline


def test_a_missing_floor_is_said():
    assert "noise floor was not measured" in sentences.harsh(audit_of(cell("lofi"), floor=None)).detail


def best(*cells, **options):
    found = sentences.best(audit_of(*cells, **options))
    return found.headline.replace("\xa0", " "), found.detail.replace("\xa0", " ")


def test_best_beats_random_only_where_the_difference_excludes_zero():
    headline, detail = best(cell("lofi", agreement=0.9), cell("random", agreement=0.7))
    assert headline == "With 25 % of the visual tokens, lofi keeps the most answers, more than random."
    assert "lofi keeps 90.0 % [88.0, 92.0]" in detail
    assert "a difference of +20.0 points [16.0, 24.0]" in detail
    headline, detail = best(cell("lofi", agreement=0.72), cell("random", agreement=0.7))
    assert "but not clearly more than random" in headline
    assert "overlap" in detail


def test_best_prefers_the_paired_difference():
    paired = {"model": "m", "dataset": "d", "keep": "0.2500", "method": "lofi", "versus": "random"}
    paired |= {"difference": 0.02, "low": 0.01, "high": 0.03}
    cells = cell("lofi", agreement=0.72), cell("random", agreement=0.7)
    headline, detail = best(*cells, comparisons=[paired])
    assert headline.endswith("more than random.")
    assert "but not" not in headline
    assert "+2.0 points [1.0, 3.0] (paired by image)" in detail


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ([cell("lofi", agreement=0.6), cell("random", agreement=0.7)], "no method beats random"),
        ([cell("lofi", agreement=0.7), cell("random", agreement=0.7)], "no method beats random"),
        ([cell("a"), cell("b"), cell("random", agreement=0.5)], "a and b tie for most answers kept"),
        ([cell("lofi")], "lofi was the only method to compare"),
        ([cell("lofi", agreement=None)], "cannot be compared"),
        ([cell("lofi", layer_mean_tokens=100.0)], "cannot be compared"),
        ([cell("lofi", half=None), cell("random", agreement=0.5, half=None)], "whether it beats random is undefined"),
    ],
)
def test_best_fits_the_outcome(cells, words):
    assert words in best(*cells)[0]


def test_best_without_random_or_with_other_budgets_says_so():
    assert "Random was not run" in best(cell("a"), cell("b", agreement=0.8))[1]
    headline, detail = best(cell("a", layer_mean_tokens=60.0, agreement=0.99), cell("b"), cell("random", agreement=0.5))
    assert "b keeps the most" in headline
    assert "Left out, because their layer-mean differs from the keep: a." in detail


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (correlation(), "raise the IPR more keep fewer answers"),
        (correlation(pearson=0.5, low=0.2, high=0.7), "the reverse of the claim"),
        (correlation(pearson=-0.1, p=0.4), "no link"),
        (correlation(p=None), "undecided"),
        (correlation(pearson=None, p=None, note="agreement does not vary"), "cannot test the IPR claim"),
    ],
)
def test_the_ipr_sentence_fits_the_outcome(row, words):
    found = sentences.spectra(audit_of(cell("lofi"), correlations=[row]))
    assert words in found.headline


def test_the_ipr_sentence_gives_r_interval_p_n_and_the_pooled_value_as_a_warning():
    rows = [correlation(), correlation("pooled", pearson=-0.9, low=-0.95, high=-0.8)]
    detail = sentences.spectra(audit_of(cell("lofi"), correlations=rows)).detail.replace("\xa0", " ")
    assert "r = −0.50 [−0.70, −0.20], p = 0.010 (24 cells in 6 groups)" in detail
    assert "pooled over all cells it is r = −0.90 [−0.95, −0.80], which the keep alone can produce" in detail
    raw = correlation(statistic="ipr", centred=False, primary=False, pearson=-0.3, low=None, high=None)
    detail = sentences.spectra(audit_of(cell("lofi"), correlations=[*rows, raw])).detail
    assert "Raw IPR, as in the paper, has r = −0.30 at equal keep." in detail
    assert "at least two methods" in sentences.spectra(audit_of(cell("lofi"))).detail
