"""The page and the folder beside it take the place of the old ones only when both are whole."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lofi.errors import UserError
from lofi.scratch import scratch

MANIFEST = "manifest.json"
# What may stand in a folder of ours: anything else was put there by somebody, and is not ours to remove.
OURS = re.compile(
    r"samples-(index|search|\d+)\.js|questions-\d+\.js|image-\d+\.jpg|manifest\.json|\.snakemake_timestamp"
)


def folder_of(output: Path) -> Path:
    """The folder beside a page: `index_files` for `index.html`."""
    return output.with_name(f"{output.stem}_files")


@contextmanager
def draft(output: Path) -> Iterator[Path]:
    """A path for a page of the same name in a new folder beside it; at the end what is there replaces the old."""
    target = folder_of(output)
    if target.exists() and (strange := sorted(p.name for p in target.iterdir() if not OURS.fullmatch(p.name))):
        raise UserError(
            f"{target} is where the samples of the report go, and it holds {strange[0]!r}, which lofi did not write; "
            "move it, or choose another --output"
        )
    with scratch(output) as folder:
        made = folder / output.name
        yield made
        old = folder / "old"
        if target.exists():
            target.rename(old)
        try:
            if folder_of(made).exists():
                folder_of(made).rename(target)
            os.replace(made, output)
        except BaseException:
            if target.exists():
                shutil.rmtree(target)
            if old.exists():
                old.rename(target)
            raise
