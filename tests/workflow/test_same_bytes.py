"""The same sweep by Snakemake, in other orders and on other numbers of cores: the same bytes in every table."""

from pathlib import Path

import pytest

from lofi.cli import main
from tests.workflow.conftest import Workflow

pytestmark = pytest.mark.slow  # three whole runs


def differing(one: Path, other: Path) -> set[str]:
    """The tables that have other bytes."""
    names = sorted(path.name for path in (one / "results/tables").glob("*.parquet"))
    assert names == sorted(path.name for path in (other / "results/tables").glob("*.parquet"))
    assert len(names) > 20
    return {
        Path(name).stem
        for name in names
        if (one / "results/tables" / name).read_bytes() != (other / "results/tables" / name).read_bytes()
    }


def test_runs_that_differ_in_order_cores_and_pack(tiny_model, tmp_path, capsys):
    sweep = {
        "models": {"m": {"source": str(tiny_model), "batch_images": 4}},
        "datasets": {"digits-pope": {"limit": 8}},
        "methods": {"random": {}, "lofi": {}},
        "keeps": [0.25],
        "shards": 2,
        "stability_images": 2,
    }
    runs = {}
    for name, pack, arguments in (
        ("one", ["method", "keep", "seed"], ("--cores", "1")),
        ("two", ["method", "keep", "seed"], ("--cores", "2", "--scheduler", "greedy")),
        ("single", [], ("--cores", "2")),
    ):
        folder = tmp_path / name
        folder.mkdir()
        runs[name] = Workflow(folder, {**sweep, "pack": pack})
        runs[name].snakemake(*arguments)
    folders = {name: run.folder for name, run in runs.items()}
    assert differing(folders["one"], folders["two"]) == {"timings"}
    assert differing(folders["one"], folders["single"]) == {"timings", "runs"}

    manifest = str(folders["one"] / "reports/index_files/manifest.json")
    assert main(["reproduce", manifest, "--results", str(folders["two"] / "results")]) == 0
    assert main(["reproduce", manifest, "--results", str(folders["single"] / "results")]) == 1
    assert "  tables: runs  " in capsys.readouterr().out
