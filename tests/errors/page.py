"""`docs/errors.md`: what lofi says to every mistake of `cases`, as it said it when this ran.

python -m tests.errors.page > docs/errors.md
"""

from tests.errors.case import Case, outcome
from tests.errors.cases import CASES

INTRODUCTION = """# Errors

Generated from `tests/errors/cases.py` by `make docs`; a test holds every row against what lofi says today. Each row is a mistake, the
command that met it, what it said and its exit code. A mistake of the user is one line on stderr that names the value, the rule and
the fix, without a traceback. Exit codes:

| code | meaning |
| --- | --- |
| 0 | done |
| 1 | done, and what was looked at is not in order: wrong rows in `lofi data check`, broken limits in `lofi check --reference`, differences in `lofi reproduce` |
| 2 | a mistake in a config, a dataset, a model, a file or a command line; what was finished before it was met is kept |

Snakemake ends with 1 whatever is wrong. Where a message shows `…`, a longer hash or a random name stands there.
"""
HEAD = "| what is wrong | command | message | exit code |\n| --- | --- | --- | --- |"


def document() -> str:
    """The whole page."""
    return INTRODUCTION + "".join(_section(title, cases) for title, cases in CASES.items())


def row(case: Case) -> str:
    """A case as a line of the page."""
    found = outcome(case)
    command = " ".join(word if " " not in word else f"'{word}'" for word in case.command)
    command = command if case.is_workflow else f"lofi {command}"
    return f"| {case.what} | {_code(command)} | {_code(said(case))} | {found.code} |"


def said(case: Case) -> str:
    """The message, or the line of what was printed that is about the mistake."""
    found = outcome(case)
    if case.code == 2 or case.is_workflow:
        return found.message.removesuffix("\n")
    return next(line for line in found.printed.splitlines() if case.says[0] in line)


def _section(title: str, cases: list[Case]) -> str:
    return "\n".join(["", f"## {title}", "", HEAD, *map(row, cases), ""])


def _code(text: str) -> str:
    """Text as code inside a table: a bar would end the cell, and a single quote the code."""
    return f"`` {text} ``".replace("|", "\\|")


if __name__ == "__main__":
    print(document(), end="")
