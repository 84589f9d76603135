"""Means over seeds, models and datasets, as the report takes them."""

import pytest

from lofi.report.audit import AXES, mean_row, over_datasets
from tests.unit.audits import cell


def test_means_leave_out_what_one_cell_lacks_and_add_counts_up():
    mean = mean_row([cell("a", agreement=0.8), cell("a", agreement=0.6)], AXES[:-1])
    assert mean["agreement"] == pytest.approx(0.7)
    assert mean["n"] == 1000
    assert mean_row([cell("a", agreement=0.8), cell("a", agreement=None)], AXES[:-1])["agreement"] is None


def test_intervals_shrink_with_datasets_but_not_with_models():
    models = [{**cell("a"), "model": m} for m in "xy"]
    assert over_datasets(models, ("method",))["agreement_low"] == pytest.approx(0.88)
    datasets = [cell("a", dataset=d) for d in "wxyz"]
    merged = over_datasets(datasets, ("method",))
    assert merged["agreement"] == pytest.approx(0.9)
    assert (merged["agreement_low"], merged["agreement_high"]) == (pytest.approx(0.89), pytest.approx(0.91))
    unknown = over_datasets([*datasets, cell("a", dataset="v", half=None)], ("method",))
    assert unknown["agreement_low"] is None
