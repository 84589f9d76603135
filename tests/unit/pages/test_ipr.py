import math

import numpy as np
import pytest

from lofi.report.audit import read
from lofi.report.page import walk
from lofi.report.pages import forecast, ipr, layers, sample_shifts
from lofi.report.scatter import PANELS
from tests.unit.pages.spectral_setup import checked, column, finding
from tests.unit.report_setup import make_results

LEADING = "within_model_dataset_keep"


@pytest.fixture(scope="module")
def page(spectral_audit):
    [page] = ipr.pages(spectral_audit)
    return page


@pytest.fixture(scope="module")
def found(page, spectral_audit):
    return checked([page], spectral_audit)


def primary(audit):
    return {row["scope"]: row for row in audit.select("SELECT * FROM correlations") if row["primary"]}


def test_each_panel_draws_the_points_that_its_r_was_computed_from(found, spectral_audit):
    points, tests = found["fig-ipr"].rows, primary(spectral_audit)
    assert len(points) == 2 * 3 * (3 * 2 + 1)
    for scope, _, x, y in PANELS:
        drawn = [(point[x], point[y]) for point in points if point[x] is not None]
        assert len(drawn) == tests[scope]["n_cells"]
        assert np.corrcoef(np.array(drawn).T)[0, 1] == pytest.approx(tests[scope]["pearson"])
    assert "leaves out 6" in found["fig-ipr"].caption.replace("\xa0", " ")
    assert "own count" in found["fig-ipr"].caption


def test_the_scope_that_compares_methods_leads_and_the_page_says_why(page, found, spectral_audit):
    tests = primary(spectral_audit)
    table = found["scopes"]
    assert column(table, "scope")[:6] == list(ipr.SCOPES.values())
    assert [i in table.marked for i in range(12)] == [True] * 6 + [False] * 6
    r = f"{tests[LEADING]['pearson']:.2f}".replace("-", "−")
    assert column(table, "Pearson r")[0].startswith(f"{r} [")
    assert f"r = {r} [" in found["finding"].detail
    assert "Beyond random pruning of the same keep: r = " in found["finding"].detail
    assert "Among random prunings alone: r = " in found["finding"].detail
    why = [str(block.html) for block in walk(page.blocks) if "misleads" in str(getattr(block, "html", ""))]
    assert len(why) == 1
    assert "even if methods play no part" in why[0]
    assert column(table, "p, methods")[1:6] == ["–"] * 5


def test_the_map_marks_what_stands_after_correction(altered):
    audit = altered(
        correlations="SELECT * REPLACE ("
        "CASE WHEN NOT correlations.primary AND statistic = 'k90' AND delta = 'dlog' THEN 0.01 ELSE 0.9 END"
        " AS p_adjusted, CASE WHEN site = 'projector' THEN 0.2 ELSE 0.03 END AS p_methods) FROM correlations"
    )
    figure = checked(ipr.pages(audit), audit)["fig-ipr-map"]
    # 13 statistics at 2 sites, 2 token sets and 2 forms, less the declared one
    assert len(figure.rows) == 13 * 8
    assert "Of 103 other shifts at equal keep, 8 go with agreement" in figure.title.replace("\xa0", " ")
    assert "4 of them also where whole methods are exchanged." in figure.title
    assert figure.svg.count("*</text>") == 8
    assert figure.svg.count("[") == 1  # around the declared one


def test_the_fold_counts_what_was_tried_in_each_scope(found):
    assert set(column(found["explored-scopes"], "shifts tried")) == {"207"}
    assert len(found["correlations"].rows) == 208
    assert found["correlations"].marked == {0}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("-0.5 AS pearson, 0.001 AS p, 0.2 AS p_methods", "fewer kept answers, but no more than exchanging whole"),
        ("-0.5 AS pearson, 0.001 AS p, 0.01 AS p_methods", "methods that raise the IPR more keep fewer answers."),
        ("0.5 AS pearson, 0.001 AS p, NULL AS p_methods", "the reverse of the claim"),
        ("-0.1 AS pearson, 0.4 AS p, 0.01 AS p_methods", "no link between"),
    ],
)
def test_the_finding_fits_the_outcome(altered, row, words):
    audit = altered(correlations=f"SELECT * REPLACE ({row}) FROM correlations")
    assert words in ipr.finding(audit, {}).headline


def test_a_sweep_with_one_method_says_why_nothing_can_be_tested(tmp_path):
    made = make_results(tmp_path, datasets=("scenes-yesno",), methods={"lofi": (0,)}, images=2, stability=False)
    audit = read(made.root / "tables", made.sweep)
    found = checked(ipr.pages(audit), audit)
    assert found["finding"].headline == "This sweep cannot test the IPR claim."
    assert "every group has one cell" in found["finding"].detail
    assert "at equal model, dataset and keep, r is undefined" in found["fig-ipr"].title.lower()
    assert "fig-ipr-map" not in found
    assert column(found["scopes"], "Pearson r")[0] == "–"
    assert column(found["scopes"], "note")[0] == "every group has one cell"
    assert finding(sample_shifts.pages(audit)).headline.endswith("is undecided.")
    assert "at least 3 are needed" in finding(forecast.pages(audit)).detail
    assert "fig-layers-visual" in checked(layers.pages(audit), audit)


def test_a_sweep_without_spectra_has_no_figure(altered):
    audit = altered(spectra="SELECT * FROM spectra WHERE false", correlations="SELECT * FROM correlations WHERE false")
    found = checked(ipr.pages(audit), audit)
    assert set(found) == {"finding"}
    assert "with spectra" in found["finding"].detail


def test_the_strongest_shift_is_named_as_found_after_looking(page, spectral_audit):
    rows = spectral_audit.select(
        f"SELECT * FROM correlations WHERE scope = '{LEADING}' AND delta = 'dlog' AND NOT correlations.primary"
    )
    largest = max(abs(row["pearson"]) for row in rows if row["pearson"] is not None)
    assert math.isfinite(largest)
    said = next(str(b.html) for b in walk(page.blocks) if "The strongest" in str(getattr(b, "html", "")))
    assert f"{largest:.2f} [" in said
    assert "named after looking" in said
