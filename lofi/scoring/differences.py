"""Where lofi's scores part from those of the harness whose rule it names, on purpose, and why."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    """One deliberate difference."""

    name: str
    scorer: str
    harness_does: str
    lofi_does: str
    why: str


DIFFERENCES = (
    Difference(
        "mmmu_guess",
        "mmmu",
        "lmms-eval answers with a random option where it finds no letter, from one generator for the whole run.",
        "The answer is unparsed and scores 0.",
        "One answer that cannot be read would shift every later guess, and a right guess is no answer.",
    ),
    Difference(
        "mmmu_open",
        "mmmu",
        "lmms-eval, at the commit compared with, keeps the first candidate alone and compares with its characters, "
        "so every open question scores 0.",
        "All candidates are compared, as the rule is written down and as lmms-eval does since.",
        "The published numbers of open questions came from the intended rule.",
    ),
    Difference(
        "mmbench_absent",
        "mmbench",
        "lmms-eval looks for the text `nan` where an option is absent, so `banana` quotes it, too.",
        "An absent option is no option.",
        "A mark for a missing value is not something that was offered.",
    ),
    Difference(
        "mmbench_judge",
        "mmbench",
        "Where its rule finds no option lmms-eval asks a GPT model or, in its static evaluation, takes any capital "
        "letter: `Both apple and banana` is B.",
        "The answer is unparsed, or ambiguous, and scores 0. The scorer `mmbench_static` is the static evaluation.",
        "A judge needs the network, changes, and would have to be audited itself; a stray capital is no answer.",
    ),
    Difference(
        "hallusionbench_judge",
        "hallusionbench",
        "lmms-eval asks a GPT model whether an answer is right and keeps a judge-free rule beside it.",
        "The judge-free rule scores.",
        "As for MMBench: nothing in a score may depend on a service.",
    ),
    Difference(
        "yes_ratio",
        "pope",
        "lmms-eval's yes ratio of POPE is the share of questions whose right answer is yes.",
        "The yes share is that of the answers given.",
        "The figure is meant to show a model that says yes too often; the labels cannot.",
    ),
    Difference(
        "rate_of_nothing",
        "pope",
        "lmms-eval and VLMEvalKit give 0 for a rate of nothing, such as the precision of a model that never says yes; "
        "LLaVA's script ends in an error.",
        "The rate is undefined, and the page says so.",
        "0 would read as the worst there is.",
    ),
    Difference(
        "pope_recall",
        "pope_vlmevalkit",
        "VLMEvalKit's recall and F1 of POPE count an answer that is neither yes nor no as a missed yes.",
        "Such an answer is neither, as lmms-eval has it; for accuracy it is wrong under all of them.",
        "One figure with one definition, whatever reads the answers.",
    ),
)
