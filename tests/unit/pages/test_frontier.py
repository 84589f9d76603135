"""The page of the frontier: which combinations none beats, against a plain loop and by hand."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lofi.report import curves
from lofi.report.audit import Audit
from lofi.report.drawing import Figure
from lofi.report.page import Finding, Page, walk
from lofi.report.pages import frontier
from lofi.report.sources import text as source
from lofi.report.spending import by_model, by_pair, on_frontier
from lofi.report.tables import Table
from lofi.stats.query import query
from lofi.tables import Row, Tables
from tests.unit.pages.conftest import Altered
from tests.unit.pages.reading import plain, tables

FULL_TOKENS = 100.0


@pytest.fixture(scope="module")
def page(spectral_audit: Audit) -> Page:
    [page] = frontier.pages(spectral_audit)
    return page


# ---- by hand -----------------------------------------------------------------------------------------------------


def write(folder: Path, *points: tuple[str, str, float, float | None], **more: object) -> Path:
    """Tables of one model and dataset. points: method, keep, layer-mean tokens, agreement."""
    cells, methods, timings = [], [], []
    for method, keep, tokens, agreement in (("full", "1.0000", FULL_TOKENS, 1.0), *points):
        same = {"model": "m", "dataset": "d", "method": method, "keep": keep, "weights": "none"} | more
        if method == "full":
            same["weights"] = "none"
        bounds = {
            f"{rate}_{end}": None if agreement is None else agreement + half
            for rate in ("agreement", "accuracy")
            for end, half in (("low", -0.05), ("high", 0.05))
        }
        methods.append({**same, "n_seeds": 1, "n": 10, "agreement": agreement, "accuracy": agreement, **bounds})
        cells.append(
            {**same, "seed": 0, "layer_mean_tokens": tokens, "kept_tokens": tokens, "full_tokens": FULL_TOKENS}
            | {"prefill_flops": 10 * tokens, "relative_accuracy": agreement, "keep_ratio": None}
        )
        timings.append(
            {name: same[name] for name in ("model", "dataset", "method", "keep")} | {"seed": 0, "t_prefill_ms": 1.0}
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("cells", cells), ("methods", methods), ("timings", timings)):
        file = folder / f"{name}.parquet"
        before = pq.read_table(file).to_pylist() if file.exists() else []
        pq.write_table(pa.Table.from_pylist([*before, *rows]), file)
    return folder


def found(folder: Path) -> dict[str, Row]:
    with Tables(folder) as opened:
        return {row["method"]: row for row in opened.rows(by_model()) if row["method"] != "full"}


def test_what_is_beaten_on_both_is_not_on_the_frontier(tmp_path: Path) -> None:
    rows = found(write(tmp_path, ("few", "a", 10, 0.5), ("worse", "b", 25, 0.4), ("more", "c", 25, 0.9)))
    assert {name: row["on_frontier"] for name, row in rows.items()} == {"few": True, "worse": False, "more": True}
    assert (rows["worse"]["beaten_by"], rows["worse"]["beaten_at"]) == ("more", "c")
    assert [row["method"] for row in on_frontier(list(rows.values()))] == ["few", "more"]
    assert {name: row["n_rivals"] for name, row in rows.items()} == {"few": 0, "worse": 2, "more": 2}
    assert rows["worse"]["n_level"] == 2
    assert rows["more"]["n_level"] == 0
    assert rows["few"]["flops"] == pytest.approx(0.1)


def test_less_than_one_token_is_no_advantage_and_equal_points_share_the_frontier(tmp_path: Path) -> None:
    rows = found(write(tmp_path, ("a", "k", 25.0, 0.9), ("b", "k", 24.2, 0.6), ("c", "k", 25.4, 0.9)))
    assert {name: row["on_frontier"] for name, row in rows.items()} == {"a": True, "b": False, "c": True}
    whole = found(write(tmp_path / "whole", ("a", "k", 25.0, 0.9), ("b", "k", 24.0, 0.6), ("c", "k", 26.0, 0.9)))
    assert {name: row["on_frontier"] for name, row in whole.items()} == {"a": True, "b": True, "c": False}


def test_only_reduced_rows_of_the_same_weights_and_of_every_dataset_compete(tmp_path: Path) -> None:
    write(tmp_path, ("a", "k", 25, 0.5), ("all", "1.0000", 100, 1.0), ("unknown", "k", 20, None))
    write(tmp_path, ("int8", "k", 25, 0.9), dataset="d", weights="int8")
    table = pq.read_table(tmp_path / "methods.parquet").to_pylist()
    pq.write_table(pa.Table.from_pylist([*table[:4], *table[5:]]), tmp_path / "methods.parquet")  # full once
    rows = found(tmp_path)
    assert {name for name, row in rows.items() if row["treated"]} == {"a", "int8"}
    assert rows["a"]["on_frontier"]
    assert rows["a"]["n_rivals"] == 0
    write(tmp_path, ("a", "k", 25, 0.7), dataset="e")
    rows = found(tmp_path)
    assert set(rows) == {"a"}, "the others did not run on dataset e"
    assert rows["a"]["agreement"] == pytest.approx(0.6)
    assert rows["a"]["agreement_low"] == pytest.approx(0.6 - 0.05 / 2**0.5), "half-widths add up in quadrature"
    assert rows["a"]["n"] == 20


# ---- the page ----------------------------------------------------------------------------------------------------


def test_the_frontier_is_that_of_a_plain_loop(spectral_audit: Audit) -> None:
    rows = [row for row in spectral_audit.select(by_model()) if row["treated"]]
    assert len(rows) == 2 * (3 * 2 + 1)

    def beats(other: Row, row: Row) -> bool:
        if other["model"] != row["model"] or other["share"] >= row["share"] + row["token"]:
            return False
        fewer = other["share"] <= row["share"] - row["token"]
        return bool(other["agreement"] > row["agreement"] or (other["agreement"] == row["agreement"] and fewer))

    for row in rows:
        assert row["on_frontier"] == (not any(beats(other, row) for other in rows)), row
    assert any(row["on_frontier"] for row in rows)


def test_finding_figure_and_tables_agree(spectral_audit: Audit, page: Page) -> None:
    finding, figure = page.blocks[0], page.blocks[1]
    assert isinstance(finding, Finding)
    assert isinstance(figure, Figure)
    best = [row for row in figure.rows if row["on_frontier"]]
    assert plain(finding.headline).startswith(f"{len(best)} of {len(figure.rows)} combinations of model, method and")
    assert finding.detail.count("of the tokens,") == len(spectral_audit.models)
    assert "n = " in finding.detail
    made = tables(page)
    assert len(made["frontier-best"].rows) == len(best)
    everything = made["frontier-all"]
    assert len(everything.rows) == len(spectral_audit.select(by_model()))
    beaten = [column.label for column in everything.columns].index("beaten by")
    texts = [row[beaten].text for row in everything.rows]
    assert texts.count("none") == len(best)
    assert texts.count("not compared") == 2 * len(spectral_audit.models), "full and floor"
    assert "prumerge" in {row[1].text for row in everything.rows}


def test_every_number_can_be_asked_for_again(spectral_audit: Audit, page: Page) -> None:
    assert spectral_audit.source is not None
    for block in walk(page.blocks):
        if not isinstance(block, Table | Figure):
            continue
        assert block.how is not None
        assert block.how.n.startswith("n = ")
        assert all(source(name) for name in block.how.made_by)
        rows = json.loads(query(" ".join(block.how.query.split()), spectral_audit.source.folder, "json"))
        if isinstance(block, Table):
            assert len(rows) == len(block.rows) + block.left_out
        else:
            shown = {tuple(sorted((k, str(v)) for k, v in row.items())) for row in rows}
            assert all(tuple(sorted((k, str(v)) for k, v in row.items())) in shown for row in block.rows)


def test_points_of_pairs_are_those_of_the_tables(spectral_audit: Audit) -> None:
    by_hand = {
        tuple(row[axis] for axis in ("model", "dataset", "method", "keep")): row
        for row in spectral_audit.select("SELECT * FROM methods")
    }
    rows = spectral_audit.select(by_pair())
    assert len(rows) == len(by_hand)
    for row in rows:
        point = by_hand[row["model"], row["dataset"], row["method"], row["keep"]]
        assert row["agreement"] == point["agreement"]
        assert row["n"] == point["n"]
    full = [row for row in rows if row["method"] == "full"]
    assert all(row["share"] == 1 for row in full)
    assert all(row["flops"] == pytest.approx(1) for row in full if row["flops"] is not None)


@pytest.mark.parametrize("own", [(), ("prumerge",)], ids=["no method", "own counts alone"])
def test_sweeps_without_a_shared_keep(altered: Altered, own: tuple[str, ...]) -> None:
    names = ", ".join(f"'{name}'" for name in ("full", "floor", *own))
    few = f"SELECT * FROM {{}} WHERE method IN ({names}) AND model = 'tiny-a'"
    [page] = frontier.pages(altered(cells=few.format("cells"), methods=few.format("methods")))
    finding = page.blocks[0]
    assert isinstance(finding, Finding)
    ids = [block.id for block in walk(page.blocks) if isinstance(block, Figure)]
    if own:
        assert plain(finding.headline).startswith("1 of 1 combination of method and keep lies on the frontier")
        assert "no other combination uses as few" in finding.detail
        assert ids == ["fig-frontier", "fig-keep"]
    else:
        assert finding.headline == "There is no frontier to draw."
        assert ids == ["fig-keep"]
    assert all(block.svg for block in page.blocks if isinstance(block, Figure))


def test_more_models_and_pairs_than_panels_are_said(spectral_audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "MAX_MODELS", 1)
    monkeypatch.setattr(curves, "MAX_PAIRS", 3)
    [page] = frontier.pages(spectral_audit)
    captions = {block.id: block.caption for block in walk(page.blocks) if isinstance(block, Figure)}
    assert "1 of 2 models are drawn" in captions["fig-frontier"]
    assert "The first 3 of 6 pairs" in captions["fig-keep"]
    panels = {block.id: len(block.canvas.axes) for block in walk(page.blocks) if isinstance(block, Figure)}
    assert panels == {"fig-frontier": 2, "fig-keep": 6}
