"""Grading apart from inference: another scorer costs no model, and gives what inference under it would have stored."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from lofi import store
from lofi.cell import FULL, KEEP_ALL, Cell
from lofi.cli import main
from lofi.config import from_dict
from lofi.data.docs import DOCS_FILE, load_docs, revision_of
from lofi.data.images import open_image
from lofi.data.registry import get_card
from lofi.engine import parts
from lofi.engine.job import Job
from lofi.engine.plain import run_plain
from lofi.engine.stages import evaluate, reference
from lofi.errors import UserError
from lofi.grading import GRADES, GROUPS, Grading
from lofi.rescoring import rescore
from lofi.scoring.registry import SCORERS
from lofi.stats.aggregate import aggregate
from lofi.store import read_metadata, write_table
from lofi.sweep import Sweep

from .engine_setup import make_job, make_sweep

DATASET = "digits-vqa"
HOW_IT_RAN = ("run_id", "t_vision_ms", "t_select_ms", "t_prefill_ms", "t_decode_ms")


def sweep_with(model: Path, digits: Path, dataset: str = DATASET, **settings: Any) -> Sweep:
    entry = {"source": str(digits / dataset), "limit": 4, **settings}
    return make_sweep(model, digits, datasets={dataset: entry}, methods={"lofi": {}}, keeps=[9], stability_images=0)


def run(results: Path, sweep: Sweep, dataset: str = DATASET) -> Job:
    job = make_job(results, sweep, dataset)
    reference(job)
    evaluate(job, job.cells())
    return job


def files_of(job: Job) -> list[Path]:
    return [job.published(cell) for cell in job.sweep.cells()]


def samples(path: Path) -> pa.Table:
    return pq.ParquetFile(path).read()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, digits: Path) -> Job:
    return run(tmp_path_factory.mktemp("finished") / "results", sweep_with(tiny_model, digits))


@pytest.fixture
def job(finished: Job, tmp_path: Path) -> Job:
    """The finished job in a folder of its own."""
    return replace(finished, results=Path(shutil.copytree(finished.results, tmp_path / "results")))


def no_model(*_: object, **__: object) -> None:
    raise AssertionError("a model was loaded")


def test_rescored_samples_are_those_of_inference_under_that_scorer(
    job: Job, tmp_path: Path, tiny_model: Path, digits: Path
) -> None:
    first = [(samples(path), read_metadata(path)) for path in files_of(job)]
    other = run(tmp_path / "other", sweep_with(tiny_model, digits, scorer="textvqa"))
    (found,) = rescore(job.sweep, job.results, scorer="textvqa")
    assert (found.scorer, found.version, found.files, found.samples) == ("textvqa", 1, 3, 3 * job.n_samples)
    for path, twin, (_, metadata) in zip(files_of(job), files_of(other), first, strict=True):
        here, there = samples(path).drop(HOW_IT_RAN), samples(twin).drop(HOW_IT_RAN)
        assert here.equals(there)
        assert read_metadata(path)["grading"] == read_metadata(twin)["grading"] != metadata["grading"]
        assert read_metadata(path)["key"] == read_metadata(twin)["key"] == metadata["key"]
    (back,) = rescore(job.sweep, job.results)
    assert (back.scorer, back.changed, back.crossed) == ("vqav2", found.changed, found.crossed)
    for path, (table, metadata) in zip(files_of(job), first, strict=True):
        assert samples(path).equals(table)
        assert read_metadata(path) == metadata


def test_a_changed_scorer_is_published_without_a_model(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "load_model", no_model)
    sweep = replace(job.sweep, datasets=(replace(job.dataset, scorer="textvqa"),))
    changed = replace(job, sweep=sweep, dataset=sweep.datasets[0])
    before = [samples(path) for path in files_of(job)]
    assert (reference(changed).computed, evaluate(changed, changed.cells()).computed) == (0, 0)
    for path in files_of(changed):
        assert set(samples(path).column("scorer").to_pylist()) == {"textvqa"}
        assert path.stat().st_nlink == 2, "one copy on the disk, whoever graded it"
    with monkeypatch.context() as patch:
        patch.setitem(SCORERS, "textvqa", replace(SCORERS["textvqa"], version=99))
        again = replace(changed)
        evaluate(again, again.cells())
        assert set(samples(again.published(again.cells()[0])).column("scorer_version").to_pylist()) == {99}
    assert (reference(job).computed, evaluate(job, job.cells()).computed) == (0, 0)
    assert [samples(path) for path in files_of(job)] == before


def test_parts_from_before_a_change_of_scorer_are_graded_like_the_rest(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part holds answers; grades come when the cell is published."""
    (cell,) = job.cells()
    cache = job.cache(cell)
    part = samples(cache.whole)
    for name in GRADES:
        nothing = store.column(name, [None] * part.num_rows)
        part = part.set_column(part.schema.get_field_index(name), name, nothing)
    cache.write_part(job.spans[0], part)
    expected = samples(cache.whole)
    cache.whole.unlink()
    evaluate(job, [cell])
    assert samples(job.published(cell)).drop(HOW_IT_RAN).equals(expected.drop(HOW_IT_RAN))


