"""Whatever stands in a config, a card, a Parquet file or a command line: lofi does its work or says one line.

Each test runs a few examples, always the same; its slow twin runs many, others each time.
"""

import contextlib
import io
import json
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lofi.cli import main
from lofi.data.registry import get_card
from tests.errors.damage import FULL, LOFI
from tests.errors.edits import BYTES_EDITS, LEAVES, TABLE_EDITS, TEXTS, BytesEdit, TableEdit, edited_mappings
from tests.errors.folders import CARD, QUESTIONS, made, write_config, write_finished, write_shelf

SECONDS = 60  # after which a command hangs; the slowest takes two
FEW = settings(deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
SWEEP = {
    "models": {
        "digits-llava": {"source": "embedded:digits-llava", "revision": None, "dtype": "float32", "device": "auto"}
    },
    "datasets": {
        "digits-pope": {"limit": 2, "prompt_style": "lmms_eval", "exif": "ignored"},
        "mine": {"card": "shelf/shelf.yaml", "prompt_style": "plain"},
    },
    "methods": {
        "random": {"seeds": [0, 1]},
        "fastv": {"keeps": [0.5], "budget": "layer_mean"},
        "r": {"reducer": "lofi", "score": "residual", "rank": "fixed:8", "ridge": 0.5},
    },
    "keeps": [0.5, 36],
    "budget": "layer_mean",
    "shards": 2,
    "pack": ["method", "keep", "seed"],
    "stability_images": 4,
}
STORED = {
    "results/data/digits-pope/docs.parquet": ("status", "rescore"),
    "results/data/digits-pope/images.parquet": ("status",),
    LOFI: ("samples", "rescore", "plan"),
    FULL: ("samples", "rescore", "plan"),
    "results/tables/cells.parquet": ("cells",),
    "results/tables/risks.parquet": ("certify", "gate"),
    "results/tables/runs.parquet": ("samples",),
}
COMMANDS = {
    "status": ("status",),
    "rescore": ("rescore",),
    "plan": ("plan",),
    "certify": ("certify",),
    "gate": ("check", "--reference", "full", "--min-agreement", "0.5"),
    "samples": ("query", "SELECT * FROM samples"),
    "cells": ("query", "SELECT * FROM cells"),
    "aggregate": ("aggregate",),
    "report": ("report",),
}
LINES = {
    ("plan",): ("--tflops", "--results"),
    ("prepare",): ("--dataset", "--model", "--without-weights", "--config", "--results"),
    ("reference",): ("--model", "--dataset", "--shard", "--config"),
    ("evaluate",): ("--model", "--dataset", "--shard", "--method", "--keep", "--seed", "--config"),
    ("stability",): ("--model", "--dataset", "--config"),
    ("rescore",): ("--dataset", "--scorer", "--config", "--results"),
    ("aggregate",): ("--config", "--results"),
    ("report",): ("--config", "--results", "--output", "--date"),
    ("check",): (
        "--config",
        "--reference",
        "--max-flip-rate",
        "--min-agreement",
        "--max-negative-flips",
        "--method",
        "--keep",
        "--confident",
        "--junit",
        "--json",
        "--results",
    ),
    ("certify",): ("--max-negative-flips", "--max-divergence", "--confidence", "--format", "--results"),
    ("status",): ("--config", "--results"),
    ("query",): ("--format", "--results"),
    ("data", "check"): ("--source", "--prompt-style", "--limit"),
    ("x",): ("--x",),
}
WORDS = st.one_of(
    TEXTS.filter(lambda text: not text.startswith(("/", "~")) and not {"\0", "\ud800"} & set(text)),
    LEAVES.map(str),
    st.sampled_from(
        [
            "digits-llava",
            "digits-pope",
            "mine",
            "lofi",
            "0.2500",
            "full",
            "pope",
            "json",
            "csv",
            "0.5",
            "0.02",
            "shelf/shelf.yaml",
            "config.yaml",
            "results",
            "shelf",
            "shelf/questions.csv",
            "out.html",
            "--",
            "-1",
            "1e9",
            "-h",
            "SELECT 1",
            "SELECT * FROM x",
            "SELECT 1/0",
            "SELECT 'a' + 1",
            "SELECT",
            ";",
            "PRAGMA x",
            "SELECT range(3)",
        ]
    ),
)


class Hanging(BaseException):
    """Nothing in lofi may catch this."""


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """End what takes too long."""

    def ring(*_: object) -> None:
        raise Hanging(f"still running after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def attempt(arguments: Sequence[str], folder: Path) -> int:
    """Run a command in a folder; all that may come of it is an exit code, and one line where that is 2."""
    get_card.cache_clear()
    error = io.StringIO()
    said = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(error)
    with contextlib.chdir(folder), limited(), said[0], said[1]:
        try:
            code = main(arguments)
        except SystemExit as stopped:
            code = int(stopped.code or 0)
    text = error.getvalue()
    assert code in (0, 1, 2), (code, text)
    assert code != 2 or (text.startswith("lofi") and text.count("\n") == 1), text
    return code


@contextlib.contextmanager
def copied(start: Callable[[Path], Any]) -> Iterator[Path]:
    """A copy of a folder, to be changed."""
    with tempfile.TemporaryDirectory(prefix="lofi-fuzz-") as name:
        shutil.copytree(made(start), name, dirs_exist_ok=True)
        yield Path(name)


def dumped(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)


def write_everything(folder: Path) -> None:
    """A dataset of one's own, and a config that sets every kind of thing."""
    write_shelf(folder)
    (folder / "config.yaml").write_text(dumped(SWEEP))


def write_results(folder: Path) -> None:
    """The results of a sweep, whose model is far away: that is what a report is made from."""
    shutil.copytree(made(write_finished), folder, dirs_exist_ok=True)
    (folder / "results" / "audit.duckdb").unlink()


def both(few: int, many: int, **drawn: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A test with few examples in CI; with many, others each time, in the slow set."""

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        quick = settings(FEW, max_examples=few)(given(**drawn)(test))
        long = settings(FEW, max_examples=many, derandomize=False)(given(**drawn)(test))

        @pytest.mark.parametrize("run", [quick, pytest.param(long, marks=pytest.mark.slow)], ids=["few", "many"])
        def either(run: Callable[[], None]) -> None:
            run()

        return either

    return decorate


@both(60, 3000, sweep=edited_mappings(SWEEP), as_json=st.booleans())
def test_any_config(sweep: dict[str, Any], as_json: bool) -> None:
    with copied(write_everything) as folder:
        name, text = ("a.json", json.dumps(sweep)) if as_json else ("a.yaml", dumped(sweep))
        (folder / name).write_text(text, errors="surrogatepass")
        attempt(["check", "--config", name], folder)


@both(40, 2000, edit=BYTES_EDITS)
def test_any_text_of_a_config(edit: BytesEdit) -> None:
    with copied(write_everything) as folder:
        (folder / "config.yaml").write_bytes(edit.of(dumped(SWEEP).encode()))
        attempt(["check"], folder)


@both(40, 2000, card=edited_mappings(CARD))
def test_any_card(card: dict[str, Any]) -> None:
    with copied(write_everything) as folder:
        (folder / "shelf" / "shelf.yaml").write_text(dumped(card), errors="surrogatepass")
        attempt(["data", "check", "shelf/shelf.yaml"], folder)
        attempt(["check"], folder)


@both(30, 2000, edit=BYTES_EDITS, prepared=st.booleans())
def test_any_table_of_a_dataset(edit: BytesEdit, prepared: bool) -> None:
    with copied(write_everything) as folder:
        (folder / "shelf" / "questions.csv").write_bytes(edit.of(QUESTIONS.encode()))
        attempt(["prepare", "--dataset", "mine"] if prepared else ["data", "check", "shelf/shelf.yaml"], folder)


READ = st.sampled_from([(name, command) for name, commands in STORED.items() for command in commands])


@both(40, 1000, read=READ, edit=BYTES_EDITS | TABLE_EDITS)
def test_any_stored_file(read: tuple[str, str], edit: BytesEdit | TableEdit) -> None:
    damaged(*read, edit)


def damaged(name: str, command: str, edit: BytesEdit | TableEdit) -> None:
    """A command that reads a file after an edit."""
    content = edit.of((made(write_results) / name).read_bytes())
    with copied(write_results) as folder:
        (folder / name).write_bytes(content)
        attempt(COMMANDS[command], folder)


@pytest.mark.slow
@settings(FEW, max_examples=100, derandomize=False)
@given(read=st.sampled_from([(name, "aggregate") for name in (LOFI, FULL)]), edit=BYTES_EDITS | TABLE_EDITS)
def test_any_cell_of_the_tables(read: tuple[str, str], edit: BytesEdit | TableEdit) -> None:
    damaged(*read, edit)


@both(60, 3000, data=st.data())
def test_any_command_line(data: st.DataObject) -> None:
    command = data.draw(st.sampled_from(sorted(LINES)))
    arguments = list(command)
    for _ in range(data.draw(st.integers(0, 4))):
        option = data.draw(st.sampled_from(LINES[command]))
        arguments += data.draw(st.sampled_from([[option, data.draw(WORDS)], [data.draw(WORDS)], [option]]))
    with copied(write_everything) as folder:
        write_config(folder)
        attempt(arguments, folder)
