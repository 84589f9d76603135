"""The scorers by name. A change of a rule is a change of its version, and so of every cell that used it."""

from dataclasses import dataclass

from lofi.errors import unknown
from lofi.scoring import pope, scienceqa, vqa
from lofi.scoring.answers import NOT_OPTION, OK, UNPARSED, Rule


@dataclass(frozen=True)
class Scorer:
    """A rule, its version, and the statuses it can give."""

    rule: Rule
    version: int
    statuses: tuple[str, ...]


SCORERS: dict[str, Scorer] = {
    "pope": Scorer(pope.score, 1, (OK, UNPARSED)),
    "scienceqa": Scorer(scienceqa.score, 1, (OK, UNPARSED, NOT_OPTION)),
    "textvqa": Scorer(vqa.score_textvqa, 1, (OK, UNPARSED)),
    "vqav2": Scorer(vqa.score_vqav2, 1, (OK, UNPARSED)),
}


def get_scorer(name: str) -> Scorer:
    """The scorer of that name."""
    if name not in SCORERS:
        raise unknown("scorer", name, SCORERS)
    return SCORERS[name]
