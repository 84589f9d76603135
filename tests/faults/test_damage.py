"""Files that were cut off, changed by a bit or put in another's place, and clocks that jump: never another number."""

import fcntl
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lofi.data.docs import load_docs
from lofi.data.stored import StoredImages
from lofi.errors import UserError
from lofi.store import first_broken, odd_columns, read_metadata, write_table
from tests.conftest import REPOSITORY
from tests.faults.conftest import COMMANDS
from tests.faults.process import run

DATA = "results/data/digits-pope"
LOFI = "results/samples/model=m/dataset=digits-pope/method=lofi/keep=0.5000/seed=0/shard-0000.parquet"
MANY = [pytest.param(500, marks=pytest.mark.slow)]


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()  # the cache may have it under another name
    path.write_bytes(content[: len(content) // 2])


def flip(path: Path, at: int | None = None, bit: int = 0) -> None:
    """Change one bit, in the middle unless told where; the date stays."""
    content, when = bytearray(path.read_bytes()), path.stat()
    content[len(content) // 2 if at is None else at] ^= 1 << bit
    path.unlink()
    path.write_bytes(content)
    os.utime(path, ns=(when.st_atime_ns, when.st_mtime_ns))


DAMAGES = pytest.mark.parametrize("damage", [pytest.param(cut, marks=pytest.mark.slow), flip])


def flipped(path: Path, copy: Path, count: int) -> list[Path]:
    """A file so often with another bit of it changed."""
    rng, size = random.Random(7), path.stat().st_size
    copies = []
    for number in range(count):
        copies.append(copy / f"{number}.parquet")
        shutil.copyfile(path, copies[-1])
        flip(copies[-1], rng.randrange(size), rng.randrange(8))
    return copies


def said_of(path: Path) -> object:
    """What a file holds and says of itself, or None where a reader of samples would refuse it."""
    if first_broken([path]) or odd_columns(pq.read_schema(path)):
        return None
    try:
        with pq.ParquetFile(path) as file:
            return file.read().to_pylist(), read_metadata(path)
    except (OSError, ValueError, pa.ArrowException):  # of the texts in it
        return None


@pytest.mark.parametrize("count", [40, *MANY])
def test_no_changed_bit_changes_a_sample(finished, tmp_path, count):
    path = finished.folder / LOFI
    truth, found = said_of(path), [said_of(each) for each in flipped(path, tmp_path, count)]
    assert truth is not None
    assert all(each in (None, truth) for each in found)
    assert found.count(None) > count // 2


@pytest.mark.parametrize("count", [40, *MANY])
def test_no_changed_bit_changes_a_question_or_an_image(finished, tmp_path, count):
    prepared = tmp_path / "prepared"
    shutil.copytree(finished.folder / DATA, prepared)

    def read() -> object:
        try:
            images = StoredImages(prepared / "images.parquet")
            return load_docs(prepared).rows, images.read(images.hashes)
        except (UserError, OSError, ValueError, pa.ArrowException):
            return None

    truth = read()
    assert truth is not None
    for name in ("docs.parquet", "images.parquet"):
        for each in flipped(finished.folder / DATA / name, tmp_path, count):
            each.replace(prepared / name)
            assert read() in (None, truth)
        shutil.copyfile(finished.folder / DATA / name, prepared / name)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [cut, flip])
def test_damaged_parts_and_cells_in_the_cache_are_computed_again(finished, copy, damage):
    one, other = copy.cached()
    damage(one)
    shutil.copyfile(other, one.with_name("samples-0000000-0000064.parquet"))  # of another key, and of another length
    shutil.rmtree(copy.folder / "results/samples")
    assert "computed 1 cells, 1 from cache" in run(copy.folder, *COMMANDS["evaluate"]).text()
    run(copy.folder, *COMMANDS["reference"])
    assert copy.contents("evaluate") == finished.contents("evaluate")


@pytest.mark.slow
def test_a_cell_of_another_key_is_computed_again(finished, copy):
    one, other = copy.cached()
    one.unlink()
    shutil.copyfile(other, one)
    assert "computed 1 cells, 1 from cache" in run(copy.folder, *COMMANDS["evaluate"]).text()
    assert copy.contents("evaluate") == finished.contents("evaluate")


@DAMAGES
def test_damaged_samples_make_no_tables(finished, copy, damage):
    before = copy.contents("aggregate")
    damage(copy.folder / LOFI)
    said = run(copy.folder, *COMMANDS["aggregate"], code=2).complaint()
    assert LOFI in said
    assert said.endswith("; delete it and evaluate again")
    assert copy.contents("aggregate") == before
    (copy.folder / LOFI).unlink()
    for command in ("evaluate", "aggregate"):
        run(copy.folder, *COMMANDS[command])
    assert copy.contents("aggregate") == finished.contents("aggregate")


@pytest.mark.slow
@pytest.mark.parametrize("damage", [cut, flip])
@pytest.mark.parametrize("name", ["docs.parquet", "images.parquet"])
def test_damaged_data_are_not_evaluated(finished, copy, damage, name):
    copy.forget("evaluate")
    damage(copy.folder / DATA / name)
    said = run(copy.folder, *COMMANDS["evaluate"], code=2).complaint()
    assert DATA in said
    assert "prepare" in said
    run(copy.folder, *COMMANDS["prepare"])
    run(copy.folder, *COMMANDS["evaluate"])
    assert copy.contents("evaluate") == finished.contents("evaluate")


@pytest.mark.slow
def test_dates_from_another_time_run_steps_again_but_change_no_number(finished, copy):
    """Snakemake goes by dates: a clock that jumped may make it do too much, and never use what does not belong."""
    steps = ["--cores", "1", "--configfile", str(copy.folder / "config.yaml"), "--directory", str(copy.folder)]

    def snakemake(*words: str) -> str:
        command = [sys.executable, "-m", "snakemake", "-s", str(REPOSITORY / "Snakefile"), *steps, *words]
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = {**os.environ, "PATH": path}
        done = subprocess.run(command, cwd=copy.folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    snakemake()
    truth = copy.contents("evaluate"), copy.contents("aggregate")
    assert "Nothing to be done" in snakemake()
    day = 24 * 3600
    for shift in (-400 * day, 400 * day):
        for path in [copy.folder / DATA / "docs.parquet", copy.folder / LOFI]:
            then = path.stat().st_mtime + shift
            os.utime(path, (then, then))
        snakemake()
        assert (copy.contents("evaluate"), copy.contents("aggregate")) == truth


def test_what_a_killed_process_left_goes_and_what_a_live_one_makes_stays(tmp_path):
    dead, alive = tmp_path / ".table.parquet.abcdefgh", tmp_path / ".table.parquet.ijklmnop"
    for folder in (dead, alive):
        folder.mkdir()
        (folder / ".lock").touch()
    with (alive / ".lock").open("rb+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        write_table(pa.table({"a": [1]}), tmp_path / "table.parquet", {})
        assert not dead.exists()
        assert alive.exists()
    write_table(pa.table({"a": [1]}), tmp_path / "table.parquet", {})
    assert [path.name for path in tmp_path.iterdir()] == ["table.parquet"]
