"""ANLS, for documents: one minus the share of characters that have to change, nothing where over half have to."""

from lofi.edits import edits
from lofi.scoring.answers import Answer, Question, worded

_THRESHOLD = 0.5


def score(prediction: str, question: Question) -> Answer:
    """lmms-eval: the similarity to the nearest accepted answer; spaces around the prediction do not count."""
    return score_vlmevalkit(prediction.strip(), question)


def score_vlmevalkit(prediction: str, question: Question) -> Answer:
    """VLMEvalKit: the same, but spaces around the prediction lengthen it."""
    nearest = max((similarity(prediction, target) for target in question.targets), default=0.0)
    # Spaces within count for the length, so texts that differ in them are different answers.
    return worded(prediction.lower(), nearest if nearest >= _THRESHOLD else 0.0)


def similarity(prediction: str, target: str) -> float:
    """One minus edits over length. The edits are of the collapsed texts, the length is of the texts as they are."""
    text, wanted = _collapsed(prediction), _collapsed(target)
    length = max(len(prediction.upper()), len(target.upper()))
    if abs(len(text) - len(wanted)) > length * _THRESHOLD:  # as many edits at least: below the threshold
        return 0.0
    return 1 - edits(text, wanted) / length if length else 1.0


def _collapsed(text: str) -> str:
    return " ".join(text.lower().split())
