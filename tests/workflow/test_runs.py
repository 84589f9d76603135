"""The whole workflow with the real command line on a small untrained model: runs, additions and kills."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from tests.conftest import REPOSITORY
from tests.workflow.conftest import Workflow

pytestmark = pytest.mark.slow

PACKS = pytest.mark.parametrize("pack", [["method", "keep", "seed"], []], ids=["packed", "one by one"])
HOW_IT_RAN = {"run_id", "t_vision_ms", "t_select_ms", "t_prefill_ms", "t_decode_ms"}
TALLY = re.compile(r"computed (\d+) cells, (\d+) from cache")


@pytest.fixture
def real(tmp_path: Path, tiny_model: Path) -> Workflow:
    """The smoke sweep on an untrained model."""
    sweep = yaml.safe_load((REPOSITORY / "workflow/sweeps/smoke.yaml").read_text())
    sweep["models"]["digits-llava"] = {"source": str(tiny_model), "batch_images": 8}
    return Workflow(tmp_path, sweep)


def computed(real: Workflow) -> tuple[int, int]:
    """Cells that evaluate computed and took from the cache since the last look."""
    computed = cached = 0
    for log in real.folder.glob("logs/evaluate/**/*.log"):
        (tally,) = TALLY.findall(log.read_text())
        computed, cached = computed + int(tally[0]), cached + int(tally[1])
        log.unlink()
    return computed, cached


def samples(folder: Path) -> dict[str, list]:
    """The contents of every published cell, without what differs between two equal runs."""
    files = sorted((folder / "results/samples").glob("**/*.parquet"))
    tables = {str(path.relative_to(folder)): pq.read_table(path) for path in files}
    return {
        name: table.drop_columns(sorted(HOW_IT_RAN & set(table.column_names))).to_pylist()
        for name, table in tables.items()
    }


@PACKS
def test_additions_compute_only_themselves(real, pack):
    real.sweep["pack"] = pack
    real.run()
    assert computed(real) == (2, 0)
    report = real.folder / "reports/index.html"
    assert report.stat().st_size > 10_000
    assert len(samples(real.folder)) == 2 + 2
    before = samples(real.folder)

    assert "Nothing to be done" in real.run()
    assert computed(real) == (0, 0)

    real.sweep["methods"]["divprune"] = {}
    real.run()
    assert computed(real) == (1, 2 if pack else 0)

    real.sweep["keeps"].append(0.5)
    real.run()
    assert computed(real) == (3, 3 if pack else 0)
    after = samples(real.folder)
    assert {name: after[name] for name in before} == before
    assert len(after) == 2 + 6

    real.sweep["methods"]["lofi"] = {"score": "ridge"}
    real.run("--until", "evaluate")
    assert computed(real) == (2, 4 if pack else 0)

    real.sweep["methods"]["lofi"] = {}  # and back: all of it is in the cache
    real.run("--until", "evaluate")
    assert computed(real) == (0, 6 if pack else 2)
    assert samples(real.folder) == after
    assert real.plan() == {}, "tables of equal cells are still right"


def test_lost_outputs_come_back_from_the_cache(real):
    real.run("--until", "evaluate")
    before = samples(real.folder)
    computed(real)
    for path in real.folder.glob("results/samples/**/method=lofi/**/*.parquet"):
        path.unlink()
    real.run("--until", "evaluate")
    assert computed(real) == (0, 2)
    assert samples(real.folder) == before


def wait_for(condition, process: subprocess.Popen, seconds: float = 240) -> None:
    """Until the condition holds; a process that ends before that is a failed test."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the run was over before it could be killed: make the sweep larger"
        assert time.monotonic() < end, f"nothing to kill after {seconds} s"
        time.sleep(0.02)


def keys_of_references(folder: Path) -> int:
    """Cells in the cache while only `reference` has run: full and floor."""
    return len(list((folder / "results/cache").glob("*")))


