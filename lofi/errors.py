"""The one error a user sees: the value, the rule it breaks, and the fix, in one line."""

import difflib
import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

_SPACE = "what is finished is kept; make room, and run the same command again"
_ACCESS = "give it the permissions that this needs, or give another path"
_BLOCKED = "something else stands where this belongs; move it away, or give another path"
# What the system says of files and disks, and what a user can do.
FIXES = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EACCES: _ACCESS,
    errno.EPERM: _ACCESS,
    errno.EROFS: "it can only be read; give a path that can be written to",
    errno.EISDIR: _BLOCKED,
    errno.ENOTDIR: _BLOCKED,
    errno.EEXIST: _BLOCKED,
    errno.ENAMETOOLONG: "give a shorter name",
}


class UserError(Exception):
    """A mistake in a config, a file or a command line. The CLI prints it without a traceback."""


def unknown(kind: str, name: object, valid: Iterable[str]) -> UserError:
    """The error for a name that no registry knows, with the nearest valid name first."""
    names = sorted(valid)
    nearest = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    return UserError(f"unknown {kind} {name!r}: {hint}choose from {', '.join(names)}")


def of_files(error: OSError) -> UserError | None:
    """The error for what a user's files or disks refuse; None where no user could mend it."""
    fix = FIXES.get(error.errno or 0)
    if error.errno is None or fix is None:
        return None
    name = error.filename2 or error.filename  # of a renaming, the name that was to be
    reason = f"{name} cannot be used: {os.strerror(error.errno)}" if name else str(error)
    return UserError(f"{reason}{_free(name) if name and error.errno == errno.ENOSPC else ''}; {fix}")


def _free(name: str) -> str:
    """What is free on the disk of a file, which may not be there."""
    folder = next(folder for folder in Path(name).absolute().parents if folder.exists())
    return f", {shutil.disk_usage(folder).free / 1e6:,.1f} MB are free"
