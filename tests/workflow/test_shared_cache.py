"""Sweeps that share a cache, at the same time and one after the other."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lofi.config import load
from tests.conftest import REPOSITORY
from tests.workflow.conftest import Workflow, computed, samples

RUN = """
import sys
from lofi.cli import main

def run(command, *options):
    sys.exit("failed") if main([command, "--config", "config.yaml", *options]) else None

run("prepare", "--dataset", "digits-pope")
for stage in ("reference", "evaluate"):
    run(stage, "--model", "m", "--dataset", "digits-pope")
"""


def sweep(tiny_model: Path, *methods: str, **more: object) -> dict:
    return {
        "models": {"m": {"source": str(tiny_model), "batch_images": 4}},
        "datasets": {"digits-pope": {"limit": 8}},
        "methods": {method: {} for method in methods},
        "keeps": [0.25],
        "stability_images": 0,
        **more,
    }


def write(folder: Path, config: dict) -> None:
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def start(folder: Path, config: dict) -> subprocess.Popen[str]:
    write(folder, config)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        [sys.executable, "-c", RUN], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    )  # fmt: skip


def run_here(folder: Path, config: dict) -> None:
    """The same in this process, which has loaded its libraries."""
    write(folder, config)
    with contextlib.chdir(folder):
        exec(RUN, {})


def finish(*runs: subprocess.Popen[str]) -> list[str]:
    said = [run.communicate(timeout=600)[1] for run in runs]
    assert [run.returncode for run in runs] == [0] * len(runs), said
    return said


def test_two_sweeps_at_once_and_a_third_that_computes_nothing(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = {"cache": str(tmp_path / "cache")}
    runs = {"a": ("random", "lofi"), "b": ("lofi", "grid_1d")}
    finish(*(start(tmp_path / name, sweep(tiny_model, *methods, **shared)) for name, methods in runs.items()))
    run_here(tmp_path / "alone", sweep(tiny_model, "random", "lofi", "grid_1d"))
    alone = samples(tmp_path / "alone")
    for name in runs:
        found = samples(tmp_path / name)
        assert len(found) == 2 + 2
        assert found == {path: alone[path] for path in found}
        assert not (tmp_path / name / "results/cache").exists()
    keys = sorted(path.parent.name for path in (tmp_path / "cache").glob("*/samples.parquet"))
    own = sorted(path.parent.name for path in (tmp_path / "alone/results/cache").glob("*/samples.parquet"))
    assert keys == own, "the place of the cache is in no key"
    assert not list((tmp_path / "cache").glob("*/samples-*.parquet")), "no part is left of a finished cell"

    published = {
        path: path.stat() for name in runs for path in (tmp_path / name / "results/samples").rglob("*.parquet")
    }
    capsys.readouterr()
    run_here(tmp_path / "c", sweep(tiny_model, "random", "lofi", "grid_1d", **shared))
    assert capsys.readouterr().err.count("computed 0 cells") == 2
    assert samples(tmp_path / "c") == alone
    for path, before in published.items():
        after = path.stat()
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns), (
            "another sweep's file is as it was"
        )
    inodes = [path.stat().st_ino for path in (tmp_path / "c/results/samples").rglob("*.parquet")]
    assert not {each.st_ino for each in published.values()} & set(inodes)


def test_the_config_keeps_the_cache(tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(sweep(tiny_model, "random", cache="~/cells")))
    assert load(path).cache == "~/cells"
    assert load(path).to_dict()["cache"] == "~/cells"


@pytest.mark.slow  # two of Snakemake, twice
def test_two_snakemakes_share_a_cache_and_leave_each_other_finished(tiny_model: Path, tmp_path: Path) -> None:
    shared = {"cache": str(tmp_path / "cache")}
    runs = []
    for name, methods in {"a": ("random", "lofi"), "b": ("lofi", "grid_1d")}.items():
        (tmp_path / name).mkdir()
        runs.append(Workflow(tmp_path / name, sweep(tiny_model, *methods, **shared)))
    with runs[0].running("--cores", "1") as one, runs[1].running("--cores", "1") as other:
        runs[0].finish(one)
        runs[1].finish(other)
    for run in runs:
        assert (run.folder / "reports/index.html").is_file()
        assert "Nothing to be done" in run.run()
    alone = Workflow(tmp_path / "alone", sweep(tiny_model, "random", "lofi", "grid_1d"))
    alone.folder.mkdir()
    alone.run("--until", "evaluate")
    for run in runs:
        found = samples(run.folder)
        assert found == {path: samples(alone.folder)[path] for path in found}

    computed(runs[0])
    shutil.rmtree(runs[0].folder / "results/samples")
    runs[0].run("--until", "evaluate")
    assert computed(runs[0]) == (0, 2)
    assert "Nothing to be done" in runs[1].run(), "its cells have the dates that they had"
