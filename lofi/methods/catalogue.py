"""The documentation of all reducers, from the registry and the modules' docstrings. Light: no torch.

`python -m lofi.methods.catalogue` prints `docs/methods.md`.
"""

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lofi.methods.registry import METHODS, Param, Reducer
from lofi.methods.schedule import Schedule, Staged

FOLDER = Path(__file__).parent
# `Name (arXiv id): what it keeps.`; the id may have a remark and may be missing, as in the baselines.
FIRST_LINE = re.compile(
    r"(?P<title>[^:(]+?)( \(arXiv (?P<paper>\d{4}\.\d{5})(, [^):]+)?\))?(?P<part>, [^:(]+)?: (?P<keeps>\S.*\.)"
)
DEVIATIONS = "Deviations: "
WHERE = {"encoder": "inside the encoder", "tokens": "before the LLM", "llm": "inside the LLM"}
NEEDS = {
    "attention": "attention",
    "cls": "CLS token",
    "grid": "grid",
    "square": "square grid",
    "tower": "text tower",
    "blocks": "encoder blocks",
}
COUNTS = {"asked": "k", "own": "own", "calibrated": "calibrated"}


@dataclass(frozen=True)
class Entry:
    """What the documentation says of one registered method."""

    name: str
    file: str  # of the module, in the folder of this one
    title: str
    paper: str | None  # the arXiv id
    keeps: str
    deviations: str | None
    cells: Mapping[str, str]  # by the heading of the column
    params: Mapping[str, Param]


def entries() -> list[Entry]:
    """One entry for each registered method, in the order of the registry."""
    return [_entry(name, reducer) for name, reducer in METHODS.items()]


def module_file(name: str) -> str:
    """The file of the module of a registered method."""
    return METHODS[name].function.partition(":")[0].rpartition(".")[2] + ".py"


def module_docstring(name: str) -> str:
    """The docstring of the module of a registered method, read without importing it."""
    return ast.get_docstring(ast.parse((FOLDER / module_file(name)).read_text(encoding="utf-8"))) or ""


def describe(docstring: str) -> tuple[str, str | None, str, str | None]:
    """Title, arXiv id, what is kept, and the deviations of a module's docstring."""
    first, *paragraphs = docstring.split("\n\n")
    found = FIRST_LINE.fullmatch(first)
    if found is None:
        raise ValueError(f"a method's docstring must begin 'Name (arXiv id): what it keeps.', not {first!r}")
    deviations = [text.removeprefix(DEVIATIONS) for text in paragraphs if text.startswith(DEVIATIONS)]
    title = found["title"] + (found["part"] or "")
    return title, found["paper"], found["keeps"], deviations[0] if deviations else None


def _entry(name: str, reducer: Reducer) -> Entry:
    title, paper, keeps, deviations = describe(module_docstring(name))
    cells = {
        "method": f"`{name}`",
        "paper": f"[{paper}](https://arxiv.org/abs/{paper})" if paper else "",
        "where": WHERE[reducer.acts],
        "needs": ", ".join([*(NEEDS[need] for need in reducer.needs), *_also(reducer)]),
        "layers": ", ".join(map(str, reducer.layers)),
        "nested": _yes(reducer.nested),
        "merges": _yes(reducer.merges),
        "question": _yes(reducer.sees_text),
        "random": f"with `{reducer.random_when[0]}: {reducer.random_when[1]}`"
        if reducer.random_when
        else _yes(reducer.random),
        "count": "k, of a rectangle" if reducer.rectangle else COUNTS[reducer.count],
        "positions": reducer.positions,
        "tiles": {"each": "tile by tile", "whole": "all at once"}[reducer.tiles],
        "stages": _stages(reducer.schedule) if reducer.schedule else "",
    }
    return Entry(name, module_file(name), title, paper, keeps, deviations, cells, reducer.params)


def _also(reducer: Reducer) -> list[str]:
    """What it needs with one value of a parameter."""
    return [] if reducer.cls_when is None else [f"{NEEDS['cls']} with `{reducer.cls_when[0]}: {reducer.cls_when[1]}`"]


def _yes(trait: bool) -> str:
    return "yes" if trait else ""


def _stages(schedule: Schedule) -> str:
    """The decoder layers of a schedule, each with the share of tokens that is left there."""
    if isinstance(schedule, Staged):
        pairs = zip(schedule.layers, schedule.shares, strict=True)
        return ", ".join(f"{layer} ({100 * share:.3g}%)" for layer, share in pairs) + (
            " fixed" if schedule.fixed else ""
        )
    names = {
        "Depth": "one, set by the budget (0%)",
        "Fitted": "all, from a table or a fit",
        "Searched": "one, searched on the model (0%)",
    }
    return names[type(schedule).__name__]


def escaped(text: str) -> str:
    """The text with what Markdown would take for a tag or a column."""
    return text.replace("<", r"\<").replace("|", r"\|")


def table(rows: Sequence[Entry], columns: Sequence[str]) -> str:
    """A table in Markdown, one row for each entry."""
    lines = [columns, ["---"] * len(columns), *([entry.cells[column] for column in columns] for entry in rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def document() -> str:
    """All of `docs/methods.md`."""
    known = entries()
    environment = Environment(
        loader=FileSystemLoader(FOLDER), undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True
    )
    environment.filters["escaped"] = escaped
    text = environment.get_template("catalogue.md.j2").render(
        table=table,
        outside=[entry for entry in known if METHODS[entry.name].acts != "llm"],
        inside=[entry for entry in known if METHODS[entry.name].acts == "llm"],
        groups=[list(group) for _, group in groupby(known, key=lambda entry: entry.file)],
    )
    return re.sub(r"\n{3,}", "\n\n", text)


if __name__ == "__main__":
    print(document(), end="")
