"""The datasets by name: one YAML card each, in `cards/`. Light to import: no reader of data is loaded."""

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from lofi.data.entries import frozen
from lofi.data.templates import check_template
from lofi.errors import UserError, unknown
from lofi.strict_yaml import read_mapping

CARDS = Path(__file__).parent / "cards"
GENERATED = "generated:"
TASKS = ("yesno", "mcq", "open")
BY = "by"  # of a task that a column decides
SUFFIXES = (".yaml", ".yml")
REVISION = re.compile("[0-9a-f]{40}")
FILES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")  # a source that ends so is never a hub id


@dataclass(frozen=True)
class Join:
    """A second table of the same dataset, which holds the images: GQA keeps each image once, apart."""

    config: str
    split: str
    on: str  # the card's own column
    key: str  # the column of the second table that it equals
    image: str  # the second table's column of images


@dataclass(frozen=True)
class Card:
    """What one dataset is: where it lies, what its columns mean, how it is asked and scored.

    `question`, `target`, `targets`, `category`, `l2_category`, `image` name columns. `options` names the
    column that holds the list, the columns that hold one option each, or with `options_in` the column whose text
    lists them; `python_lists` are columns whose text is a list as Python writes it. `sample_id`, `group`, `figure`,
    `cluster` and the prompts are templates (see `lofi.data.templates`) over the columns, `{row}` and `{options}`.
    """

    name: str
    title: str
    source: str  # hub id, folder, or generated:NAME
    split: str
    columns: tuple[str, ...]  # all that is read of a row; the row's hash covers these
    image: str | tuple[str, ...]  # a column of an image or a list of them, or several columns; empty with `join`
    question: str
    target: str  # yes or no, a letter or the number of an option, or a text
    sample_id: str
    task: str | Mapping[str, str]  # one of TASKS; or `by: COLUMN` and the task of each of its values
    scorer: str | Mapping[str, str]  # of every prompt style, or by style
    max_new_tokens: int
    prompts: Mapping[str, str | Mapping[str, str]]  # by style; where tasks are asked differently, then by task
    text: str = ""
    licence: str = ""
    config: str | None = None
    revision: str = ""  # 40 hex digits; empty is not pinned
    aliases: tuple[str, ...] = ()  # other hub ids of the same data
    join: Join | None = None
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # column -> the values of rows that are taken
    options: str | tuple[str, ...] = ()
    options_in: str = ""  # a row whose text lists none is open, unless there are `letters`
    letters: tuple[str, ...] = ()  # what may be answered where a row's options are not known
    python_lists: tuple[str, ...] = ()
    targets: str = ""  # all accepted answers; without it the target alone
    category: str = ""
    l2_category: str = ""
    group: str = ""  # samples that count together; without it each sample alone
    figure: str = ""  # samples about one figure, where these count together, too
    cluster: str = ""  # samples that are resampled together; without it those of one image
    n_questions: int = 0  # of the whole split, for plans before it is prepared; 0 is not known
    n_images: int = 0  # distinct ones, where that is known, else at most
    metrics: tuple[str, ...] = ("accuracy",)  # figures of the whole dataset, by their names in lofi.scoring.figures
    traps: tuple[str, ...] = ()  # what readers of its numbers have stumbled over
    grouped: bool = False  # rows of one image follow each other, so a limited run may stop early

    def __post_init__(self) -> None:
        self._check_tasks()
        self._check_styles()
        if self.max_new_tokens < 1:
            raise UserError(f"dataset {self.name}: max_new_tokens is {self.max_new_tokens}; an answer needs at least 1")
        if bool(self.image) == bool(self.join):
            what = "both `image` and `join`" if self.join else "neither `image` nor `join`"
            raise UserError(f"dataset {self.name}: {what}; name the columns of images, or the table that has them")
        if self.revision and not REVISION.fullmatch(self.revision):
            raise UserError(
                f"dataset {self.name}: revision {self.revision!r} is not a whole commit of 40 hex digits; "
                'write all of it, or "" for the newest'
            )
        named = [self.question, self.target, self.targets, self.category, self.l2_category, self.options_in]
        named += [*self.images, *([self.options] if isinstance(self.options, str) else self.options)]
        named += [*self.where, *self.python_lists, *([self.join.on] if self.join else [])]
        if missing := [column for column in dict.fromkeys(named) if column and column not in self.columns]:
            raise UserError(f"dataset {self.name}: add {', '.join(missing)} to `columns`")
        self._check_templates()

    def _check_tasks(self) -> None:
        if not isinstance(self.task, str) and self.task.get(BY) not in self.columns:
            raise UserError(
                f"dataset {self.name}: `task` has no `by`, or not one of `columns`; "
                "name the column that decides, such as {by: question_type, open: open}"
            )
        for task in self.tasks:
            if task not in TASKS:
                raise UserError(f"dataset {self.name}: task {task!r} is not one of {', '.join(TASKS)}")

    def _check_styles(self) -> None:
        if not self.prompts:
            raise UserError(f"dataset {self.name}: no prompt; give at least one style")
        for style, prompt in self.prompts.items():
            if not isinstance(prompt, str) and (missing := [task for task in self.tasks if task not in prompt]):
                raise UserError(f"dataset {self.name}: prompt style {style} has none for the task {missing[0]}; add it")
            if not isinstance(self.scorer, str) and style not in self.scorer:
                raise UserError(
                    f"dataset {self.name}: `scorer` has none for prompt style {style}; add it, or name one for all"
                )

    def _check_templates(self) -> None:
        prompts = [[each] if isinstance(each, str) else list(each.values()) for each in self.prompts.values()]
        known = [*(column for column in self.columns if column not in self.images), "row", "options"]
        try:
            for template in [self.sample_id, self.group, self.figure, self.cluster, *chain(*prompts)]:
                check_template(template, known)
        except UserError as error:
            raise UserError(f"dataset {self.name}: {error}") from None

    @property
    def images(self) -> tuple[str, ...]:
        """The columns that hold a row's images; none where they are in a second table."""
        return (self.image,) * bool(self.image) if isinstance(self.image, str) else self.image

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that rows of this dataset can be."""
        if isinstance(self.task, str):
            return (self.task, *(("open",) if self.options_in and not self.letters else ()))
        return tuple(dict.fromkeys(task for value, task in self.task.items() if value != BY))

    def template(self, style: str, task: str) -> str:
        """The prompt of a style for a row of that task."""
        if style not in self.prompts:
            raise unknown(f"prompt style of dataset {self.name}", style, self.prompts)
        prompt = self.prompts[style]
        return prompt if isinstance(prompt, str) else prompt[task]

    def scorer_of(self, style: str) -> str:
        """The scorer that goes with a prompt style."""
        return self.scorer if isinstance(self.scorer, str) else self.scorer[style]

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
    """The card of a dataset: a built-in one by its name, or the one in a YAML file by its path."""
    path = Path(name)
    return card_from(path.stem, _own(path)) if path.suffix in SUFFIXES else card_from(name, _read(name))


def card_from(name: str, entries: Mapping[str, Any]) -> Card:
    """A card from the entries of its YAML file, all of them checked by name."""
    known = {each.name for each in fields(Card)} - {"name"}
    for entry in entries:
        if entry not in known:
            raise unknown(f"entry of dataset {name}", entry, known)
    needed = [each.name for each in fields(Card) if each.default is each.default_factory is MISSING]
    if missing := [entry for entry in needed if entry not in {"name", *entries}]:
        raise UserError(f"dataset {name}: the card lacks {', '.join(missing)}")
    checked = frozen(name, entries)
    if "join" in checked:
        checked["join"] = Join(**checked["join"])
    return Card(name=name, **checked)


def _own(path: Path) -> Mapping[str, Any]:
    """A user's card; `like: NAME` starts from a built-in one. A source beside it is named as seen from it."""
    entries = dict(read_mapping(path, "a mapping with the entries of a dataset"))
    source = entries.get("source")
    if isinstance(source, str) and (
        source.startswith(".") or source.endswith(FILES) or (path.parent / source).exists()
    ):
        entries["source"] = str(path.parent / source)
    twin = entries.pop("like", None)
    return _read(str(twin)) | entries if twin else entries


def _read(name: str) -> dict[str, Any]:
    if name not in dataset_names():
        raise unknown("dataset", name, dataset_names())
    entries: dict[str, Any] = yaml.safe_load((CARDS / f"{name}.yaml").read_text(encoding="utf-8"))
    twin = entries.pop("like", None)
    return _read(twin) | entries if twin else entries
