"""Snakemake in a folder of its own, with the real `lofi` or with the stub."""

import copy
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from tests.workflow.forked import snakemake

REPOSITORY = Path(__file__).parents[2]
PACKED, UNPACKED = ["method", "keep", "seed"], []
PACKS = pytest.mark.parametrize("pack", [PACKED, UNPACKED], ids=["packed", "one by one"])
HOW_IT_RAN = {"run_id", "t_vision_ms", "t_select_ms", "t_prefill_ms", "t_decode_ms"}
TALLY = re.compile(r"computed (\d+) cells, (\d+) from cache")
STUB = Path(__file__).parent / "stub_lofi.py"
AT_ONCE = '#!/bin/sh\nexec "{python}" "{program}" "$@"\n'
MODEL = """{"model_type": "llava", "vision_config":
{"model_type": "clip_vision_model", "image_size": 96, "patch_size": 8}}"""
# Most of Snakemake's start is imports: its runs are forked from a process that has done them.
IMPORTED = get_context("forkserver")
IMPORTED.set_forkserver_preload(["snakemake.cli", "lofi.config", "lofi.identity"])


def _interruptible() -> None:
    """A shell starts what runs in its background with SIGINT ignored, and that is inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass
class Workflow:
    """A working directory with its sweep in sweep.yaml."""

    folder: Path
    sweep: dict = field(default_factory=dict)
    stub: bool = False
    configfile: bool = True  # False runs the default sweep

    @property
    def environment(self) -> dict[str, str]:
        """PATH as a user has it: the environment's commands first."""
        bins = [*([str(self.folder / "bin")] if self.stub else []), str(Path(sys.executable).parent)]
        return {**os.environ, "PATH": os.pathsep.join([*bins, os.environ["PATH"]]), "HF_HUB_OFFLINE": "1"}

    def command(self, *arguments: str) -> list[str]:
        """The command line of one Snakemake run on this sweep."""
        (self.folder / "sweep.yaml").write_text(yaml.safe_dump(self.sweep, sort_keys=False))
        start = [sys.executable, "-m", "snakemake", "-s", str(REPOSITORY / "Snakefile"), *arguments]
        if self.configfile and "--configfile" not in arguments:
            start += ["--configfile", str(self.folder / "sweep.yaml")]
        return [*start, "--directory", str(self.folder)]

    def snakemake(self, *arguments: str, ok: bool = True) -> str:
        """Start Snakemake as a user does, wait for its end and return all it says."""
        with self.running(*arguments) as process:
            code = process.wait()
        assert (code == 0) == ok, f"exit code {code}\n{self.said()}\n{self.logs()}"
        return self.said()

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """Start Snakemake as a user does, in a process group of its own."""
        with open(self.folder / "said.txt", "w") as output:
            return subprocess.Popen(
                self.command(*arguments),
                cwd=REPOSITORY,  # where the slurm profile is found
                env=self.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_interruptible,
            )

    @contextmanager
    def running(self, *arguments: str) -> "Iterator[subprocess.Popen[bytes]]":
        """A Snakemake beside the block, which it does not outlive. Its jobs may."""
        process = self.start(*arguments)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def finish(self, process: "subprocess.Popen[bytes]") -> None:
        """Wait for its good end."""
        code = process.wait(400)
        assert code == 0, f"exit code {code}\n{self.said()}\n{self.logs()}"

    def said(self) -> str:
        """What the latest Snakemake has said so far."""
        return (self.folder / "said.txt").read_text()

    def run(self, *arguments: str, ok: bool = True) -> str:
        """Run the jobs."""
        return self.forked("--cores", "2", "--rerun-incomplete", *arguments, ok=ok)

    def forked(self, *arguments: str, ok: bool = True) -> str:
        """The same as `snakemake`, a second or two earlier."""
        _, _, _, *words = self.command(*arguments)
        to = self.folder / "said.txt"
        process = IMPORTED.Process(target=snakemake, args=(words, REPOSITORY, self.environment, to))
        process.start()
        process.join()
        assert (process.exitcode == 0) == ok, f"exit code {process.exitcode}\n{self.said()}\n{self.logs()}"
        return self.said()

    def plan(self, *arguments: str) -> dict[str, int]:
        """What a dry run counts: jobs by rule, without `all`."""
        said = self.forked("--dry-run", *arguments)
        if "Nothing to be done" in said:
            return {}
        table = said[said.index("Job stats:") :].split("\n\n")[0]
        counts = {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", table, flags=re.MULTILINE)}
        assert counts.pop("total") == sum(counts.values())
        counts.pop("all", None)
        return counts

    def logs(self) -> str:
        """All logs of the rules, for messages of failed tests."""
        return "\n".join(f"== {path}\n{path.read_text()}" for path in sorted(self.folder.glob("logs/**/*.log")))

    def calls(self) -> list[str]:
        """What the stub was called with since the last look, sorted."""
        path = self.folder / "calls.txt"
        lines = sorted(path.read_text().splitlines()) if path.exists() else []
        path.unlink(missing_ok=True)
        return lines


@pytest.fixture
def stubbed(tmp_path: Path) -> Workflow:
    """A small sweep whose `lofi` is the stub."""
    sweep = {
        "models": {"m": {"source": str(write_stub(tmp_path))}},
        "datasets": {"digits-pope": {}, "digits-sqa": {}},
        "methods": {"random": {"seeds": [0, 1]}, "lofi": {}},
        "keeps": [0.5, 0.25],
    }
    return Workflow(tmp_path, sweep, stub=True)


def write_stub(folder: Path, script: str = AT_ONCE) -> Path:
    """Put the stub into a folder as its `lofi`, and the model that its sweeps name, whose path is returned."""
    write_lofi(folder, script, STUB)
    model = folder / "model"
    model.mkdir(exist_ok=True)
    (model / "config.json").write_text(MODEL)
    return model


def write_lofi(folder: Path, script: str, program: Path) -> None:
    """Put a `lofi` into a folder: a script that calls the program."""
    command = folder / "bin" / "lofi"
    command.parent.mkdir(parents=True, exist_ok=True)
    command.write_text(script.format(python=sys.executable, program=program))
    command.chmod(0o755)


def copy_of(workflow: Workflow, folder: Path) -> Workflow:
    """The same results in another folder."""
    shutil.copytree(workflow.folder, folder)
    return Workflow(folder, copy.deepcopy(workflow.sweep))


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
