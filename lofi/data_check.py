"""Whether a dataset says what its card says it does: every row, every image, and the scorer on the right answers."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lofi.data.collection import UNFIT, Collection
from lofi.data.docs import Doc
from lofi.data.images import Encoded
from lofi.data.prompts import options_of, task_of
from lofi.data.reading import Reading, readings
from lofi.data.registry import BY, Card
from lofi.data.rows import answer_of, labels_of, target_of, targets_of
from lofi.data.source import Row, open_source
from lofi.data.templates import fill
from lofi.errors import UserError, unknown
from lofi.grading import question_of
from lofi.scoring.figures import figures_of
from lofi.scoring.registry import get_scorer

SHOWN_NAMES = 8  # of answers or categories, the most frequent first
SHOWN_LETTERS = 60  # of a value

Say = Callable[[str], None]


@dataclass(frozen=True)
class Finding:
    """What is wrong in one column of one row."""

    column: str
    value: Any  # None: not worth repeating
    rule: str
    fix: str

    def __str__(self) -> str:
        value = "" if self.value is None else f" is {_short(self.value)}"
        return f"{self.column}{value}: {self.rule}; {self.fix}"


@dataclass
class Tally:
    """What was counted so far."""

    rows: int = 0
    wrong: int = 0
    images: dict[str, str | None] = field(default_factory=dict)  # hash -> error
    tasks: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    categories: Counter[str] = field(default_factory=Counter)
    ids: set[str] = field(default_factory=set)
    repeated: list[str] = field(default_factory=list)  # sample ids that an earlier row has
    partly: int = 0  # right answers that the scorer gives less than 1
    prompt: str | None = None

    def keep(self, image: Encoded) -> None:
        """Take the error of an image, and nothing else of it."""
        self.images[image.image_hash] = image.error

    def count(self, doc: Doc, sample_id: str) -> None:
        """Take a row that became a doc."""
        self.tasks[doc.task_type] += 1
        self.answers[doc.target] += 1
        if doc.category is not None:
            self.categories[doc.category] += 1
        if sample_id in self.ids:
            self.repeated.append(sample_id)
        self.ids.add(sample_id)
        self.prompt = doc.prompt if self.prompt is None else self.prompt


def check_data(
    card: Card,
    say: Say,
    *,
    prompt_style: str,
    source: str | None = None,
    limit: int = 0,
    progress: Callable[[int], None] = lambda rows: None,
) -> int:
    """Say what is wrong with each row, then what there is in all; returns how many rows are wrong.

    `source` and `limit` are those of `prepare`. Nothing is written.
    """
    if limit < 0:
        raise UserError(f"a limit of {limit} is no number of images; give 0 for all of them")
    if prompt_style not in card.prompts:
        raise unknown(f"prompt style of dataset {card.name}", prompt_style, card.prompts)
    for style in card.prompts:
        get_scorer(card.scorer_of(style))
    figures_of(card.name, card.metrics)
    tally, collection = Tally(), Collection(card, prompt_style)
    with TemporaryDirectory() as scratch:
        opened = open_source(card, source, Path(scratch), limit=limit)
        for reading in readings(opened, card, tally.keep, limit=limit):
            found = list(_findings(tally, collection, reading))
            tally.rows += 1
            tally.wrong += bool(found)
            for finding in found:
                say(f"{reading.entry.place}, {finding}")
            progress(tally.rows)
    if not tally.rows:
        raise UserError(f"dataset {card.name} has no rows; check its source, config, split and `where`")
    for line in _summary(tally, card, prompt_style):
        say(line)
    return tally.wrong


def _findings(tally: Tally, collection: Collection, reading: Reading) -> Iterator[Finding]:
    """All that is wrong with a row; a row that becomes a doc is counted."""
    card, row, entry = collection.card, reading.entry.values, reading.entry
    if entry.error:
        yield Finding("the row", None, entry.error, "correct the file")
        return
    if error := reading.error or next(filter(None, map(tally.images.get, reading.hashes)), None):
        column = card.join.on if card.join else ", ".join(card.images)
        yield Finding(column, row.get(column), error, "such rows count as errors; mend the image or leave out the row")
    fields = {**row, "row": entry.number}
    for column, read in _steps(card, row, fields):
        try:
            read()
        except UNFIT as error:
            yield Finding(column, row.get(column), _rule(error), "correct the row or the card")
            return
    try:
        doc = collection.take(reading)
    except UNFIT as error:
        yield Finding("the prompt", None, _rule(error), "correct the row or the card")
        return
    tally.count(doc, fill(card.sample_id, fields))
    yield from _graded(tally, card, collection.prompt_style, doc)


def _steps(card: Card, row: Row, fields: Row) -> Iterator[tuple[str, Callable[[], object]]]:
    """What a row has to give, by the column that gives it; each may rely on those before it."""
    yield card.question, lambda: _filled(row[card.question])
    if not isinstance(card.task, str):
        yield card.task[BY], lambda: task_of(card, row)
    options = card.options_in or (card.options if isinstance(card.options, str) else ", ".join(card.options))
    yield options, lambda: options_of(card, row)
    yield card.target, lambda: _filled(row[card.target])
    yield card.target, lambda: _target(card, row)
    yield card.targets, lambda: targets_of(card, row, "")
    for name in ("sample_id", "group", "figure", "cluster"):
        yield f"the card's {name}", lambda name=name: fill(getattr(card, name), fields)  # type: ignore[misc]


def _target(card: Card, row: Row) -> str:
    task = task_of(card, row)
    return target_of(answer_of(card, row), task, labels_of(task, options_of(card, row), card.letters))


def _filled(value: object) -> None:
    if value is None or not str(value).strip():
        raise ValueError("there is nothing in it")


def _graded(tally: Tally, card: Card, style: str, doc: Doc) -> Iterator[Finding]:
    """Whether the scorer calls the right answer right."""
    name = card.scorer_of(style)
    answer = get_scorer(name).rule(doc.target, question_of(doc))
    if not answer.score:
        rule = f"the scorer {name} reads the right answer as {answer.parsed or answer.status}, and gives it 0"
        yield Finding(card.target, doc.target, rule, "correct the row, or choose another scorer")
    tally.partly += 0 < answer.score < 1


def _summary(tally: Tally, card: Card, style: str) -> Iterator[str]:
    scorer, broken = card.scorer_of(style), sum(error is not None for error in tally.images.values())
    yield (
        f"{card.name}: {tally.rows} rows, {len(tally.images)} images ({broken} missing or broken), "
        f"prompt style {style}, scorer {scorer} version {get_scorer(scorer).version}"
    )
    yield f"tasks: {_most(tally.tasks)}"
    yield f"answers: {_most(tally.answers)}"
    if card.category:
        yield f"categories: {_most(tally.categories)}"
    if tally.repeated:
        yield f"sample_id: {len(tally.repeated)} rows repeat one and get a number, {tally.repeated[0]} first"
    if tally.partly:
        yield f"scorer: {tally.partly} right answers get less than 1, as few of the accepted ones are like them"
    if tally.prompt is not None:
        yield "the first prompt:"
        yield from (f"  | {line}" for line in tally.prompt.split("\n"))
    yield f"{tally.wrong} of {tally.rows} rows are wrong" if tally.wrong else "nothing is wrong"


def _most(counts: Counter[str]) -> str:
    """The most frequent names with their counts, and how many others there are."""
    named = [f"{_short(name)} {count}" for name, count in counts.most_common(SHOWN_NAMES)]
    return ", ".join([*named, *([f"and {len(counts) - SHOWN_NAMES} others"] if len(counts) > SHOWN_NAMES else [])])


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_LETTERS else f"{text[:SHOWN_LETTERS]}…"


def _rule(error: Exception) -> str:
    return f"it lacks {error}" if isinstance(error, LookupError) else str(error)
