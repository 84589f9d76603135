"""Templates: text with fields that a row fills in. Pure functions on strings.

`{question}` is the row's column of that name as it stands; `{question:strip}` is the same through a builder, one of
the few in `BUILDERS`; any other ending is Python's own (`{row:06d}`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from string import Formatter
from typing import Any

from lofi.errors import UserError, unknown

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
ABSENT = (None, "", "nan")  # how datasets write a hint or an option that is not there
ROTATIONS = 1_000_000  # MMBench numbers the k-th rotation of question i as i + k * 1,000,000


def fill(template: str, fields: Mapping[str, Any]) -> str:
    """A template with its fields filled in."""
    try:
        return _TEMPLATE.vformat(template, (), fields)
    except KeyError as missing:
        raise UserError(
            f"template {template!r} names {missing}, which the row lacks; it has {', '.join(fields)}"
        ) from None


def check_template(template: str, known: Iterable[str]) -> None:
    """Refuse a template that names a field or a builder that there is not."""
    names = tuple(known)
    try:
        parts = list(_fields(template))
    except ValueError as error:
        raise UserError(f"template {template!r} is not well formed ({error}); write {{{{ and }}}} for braces") from None
    for name, builder in parts:
        if name not in names:
            raise UserError(f"template {template!r} names {name!r}, which is no column; it may name {', '.join(names)}")
        if builder.isidentifier() and builder not in BUILDERS:
            raise unknown(f"builder of template {template!r}", builder, BUILDERS)


def _fields(template: str) -> Iterator[tuple[str, str]]:
    for _, name, builder, _ in Formatter().parse(template):
        if name is not None:
            yield name, builder or ""


def strip(value: str) -> str:
    """Without the white space around it."""
    return value.strip()


def capitalize(value: str) -> str:
    """The first letter large and all others small, as lmms-eval writes the questions of TextVQA and VizWiz."""
    return value.capitalize()


def statement(value: str) -> str:
    """An MME question without the sentence that asks for yes or no."""
    return value.strip().replace(" Please answer yes or no.", "")


def lettered(options: Sequence[str]) -> str:
    """One line per option: `A. red`."""
    if len(options) > len(LETTERS):
        raise ValueError(f"{len(options)} options are more than there are letters")
    return "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))


def commas(values: Sequence[str] | None) -> str:
    """All values of a list in one line."""
    return ", ".join(values or ())


def context(hint: str | None) -> str:
    """A line that gives the passage to read first, or nothing."""
    return "" if hint in ABSENT else f"Context: {hint}\n"


def hint(value: str | None) -> str:
    """The same line as VLMEvalKit words it."""
    return "" if value in ABSENT else f"Hint: {value}\n"


def line(value: str | None) -> str:
    """A hint on a line of its own, or nothing."""
    return "" if value in ABSENT else f"{value}\n"


def lead(value: str | None) -> str:
    """A hint before the question, in its line, or nothing."""
    return "" if value in ABSENT else f"{value} "


def lead_or_nan(value: str | None) -> str:
    """The same, except that an absent hint that is written `nan` is asked as `nan`: lmms-eval's Chinese MMBench."""
    return "" if value is None else f"{value} "


def unrotated(index: int | str) -> str:
    """The number of the question of which this row is a rotation."""
    return str(int(index) % ROTATIONS)


BUILDERS: dict[str, Callable[[Any], str]] = {
    each.__name__: each
    for each in (
        strip,
        capitalize,
        statement,
        lettered,
        commas,
        context,
        hint,
        line,
        lead,
        lead_or_nan,
        unrotated,
    )
}


class _Template(Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        build = BUILDERS.get(format_spec)
        return build(value) if build else str(super().format_field(value, format_spec))


_TEMPLATE = _Template()
