import pytest

from lofi.cell import FLOOR, FULL, KEEP_ALL, Cell
from lofi.errors import UserError
from lofi.stats.aggregate import aggregate
from tests.unit.synthetic import make_sweep, write_sweep

BROKEN = Cell("tiny-a", "scenes-yesno", "lofi", "0.2500")


@pytest.fixture
def sweep():
    return make_sweep(models=("tiny-a",), datasets=("scenes-yesno",), keeps=("0.2500",), images=3)


def refused(sweep, results):
    files = write_sweep(sweep, results, shards=1)
    with pytest.raises(UserError) as caught:
        aggregate(files, results / "tables", results / "audit.duckdb")
    assert not (results / "audit.duckdb").exists()
    assert list((results / "tables").iterdir()) == []
    message = str(caught.value)
    assert "\n" not in message
    return message


def good(sweep, n):
    """The first `n` samples that ran both here and in the full cell."""
    full = {row["sample_id"] for row in sweep[Cell("tiny-a", "scenes-yesno", FULL, KEEP_ALL)] if row["status"] == "ok"}
    return [row for row in sweep[BROKEN] if row["status"] == "ok" and row["sample_id"] in full][:n]


def test_a_missing_reference(sweep, tmp_path):
    del sweep[Cell("tiny-a", "scenes-yesno", FULL, KEEP_ALL)]
    message = refused(sweep, tmp_path)
    assert message.startswith("tiny-a / scenes-yesno has no full cell")
    assert "evaluate the method 'full'" in message


@pytest.mark.parametrize("method", [FULL, FLOOR])
def test_two_references(sweep, tmp_path, method):
    rows = sweep[Cell("tiny-a", "scenes-yesno", method, KEEP_ALL)]
    sweep[Cell("tiny-a", "scenes-yesno", method, KEEP_ALL, 1)] = [{**row, "seed": 1} for row in rows]
    assert f"tiny-a / scenes-yesno has more than one {method} cell" in refused(sweep, tmp_path)


def test_a_sample_too_few(sweep, tmp_path):
    gone = [sweep[BROKEN].pop()["sample_id"] for _ in range(4)]
    message = refused(sweep, tmp_path)
    assert message.startswith(f"{BROKEN} lacks 4 samples of its full cell ({', '.join(sorted(gone)[:3])}, ...)")


def test_other_samples(sweep, tmp_path):
    for row in sweep[BROKEN]:
        row["sample_id"] = "other-" + row["sample_id"]
    message = refused(sweep, tmp_path)
    assert message.startswith(f"{BROKEN} holds 9 samples that its full cell lacks (other-")
    assert "the first of 2 such problems" in message  # the samples it lacks


def test_a_failed_sample_counts_as_there(sweep, tmp_path):
    for row in sweep[BROKEN]:
        row.update(status="error", doc_hash=None, scorer_version=None)
    files = write_sweep(sweep, tmp_path, shards=1)
    aggregate(files, tmp_path / "tables", tmp_path / "audit.duckdb")


def test_a_sample_twice(sweep, tmp_path):
    sweep[BROKEN].append(dict(sweep[BROKEN][0]))
    message = refused(sweep, tmp_path)
    assert message.startswith(f"{BROKEN} holds 1 sample more than once ({sweep[BROKEN][0]['sample_id']})")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"doc_hash": "another"}, "2 samples whose question or image is not the full cell's"),
        ({"prompt_style": "vlmevalkit"}, "2 samples with prompt style vlmevalkit (its full cell: lmms_eval)"),
        ({"scoring_mode": "generate"}, "2 samples with scoring mode generate (its full cell: yesno)"),
        ({"template_hash": "t2"}, "2 samples with conversation template t2 (its full cell: template of tiny-a)"),
        ({"image_mode": None}, "2 samples with image mode None (its full cell: original)"),
        (
            {"scorer": "pope", "prompt_style": "s2"},
            "2 samples with scorer pope 1 (its full cell: yesno 1), prompt style s2 (its full cell: lmms_eval)",
        ),
        ({"cluster_id": "another"}, "2 samples in another cluster"),
        ({"js": float("nan")}, "2 samples whose divergence from the full cell is not finite"),
        ({"kl_full_to_this": float("inf")}, "2 samples whose divergence from the full cell is not finite"),
    ],
)
def test_samples_that_cannot_be_compared(sweep, tmp_path, change, said):
    changed = good(sweep, 2)
    for row in changed:
        row.update(change)
    message = refused(sweep, tmp_path)
    assert message.startswith(f"{BROKEN} has {said}")
    assert all(row["sample_id"] in message for row in changed)
    assert "; evaluate " in message


def test_another_right_answer_is_mended_without_a_model(sweep, tmp_path):
    for row in good(sweep, 2):
        row["target"] = "neither"
    message = refused(sweep, tmp_path)
    assert message.startswith(f"{BROKEN} has 2 samples graded by another right answer than in the full cell (")
    assert message.endswith("; redo the scores with `lofi rescore`")


@pytest.mark.parametrize(("change", "name"), [({"scorer_version": 2}, "yesno 2"), ({"scorer": "pope"}, "pope 1")])
def test_another_scorer_is_mended_without_a_model(sweep, tmp_path, change, name):
    for row in good(sweep, 2):
        row.update(change)
    message = refused(sweep, tmp_path)
    assert message.startswith(f"{BROKEN} has 2 samples with scorer {name} (its full cell: yesno 1) (")
    assert message.endswith("; redo the scores with `lofi rescore`")


def test_two_models_under_two_scorers(tmp_path):
    sweep = make_sweep(models=("tiny-a", "tiny-b"), datasets=("scenes-yesno",), keeps=("0.2500",), images=3)
    for cell, rows in sweep.items():
        for row in rows:
            row["scorer_version"] = 2 if cell.model == "tiny-b" else 1
    message = refused(sweep, tmp_path)
    assert message == (
        "dataset scenes-yesno is graded by yesno 1 (tiny-a) and by yesno 2 (tiny-b); redo the scores with `lofi rescore`"
    )


def test_two_models_asked_in_their_own_templates(tmp_path):
    sweep = make_sweep(models=("tiny-a", "tiny-b"), datasets=("scenes-yesno",), keeps=("0.2500",), images=3)
    assert len({row["template_hash"] for rows in sweep.values() for row in rows}) == 2
    aggregate(write_sweep(sweep, tmp_path, shards=1), tmp_path / "tables", tmp_path / "audit.duckdb")


def test_one_answer_with_two_grades(sweep, tmp_path):
    full = {row["sample_id"]: row for row in sweep[Cell("tiny-a", "scenes-yesno", FULL, KEEP_ALL)]}
    row = next(r for r in good(sweep, 9) if r["prediction_parsed"] == full[r["sample_id"]]["prediction_parsed"])
    row["correct"] = not row["correct"]
    assert "another grade" in refused(sweep, tmp_path)


def test_another_schema(sweep, tmp_path):
    for row in sweep[BROKEN]:
        row["schema_version"] = 99
    assert "schema version 99" in refused(sweep, tmp_path)
