"""Snakemake's command line in a process that was forked for it."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def snakemake(words: Sequence[str], folder: Path, environment: Mapping[str, str], said: Path) -> None:
    """What `snakemake <words>` does in that folder; all that it says goes into a file. Ends the process."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["snakemake", *words]  # its log names the command
    output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    from snakemake.cli import main

    main(list(words))
