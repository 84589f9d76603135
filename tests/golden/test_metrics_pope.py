"""POPE's figures are what lmms-eval, VLMEvalKit and LLaVA's own script compute from the same answers.

Where lofi differs, on purpose:

- A rate of nothing is undefined. lmms-eval and VLMEvalKit say 0, LLaVA's script ends in an error (null).
- VLMEvalKit counts an answer that is neither yes nor no against recall; like lmms-eval, lofi counts it as neither.
- lmms-eval's share of yes is taken from the labels; lofi's, like LLaVA's, from the answers.
"""

from typing import Any

from lofi.scoring.answers import Question
from tests.golden.aggregated import Row, answer, figures, near
from tests.golden.cases import cases

CASES = cases("pope_aggregate")
OVERALL = "Overall"


def rows(case: Row, scorer: str, split: str = OVERALL) -> list[Row]:
    records = enumerate(case["input"]["records"])
    return [
        answer(
            scorer,
            f"{number:04d}",
            record["prediction"],
            Question(record["answer"], [record["answer"]], option_labels=["yes", "no"]),
            category=record["category"],
        )
        for number, record in records
        if split in (OVERALL, record["category"])
    ]


def said(samples: list[Row], word: str | None, target: str) -> int:
    return sum(sample["prediction_parsed"] == word and sample["target"] == target for sample in samples)


def undefined(samples: list[Row]) -> set[str]:
    """The rates of these answers whose denominator is 0."""
    true_yes, false_yes, false_no = said(samples, "yes", "yes"), said(samples, "yes", "no"), said(samples, "no", "yes")
    denominators = {"precision": true_yes + false_yes, "recall": true_yes + false_no}
    denominators["f1"] = denominators["precision"] + denominators["recall"] - true_yes
    return {name for name, denominator in denominators.items() if not denominator}


def same(got: float | None, expected: Any, name: str, samples: list[Row]) -> bool:
    return got is None and expected == 0 if name in undefined(samples) else got == near(expected)


def test_lmms_eval() -> None:
    datasets = {case["id"]: rows(case, "pope") for case in CASES}
    found = figures(datasets, ["pope"])
    for case in CASES:
        got, samples = found[case["id"]], datasets[case["id"]]
        for name in ("accuracy", "precision", "recall", "f1"):
            expected = case["lmms_eval"]["f1_score" if name == "f1" else name]
            assert same(got[name, None], expected, name, samples), (case["id"], name)
        yes = sum(sample["prediction_parsed"] == "yes" for sample in samples)
        assert got["yes_share", None] == near(yes / len(samples))


def test_vlmevalkit_of_all_and_of_each_category() -> None:
    lists = {(case["id"], split): case["vlmevalkit"][split] for case in CASES for split in case["vlmevalkit"]}
    by_id = {case["id"]: case for case in CASES}
    datasets = {f"{id} {split}": rows(by_id[id], "pope_vlmevalkit", split) for id, split in lists}
    found = figures(datasets, ["pope"])
    differing = 0
    for (id, split), expected in lists.items():
        got, samples = found[f"{id} {split}"], datasets[f"{id} {split}"]
        assert got["accuracy", None] == near(expected["acc"] / 100)
        assert same(got["precision", None], expected["precision"] / 100, "precision", samples)
        lost = said(samples, None, "yes")
        if not lost:
            assert same(got["recall", None], expected["recall"] / 100, "recall", samples)
            assert same(got["f1", None], expected["Overall"] / 100, "f1", samples)
            continue
        differing += 1
        true_yes, false_yes, false_no = (
            said(samples, *pair) for pair in (("yes", "yes"), ("yes", "no"), ("no", "yes"))
        )
        assert near(expected["recall"] / 100) == true_yes / (true_yes + false_no + lost)
        assert near(expected["Overall"] / 100) == 2 * true_yes / (2 * true_yes + false_yes + false_no + lost)
    assert differing, "no list tells the two rules apart"


def test_f1_of_each_category_and_their_mean() -> None:
    found = figures({case["id"]: rows(case, "pope") for case in CASES}, ["pope"])
    split = {
        f"{case['id']} {category}": rows(case, "pope", category)
        for case in CASES
        for category in case["vlmevalkit"]
        if category != OVERALL
    }
    alone = figures(split, ["pope"])
    means = 0
    for case in CASES:
        got = found[case["id"]]
        single = [alone[name]["f1", None] for name in split if name.rpartition(" ")[0] == case["id"]]
        assert [value for (metric, category), value in got.items() if metric == "f1" and category] == [
            near(alone[f"{case['id']} {category}"]["f1", None])
            for metric, category in got
            if metric == "f1" and category
        ]
        mean = None if None in single else sum(single) / len(single)
        assert got["mean_f1", None] == near(mean), case["id"]
        means += len(single) == 3 and mean is not None
    assert means, "no list has all three categories"


def test_llava_official() -> None:
    datasets = {case["id"]: rows(case, "pope_llava") for case in CASES}
    found = figures(datasets, ["pope"])
    ended = 0
    for case in CASES:
        got, expected, samples = found[case["id"]], case["llava_official"], datasets[case["id"]]
        if expected is None:  # with no true yes it divides by 0, also where precision, recall and F1 are 0
            ended += 1
            assert not said(samples, "yes", "yes"), case["id"]
            continue
        names = {"yes_share": "yes_ratio"}
        for name in ("accuracy", "precision", "recall", "f1", "yes_share"):
            assert got[name, None] == near(expected[names.get(name, name)]), (case["id"], name)
    assert ended < len(CASES)
