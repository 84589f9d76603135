"""From the label that a rule has read to its answer: for options by letter, and for yes and no."""

from lofi.scoring.answers import NOT_OPTION, UNPARSED, Answer, Question, answered, unanswered

YES, NO = "yes", "no"


def labelled(label: str | None, question: Question, *, otherwise: str = UNPARSED) -> Answer:
    """1 for the right label. None, where the rule has read nothing, gets the status `otherwise`."""
    if label is None:
        return unanswered(otherwise)
    if label not in question.option_labels:
        return unanswered(NOT_OPTION)
    return answered(label, float(label == question.target))
