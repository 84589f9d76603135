"""The one error a user sees: the value, the rule it breaks, and the fix, in one line."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in a config, a file or a command line. The CLI prints it without a traceback."""


def unknown(kind: str, name: object, valid: Iterable[str]) -> UserError:
    """The error for a name that no registry knows, with the nearest valid name first."""
    names = sorted(valid)
    nearest = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    return UserError(f"unknown {kind} {name!r}: {hint}choose from {', '.join(names)}")
