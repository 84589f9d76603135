"""POPE as lmms-eval scores it: the whole prediction is `yes` or `no` in any case, or it is wrong."""

from collections.abc import Iterable
from dataclasses import dataclass

from lofi.scoring.answers import UNPARSED, Answer, Question, answered, unanswered

YES, NO = "yes", "no"


def score(prediction: str, question: Question) -> Answer:
    """1 for the right word. `Yes.` is neither word and stays unparsed."""
    word = prediction.lower().strip()
    if word not in (YES, NO):
        return unanswered(UNPARSED)
    return answered(word, float(word == question.target))


@dataclass(frozen=True)
class Rates:
    """The figures POPE papers quote, with `yes` as the positive class."""

    accuracy: float
    precision: float
    recall: float
    f1: float


def rates(pairs: Iterable[tuple[str | None, str]]) -> Rates:
    """Rates of (parsed, target) pairs. An unparsed answer is wrong, but counts as neither yes nor no."""
    pairs = list(pairs)
    if not pairs:
        raise ValueError("POPE rates of no answers: there is nothing to average")
    true_yes = sum(parsed == YES == target for parsed, target in pairs)
    false_yes = sum(parsed == YES != target for parsed, target in pairs)
    false_no = sum(parsed == NO != target for parsed, target in pairs)
    precision = _share(true_yes, true_yes + false_yes)
    recall = _share(true_yes, true_yes + false_no)
    return Rates(
        accuracy=sum(parsed == target for parsed, target in pairs) / len(pairs),
        precision=precision,
        recall=recall,
        f1=_share(2 * precision * recall, precision + recall),
    )


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