def start(real: Workflow, *arguments: str) -> subprocess.Popen:
    """Start Snakemake in a process group of its own."""
    command = real.command("--cores", "2", "--until", "evaluate", *arguments)
    with open(real.folder / "killed.txt", "w") as output:
        return subprocess.Popen(
            command, cwd=REPOSITORY, env=real.environment, stdout=output, stderr=output, start_new_session=True
        )


def workers(group: int) -> list[int]:
    """Processes of the group that are `lofi evaluate` itself."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.getpgid(int(entry.name)) == group:
                words = (entry / "cmdline").read_bytes().decode().split("\0")
                if "evaluate" in words:
                    found.append(int(entry.name))
        except (OSError, ProcessLookupError):
            continue
    return found


def enlarge(sweep: dict) -> None:
    """Enough work in several parts that a run can be caught half way."""
    sweep["datasets"]["digits-pope"]["limit"] = 160
    sweep["models"]["digits-llava"]["batch_images"] = 16
    sweep["methods"] = {"random": {"seeds": [0, 1]}, "lofi": {}, "divprune": {}}
    sweep["keeps"] = [0.5, 0.25]


@PACKS
@pytest.mark.parametrize("victim", ["worker", "everything"])
def test_a_killed_run_resumes_to_the_same_samples(real, tmp_path_factory, pack, victim):
    real.sweep["pack"] = pack
    enlarge(real.sweep)
    real.run("--until", "reference")
    process = start(real)
    wait_for(lambda: keys_of_references(real.folder) > 2, process)  # the first part of a reduced cell is there
    if victim == "everything":
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        said = real.run("--until", "evaluate", ok=False)
        assert "--unlock" in said, "the lock of the killed run"
        real.snakemake("--unlock")
    else:
        for worker in workers(process.pid):
            os.kill(worker, signal.SIGKILL)
        process.wait()
        assert process.returncode != 0
        assert "logs/evaluate" in (real.folder / "killed.txt").read_text()
    finished = len(samples(real.folder))
    assert finished < 2 + 8, "the run was over before it was killed: make the sweep larger"

    real.run("--until", "evaluate")
    new, cached = computed(real)
    assert new + cached == (8 if pack else 8 - (finished - 2))
    undisturbed = Workflow(tmp_path_factory.mktemp("undisturbed"), real.sweep)
    undisturbed.run("--until", "evaluate")
    assert samples(real.folder) == samples(undisturbed.folder)
    assert not list(real.folder.glob("results/samples/**/.*")), "no temporary file is left among the samples"


@pytest.mark.parametrize("damage", ["truncated", "another key", "short"])
def test_a_damaged_cache_is_computed_again(real, damage):
    real.run("--until", "evaluate")
    before = samples(real.folder)
    computed(real)
    path = next(real.folder.glob("results/samples/**/method=lofi/**/*.parquet"))
    (cached,) = [
        each for each in real.folder.glob("results/cache/*/samples.parquet") if each.stat().st_ino == path.stat().st_ino
    ]
    table, content = pq.read_table(path), path.read_bytes()
    path.unlink()
    if damage == "truncated":
        cached.write_bytes(content[: len(content) // 2])
    elif damage == "short":
        pq.write_table(table.slice(0, table.num_rows - 1), cached)
    else:
        pq.write_table(table.replace_schema_metadata({b"lofi": b'{"key": "another"}'}), cached)
    real.run("--until", "evaluate")
    assert computed(real) == (1, 1)
    assert samples(real.folder) == before


def test_the_log_of_a_failed_rule_says_what_is_wrong_in_plain_lines(real):
    real.run("--until", "reference")
    for path in real.folder.glob("results/reference/**/shard-*.parquet"):
        path.write_bytes(b"no Parquet")
    said = real.run("--until", "evaluate", "--rerun-triggers", "params", ok=False)
    (log,) = real.folder.glob("logs/evaluate/**/*.log")
    assert str(log.relative_to(real.folder)) in said
    assert "lofi evaluate: the reference" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert "\r" not in log.read_text()
