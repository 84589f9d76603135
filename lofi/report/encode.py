"""One changed answer, and one question, as the sample explorer shows them: texts, and numbers in few letters."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lofi.report.pictures import Picture
from lofi.tables import Row

LONGEST = 4000  # letters of a text; a prompt may hold a whole page
MISSING = "(the question is not in the prepared data)"
PARTS = 10_000  # a probability is so many parts of this
SQUARE = 0.1  # how far from a square an image may be whose tokens are drawn as one

ROW = (
    *("full", "full_said", "reduced", "reduced_said", "p_full", "p_reduced", "mass_full", "mass_reduced"),
    *("margin", "tokens", "kept", "grid", "runs"),
)
QUESTION = ("id", "question", "prompt", "labels", "texts", "right", "image", "size")


def row(changed: Row, asked: Row) -> Row:
    """The fields `ROW` of a row of `flips` whose question is `asked`, as `question` gives it."""
    names = dict(zip(asked["labels"], asked["texts"], strict=True))
    logs = {end: changed[f"{end}_option_logprobs"] for end in ("full", "reduced")}
    p = {end: shares(values, len(asked["labels"])) for end, values in logs.items()}
    tokens, kept = changed["n_visual_full"], changed["kept_indices"]
    side = grid_side(tokens, asked["size"])
    return {
        "full": answer(changed["full_answer"], names),
        "full_said": said(changed["full_answer"], changed["full_prediction"], names),
        "reduced": answer(changed["reduced_answer"], names),
        "reduced_said": said(changed["reduced_answer"], changed["reduced_prediction"], names),
        "p_full": p["full"],
        "p_reduced": p["reduced"],
        "mass_full": mass(logs["full"]),
        "mass_reduced": mass(logs["reduced"]),
        "margin": short(changed["margin_reduced"]),
        "tokens": tokens,
        "kept": None if kept is None else len(kept),
        "grid": side,
        "runs": runs(kept) if side and kept is not None else None,  # only where they are drawn
    }


def question(changed: Row, doc: Row, image: tuple[int, Picture] | None) -> Row:
    """The fields `QUESTION` of what a row is about.

    doc: its prepared row, empty where there is none. image: its number and small copy, where one may be shown.
    """
    prepared = [str(label) for label in doc.get("option_labels") or ()]
    options = [cut(str(option)) for option in doc.get("options") or ()]
    texts = dict(zip(prepared or options, options, strict=False))
    # What the model chose from: of a yes-or-no question the prepared row has no options.
    labels = [str(label) for label in changed["option_labels"] or ()] or list(texts)
    names = {label: texts.get(label, label) for label in labels}
    text = cut(str(doc.get("question") or doc.get("prompt") or MISSING))
    prompt = cut(str(doc.get("prompt") or ""))
    return {
        "id": str(changed["sample_id"]),
        "question": text,
        "prompt": "" if prompt == text else prompt,
        "labels": labels,
        "texts": [names[label] for label in labels],
        "right": right(doc, names),
        "image": -1 if image is None else image[0],
        "size": None if image is None else [image[1].width, image[1].height],
    }


def answer(parsed: str | None, names: Mapping[str, str]) -> str | None:
    """The parsed answer with its option's text; None where there is none."""
    if parsed is None:
        return None
    return cut(parsed if names.get(parsed, parsed) == parsed else f"{parsed}. {names[parsed]}")


def said(parsed: str | None, prediction: str | None, names: Mapping[str, str]) -> str:
    """The text that an answer was parsed from, where that says more."""
    text = (prediction or "").strip()
    known = {(parsed or "").casefold(), (answer(parsed, names) or "").casefold()}
    return "" if text.rstrip(". ").casefold() in known else cut(text)


def right(doc: Row, names: Mapping[str, str]) -> str:
    """The right answer, or the most usual of several; empty where it is not known."""
    targets = [str(t) for t in doc.get("targets") or ()] or ([str(doc["target"])] if doc.get("target") else [])
    unique = list(dict.fromkeys(targets))
    if len(unique) == 1:
        return answer(unique[0], names) or ""
    return cut(" / ".join(unique[:4]) + (f" and {len(unique) - 4} more" if len(unique) > 4 else ""))


def shares(logprobs: Sequence[float] | None, options: int) -> list[int] | None:
    """Probabilities over the options alone, in parts of `PARTS`; None where they are not known for each."""
    if not logprobs or len(logprobs) != options or options < 2 or any(x is None or math.isnan(x) for x in logprobs):
        return None
    top = max(logprobs)
    if not math.isfinite(top):
        return None
    weights = [math.exp(x - top) for x in logprobs]
    return [round(PARTS * weight / sum(weights)) for weight in weights]


def mass(logprobs: Sequence[float] | None) -> int | None:
    """What the options hold together of the whole vocabulary's probability, in parts of `PARTS`."""
    if not logprobs or any(x is None or math.isnan(x) for x in logprobs):
        return None
    return min(PARTS, round(PARTS * sum(math.exp(x) for x in logprobs)))


def runs(kept: Sequence[Any]) -> list[int]:
    """Kept tokens, ascending, as the lengths of runs: dropped, kept, dropped, kept, …; what comes after is dropped.

    kept: (k,), places among the n visual tokens.
    """
    lengths: list[int] = []
    following = 0
    for token in map(int, kept):
        if lengths and token == following:
            lengths[-1] += 1
        else:
            lengths += [token - following, 1]
        following = token + 1
    return lengths


def grid_side(tokens: int | None, size: Sequence[int] | None) -> int:
    """Tokens on a side where they form a square over a square image; 0 where no overlay would be true."""
    side = math.isqrt(tokens or 0)
    if not size or side * side != (tokens or 0) or abs(size[0] / size[1] - 1) >= SQUARE:
        return 0
    return side


def short(value: float | None) -> float | None:
    """Four digits of a finite number."""
    return float(f"{value:.4g}") if value is not None and math.isfinite(value) else None


def cut(text: str) -> str:
    """A text that is not longer than is shown, with a note where letters are left out."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} … ({len(text) - LONGEST} more letters)"
