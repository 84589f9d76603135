"""Forks commands of lofi from one process that has imported all that they need: none then starts for seconds.

Reads one JSON list a line and answers each with one line: ["start", folder, file, words...] with the number of the new
process, ["wait", number, seconds] with its exit code (negative where a signal killed it) or null where it still runs.
"""

import json
import os
import sys
import time

import transformers.models.auto.modeling_auto  # noqa: F401

from lofi import cli, config  # noqa: F401
from lofi.engine import parts, stages  # noqa: F401
from lofi.report import build  # noqa: F401
from lofi.stats import aggregate  # noqa: F401


def start(folder: str, said: str, *words: str) -> int:
    """The process that runs `lofi <words>` in a folder, in a group of its own; all that it says goes into a file."""
    if number := os.fork():
        return number
    os.setsid()
    os.chdir(folder)
    sys.argv = ["lofi", *words]
    sys.stdin.close()
    output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.exit(cli.main())


def wait(number: int, seconds: float) -> int | None:
    """How a process ended."""
    end = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(number, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            return None
        time.sleep(0.01)


if __name__ == "__main__":
    for line in sys.stdin:
        what, *rest = json.loads(line)
        answer = start(*rest) if what == "start" else wait(*rest)
        print(json.dumps(answer), flush=True)
