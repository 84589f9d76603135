"""The scorers by name. A change of a rule is a change of its version, and so of every cell that used it.

The rule of lmms-eval has the bare name, the same dataset's rule in another harness has that harness's suffix.
"""

from dataclasses import dataclass

from lofi.errors import unknown
from lofi.scoring import (
    ai2d,
    anls,
    chartqa,
    gqa,
    hallusionbench,
    mcq,
    mmbench,
    mme,
    mmmu,
    ocrbench,
    pope,
    realworldqa,
    scienceqa,
    seedbench,
    vqa,
    yesno,
)
from lofi.scoring.answers import AMBIGUOUS, NOT_OPTION, OK, UNPARSED, Rule

LMMS_EVAL, LLAVA, VLMEVALKIT = "lmms_eval", "llava_official", "vlmevalkit"
ALWAYS = (OK,)  # every text is read as an answer
READ = (OK, UNPARSED)
SEVERAL = (*READ, AMBIGUOUS)
LETTER = (*READ, NOT_OPTION)  # also looks for letters that are not on offer
ANY = (*SEVERAL, NOT_OPTION)


@dataclass(frozen=True)
class Scorer:
    """A rule, its version, the statuses it can give, the harness that scores so, and the rule in one sentence."""

    rule: Rule
    version: int
    statuses: tuple[str, ...]
    harness: str
    text: str


_YESNO = Scorer(yesno.score, 1, SEVERAL, VLMEVALKIT, "One of yes and no is among the words, the other is not.")
_PLACES = "The letter at the best place of the text: start, end, after `answer is`, then ever less certain ones."

SCORERS: dict[str, Scorer] = {
    "pope": Scorer(pope.score, 1, READ, LMMS_EVAL, "The whole text is yes or no, in any case; `Yes.` is neither."),
    "pope_llava": Scorer(
        pope.score_llava,
        1,
        ALWAYS,
        LLAVA,
        "A first sentence with No, no or not among its words is a no; all else, an empty text too, is a yes.",
    ),
    "pope_vlmevalkit": _YESNO,
    "yesno_vlmevalkit": _YESNO,
    "mme": Scorer(
        mme.score,
        1,
        READ,
        LMMS_EVAL,
        "The first four characters hold yes, else no, without full stops; a lone y or n counts.",
    ),
    "hallusionbench": Scorer(
        hallusionbench.score,
        1,
        ALWAYS,
        LMMS_EVAL,
        "A text that holds yes is a yes; all else, an empty text too, is a no. The judge-free rule of that harness.",
    ),
    "scienceqa": Scorer(
        scienceqa.score, 1, LETTER, LMMS_EVAL, "A bare letter in any case, or a text that opens with `X.`."
    ),
    "scienceqa_llava": Scorer(
        scienceqa.score_llava,
        1,
        ANY,
        LLAVA,
        "A bare capital, a text that opens with `X. `, or one `The answer is X.` in it.",
    ),
    "mmbench": Scorer(
        mmbench.score,
        1,
        ANY,
        LMMS_EVAL,
        "The only letter that is a word, bare or as `X.`, `(X)` and the like; else the only option the text quotes.",
    ),
    "mmbench_static": Scorer(
        mmbench.score_static,
        1,
        LETTER,
        LMMS_EVAL,
        "As `mmbench`; where that reads nothing, as `mmstar`, which finds a letter in almost any text.",
    ),
    "mmbench_vlmevalkit": Scorer(
        mmbench.score_vlmevalkit,
        1,
        SEVERAL,
        VLMEVALKIT,
        "The only label among the words if it is one of the last five, else after `answer is`; else the only option "
        "that a short text quotes.",
    ),
    "seedbench": Scorer(seedbench.score, 1, LETTER, LMMS_EVAL, "The first character, in any case, is the letter."),
    "seedbench_llava": Scorer(seedbench.score_llava, 1, LETTER, LLAVA, "The whole text is the letter, a capital."),
    "ai2d": Scorer(
        ai2d.score,
        1,
        LETTER,
        LMMS_EVAL,
        "A text that opens with `X.`, else a text that is the letter but for case and punctuation.",
    ),
    "mcq_extract": Scorer(mcq.score, 1, READ, LMMS_EVAL, _PLACES),
    "mmstar": Scorer(mcq.score, 1, READ, LMMS_EVAL, _PLACES),
    "realworldqa": Scorer(
        realworldqa.score,
        1,
        READ,
        LMMS_EVAL,
        "Where there are options, the letter as `mmstar` finds it; else the whole text, but for case and full stops.",
    ),
    "mmmu": Scorer(
        mmmu.score,
        1,
        READ,
        LMMS_EVAL,
        "Where there are options, the last `(X)`, else `X `, else `X.`, else the last option a longer text quotes; "
        "else a number or text after a key phrase is or holds an accepted one.",
    ),
    "vqav2": Scorer(
        vqa.score_vqav2, 1, READ, LMMS_EVAL, "Soft accuracy against ten annotators, of texts in the VQA normal form."
    ),
    "textvqa": Scorer(
        vqa.score_textvqa,
        1,
        READ,
        LMMS_EVAL,
        "Soft accuracy as `vqav2`, with commas, question marks and possessives taken care of first; LLaVA's rule, too.",
    ),
    "textvqa_vlmevalkit": Scorer(
        vqa.score_vlmevalkit,
        1,
        READ,
        VLMEVALKIT,
        "Soft accuracy as `vqav2`, but a full stop after a digit stays.",
    ),
    "gqa": Scorer(gqa.score, 1, READ, LMMS_EVAL, "The whole text, but for case and ASCII punctuation."),
    "gqa_llava": Scorer(gqa.score_llava, 1, READ, LLAVA, "The whole text, but for case and full stops at its end."),
    "gqa_vlmevalkit": Scorer(
        gqa.score_vlmevalkit, 1, READ, VLMEVALKIT, "The whole text, but for case and the spaces around it."
    ),
    "chartqa": Scorer(
        chartqa.score, 1, READ, LMMS_EVAL, "A number within 5 % of the right one; else the whole text, but for case."
    ),
    "chartqa_vlmevalkit": Scorer(
        chartqa.score_vlmevalkit,
        1,
        READ,
        VLMEVALKIT,
        "As `chartqa`, without the spaces around the text; of a list each element is right.",
    ),
    "anls": Scorer(
        anls.score, 1, READ, LMMS_EVAL, "One minus edits over length, for the nearest answer; below 0.5 it is 0."
    ),
    "anls_vlmevalkit": Scorer(
        anls.score_vlmevalkit, 1, READ, VLMEVALKIT, "As `anls`, but the spaces around the text add to its length."
    ),
    "ocrbench": Scorer(
        ocrbench.score,
        1,
        READ,
        LMMS_EVAL,
        "The text holds an accepted answer, but for case and width; in formulas spaces do not count, case does.",
    ),
    "ocrbench_vlmevalkit": Scorer(
        ocrbench.score_vlmevalkit, 1, READ, VLMEVALKIT, "As `ocrbench`, but fullwidth characters are others."
    ),
}


def get_scorer(name: str) -> Scorer:
    """The scorer of that name."""
    if name not in SCORERS:
        raise unknown("scorer", name, SCORERS)
    return SCORERS[name]
