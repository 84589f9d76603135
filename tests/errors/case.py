"""One mistake: how it is made, the command that meets it, and what that has to say."""

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lofi.cli import main
from lofi.data.registry import get_card
from tests.conftest import REPOSITORY
from tests.errors.folders import made, write_config

Change = Callable[[Path], object]
DIGEST = re.compile(r"\b[0-9a-f]{32,}\b")
UNFINISHED = re.compile(r"(?<=/\.aggregate\.)\w{8}\b")
CHOICES = re.compile(r"(?<=\(choose from )[^)]*")
# root reads and writes whatever the permissions say, unless it gives that up
AS_OTHERS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
LOFI = [sys.executable, "-c", "import sys; from lofi.cli import main; sys.exit(main())"]


@dataclass(frozen=True)
class Case:
    """`what` is wrong in words; `change` makes it in a copy of the folder that `start` writes."""

    what: str
    command: tuple[str, ...]  # behind `lofi`; behind `snakemake`, where it starts with that
    says: tuple[str, ...]  # parts of the message
    change: Change = lambda folder: None
    start: Change = write_config
    code: int = 2
    as_others: bool = False  # in a process that permissions hold for
    by: str = ""  # what the message starts with, where that is not the command

    @property
    def is_workflow(self) -> bool:
        return self.command[:1] == ("snakemake",)

    @property
    def prefix(self) -> str:
        """What the message starts with."""
        words = self.command[: 2 if self.command[:1] == ("data",) else 1]
        return self.by or " ".join(["lofi", *words])


@dataclass(frozen=True)
class Outcome:
    """What came of it. `message` has no name of a folder that another machine or another day would not have."""

    code: int
    message: str
    printed: str


@cache
def outcome(case: Case) -> Outcome:
    """Make the mistake and see."""
    with tempfile.TemporaryDirectory(prefix="lofi-errors-") as name:
        folder = Path(name)
        shutil.copytree(made(case.start), folder, dirs_exist_ok=True)
        case.change(folder)
        code, printed, message = (_outside if case.is_workflow or case.as_others else _inside)(case, folder)
    return Outcome(code, shortened(message, folder), printed)


def _inside(case: Case, folder: Path) -> tuple[int, str, str]:
    get_card.cache_clear()
    out, error = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            code = main(case.command)
        except SystemExit as stopped:
            code = int(stopped.code or 0)
    return code, out.getvalue(), error.getvalue()


def _outside(case: Case, folder: Path) -> tuple[int, str, str]:
    command = [*LOFI, *case.command]
    if case.is_workflow:
        command = [sys.executable, "-m", "snakemake", "-s", str(REPOSITORY / "Snakefile"), *case.command[1:]]
        command += ["--directory", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [*(AS_OTHERS if case.as_others else []), *command], cwd=folder, env=environment, capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


def shortened(message: str, folder: Path) -> str:
    """A message without what differs from machine to machine."""
    message = message.replace(f"{folder}/", "").replace(str(folder), ".").replace(f"{REPOSITORY}/", "")
    message = CHOICES.sub(lambda found: found[0].replace("'", ""), message)  # Python 3.11 quotes them, 3.14 does not
    message = UNFINISHED.sub("…", message)
    return DIGEST.sub(lambda found: f"{found[0][:6]}…", message)
