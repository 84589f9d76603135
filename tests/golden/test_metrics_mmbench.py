"""MMBench: circular accuracy of both harnesses, and VLMEvalKit's plain accuracy of unrotated and of all rows.

lmms-eval's figure is that of its static evaluation, which takes any capital letter of a text in the end. Under `mmbench`
such a text stays unparsed, and its question is wrong.
"""

from lofi.scoring.answers import Question
from tests.golden.aggregated import Row, answer, figures, near
from tests.golden.cases import cases

CASES = cases("mmbench_circular")
LABELS = "ABCD"


def rows(case: Row, scorer: str) -> list[Row]:
    samples = []
    for record in case["input"]["records"]:
        options = {label: record[label] for label in LABELS if record[label] is not None}
        question = Question(record["answer"], [record["answer"]], list(options.values()), list(options))
        group = {"group_id": str(record["g_index"]), "l2_category": record["l2-category"]}
        samples.append(answer(scorer, str(record["index"]), record["prediction"], question, **group))
    return samples


def test_lmms_eval() -> None:
    found = figures({case["id"]: rows(case, "mmbench_static") for case in CASES}, ["circular"])
    for case in CASES:
        assert found[case["id"]]["circular", None] == near(case["lmms_eval_static"]["overall"]), case["id"]


def test_without_stray_capitals() -> None:
    datasets = {case["id"]: rows(case, "mmbench") for case in CASES}
    found = figures(datasets, ["circular"])
    for case in CASES:
        hits = case["lmms_eval_static"]["hit"]
        unread = {sample["group_id"] for sample in datasets[case["id"]] if sample["prediction_parsed"] is None}
        read = [0 if group in unread else hit for group, hit in hits.items()]
        assert found[case["id"]]["circular", None] == near(sum(read) / len(read)), case["id"]


def test_vlmevalkit() -> None:
    datasets = {case["id"]: rows(case, "mmbench_vlmevalkit") for case in CASES}
    found = figures(datasets, ["circular"])
    for case in CASES:
        expected = case["vlmevalkit_exact_matching"]
        assert found[case["id"]]["circular", None] == near(expected["overall"]), case["id"]
        for metric, column in (("vanilla", "vanilla_circ0_hits"), ("vanilla_all", "vanilla_all_hits")):
            share = sum(expected[column]) / len(expected[column])
            assert found[case["id"]][metric, None] == near(share), (case["id"], metric)
