"""The whole workflow with the real command line on a small untrained model: runs, additions and kills."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests.conftest import REPOSITORY
from tests.workflow.conftest import Workflow

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


@pytest.fixture(scope="module")
def halfway(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """A sweep in two parts (65 images and more), with its reference done."""
    sweep = {
        "models": {"m": {"source": str(tiny_model), "batch_images": 16}},
        "datasets": {"digits-pope": {"limit": 66}},
        "methods": {"random": {}, "lofi": {}},
        "keeps": [0.5, 0.25],
    }
    workflow = Workflow(tmp_path_factory.mktemp("halfway"), sweep)
    workflow.run("--until", "reference")
    return workflow


@pytest.fixture(scope="module")
def undisturbed(halfway: Workflow, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:
    """The samples of a run that nobody killed."""
    workflow = copy_of(halfway, tmp_path_factory.mktemp("copies") / "undisturbed")
    workflow.run("--until", "evaluate")
    return samples(workflow.folder)


def copy_of(workflow: Workflow, folder: Path) -> Workflow:
    """The same results in another folder."""
    shutil.copytree(workflow.folder, folder)
    return Workflow(folder, dict(workflow.sweep))


def wait_for(condition: Callable[[], bool], process: subprocess.Popen, seconds: float = 300) -> None:
    """Until the condition holds; a process that ends before that is a failed test."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the run was over before it could be killed: make the sweep larger"
        assert time.monotonic() < end, f"nothing to kill after {seconds} s"
        time.sleep(0.01)


def parts(folder: Path) -> list[Path]:
    """Finished parts of unfinished cells."""
    return sorted((folder / "results/cache").glob("*/samples-*.parquet"))


def workers(group: int) -> list[int]:
    """Processes of the group that are `lofi evaluate`."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.getpgid(int(entry.name)) == group:
                words = (entry / "cmdline").read_bytes().decode().split("\0")
                if any(word.endswith("/lofi") for word in words[:2]):
                    found.append(int(entry.name))
        except OSError:  # it has ended
            continue
    return found


def mark(path: Path) -> int:
    """Write a run_id of our own into a part, so that its rows can be told later; the number of rows."""
    table = pq.read_table(path)
    ids = pa.array(["before the kill"] * len(table)).cast(table.schema.field("run_id").type)
    table = table.set_column(table.schema.get_field_index("run_id"), table.schema.field("run_id"), ids)
    pq.write_table(table, path)
    return len(table)


def marked(folder: Path) -> int:
    """Rows of all published cells that come from a marked part."""
    files = (folder / "results/samples").glob("**/*.parquet")
    return sum(pq.read_table(path)["run_id"].to_pylist().count("before the kill") for path in files)


@PACKS
@pytest.mark.parametrize("victim", ["worker", "everything"])
def test_a_killed_run_resumes_to_the_same_samples(halfway, undisturbed, tmp_path, pack, victim):
    real = copy_of(halfway, tmp_path / "copy")
    real.sweep["pack"] = pack
    with open(real.folder / "killed.txt", "w") as output:
        process = subprocess.Popen(
            real.command("--cores", "2", "--until", "evaluate"),
            cwd=REPOSITORY,
            env=real.environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        wait_for(lambda: bool(parts(real.folder)), process)
        if victim == "worker":
            for worker in workers(process.pid):
                os.kill(worker, signal.SIGKILL)
            assert process.wait(60) != 0
            assert "logs/evaluate" in (real.folder / "killed.txt").read_text(), "a failing rule names its log"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    published = len(samples(real.folder)) - 2
    assert published < 4, "the run was over before it was killed: make the sweep larger"
    n_marked = sum(map(mark, parts(real.folder)))

    if victim == "everything":
        assert "--unlock" in real.run("--until", "evaluate", ok=False), "the lock of the killed run"
        real.snakemake("--unlock")
    for log in real.folder.glob("logs/evaluate/**/*.log"):
        log.unlink()
    real.run("--until", "evaluate")
    assert sum(computed(real)) == (4 if pack else 4 - published)
    assert samples(real.folder) == undisturbed
    assert marked(real.folder) == n_marked > 0, "finished parts were used, not computed again"
    assert not parts(real.folder)
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
