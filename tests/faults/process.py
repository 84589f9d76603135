"""Real processes of the command line, which tests start, wait for and kill."""

import atexit
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tests.conftest import REPOSITORY

PROGRESS = re.compile(r"\w+: \d+|computed \d+ cells|\d+ tables in ")


@cache
def _zygote() -> subprocess.Popen:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "tests.faults.zygote"]
    pipe = subprocess.PIPE
    zygote = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdin=pipe, stdout=pipe, text=True)
    atexit.register(zygote.communicate)
    return zygote


def _ask(*words: object) -> Any:
    zygote = _zygote()
    assert zygote.stdin
    assert zygote.stdout
    print(json.dumps(words, default=str), file=zygote.stdin, flush=True)
    return json.loads(zygote.stdout.readline())


@dataclass
class Started:
    """A command that runs in a folder."""

    number: int
    said: Path
    code: int | None = field(default=None, init=False)

    def is_over(self, seconds: float = 0.0) -> bool:
        """Whether it has ended, within so many seconds."""
        if self.code is None:
            self.code = _ask("wait", self.number, seconds)
        return self.code is not None

    def end(self, seconds: float = 300.0) -> int:
        """Wait for its end; the exit code, negative where a signal killed it."""
        assert self.is_over(seconds), f"it still runs after {seconds} s\n{self.text()}"
        assert self.code is not None
        return self.code

    def text(self) -> str:
        """What it has said."""
        return self.said.read_text()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it and all its children, as SLURM does."""
        try:
            os.killpg(self.number, number)
        except ProcessLookupError:  # it has not yet a group of its own
            os.kill(self.number, number)

    def kill(self) -> int:
        """Kill -9 it and all its children, if it still runs; the exit code."""
        if not self.is_over():
            self.send(signal.SIGKILL)
        return self.end()

    def complaint(self) -> str:
        """The one line that it has said, besides how far it was."""
        (line,) = [line for line in self.text().splitlines() if not PROGRESS.match(line)]
        return line


def start(folder: Path, *words: str) -> Started:
    """Start `lofi <words>` in a folder."""
    said = folder.parent / f"{folder.name}-{words[0]}-{os.urandom(4).hex()}.txt"
    return Started(_ask("start", folder, said, *words), said)


def run(folder: Path, *words: str, code: int = 0) -> Started:
    """Run `lofi <words>` in a folder to its end, which is to have this exit code."""
    started = start(folder, *words)
    assert started.end() == code, f"lofi {' '.join(words)} ended with {started.code}\n{started.text()}"
    return started
