"""MME's scores are what lmms-eval and VLMEvalKit compute from the same answers."""

from lofi.scoring.answers import Question
from tests.golden.aggregated import Row, answer, figures, near
from tests.golden.cases import cases

CASES = cases("mme_aggregate")


def rows(case: Row, scorer: str) -> list[Row]:
    return [
        answer(
            scorer,
            f"{number:04d}",
            record["prediction"],
            Question(record["answer"].lower(), [record["answer"].lower()], option_labels=["yes", "no"]),
            category=record["category"],
            group_id=f"{record['category']} {record['question_id']}",
        )
        for number, record in enumerate(case["input"]["records"])
    ]


def test_lmms_eval() -> None:
    found = figures({case["id"]: rows(case, "mme") for case in CASES}, ["mme"])
    for case in CASES:
        got, expected = found[case["id"]], case["lmms_eval"]
        parts = [expected["mme_perception_score"], expected["mme_cognition_score"]]
        # where a list has no category of a kind, the harness says null and the table has no such row
        assert [got.get(("perception", None)), got.get(("cognition", None))] == [near(part) for part in parts]
        assert got["sum", None] == near(sum(part for part in parts if part is not None))


def test_vlmevalkit() -> None:
    complete = [case for case in CASES if case.get("vlmevalkit")]
    assert complete, "no list has all categories"
    found = figures({case["id"]: rows(case, "yesno_vlmevalkit") for case in complete}, ["mme"])
    for case in complete:
        got, expected = found[case["id"]], dict(case["vlmevalkit"])
        assert got["perception", None] == near(expected.pop("perception"))
        assert got["cognition", None] == near(expected.pop("reasoning"))
        assert len(expected) == 14
        for category, score in expected.items():
            assert got["category_score", category] == near(score), (case["id"], category)
            parts = got["accuracy", category], got["accuracy_plus", category]
            assert None not in parts
            assert 100 * sum(filter(None, parts)) == near(score)
