"""The same sweep run twice gives the same bytes, and a report's manifest tells what of it is another today."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from lofi.cli import main
from lofi.config import load
from lofi.stats.aggregate import TABLES

Change = Callable[[dict[str, Any]], object]


def lofi(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def stages(config: Path, results: Path, *, backwards: bool) -> None:
    """A whole run: shards in order and their cells together, or the last first and every cell by itself."""
    sweep = load(config)
    on = ("--config", config, "--results", results)
    assert lofi("prepare", *on, "--dataset", "digits-pope") == 0
    shards = range(sweep.shards)
    for shard in reversed(shards) if backwards else shards:
        job = (*on, "--model", "tiny", "--dataset", "digits-pope", "--shard", shard)
        assert lofi("reference", *job) == 0
        if not backwards:
            assert lofi("evaluate", *job) == 0
            continue
        for cell in reversed(sweep.reduced_cells()):
            narrowed = ("--method", cell.method, "--keep", cell.keep, "--seed", cell.seed)
            assert lofi("evaluate", *job, *narrowed) == 0
    assert lofi("stability", *on, "--model", "tiny", "--dataset", "digits-pope") == 0
    assert lofi("aggregate", *on) == 0


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, digits: Path) -> Path:
    """A folder with one config and two runs of it, `results` with a report and `again`."""
    folder = tmp_path_factory.mktemp("runs")
    sweep = {
        "models": {"tiny": {"source": str(tiny_model), "batch_images": 4}},
        "datasets": {"digits-pope": {"source": str(digits / "digits-pope")}},
        "methods": {"random": {}, "lofi": {}},
        "keeps": [0.25],
        "shards": 2,
        "stability_images": 2,
    }
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(sweep))
    stages(config, folder / "results", backwards=False)
    stages(config, folder / "again", backwards=True)
    on = ("--config", config, "--results", folder / "results")
    assert lofi("report", *on, "--output", folder / "index.html") == 0
    return folder


@pytest.fixture
def manifest(runs: Path) -> Path:
    return runs / "index_files" / "manifest.json"


def altered(manifest: Path, target: Path, change: Change) -> Path:
    content = json.loads(manifest.read_text())
    change(content)
    target.write_text(json.dumps(content))
    return target


def test_two_runs_have_the_same_bytes_in_every_table_but_the_times(runs: Path) -> None:
    names = sorted(path.stem for path in (runs / "results/tables").glob("*.parquet"))
    assert names == sorted(TABLES)
    same = {
        name
        for name in names
        if (runs / f"results/tables/{name}.parquet").read_bytes()
        == (runs / f"again/tables/{name}.parquet").read_bytes()
    }
    assert set(names) - same == {"timings"}
    timings = [pq.read_table(runs / each / "tables/timings.parquet") for each in ("results", "again")]
    cells = pq.read_table(runs / "results/tables/cells.parquet")
    assert len(timings[0]) == len(timings[1]) == len(cells) == 2 + 2
    assert not [name for name in cells.column_names if name.startswith("t_")]


def test_a_finished_run_is_compared_with_the_manifest(runs, manifest, capsys) -> None:
    assert lofi("reproduce", manifest, "--results", runs / "again") == 0
    said = capsys.readouterr().out
    assert "nothing differs" in said
    assert f"tables {len(TABLES) - 1}" in said
    assert "make it again" not in said


def test_the_environment_is_compared_before_a_run(runs, manifest, tmp_path, capsys) -> None:
    assert lofi("reproduce", manifest, "--write-config", tmp_path / "sweep.yaml") == 0
    said = capsys.readouterr().out
    assert "nothing differs" in said
    assert f"snakemake --cores all --configfile {tmp_path / 'sweep.yaml'}" in said
    assert load(tmp_path / "sweep.yaml") == load(runs / "config.yaml")

    assert lofi("reproduce", manifest, "--write-config", tmp_path / "sweep.yaml") == 2
    assert "is there already" in capsys.readouterr().err


def test_the_manifest_has_what_the_numbers_came_from(manifest) -> None:
    made = json.loads(manifest.read_text())
    facts = made["facts"]
    assert made["command"].startswith("lofi ")
    assert {"torch", "transformers", "duckdb", "numpy", "pyarrow", "python"} <= facts["packages"].keys()
    assert "requirements.lock" in facts["locks"]
    assert re.fullmatch("[0-9a-f]{40}", facts["models"]["tiny"])
    assert re.fullmatch("[0-9a-f]{32}", facts["datasets"]["digits-pope"])
    assert facts["tables"].keys() == set(TABLES)
    assert facts["samples made"]["device"] == "cpu"


CHANGES: dict[str, tuple[Change, tuple[str, str, str]]] = {
    "a package of another version": (
        lambda made: made["facts"]["packages"].update(torch="1.0"),
        ("packages: torch", "1.0", "2."),
    ),
    "a package that is gone": (
        lambda made: made["facts"]["packages"].update(gone="3"),
        ("packages: gone", "3", "none"),
    ),
    "other code": (lambda made: made["facts"]["lofi"].update(code="0" * 64), ("lofi: code", "0" * 16 + "…", "…")),
    "another lock": (
        lambda made: made["facts"]["locks"].pop("torch.lock"),
        ("locks: torch.lock", "none", "…"),
    ),
    "other files of the model": (
        lambda made: made["facts"]["models"].update(tiny="1" * 40),
        ("models: tiny", "1" * 16 + "…", "…"),
    ),
    "another scorer": (
        lambda made: made["facts"]["scorers"].update({"digits-pope": "pope version 0"}),
        ("scorers: digits-pope", "pope version 0", "pope version"),
    ),
    "another machine": (
        lambda made: made["facts"]["samples made with"].update(processor="Abacus"),
        ("samples made with: processor", "Abacus", ""),
    ),
    "a character for the terminal": (
        lambda made: made["facts"]["packages"].update(torch="\x1b[2J"),
        ("packages: torch", "?[2J", "2."),
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_differs_is_said(what: str, manifest, tmp_path, capsys) -> None:
    change, (name, then, now) = CHANGES[what]
    assert lofi("reproduce", altered(manifest, tmp_path / "manifest.json", change)) == 1
    said = capsys.readouterr().out
    (line,) = [line for line in said.splitlines() if line.startswith(f"  {name} ")]
    assert re.fullmatch(f"{re.escape(name)} +{re.escape(then)} +.*{re.escape(now)}.*", line.strip())
    assert "\n1 of them differ\n" in said


def test_one_answer_less_is_another_table(runs, manifest, tmp_path, capsys) -> None:
    results = shutil.copytree(runs / "again", tmp_path / "results")
    cells = results / "tables" / "cells.parquet"
    pq.write_table(pq.read_table(cells).slice(1), cells)
    assert lofi("reproduce", manifest, "--results", results) == 1
    said = capsys.readouterr().out
    assert "  tables: cells " in said
    assert "1 of them differ" in said


def test_a_model_that_is_elsewhere_is_said(manifest, tmp_path, capsys) -> None:
    def moved(made: dict[str, Any]) -> None:
        made["config"]["models"]["tiny"]["source"] = "somebody/elsewhere"

    assert lofi("reproduce", altered(manifest, tmp_path / "manifest.json", moved)) == 1
    assert "not on this machine" in capsys.readouterr().out


WRONG: dict[str, tuple[Change, str]] = {
    "of a later lofi": (lambda made: made.update(format=9), "has the format 9, and this lofi reads 1"),
    "without a config": (lambda made: made.pop("config"), "its config is missing"),
    "facts in a list": (lambda made: made.update(facts=[]), "its facts is missing or of another kind"),
    "a number as a fact": (lambda made: made["facts"].update(packages={"torch": 2}), "are no names with texts"),
    "a config of no sweep": (lambda made: made["config"].pop("keeps"), "config:"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_manifest_is_refused(what: str, manifest, tmp_path, capsys) -> None:
    change, said = WRONG[what]
    assert lofi("reproduce", altered(manifest, tmp_path / "manifest.json", change)) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


def test_a_config_is_no_manifest(runs, capsys) -> None:
    assert lofi("reproduce", runs / "config.yaml") == 2
    assert "give the manifest.json" in capsys.readouterr().err
