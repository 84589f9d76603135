"""How the report writes numbers: one spelling for shares, points, intervals, counts and keeps."""

from collections.abc import Sequence
from typing import Any

from lofi.cell import AS_LOADED, KEEP_ALL, OWN_COUNT

NONE = "–"
SPACE = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
SITES = {  # in the order in which tokens pass them: where spectra are measured, as axes and columns name it
    "projector": "projector",
    "llm_0": "LLM in",
    "llm_1_4": "¼",
    "llm_1_2": "½",
    "llm_3_4": "¾",
    "llm_last": "last",
}
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def percent(value: float | None, digits: int = 1) -> str:
    """A share as `92.1 %`. What differs from 0 or 100 % is never rounded to it."""
    if value is None:
        return NONE
    text = f"{100 * value:.{digits}f}"
    smallest = f"{10**-digits:.{digits}f}"
    if float(text) == 0 and value > 0:
        return f"<{SPACE}{smallest}{SPACE}%"
    if float(text) == 100 and value < 1:
        return f">{SPACE}{100 - 10**-digits:.{digits}f}{SPACE}%"
    return text.replace("-", MINUS) + f"{SPACE}%"


def points(value: float | None) -> str:
    """A signed difference of shares as `+1.2 points`."""
    if value is None:
        return NONE
    text = f"{100 * value:+.1f}".replace("-", MINUS)
    return f"{'0.0' if text[1:] == '0.0' else text}{SPACE}points"


def interval(low: float | None, high: float | None) -> str:
    """The 95 % interval of a share, in percent: `[90.4, 93.7]`."""
    if low is None or high is None:
        return "[undefined]"
    return f"[{100 * low:.1f},{SPACE}{100 * high:.1f}]".replace("-", MINUS)


def number_interval(low: float, high: float, digits: int) -> str:
    """The 95 % interval of a plain number: `[1402.3, 1511.0]`."""
    return f"[{number(low, digits)},{SPACE}{number(high, digits)}]"


def share_with_interval(row: dict[str, Any], column: str) -> str:
    """`92.1 % [90.4, 93.7]` of a column that has `_low` and `_high` beside it."""
    return f"{percent(row.get(column))} {interval(row.get(f'{column}_low'), row.get(f'{column}_high'))}"


def number(value: float | None, digits: int = 2) -> str:
    """A plain number with a real minus sign, which a rounded 0 has not."""
    if value is None:
        return NONE
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", MINUS)


def small(value: float | None) -> str:
    """A number with three decimals, or `3.1 × 10⁻⁹` where those would be zeros: only 0 is written as 0."""
    if not value:
        return NONE if value is None else "0"
    if abs(value) >= 0.0005:
        return number(value, 3)
    digits, power = f"{value:.1e}".split("e")
    return f"{digits} × 10{str(int(power)).translate(RAISED)}".replace("-", MINUS)


def correlation(row: dict[str, Any], column: str = "pearson") -> str:
    """`r = −0.12 [−0.40, 0.20]`; a coefficient that does not exist is `undefined`."""
    if row.get(column) is None:
        return "r undefined"
    text = f"r = {number(row[column])}"
    if row.get("low") is not None and row.get("high") is not None:
        text += f" [{number(row['low'])}, {number(row['high'])}]"
    return text


def p_value(value: float | None) -> str:
    """`p = 0.040`, `p < 0.001`, or `p undefined`."""
    if value is None:
        return "p undefined"
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def count(value: float | None, noun: str = "") -> str:
    """`12 345 answers`; the noun gets its plural s."""
    if value is None:
        return NONE
    digits = f"{round(value):,}".replace(",", SPACE)
    if not noun:
        return digits
    return f"{digits}{SPACE}{noun if round(value) == 1 else noun + 's'}"


def keep_label(keep: str) -> str:
    """The short name of a keep: `0.25`, `36 tokens` for an absolute count, `own count` where the method sets it."""
    if keep == OWN_COUNT:
        return "own count"
    return f"{float(keep):g}" if "." in keep else f"{keep}{SPACE}tokens"


def keep_name(keep: str) -> str:
    """A keep beside a method's name: `keep 0.25`, or `own count`."""
    return keep_label(keep) if keep == OWN_COUNT else f"keep {keep_label(keep)}"


def keep_phrase(keep: str) -> str:
    """A keep inside a sentence: `6.25 % of the visual tokens`."""
    if keep == KEEP_ALL:
        return "all visual tokens"
    if keep == OWN_COUNT:
        return "as many visual tokens as each method chooses"
    if "." not in keep:
        return f"{keep} visual token{'' if keep == '1' else 's'}"
    return f"{100 * float(keep):g}{SPACE}% of the visual tokens"


def weights_label(weights: str) -> str:
    """What a method's decoder runs on: `int8`, or `as loaded`."""
    return "as loaded" if weights == AS_LOADED else weights


def method_label(method: str, weights: str) -> str:
    """A method's name, with its weights where they are quantised and the name does not say so."""
    return method if weights == AS_LOADED or weights in method else f"{method} ({weights})"


def listing(names: list[str], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"


def first_of(names: Sequence[str], most: int) -> str:
    """`a, b, c`, or `a, b and 3 more` where there are more than so many."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
