from collections import defaultdict
from statistics import mean

import pytest

from lofi.report.pages import layers
from tests.unit.pages.spectral_setup import checked, column, finding


def test_figures_and_tables_hold_the_mean_over_seeds_then_datasets(spectral_audit):
    found = checked(layers.pages(spectral_audit), spectral_audit)
    raw = spectral_audit.select(
        "SELECT * FROM spectra WHERE statistic = 'ipr_u' AND tokens = 'visual' AND centred AND method = 'random'"
    )
    by_dataset = defaultdict(list)
    for row in raw:
        by_dataset[row["model"], row["keep"], row["site"], row["dataset"]].append(row["dlog"])
    assert {len(seeds) for seeds in by_dataset.values()} == {2}
    points = defaultdict(list)
    for (model, keep, site, _), seeds in by_dataset.items():
        points[model, keep, site].append(mean(seeds))
    figure = found["fig-layers-visual"]
    drawn = {(r["model"], r["keep"], r["site"]): r["shift"] for r in figure.rows if r["method"] == "random"}
    assert drawn == pytest.approx({key: mean(values) for key, values in points.items()})
    # 2 models, 3 methods, 2 keeps, 2 sites; the method of its own count stands in the table only
    assert len(figure.rows) == 24
    table = found["layers-visual"]
    assert len(table.rows) == 2 * (1 + 3 * 2 + 1)
    assert column(table, "keep").count("own count") == 2
    assert set(column(table, "datasets")) == {"3"}
    shown = dict(zip(zip(*(column(table, c) for c in ("model", "method", "keep")), strict=True),
                     column(table, "projector"), strict=True))  # fmt: skip
    assert shown["tiny-a", "random", "0.25"] == f"{mean(points['tiny-a', '0.2500', 'projector']):.3f}"
    assert [row[1].text for i, row in enumerate(table.rows) if i in table.marked] == ["floor", "floor"]
    assert len(found["layers-others"].rows) == 5 * 2 * 2 * 8


def test_the_finding_names_the_site_with_the_largest_mean_shift(altered):
    audit = altered(
        spectra="SELECT * REPLACE (CASE WHEN site = 'llm_1_2' THEN -1.5 ELSE 0.25 END AS dlog) FROM spectra"
    )
    says = finding(layers.pages(audit))
    assert says.headline == "The spectrum of the visual tokens moves most halfway through the LLM."
    assert "with 16 visual tokens, over 3 methods and 2 models: 0.25 after the projector and 1.50 halfway" in (
        says.detail.replace("\xa0", " ")
    )
    assert "−1.50 halfway through the LLM" in says.detail


def test_a_number_that_one_cell_lacks_is_a_dash_not_the_mean_of_the_others(altered):
    audit = altered(
        spectra="SELECT * REPLACE (CASE WHEN model = 'tiny-a' AND dataset = 'scenes-open' AND method = 'random'"
        " AND seed = 1 AND keep = '16' AND site = 'projector' THEN NULL ELSE dlog END AS dlog) FROM spectra"
    )
    found = checked(layers.pages(audit), audit)
    table = found["layers-visual"]
    keys = zip(*(column(table, c) for c in ("model", "method", "keep", "projector")), strict=True)
    assert [key[:3] for key in keys if key[3] == "–"] == [("tiny-a", "random", "16\xa0tokens")]
    assert len(found["fig-layers-visual"].rows) == 23


def test_where_nothing_moves_the_page_says_so(altered):
    audit = altered(spectra="SELECT * REPLACE (0.0::DOUBLE AS dlog) FROM spectra")
    assert finding(layers.pages(audit)).headline == (
        "At keep 16\xa0tokens no spectrum of the visual tokens moves at any site."
    )


def test_a_sweep_without_spectra_says_so(altered):
    audit = altered(spectra="SELECT * FROM spectra WHERE false")
    [page] = layers.pages(audit)
    assert finding([page]).headline == "No spectra were stored, so nothing is known of layers."
    assert len(page.blocks) == 1


def test_without_a_keep_below_all_tokens_nothing_is_drawn(altered):
    audit = altered(spectra="SELECT * FROM spectra WHERE method IN ('full', 'floor', 'prumerge')")
    found = checked(layers.pages(audit), audit)
    assert found["finding"].headline == "No keep below all tokens has spectra to compare."
    assert "fig-layers-visual" not in found
    assert set(column(found["layers-visual"], "method")) == {"floor", "prumerge"}


def test_many_models_and_keeps_are_drawn_in_part_and_the_caption_says_so():
    caption = layers._caption("visual", 2, 1).replace("\xa0", " ")
    assert "2 more models in the table. 1 more keep in the table." in caption