def test_right_answers_and_groups_come_from_the_prepared_questions(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """A card that names other columns for them changes no answer, but every grade."""
    monkeypatch.setattr(parts, "load_model", no_model)
    path = job.data / DOCS_FILE
    docs = pq.read_table(path)
    (cell,) = job.cells()
    said = samples(job.published(cell)).select(["sample_id", "prediction"]).to_pylist()
    answers = {row["sample_id"]: row["prediction"] or "nothing" for row in said}
    targets = [[answers[key]] * 10 for key in docs.column("sample_id").to_pylist()]
    docs = docs.set_column(docs.schema.get_field_index("targets"), "targets", pa.array(targets))
    docs = docs.set_column(docs.schema.get_field_index("group_id"), "group_id", docs.column("image_hash"))
    docs = docs.set_column(docs.schema.get_field_index("target"), "target", pa.array([first for first, *_ in targets]))
    write_table(docs, path, read_metadata(path))
    fresh = replace(job)
    assert evaluate(fresh, [cell]).computed == 0
    table = samples(job.published(cell))
    assert table.column("group_id").to_pylist() == table.column("image_hash").to_pylist()
    assert table.column("target").to_pylist() == [answers[key] for key in table.column("sample_id").to_pylist()]
    assert set(table.column("score").to_pylist()) <= {1.0, 0.0}
    spoken = [row for row in table.to_pylist() if row["prediction_parsed"]]
    assert spoken
    assert all(row["correct"] for row in spoken)
    assert {row["prediction"] for row in said} == set(table.column("prediction").to_pylist())


def test_samples_of_an_earlier_lofi_are_refused(job: Job) -> None:
    path = files_of(job)[0]
    write_table(samples(path).drop(["target"]), path, read_metadata(path))
    with pytest.raises(UserError, match="lacks the columns target: another lofi wrote it; run the sweep again"):
        list(rescore(job.sweep, job.results, scorer="textvqa"))


def test_rows_without_an_answer_stay_without_a_grade(job: Job) -> None:
    path = files_of(job)[-1]
    table, metadata = samples(path), read_metadata(path)
    for name in ("prediction", *GRADES):
        values = [None, *table.column(name).to_pylist()[1:]]
        table = table.set_column(table.schema.get_field_index(name), name, store.column(name, values))
    write_table(table, path, metadata)
    list(rescore(job.sweep, job.results, scorer="textvqa"))
    first, *rest = samples(path).to_pylist()
    assert [first[name] for name in GRADES] == [None] * 4
    assert first["scorer"] == "textvqa"
    assert all(row["parse_status"] for row in rest)


def test_a_failed_write_leaves_the_grades_of_before(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    before = [path.read_bytes() for path in files_of(job)]

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        list(rescore(job.sweep, job.results, scorer="textvqa"))
    assert [path.read_bytes() for path in files_of(job)] == before


def test_tables_refuse_samples_of_two_scorers(job: Job, tmp_path: Path) -> None:
    path = files_of(job)[-1]
    graded = Grading("textvqa", job.docs)
    write_table(graded.grade(samples(path)), path, {**read_metadata(path), "grading": graded.stamp})
    with pytest.raises(UserError, match=r"scorer.*rescore"):
        aggregate(files_of(job), tmp_path / "tables", tmp_path / "audit.duckdb", stability=[])
    list(rescore(job.sweep, job.results))
    aggregate(files_of(job), tmp_path / "tables", tmp_path / "audit.duckdb", stability=[])


def test_what_cannot_be_rescored_is_one_line_before_anything_is_written(job: Job) -> None:
    before = [path.read_bytes() for path in files_of(job)]
    with pytest.raises(UserError, match=r"unknown scorer 'textvq': did you mean 'textvqa'"):
        list(rescore(job.sweep, job.results, scorer="textvq"))
    with pytest.raises(UserError, match="unknown dataset 'digits-vq': did you mean 'digits-vqa'"):
        list(rescore(job.sweep, job.results, dataset="digits-vq"))
    docs, path = job.data / DOCS_FILE, files_of(job)[0]
    metadata = read_metadata(docs)
    content = docs.read_bytes()
    other = pq.read_table(docs).slice(1)
    write_table(other, docs, {**metadata, "key": revision_of(other)})
    with pytest.raises(
        UserError, match=rf"answers the questions of revision .* those of revision {revision_of(other)} are prepared"
    ):
        list(rescore(job.sweep, job.results))
    docs.unlink()
    with pytest.raises(UserError, match=r"docs.parquet is missing, .*run `lofi prepare`"):
        list(rescore(job.sweep, job.results))
    docs.write_bytes(content)
    path.write_bytes(b"half")
    with pytest.raises(UserError, match=r"cannot be read .*run the sweep again"):
        list(rescore(job.sweep, job.results))
    path.unlink()
    with pytest.raises(UserError, match=r"1 of 3 sample files are missing, the first of them .*full"):
        list(rescore(job.sweep, job.results))
    assert [each.read_bytes() for each in files_of(job)[1:]] == before[1:]


def test_the_command_says_what_changed_and_loads_no_model(
    job: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "sweep.json"
    config.write_text(job.sweep.to_json())
    arguments = ["rescore", "--config", str(config), "--results", str(job.results), "--scorer", "textvqa"]
    code = "import sys; from lofi.cli import main; code = main(sys.argv[1:]); print('heavy:', 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    said, heavy = done.stdout.splitlines()
    assert said.startswith("digits-vqa: under textvqa, version 1, ")
    assert "of 48 samples in 3 files are read otherwise than before" in said
    assert heavy == "heavy: False"
    assert main([*arguments[:-1], "textvq"]) == 2
    assert "did you mean 'textvqa'?" in capsys.readouterr().err


def test_generated_answers_of_lettered_questions(tmp_path: Path, tiny_model: Path, digits: Path) -> None:
    """The logits of the options are stored as ever; what is graded is the text."""
    name = "digits-sqa"
    read = run(tmp_path / "read", sweep_with(tiny_model, digits, name), name)
    job = run(tmp_path / "drawn", sweep_with(tiny_model, digits, name, scoring_mode="generate"), name)
    session = parts.open_session(job)
    kept = ["sample_id", "option_labels", "option_logprobs", "answer_mass", "margin", "kl_full_to_this"]
    for cell in job.sweep.cells():
        table, other = samples(job.published(cell)), samples(read.published(cell))
        assert set(table.column("scoring_mode").to_pylist()) == {"generate"}
        assert set(other.column("scoring_mode").to_pylist()) == {"letters"}
        assert table.select(kept).equals(other.select(kept))
        assert pc.sum(other.column("n_generated")).as_py() == 0
        assert job.key(cell) != read.key(cell)
    cell = Cell("tiny", name, FULL, KEEP_ALL)
    rows = {row["sample_id"]: row for row in samples(job.published(cell)).to_pylist()}
    photo = job.photos(job.spans[0])[0]
    for doc in photo.docs:
        image = open_image(photo.content or b"")
        plain = run_plain(session, image, photo.key, doc.prompt, cell, job.method(cell), doc.max_new_tokens)
        assert rows[doc.sample_id]["prediction"] == plain.answer
        assert rows[doc.sample_id]["n_generated"] == len(rows[doc.sample_id]["gen_token_ids"])


def test_grades_do_not_depend_on_the_place_of_a_row(job: Job) -> None:
    table = samples(files_of(job)[0])
    grading = Grading("vqav2", load_docs(job.data))
    back = table.take(list(reversed(range(table.num_rows))))
    graded = grading.grade(back).select([*GRADES, *GROUPS]).to_pylist()
    assert graded[::-1] == table.select([*GRADES, *GROUPS]).to_pylist()
    strange = table.set_column(table.schema.get_field_index("sample_id"), "sample_id", pa.array(["x"] * table.num_rows))
    with pytest.raises(UserError, match="sample x is not a question of the prepared dataset"):
        grading.grade(strange)


def test_two_prompt_styles_of_one_dataset_are_rescored_apart(tmp_path: Path, tiny_model: Path, digits: Path) -> None:
    assert {"lmms_eval", "vlmevalkit"} <= get_card("digits-pope").prompts.keys()
    source = {"source": str(digits / "digits-pope"), "limit": 2}
    config = {
        "models": {"tiny": {"source": str(tiny_model), "batch_images": 4}},
        "datasets": {
            "digits-pope": source,
            "bare": {**source, "card": "digits-pope", "prompt_style": "vlmevalkit"},
        },
        "methods": {"lofi": {}},
        "keeps": [9],
    }
    sweep = from_dict(config)
    results = tmp_path / "results"
    jobs = [run(results, sweep, name) for name in ("digits-pope", "bare")]
    prompts = [[doc.prompt for doc in each.docs.rows] for each in jobs]
    assert prompts[0] != prompts[1]
    assert [read_metadata(each.published(each.cells()[0]))["constants"]["prompt_style"] for each in jobs] == [
        "lmms_eval",
        "vlmevalkit",
    ]
    (found,) = rescore(sweep, results, dataset="bare", scorer="scienceqa")
    assert found.dataset == "bare"
    graded = [set(samples(each.published(each.cells()[0])).column("scorer").to_pylist()) for each in jobs]
    assert graded[0] != graded[1] == {"scienceqa"}
    assert json.loads(sweep.to_json())["datasets"]["bare"]["card"] == "digits-pope"
