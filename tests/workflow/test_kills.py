"""Killed runs, and lost and damaged files, of the whole workflow on a small untrained model."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lofi.recover.processes import stages
from lofi.store import read_metadata
from tests.workflow.conftest import PACKED, UNPACKED, Workflow, computed, copy_of, samples


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
def evaluated(halfway: Workflow, tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """The same after a run that nobody killed."""
    workflow = copy_of(halfway, tmp_path_factory.mktemp("copies") / "evaluated")
    workflow.run("--until", "evaluate")
    return workflow


@pytest.fixture(scope="module")
def undisturbed(evaluated: Workflow) -> dict[str, list]:
    """Its samples."""
    return samples(evaluated.folder)


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


@pytest.mark.parametrize(
    ("victim", "pack"),
    [
        ("worker", PACKED),
        ("everything", UNPACKED),
        pytest.param("worker", UNPACKED, marks=pytest.mark.slow),
        pytest.param("everything", PACKED, marks=pytest.mark.slow),
    ],
    ids=["worker-packed", "everything-one by one", "worker-one by one", "everything-packed"],
)
def test_a_killed_run_resumes_to_the_same_samples(halfway, undisturbed, tmp_path, pack, victim):
    real = copy_of(halfway, tmp_path / "copy")
    real.sweep["pack"] = pack
    with real.running("--cores", "2", "--until", "evaluate") as process:
        wait_for(lambda: bool(parts(real.folder)), process)
        if victim == "worker":
            for worker in stages(real.folder):
                os.kill(worker.number, signal.SIGKILL)
            assert process.wait(60) != 0
            assert "logs/evaluate" in real.said(), "a failing rule names its log"
        else:
            os.killpg(process.pid, signal.SIGKILL)
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


def test_lost_cells_come_back_from_the_cache_and_damaged_ones_are_computed_again(evaluated, undisturbed, tmp_path):
    real = copy_of(evaluated, tmp_path / "copy")
    computed(real)
    published = sorted(real.folder.glob("results/samples/**/method=[lr]*/**/*.parquet"))
    cached = [real.folder / "results/cache" / read_metadata(path)["key"] / "samples.parquet" for path in published]
    assert len(published) == 4
    for path in published:
        path.unlink()
    whole, truncated, keyed, short = cached
    contents = whole.read_bytes()
    truncated.write_bytes(truncated.read_bytes()[: truncated.stat().st_size // 2])
    pq.write_table(pq.read_table(keyed).replace_schema_metadata({b"lofi": b'{"key": "another"}'}), keyed)
    pq.write_table(pq.read_table(short).slice(1), short)
    real.run("--until", "evaluate")
    assert computed(real) == (3, 1)
    assert whole.read_bytes() == published[0].read_bytes() == contents, "the run_id is still that of the first run"
    assert samples(real.folder) == undisturbed


def test_the_log_of_a_failed_rule_says_what_is_wrong_in_plain_lines(halfway, tmp_path):
    real = copy_of(halfway, tmp_path / "copy")
    for path in real.folder.glob("results/reference/**/shard-*.parquet"):
        path.write_bytes(b"no Parquet")
    said = real.run("--until", "evaluate", "--rerun-triggers", "params", ok=False)
    (log,) = real.folder.glob("logs/evaluate/**/*.log")
    assert str(log.relative_to(real.folder)) in said
    assert "lofi evaluate: the reference" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert "\r" not in log.read_text()
