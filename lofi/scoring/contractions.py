"""English contractions that the VQA normalisation restores, e.g. `dont` -> `don't`.

The published rule lists misspellings. Nearly all of them are a contraction with exactly one apostrophe
missing, so the contractions are listed here, by ending, and the misspellings are derived. Words that are also
other words (`hell`, `well`, `id`) and words with a capital letter (`I'm`: the text is in lower case by then)
take no part.
"""

_STEMS = {
    "n't": "ai are ca could did does do had has have is might must need ought sha should was were wo would",
    "n't've": "could had might should would",
    "'ve": "could might must not should they we what where who would you",
    "'d": "he how it someone something there they where who you",
    "'d've": "he it she somebody someone something there they we who y'all you",
    "'ll": "how it somebody someone something they what who why y'all you",
    "'re": "there they what why you",
    "'s": "he how somebody someone that there what when where who why",
}
_WHOLE = "ma'am o'clock 'ow's'at 'twas y'all"


def _with_one_apostrophe_missing(word: str) -> list[str]:
    return [word[:at] + word[at + 1 :] for at, letter in enumerate(word) if letter == "'"]


def _restorations() -> dict[str, str]:
    words = [stem + ending for ending, stems in _STEMS.items() for stem in stems.split()] + _WHOLE.split()
    restored = {wrong: word for word in words for wrong in _with_one_apostrophe_missing(word)}
    # The published table has this one the wrong way round; scores depend on it, so it stays.
    return restored | {"somebody'd": "somebodyd"}


RESTORED = _restorations()
