"""HallusionBench's aAcc, qAcc and fAcc, under the grouping of each harness: lmms-eval's groups stay in a category."""

import pytest

from lofi.scoring.answers import Question
from tests.golden.aggregated import Row, answer, figures, near
from tests.golden.cases import cases

CASES = cases("hallusion_aggregate")
# scorer, column of the file, what 1 is called there, and what a group and a figure lie in
HARNESSES = (
    ("hallusionbench", "lmms_eval_intern", 1, ("category", "subcategory", "set_id")),
    ("yesno_vlmevalkit", "vlmevalkit_overall", 100, ("subcategory", "set_id")),
)


def rows(case: Row, scorer: str, within: tuple[str, ...]) -> list[Row]:
    samples = []
    for number, record in enumerate(case["input"]["records"]):
        place = "/".join(record[name] for name in within)
        target = "yes" if record["gt_answer"] == "1" else "no"
        samples.append(
            answer(
                scorer,
                f"{number:04d}",
                record["model_prediction"],
                Question(target, [target], option_labels=["yes", "no"]),
                group_id=f"{place}/{record['question_id']}",
                figure_id=f"{place}/{record['figure_id']}",
            )
        )
    return samples


@pytest.mark.parametrize(("scorer", "harness", "scale", "within"), HARNESSES)
def test_figures(scorer: str, harness: str, scale: int, within: tuple[str, ...]) -> None:
    found = figures({case["id"]: rows(case, scorer, within) for case in CASES}, ["hallusion"])
    for case in CASES:
        for name, value in case[harness].items():
            assert found[case["id"]][name, None] == near(value / scale), (case["id"], name)


def test_the_groupings_differ_where_two_categories_share_a_set() -> None:
    record = {"subcategory": "map", "set_id": "0", "figure_id": "0", "question_id": "0", "gt_answer": "1"}
    said = [("VD", "Yes"), ("VS", "No")]
    case = {"input": {"records": [{**record, "category": name, "model_prediction": text} for name, text in said]}}
    found = figures({within[0]: rows(case, scorer, within) for scorer, _, _, within in HARNESSES}, ["hallusion"])
    assert found["category"] == {("aAcc", None): 0.5, ("qAcc", None): 0.5, ("fAcc", None): 0.5}
    assert found["subcategory"] == {("aAcc", None): 0.5, ("qAcc", None): 0.0, ("fAcc", None): 0.0}
