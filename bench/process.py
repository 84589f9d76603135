"""What a process takes, with all that it starts.

Run as a program this is the small process that starts the measured one: Linux counts the most memory of a process from
that of the one that it was forked from, and a benchmark's own may be large.
"""

import json
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

LOFI = (sys.executable, "-c", "import sys; from lofi.cli import main; sys.exit(main())")  # this tree's, not PATH's


class Taken(NamedTuple):
    """From start to end."""

    seconds: float
    cpu_seconds: float  # of all cores
    peak_bytes: int  # of the largest process


def taken(command: Sequence[str], cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Taken:
    """Run a command to its good end. What it says is shown where that is a bad one."""
    with tempfile.NamedTemporaryFile() as file:
        line = [sys.executable, "-S", __file__, file.name, *command]
        done = subprocess.run(line, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise SystemExit(f"{done.stdout}\nstatus {done.returncode} of {shlex.join(command)}")
        return Taken(*json.load(file))


def main(to: str, *command: str) -> int:
    """Run the command, and write what it took to a file."""
    start = time.perf_counter()
    status = subprocess.call(command)
    seconds = time.perf_counter() - start
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes
    Path(to).write_text(json.dumps([seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit]))
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
