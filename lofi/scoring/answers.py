"""What a scorer says about one prediction, and what a scorer is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

OK = "ok"
UNPARSED = "unparsed"  # nothing in the text is an answer
AMBIGUOUS = "ambiguous"  # more than one answer, and no rule that prefers one
NOT_OPTION = "not_option"  # an answer, but none of those on offer
STATUSES = (OK, UNPARSED, AMBIGUOUS, NOT_OPTION)


@dataclass(frozen=True)
class Answer:
    """One scored prediction.

    `parsed` is what agreement compares (a letter, yes or no, a normalised string) and is None unless `status`
    is ok: a scorer never guesses. `correct` is `score >= 0.5`; for soft scores that is a policy, not a fact.
    """

    parsed: str | None
    status: str
    score: float
    correct: bool


@dataclass(frozen=True, slots=True)
class Question:
    """What a scorer may know of a question."""

    target: str  # a label where there are options, else a text
    targets: Sequence[str] = ()  # all accepted answers; at least the target
    options: Sequence[str] = ()
    option_labels: Sequence[str] = ()  # what may be answered: letters, or yes and no
    category: str | None = None
    l2_category: str | None = None


# A scorer parses a prediction and grades it.
Rule = Callable[[str, Question], Answer]


def answered(parsed: str, score: float) -> Answer:
    """The answer of a prediction that could be read."""
    return Answer(parsed=parsed, status=OK, score=score, correct=score >= 0.5)


def unanswered(status: str, score: float = 0.0) -> Answer:
    """The answer of a prediction that could not."""
    return Answer(parsed=None, status=status, score=score, correct=score >= 0.5)


def worded(text: str, score: float) -> Answer:
    """The answer of an open question, in its normal form; where nothing but space is left of it, there is none."""
    return answered(text, score) if text.strip() else unanswered(UNPARSED, score)
