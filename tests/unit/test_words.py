"""How numbers are written."""

import pytest

from lofi.report import words


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.921, "92.1 %"), (0.0, "0.0 %"), (1e-5, "< 0.1 %"), (0.99999, "> 99.9 %"), (1.0, "100.0 %"), (None, "–")],
)
def test_percent_never_rounds_to_nothing_or_all(value, text):
    assert words.percent(value).replace("\xa0", " ") == text


def test_points_and_counts():
    assert words.points(-0.0001).replace("\xa0", " ") == "0.0 points"
    assert words.points(0.012).replace("\xa0", " ") == "+1.2 points"
    assert words.count(12345, "answer").replace("\xa0", " ") == "12 345 answers"
    assert words.count(1, "pair").replace("\xa0", " ") == "1 pair"
