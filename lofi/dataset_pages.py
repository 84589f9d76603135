"""The documentation of all datasets and scorers, from cards and registries.

`python -m lofi.dataset_pages` prints `docs/datasets.md`.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lofi.data.registry import Card, dataset_names, get_card
from lofi.data.templates import BUILDERS
from lofi.scoring.differences import DIFFERENCES
from lofi.scoring.figures import figures_of
from lofi.scoring.registry import SCORERS

FOLDER = Path(__file__).parent
MODES = {"mcq": "letters", "yesno": "yes or no", "open": "generation"}
STYLES = {"lmms_eval": "lmms-eval", "llava_official": "LLaVA's own scripts", "vlmevalkit": "VLMEvalKit"}

Row = Mapping[str, str]


@dataclass(frozen=True)
class Wording:
    """One prompt, the task it is for where a dataset has several, and the styles that share it."""

    text: str
    task: str
    styles: tuple[str, ...]  # each with its scorer


@dataclass(frozen=True)
class Entry:
    """What the page says of one dataset."""

    card: Card
    cells: Row  # by the heading of the column
    wordings: tuple[Wording, ...]
    counts: tuple[str, ...]  # what counts together, and what is resampled together


def entries() -> list[Entry]:
    """One entry for each dataset, the benchmarks first."""
    cards = sorted(map(get_card, dataset_names()), key=lambda card: (bool(card.generated), card.name))
    return [Entry(card, _cells(card), _wordings(card), _counts(card)) for card in cards]


def _cells(card: Card) -> Row:
    names = [f"`{name}`" for name in (card.source, *card.aliases)]
    where = [f"only {column} {', '.join(values)}" for column, values in card.where.items()]
    return {
        "dataset": f"`{card.name}`",
        "questions": f"{card.n_questions:,}",
        "images": f"{card.n_images:,}",
        "answered by": ", else ".join(MODES[task] for task in card.tasks),
        "figures": ", ".join(_figures(card)),
        "new tokens": str(card.max_new_tokens),
        "licence": card.licence,
        "hub id": "made here" if card.generated else ", formerly ".join(names),
        "config, split": ", ".join([card.config or "the only one", card.split, *where]),
        "revision": f"`{card.revision[:12]}`" if card.revision else "" if card.generated else "not pinned",
    }


def _figures(card: Card) -> Iterable[str]:
    """The names of a dataset's figures, each once."""
    names = []
    for figure in figures_of(card.name, card.metrics):
        parts = figure.within and figure.pool == "each"
        names.append(f"{figure.metric} of each {figure.within}" if parts else figure.metric)
    return dict.fromkeys(names)


def _wordings(card: Card) -> tuple[Wording, ...]:
    styles: dict[tuple[str, str], list[str]] = defaultdict(list)
    for style in card.prompts:
        scorer = card.scorer_of(style)
        for text, task in dict.fromkeys(
            (card.template(style, task), _task_of(card, style, task)) for task in card.tasks
        ):
            styles[text, task].append(f"`{style}` (scorer `{scorer}`, version {SCORERS[scorer].version})")
    return tuple(Wording(quoted(text), task, tuple(names)) for (text, task), names in styles.items())


def _task_of(card: Card, style: str, task: str) -> str:
    return "" if isinstance(card.prompts[style], str) else MODES[task]


def _counts(card: Card) -> tuple[str, ...]:
    named = {"category": card.category, "second category": card.l2_category, "id": card.sample_id}
    named |= {"counts together": card.group, "one figure": card.figure, "one cluster": card.cluster or "one image"}
    return tuple(
        f"{key}: `{value}`" if value != "one image" else f"{key}: {value}" for key, value in named.items() if value
    )


def quoted(text: str) -> str:
    """The text as code, with its line breaks and spaces to be seen."""
    return f"`{json.dumps(text, ensure_ascii=False)}`"


def table(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """A table in Markdown."""
    lines = [columns, ["---"] * len(columns), *([row[column] for column in columns] for row in rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def scorer_rows() -> list[Row]:
    """The scorers, in the order of their registry."""
    return [
        {
            "scorer": f"`{name}`",
            "version": str(scorer.version),
            "rule of": STYLES[scorer.harness],
            "can be": ", ".join(scorer.statuses),
            "what it reads": scorer.text.replace("|", r"\|"),
        }
        for name, scorer in SCORERS.items()
    ]


def builder_rows() -> list[Row]:
    """The builders of templates with what they make."""
    docs = {name: (build.__doc__ or "").partition("\n")[0] for name, build in BUILDERS.items()}
    return [{"builder": f"`{{column:{name}}}`", "gives": text} for name, text in docs.items()]


def document() -> str:
    """All of `docs/datasets.md`."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER), undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True
    )
    text = environment.get_template("dataset_pages.md.j2").render(
        table=table,
        entries=entries(),
        scorers=scorer_rows(),
        builders=builder_rows(),
        differences=DIFFERENCES,
    )
    return re.sub(r"\n{3,}", "\n\n", text)


if __name__ == "__main__":
    print(document(), end="")
