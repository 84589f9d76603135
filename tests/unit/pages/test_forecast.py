import numpy as np
import pytest

from lofi.report.pages import forecast
from tests.unit.pages.spectral_setup import checked, column, finding


def test_the_figure_draws_the_predictions_that_the_errors_are_of(spectral_audit):
    found = checked(forecast.pages(spectral_audit), spectral_audit)
    cells = 2 * 3 * (3 * 2 + 1)
    rows = found["fig-forecast"].rows
    assert len(rows) == cells * 2 * 2  # splits by dataset and by method, each from two sets of features
    for split in ("dataset", "method"):
        for features in forecast.DRAWN:
            here = [row for row in rows if (row["split"], row["features"]) == (split, features)]
            off = np.mean([abs(row["predicted"] - row["agreement"]) for row in here])
            [stored] = spectral_audit.select(
                f"SELECT DISTINCT error FROM forecast WHERE split = '{split}' AND features = '{features}'"
            )
            assert off == pytest.approx(stored["error"])
            assert f"error {100 * off:.2f} points" in found["fig-forecast"].svg


def test_the_table_says_why_a_model_cannot_be_held_out(spectral_audit):
    table = checked(forecast.pages(spectral_audit), spectral_audit)["forecasts"]
    assert len(table.rows) == 27
    noted = [
        row for row in zip(column(table, "held out"), column(table, "what it says"), strict=True) if row[0] == "model"
    ]
    assert {note for _, note in noted} == {
        "2 models with pruned cells: at least 3 are needed to learn from some and predict another"
    }
    errors = column(table, "error (points)")
    assert [errors[i] for i, split in enumerate(column(table, "held out")) if split == "model"] == ["–"] * 9


def spectra_move(difference: str) -> str:
    """The table with the differences that spectra alone make, from its `split` and `baseline`."""
    alone = "features = baseline || ' + spectra' AND error IS NOT NULL"
    return (
        f"SELECT * REPLACE (CASE WHEN {alone} THEN {difference} ELSE difference END AS difference,"
        f" CASE WHEN {alone} THEN {difference} - 0.01 ELSE difference_low END AS difference_low,"
        f" CASE WHEN {alone} THEN {difference} + 0.01 ELSE difference_high END AS difference_high) FROM forecast"
    )


@pytest.mark.parametrize(
    ("difference", "headline", "detail"),
    [
        ("0.0", "add nothing to the forecast of agreement that these cells can show.", "no more than chance may"),
        ("-0.05", "better in every comparison.", "lower the error beside keep (dataset held out)"),
        ("CASE WHEN split = 'method' THEN -0.05 ELSE 0.0 END", "better in 2 of 5 comparisons.", "keep (method held out)"),
        ("CASE WHEN split = 'method' THEN -0.05 ELSE 0.05 END", "better in 2 of 5 comparisons and worse in 3.", "and raise it"),
        ("0.05", "they make it worse where they matter.", "raise it beside keep (dataset held out)"),
    ],
)  # fmt: skip
def test_the_finding_fits_the_outcome(altered, difference, headline, detail):
    says = forecast.finding(altered(forecast=spectra_move(difference)).select(forecast.ERRORS))
    assert says.headline.endswith(headline)
    assert detail in says.detail
    assert "Of 5 comparisons that add the spectra and nothing else" in says.detail.replace("\xa0", " ")


def test_without_spectra_their_use_cannot_be_tested_but_the_keep_can(altered):
    lost = "features LIKE '%spectra%'"
    numbers = ("error", "low", "high", "difference", "difference_low", "difference_high", "verdict")
    nulls = ", ".join(f"CASE WHEN {lost} THEN NULL ELSE {name} END AS {name}" for name in numbers)
    audit = altered(
        forecast=f"SELECT * REPLACE ({nulls}, CASE WHEN {lost} THEN 'no spectra are stored' ELSE note END AS note)"
        " FROM forecast",
        forecast_cells=f"SELECT * FROM forecast_cells WHERE NOT {lost}",
    )
    found = checked(forecast.pages(audit), audit)
    assert found["finding"].headline == "Whether spectra help to forecast agreement cannot be tested."
    assert "No spectra are stored." in found["finding"].detail
    assert "from the keep alone" in found["finding"].detail
    assert {row["features"] for row in found["fig-forecast"].rows} == {"keep"}
    assert "from the keep alone" in found["fig-forecast"].title


def test_where_nothing_can_be_held_out_the_page_says_why(altered):
    numbers = ("error", "low", "high", "difference", "difference_low", "difference_high")
    nulls = ", ".join(f"NULL::DOUBLE AS {name}" for name in numbers)
    audit = altered(
        forecast=f"SELECT * REPLACE ({nulls}, '12 cells: at least 20 are needed' AS note) FROM forecast",
        forecast_cells="SELECT * FROM forecast_cells WHERE false",
    )
    found = checked(forecast.pages(audit), audit)
    assert found["finding"].headline == "No forecast can be tested on this sweep."
    assert found["finding"].detail == "12 cells: at least 20 are needed."
    assert "fig-forecast" not in found


def test_a_sweep_that_prunes_nothing_says_so(altered):
    audit = altered(
        forecast="SELECT * FROM forecast WHERE false", forecast_cells="SELECT * FROM forecast_cells WHERE false"
    )
    assert set(checked(forecast.pages(audit), audit)) == {"finding"}
    assert finding(forecast.pages(audit)).detail == "The sweep has no pruned cells."
