"""The datasets by name: one YAML card each, in `cards/`. Light to import: no reader of data is loaded."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from lofi.errors import UserError, unknown

CARDS = Path(__file__).parent / "cards"
GENERATED = "generated:"
TASKS = ("yesno", "mcq", "open")


@dataclass(frozen=True)
class Card:
    """What one dataset is: where it lies, what its columns mean, how it is asked and scored.

    `question`, `target`, `targets`, `category`, `l2_category`, `image` name columns. `options` names the
    column that holds the list, or the columns that hold one option each. `sample_id`, `group`, `cluster` and
    the prompts are templates over the columns (see `lofi.data.prompts`), `{row}` and `{options}`.
    """

    name: str
    title: str
    source: str  # hub id, folder, or generated:NAME
    split: str
    columns: tuple[str, ...]  # all that is read of a row; the row's hash covers these
    image: str
    question: str
    target: str  # yes or no, a letter or the number of an option, or a text
    sample_id: str
    task: str  # one of TASKS
    scorer: str
    max_new_tokens: int
    prompts: Mapping[str, str]  # by style
    text: str = ""
    licence: str = ""
    config: str | None = None
    revision: str = ""  # 40 hex digits; empty is not pinned
    aliases: tuple[str, ...] = ()  # other hub ids of the same data
    options: str | tuple[str, ...] = ()
    targets: str = ""  # all accepted answers; without it the target alone
    category: str = ""
    l2_category: str = ""
    group: str = ""  # samples that count together; without it each sample alone
    cluster: str = ""  # samples that are resampled together; without it those of one image
    n_questions: int = 0  # of the whole split, for plans before it is prepared; 0 is not known
    n_images: int = 0  # distinct ones, where that is known, else at most
    grouped: bool = False  # rows of one image follow each other, so a limited run may stop early

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise UserError(f"dataset {self.name}: task {self.task!r} is not one of {', '.join(TASKS)}")
        if not self.prompts:
            raise UserError(f"dataset {self.name}: no prompt; give at least one style")
        named = [self.image, self.question, self.target, self.targets, self.category, self.l2_category]
        named += [self.options] if isinstance(self.options, str) else self.options
        if missing := [column for column in named if column and column not in self.columns]:
            raise UserError(f"dataset {self.name}: add {', '.join(missing)} to `columns`")

    @property
    def generated(self) -> str:
        """The name of the built-in generator, or empty."""
        return self.source.removeprefix(GENERATED) if self.source.startswith(GENERATED) else ""


@cache
def dataset_names() -> tuple[str, ...]:
    """All datasets that have a card, in alphabetical order."""
    return tuple(sorted(path.stem for path in CARDS.glob("*.yaml")))


@cache
def get_card(name: str) -> Card:
    """The card of a dataset."""
    return card_from(name, _read(name))


def card_from(name: str, entries: Mapping[str, Any]) -> Card:
    """A card from the entries of its YAML file, all of them checked by name."""
    known = {each.name for each in fields(Card)} - {"name"}
    for entry in entries:
        if entry not in known:
            raise unknown(f"entry of dataset {name}", entry, known)
    needed = [each.name for each in fields(Card) if each.default is MISSING and each.name != "name"]
    if missing := [entry for entry in needed if entry not in entries]:
        raise UserError(f"dataset {name}: the card lacks {', '.join(missing)}")
    frozen: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in entries.items()}
    return Card(name=name, **frozen)


def _read(name: str) -> dict[str, Any]:
    if name not in dataset_names():
        raise unknown("dataset", name, dataset_names())
    entries: dict[str, Any] = yaml.safe_load((CARDS / f"{name}.yaml").read_text(encoding="utf-8"))
    twin = entries.pop("like", None)
    return _read(twin) | entries if twin else entries
