"""MMBench without a judge: an option's letter that stands alone, else the one option whose words are in the text.

Both harnesses try the letter first and the words after it. They differ in what a letter standing alone is.
"""

import re
from collections.abc import Sequence

from lofi.scoring import mcq
from lofi.scoring.answers import AMBIGUOUS, UNPARSED, Answer, Question
from lofi.scoring.labels import labelled

FAILED = "Failed to obtain answer via API"  # what both harnesses store for a lost answer

_LETTERS = "ABCDE"
_WRAPPERS = ("{}", "{}.", "{},", "{}:", "{})", "{}).", "({})", "({}).", ":{}", ":{},", ":{}.", ":{})", ":{}).")
_ARTICLE = "A"  # in a text of more words than these a lone A may be the article
_WORDS_WITHOUT_ARTICLE = 3

_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_SPACES = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_NONE = "Z"  # VLMEvalKit's letter for "no option"
_LAST_WORDS = 5
# Case and word ends do not count, so "the answer is dog" names D. Stars are bold print.
_STATED = re.compile(r"answer\s+is\s+\**([A-D])", re.IGNORECASE)
_LONGEST = 2  # times the options' own length: a longer text is an explanation, not an answer


def score(prediction: str, question: Question) -> Answer:
    """1 for the right letter, as lmms-eval infers it before it asks a judge."""
    return _chosen(letter(prediction), options_in(prediction, question), prediction, question)


def score_static(prediction: str, question: Question) -> Answer:
    """1 for the right letter, as lmms-eval's static evaluation reads it: `mcq` takes the judge's place."""
    inferred = score(prediction, question)
    return mcq.score(prediction, question) if inferred.status in (UNPARSED, AMBIGUOUS) else inferred


def score_vlmevalkit(prediction: str, question: Question) -> Answer:
    """1 for the right letter, as VLMEvalKit's exact matching reads it."""
    none_fits = _NONE in _words(prediction) and not named(prediction, question.option_labels)
    if none_fits or any(refusal in prediction for refusal in _REFUSALS):
        return labelled(None, question)
    longest = _LONGEST * sum(map(len, question.options))
    quoted = options_in(prediction, question) if len(prediction) <= longest else []
    return _chosen(letter_vlmevalkit(prediction, question.option_labels), quoted, prediction, question)


def letter(prediction: str) -> str | None:
    """The only letter of A to E that is a word of its own, or with one of the wrappers, tried in their order."""
    if FAILED in prediction:
        return None
    words = prediction.split()
    for wrapper in _WRAPPERS:
        found = [each for each in _LETTERS if wrapper.format(each) in words]
        article = wrapper == "{}" and _ARTICLE in words and len(words) > _WORDS_WITHOUT_ARTICLE
        if len(found) == 1 and not article:
            return found[0]
    return None


def letter_vlmevalkit(prediction: str, labels: Sequence[str]) -> str | None:
    """The only label that is a word of its own, among the last five, else the one that `answer is` names."""
    if FAILED in prediction:
        return None
    words, found = _words(prediction), named(prediction, labels)
    if len(found) == 1 and words.index(found[0]) > len(words) - _LAST_WORDS:
        return found[0]
    stated = _STATED.search(prediction)
    return stated.group(1).upper() if stated and stated.group(1).upper() in labels else None


def named(prediction: str, labels: Sequence[str]) -> list[str]:
    """The labels that are words of the text, marks aside."""
    words = _words(prediction)
    return [label for label in labels if label in words]


def options_in(prediction: str, question: Question) -> list[str]:
    """The labels of all options whose words are in the text, in any case."""
    text = prediction.lower()
    options = zip(question.option_labels, question.options, strict=False)
    return [label for label, option in options if option.lower() in text]


def _words(prediction: str) -> list[str]:
    return prediction.translate(_SPACES).split()


def _chosen(label: str | None, quoted: Sequence[str], prediction: str, question: Question) -> Answer:
    """The label, else that of the option that the text quotes, if it quotes only one."""
    if label is None and len(quoted) == 1:
        label = quoted[0]
    several = len(quoted) > 1 or len(named(prediction, question.option_labels)) > 1
    return labelled(label, question, otherwise=AMBIGUOUS if several else UNPARSED)
