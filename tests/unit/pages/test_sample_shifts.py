import pytest

from lofi.report.pages import sample_shifts
from tests.unit.pages.spectral_setup import checked, column, finding


def gains(**columns: object) -> str:
    """The table with other numbers in the row over all cells."""
    changes = ", ".join(
        f"CASE WHEN scope = 'all' THEN {value} ELSE {name} END AS {name}" for name, value in columns.items()
    )
    return f"SELECT * REPLACE ({changes}) FROM beyond_margin"


KNOWN = {"auroc_margin": 0.7, "note": "NULL", "n_cells": 5}


@pytest.mark.parametrize(
    ("numbers", "headline"),
    [
        ({"gain": 0.03, "gain_low": 0.01, "gain_high": 0.05}, "adds 0.030 to the AUROC of 0.700"),
        ({"gain": 0.03, "gain_low": -0.01, "gain_high": 0.07}, "adds nothing to the full model's margin"),
        ({"gain": -0.03, "gain_low": -0.05, "gain_high": -0.01}, "makes the forecast of changes worse"),
    ],
)
def test_the_finding_fits_the_outcome(altered, numbers, headline):
    audit = altered(beyond_margin=gains(**KNOWN, **numbers, auroc_both=0.7 + numbers["gain"]))
    says = finding(sample_shifts.pages(audit))
    assert headline in says.headline
    low, high = (f"{numbers[name]:.3f}".replace("-", "−") for name in ("gain_low", "gain_high"))
    assert f"[{low}, {high}] (mean over 5 cells" in says.detail.replace("\xa0", " ")


def test_tables_and_figure_hold_every_pair(altered):
    audit = altered(
        beyond_margin="SELECT * REPLACE (0.6::DOUBLE AS auroc_margin, 0.65::DOUBLE AS auroc_both, 0.05::DOUBLE AS gain,"
        " CASE WHEN dataset = 'scenes-open' THEN -0.01 ELSE 0.01 END AS gain_low, 0.09::DOUBLE AS gain_high) FROM beyond_margin"
    )
    found = checked(sample_shifts.pages(audit), audit)
    assert column(found["gains"], "dataset") == ["all", *["scenes-letters", "scenes-open", "scenes-yesno"] * 2]
    assert set(column(found["gains"], "AUROC by margin")) == {"0.600"}
    assert len(found["fig-gain"].rows) == 7
    assert "adds to the margin on 4 of 6 pairs" in found["fig-gain"].title.replace("\xa0", " ")
    assert "on 2 neither can be told" in found["fig-gain"].title
    # 2 models, 3 datasets, 2 keeps of 3 methods of which one has 2 seeds, and one of its own count
    assert len(found["gains-cells"].rows) == 6 * (2 * 4 + 1)
    assert len(found["sample-shifts"].rows) == 13 * 8
    assert found["sample-shifts"].marked == {0}


def test_too_few_changed_answers_are_undecided_not_zero(altered):
    nothing = dict.fromkeys(("auroc_margin", "auroc_both", "gain", "gain_low", "gain_high"), "NULL")
    replaced = ", ".join(f"NULL::DOUBLE AS {name}" for name in nothing)
    note = "'too few answers changed in every cell' AS note"
    audit = altered(beyond_margin=f"SELECT * REPLACE ({replaced}, {note}) FROM beyond_margin")
    found = checked(sample_shifts.pages(audit), audit)
    assert found["finding"].headline == "Whether the shift tells which answers change is undecided."
    assert found["finding"].detail == "Too few answers changed in every cell."
    assert "fig-gain" not in found
    assert set(column(found["gains"], "gain")) == {"–"}


def test_what_the_shift_tells_by_itself_is_no_claim_where_chance_does_it(altered):
    audit = altered(
        beyond_margin=gains(**KNOWN, gain=0.0, gain_low=-0.1, gain_high=0.1, auroc_both=0.7),
        sample_shifts="SELECT * REPLACE (0.5::DOUBLE AS auroc, -0.4::DOUBLE AS z, 0.7::DOUBLE AS p) FROM sample_shifts",
    )
    detail = finding(sample_shifts.pages(audit)).detail
    assert "at an equal margin it tells nothing (score test, z = −0.4, p = 0.700)" in detail


def test_a_sweep_without_spectra_says_so(altered):
    empty = {name: f"SELECT * FROM {name} WHERE false" for name in ("beyond_margin", "sample_shifts")}
    audit = altered(**empty)
    assert set(checked(sample_shifts.pages(audit), audit)) == {"finding"}
    assert finding(sample_shifts.pages(audit)).headline == "Single answers cannot be looked at."
