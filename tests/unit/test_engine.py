"""The engine against the plain path, and what it promises of rows, parts and failures."""

import math
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from lofi.cell import FLOOR, FULL, KEEP_ALL, Cell, kept_count
from lofi.config import from_dict
from lofi.data.images import open_image
from lofi.engine import parts
from lofi.engine.calibrate import calibrate
from lofi.engine.job import Job, open_job
from lofi.engine.plain import run_plain
from lofi.engine.readout import Options, choose, divergence
from lofi.engine.stages import evaluate, reference
from lofi.errors import UserError
from lofi.methods.registry import METHODS, get_reducer
from lofi.models.adapter import Adapter
from lofi.models.facts import fingerprint
from lofi.plan.flops import prefill
from lofi.plan.shape import read_shape
from lofi.store import SAMPLES, read_metadata, write_table

from .engine_setup import make_job, make_sweep
from .test_clip_text import save_clip

DATASETS = ("digits-pope", "digits-sqa", "digits-vqa")


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, digits: Path) -> dict[str, Job]:
    results = tmp_path_factory.mktemp("results")
    sweep = make_sweep(tiny_model, digits)
    found = {name: make_job(results, sweep, name) for name in DATASETS}
    for job in found.values():
        assert reference(job).computed == 2
        assert evaluate(job, job.cells()).computed == len(job.cells())
    return found


def rows_of(job: Job, cell: Cell) -> list[dict]:
    return pq.read_table(job.published(cell)).to_pylist()


@pytest.mark.parametrize("name", DATASETS)
def test_every_cell_equals_the_plain_path(jobs: dict[str, Job], name: str) -> None:
    job = jobs[name]
    session = parts.open_session(job)
    session.fitted = calibrate(session, job, job.cells())
    photo = job.photos(job.spans[0])[3]
    full = Cell("tiny", name, FULL, KEEP_ALL)
    for cell in (full, Cell("tiny", name, FLOOR, KEEP_ALL), *job.cells()):
        rows = {row["sample_id"]: row for row in rows_of(job, cell)}
        doc = photo.docs[-1]
        row = rows[doc.sample_id]
        budget = 0 if doc.option_labels else doc.max_new_tokens
        plain = run_plain(session, open_image(photo.content), photo.key, doc.prompt, cell, job.method(cell), budget)
        logp = plain.logits.double().log_softmax(-1)
        assert row["topk_logprobs"] == pytest.approx([float(logp[i]) for i in row["topk_token_ids"]], abs=1e-4)
        assert row["logsumexp"] == pytest.approx(float(plain.logits.double().logsumexp(-1)), abs=1e-4)
        assert row["n_visual_kept"] == len(plain.kept)
        assert (row["kept_indices"] is None) == (get_reducer(job.method(cell).reducer).merges and cell.method != FULL)
        if row["kept_indices"] is not None:
            assert row["kept_indices"] == plain.kept.sort().values.tolist()
        if budget:
            assert row["prediction"] == plain.answer


def test_every_method_that_needs_a_text_tower_equals_the_plain_path(
    tmp_path: Path, tiny_model: Path, digits: Path
) -> None:
    models = {
        "tiny": {"source": str(tiny_model), "batch_images": 4, "text_tower": str(save_clip(tmp_path / "c", width=32))}
    }
    methods = {name: {} for name, reducer in METHODS.items() if "tower" in reducer.needs or name == "cdpruner"}
    job = make_job(tmp_path, make_sweep(tiny_model, digits, models=models, methods=methods, keeps=[9]), "digits-pope")
    reference(job)
    evaluate(job, job.cells())
    session = parts.open_session(job)
    photo = job.photos(job.spans[0])[1]
    for cell in job.cells():
        rows = {row["sample_id"]: row for row in rows_of(job, cell)}
        for doc in photo.docs[:2]:
            row = rows[doc.sample_id]
            plain = run_plain(session, open_image(photo.content), photo.key, doc.prompt, cell, job.method(cell), 0)
            assert row["logsumexp"] == pytest.approx(float(plain.logits.double().logsumexp(-1)), abs=1e-4)
            assert row["n_visual_kept"] == len(plain.kept)
        if cell.method == "cdpruner":
            assert {dict(row["trace"])["conditional"] for row in rows.values()} == {1.0}
            assert {tuple(row["kept_indices"]) for row in rows.values()} != plain_dpp(job)


def plain_dpp(job: Job) -> set[tuple[int, ...]]:
    """What cdpruner keeps of the same images without a tower."""
    methods = tuple(method for method in job.sweep.methods if method.name == "cdpruner")
    model = replace(job.model, name="bare", text_tower=None)
    bare = open_job(job.results, replace(job.sweep, models=(model,), methods=methods), "bare", job.dataset.name, 0)
    reference(bare)
    evaluate(bare, bare.cells())
    rows = rows_of(bare, bare.cells()[0])
    assert {dict(row["trace"])["conditional"] for row in rows} == {0.0}
    return {tuple(row["kept_indices"]) for row in rows}


@pytest.mark.parametrize("model", ["digits-llava", "digits-qwen"])
@pytest.mark.parametrize("name", DATASETS)
def test_every_cell_of_the_demo_equals_the_plain_path(name: str, model: str, tmp_path: Path, repository: Path) -> None:
    """The shipped models and the shipped config: the first sample of every cell."""
    config = yaml.safe_load((repository / "config.yaml").read_text())
    config |= {"datasets": {name: {"limit": 2}}, "models": {model: {}}}
    job = make_job(tmp_path, from_dict(config), name, model=model)
    reference(job)
    evaluate(job, job.cells())
    session = parts.open_session(job)
    session.fitted = calibrate(session, job, job.cells())
    photo = job.photos(job.spans[0])[0]
    doc = photo.docs[0]
    budget = 0 if doc.option_labels else doc.max_new_tokens
    assert len(job.cells()) == len(job.sweep.reduced_cells()) == 41
    for cell in (Cell(model, name, FULL, KEEP_ALL), *job.cells()):
        row = next(row for row in rows_of(job, cell) if row["sample_id"] == doc.sample_id)
        plain = run_plain(session, open_image(photo.content), photo.key, doc.prompt, cell, job.method(cell), budget)
        logp = plain.logits.double().log_softmax(-1)
        assert row["topk_logprobs"] == pytest.approx([float(logp[i]) for i in row["topk_token_ids"]], abs=1e-4)
        if budget:
            assert row["prediction"] == plain.answer


def test_rows_follow_the_frozen_schema_and_count_what_was_asked(jobs: dict[str, Job]) -> None:
    for job in jobs.values():
        ids = sorted(doc.sample_id for doc in job.docs.rows)
        for cell in job.cells():
            table = pq.read_table(job.published(cell))
            assert table.schema.equals(SAMPLES)
            assert table.column("sample_id").to_pylist() == ids
            assert set(table.column("status").to_pylist()) == {"ok"}
            assert {len(spectra) for spectra in table.column("spectra").to_pylist()} == {22}
            check_counts(job, cell, table)


def check_counts(job: Job, cell: Cell, table: pa.Table) -> None:
    """What was kept is what was asked for, by the measure that the cell's budget names."""
    method = job.method(cell)
    kept, means = (table.column(name).to_pylist() for name in ("n_visual_kept", "mean_visual_tokens"))
    asked = kept_count(cell.keep, 144)
    count, budget = get_reducer(method.reducer).count, dict(method.params).get("budget", "tokens")
    if count == "own":
        assert all(1 <= mean <= 144 for mean in means)
    elif count == "calibrated":  # on all eight images of this dataset
        assert np.mean(kept) == pytest.approx(asked, abs=1)
    elif budget == "tokens":
        assert set(kept) == {asked}
    else:
        assert len(set(means)) == 1
        assert means[0] == pytest.approx(asked, abs=1)
    for layers, mean in zip(table.column("n_kept_per_layer").to_pylist(), means, strict=True):
        assert len(layers) == 5
        assert mean == pytest.approx(np.mean(layers), rel=1e-6)


def test_the_counts_and_the_metadata_of_a_file_give_the_operations_of_its_prefill(
    jobs: dict[str, Job], tiny_model: Path
) -> None:
    job, decoder = jobs["digits-pope"], read_shape(tiny_model).decoder
    for cell in job.cells():
        costs = read_metadata(job.published(cell))["decoder"]
        assert costs["cache_bytes_per_token"] == 2 * 4 * decoder.keys  # a key and a value, in float32
        for row in rows_of(job, cell)[:3]:
            text = row["n_text_tokens"]
            lengths = [kept + text for kept in row["n_kept_per_layer"]]
            flops = sum(n * costs["flops_per_token"] + n * n * costs["flops_per_pair"] for n in lengths)
            assert flops == pytest.approx(prefill(decoder, row["n_kept_per_layer"], text))


def test_full_diverges_from_itself_by_nothing_and_the_floor_by_rounding(jobs: dict[str, Job]) -> None:
    for name, job in jobs.items():
        assert {row["kl_full_to_this"] for row in rows_of(job, Cell("tiny", name, FULL, KEEP_ALL))} == {0.0}
        floor = [row["tv"] for row in rows_of(job, Cell("tiny", name, FLOOR, KEEP_ALL))]
        assert max(floor) < 1e-5
        reduced = [row["tv"] for row in rows_of(job, job.cells("grid_1d", "9", 0)[0])]
        assert max(reduced) > 1e-4


def test_options_come_from_the_logits_and_open_answers_from_generation(jobs: dict[str, Job]) -> None:
    pope = rows_of(jobs["digits-pope"], jobs["digits-pope"].cells("lofi", "9")[0])
    for row in pope:
        best = max(zip(row["option_logprobs"], row["option_labels"], strict=True))
        assert row["prediction"] == best[1]
        assert row["answer_mass"] == pytest.approx(sum(map(math.exp, row["option_logprobs"])), rel=1e-5)
        assert row["n_generated"] == 0
    vqa = rows_of(jobs["digits-vqa"], jobs["digits-vqa"].cells("lofi", "9")[0])
    assert all(row["n_generated"] > 0 and row["option_labels"] == [] for row in vqa)


def test_seeds_differ_and_one_seed_is_one_permutation(jobs: dict[str, Job]) -> None:
    job = jobs["digits-pope"]
    first, second = (rows_of(job, job.cells("random", "0.2500", seed)[0]) for seed in (0, 1))
    assert [row["kept_indices"] for row in first] != [row["kept_indices"] for row in second]
    fewer = rows_of(job, job.cells("random", "9", 0)[0])
    assert all(set(a["kept_indices"]) < set(b["kept_indices"]) for a, b in zip(fewer, first, strict=True))


def test_positions_are_a_parameter_that_changes_logits_and_nothing_else(jobs: dict[str, Job]) -> None:
    job = jobs["digits-pope"]
    reindexed, kept = (rows_of(job, job.cells(name, "9")[0]) for name in ("lofi", "lofi_kept"))
    assert [row["kept_indices"] for row in reindexed] == [row["kept_indices"] for row in kept]
    assert {row["positions"] for row in kept} == {"kept"}
    assert max(abs(a["margin"] - b["margin"]) for a, b in zip(reindexed, kept, strict=True)) > 1e-5


def test_finished_cells_are_published_again_without_torch(jobs: dict[str, Job], tmp_path: Path) -> None:
    job, config = jobs["digits-pope"], tmp_path / "sweep.json"
    config.write_text(job.sweep.to_json())
    cells = (*job.references, job.cells("lofi", "9")[0])
    before = [job.published(cell).read_bytes() for cell in cells]
    for cell in cells:
        job.published(cell).unlink()
    code = "import sys; from lofi.cli import main; code = main(sys.argv[1:]); print(*sys.modules); sys.exit(code)"
    of_job = ["--config", str(config), "--results", str(job.results), "--model", "tiny", "--dataset", "digits-pope"]
    for stage, count in (("reference", 2), ("evaluate", len(job.cells()))):
        done = subprocess.run([sys.executable, "-c", code, stage, *of_job], capture_output=True, text=True, check=True)
        assert f"computed 0 cells, {count} from cache" in done.stderr
        assert not {"torch", "transformers", "datasets", "pandas"} & set(done.stdout.split())
    assert [job.published(cell).read_bytes() for cell in cells] == before


def test_a_table_is_written_once_beside_its_parts(
    tmp_path: Path, tiny_model: Path, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []

    def counted(table: pa.Table, path: Path, metadata: Mapping[str, Any]) -> None:
        written.append(path)
        write_table(table, path, metadata)

    for module in ("cache", "job"):
        monkeypatch.setattr(f"lofi.engine.{module}.write_table", counted)
    job = make_job(tmp_path, make_sweep(tiny_model, digits, methods={"lofi": {}}, keeps=[9]), "digits-pope")
    reference(job)
    evaluate(job, job.cells())
    tables = 5  # answers, states and means of full, and answers of floor and of the reduced cell
    assert len(set(written)) == len(written) == tables * (len(job.spans) + 1)


def test_sharded_cells_hold_the_same_rows(jobs: dict[str, Job], tmp_path: Path, tiny_model: Path, digits: Path) -> None:
    sweep = make_sweep(tiny_model, digits, shards=3, methods={"lofi": {}}, keeps=[9])
    whole = {row["sample_id"]: row for row in rows_of(jobs["digits-pope"], jobs["digits-pope"].cells("lofi", "9")[0])}
    seen = set()
    for shard in range(3):
        job = make_job(tmp_path, sweep, "digits-pope", shard)
        reference(job)
        evaluate(job, job.cells())
        for row in rows_of(job, job.cells()[0]):
            seen.add(row["sample_id"])
            assert row["kept_indices"] == whole[row["sample_id"]]["kept_indices"]
            assert row["margin"] == pytest.approx(whole[row["sample_id"]]["margin"], abs=1e-4)
    assert seen == whole.keys()


def test_a_broken_image_and_nan_logits_become_rows_with_an_error(
    tmp_path: Path, tiny_model: Path, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = make_sweep(tiny_model, digits, methods={"lofi": {}, "pool": {}}, keeps=[9])
    job = make_job(tmp_path, sweep, "digits-pope")
    photos = Job.photos
    broken, poisoned = job.images[1][0], job.images[2][1][0].sample_id
    logits = Adapter.logits

    def with_broken_image(self: Job, span: object) -> list:
        return [
            type(photo)(photo.image_hash, b"no image" if photo.image_hash == broken else photo.content, photo.docs)
            for photo in photos(self, span)
        ]

    calls = iter(range(1000))

    def with_nan(self: object, hidden: torch.Tensor) -> torch.Tensor:
        values = logits(self, hidden)
        if next(calls) in (1, 2):  # of each cell in the first batch: its own logits; the full model's come first
            values[len(job.images[0][1])] = torch.nan
        return values

    monkeypatch.setattr(Job, "photos", with_broken_image)
    reference(job)
    monkeypatch.setattr(Adapter, "logits", with_nan)
    assert evaluate(job, job.cells()).computed == 2
    for cell in job.cells():
        rows = {row["sample_id"]: row for row in rows_of(job, cell)}
        assert len(rows) == job.n_samples
        failed = {key: row["error"] for key, row in rows.items() if row["status"] == "error"}
        for doc in job.images[1][1]:
            assert failed[doc.sample_id].startswith("image does not decode")
        assert failed[poisoned] == "the logits are not finite"
        assert rows[poisoned]["prediction"] is None


def test_a_question_that_cannot_be_asked_is_a_row_with_its_reason(
    tmp_path: Path, tiny_model: Path, digits: Path
) -> None:
    """Two pictures of one question, a broken file and no picture at all, beside good ones, in every cell."""
    rows = pq.read_table(next((digits / "digits-vqa").rglob("*.parquet"))).to_pylist()[:16]
    for row in rows:
        row["image"] = [row["image"]]
    bad = {3: [rows[3]["image"][0], rows[9]["image"][0]], 5: [{"bytes": b"no image", "path": None}], 7: []}
    for at, images in bad.items():
        rows[at]["image"] = images
    folder = tmp_path / "source"
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    card = tmp_path / "mine.yaml"
    card.write_text("like: digits-vqa\nsource: ./source\nconfig: null\nsplit: train\ngrouped: false\n")
    sweep = make_sweep(tiny_model, digits, datasets={"mine": {"card": str(card)}}, methods={"lofi": {}}, keeps=[9])
    job = make_job(tmp_path / "results", sweep, "mine")
    reference(job)
    evaluate(job, job.cells())
    names = {at: str(rows[at]["question_id"]) for at in bad}
    for cell in sweep.cells():
        found = {row["sample_id"]: row for row in rows_of(job, cell)}
        assert len(found) == 16
        errors = {key: row["error"] for key, row in found.items() if row["status"] == "error"}
        assert errors.keys() == set(names.values())
        assert "2 images" in errors[names[3]]
        assert "cannot identify image file" in errors[names[5]]
        assert "no image" in errors[names[7]]
        assert {row["scorer"] for row in found.values()} == {"vqav2"}
        assert all(found[key]["score"] is None and found[key]["group_id"] for key in errors)


def test_the_conversation_and_the_image_mode_are_in_the_rows_and_the_key(
    jobs: dict[str, Job], tmp_path: Path, tiny_model: Path, digits: Path
) -> None:
    settings = {"template": "vicuna_v1", "image_mode": "pad"}
    models = {"tiny": {"source": str(tiny_model), "batch_images": 4, **settings}}
    job = make_job(tmp_path, make_sweep(tiny_model, digits, models=models, methods={"lofi": {}}), "digits-pope")
    reference(job)
    full = Cell("tiny", "digits-pope", FULL, KEEP_ALL)
    names = ("template_hash", "image_mode", "prompt_style", "scoring_mode")
    own, other = (pq.read_table(each.published(full)).select(names) for each in (jobs["digits-pope"], job))
    own, other = ([set(column.to_pylist()) for column in table.columns] for table in (own, other))
    assert [len(values) for values in (*own, *other)] == [1] * 8
    assert own[0] != other[0]
    assert own[1:] == [{"original"}, {"lmms_eval"}, {"yesno"}]
    assert other[1:] == [{"pad"}, {"lmms_eval"}, {"yesno"}]
    assert read_metadata(job.published(full))["template"].startswith("A chat between a curious user")
    assert job.key(full) != jobs["digits-pope"].key(full)


def test_threads_are_in_the_key(tmp_path: Path, tiny_model: Path, digits: Path) -> None:
    full, keys = Cell("tiny", "digits-pope", FULL, KEEP_ALL), set()
    for threads in (1, 2):
        models = {"tiny": {"source": str(tiny_model), "threads": threads}}
        keys.add(make_job(tmp_path, make_sweep(tiny_model, digits, models=models), "digits-pope").key(full))
    assert len(keys) == 2


def test_keys_of_many_cells_read_the_files_of_models_once(
    tmp_path: Path, tiny_model: Path, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []

    def counted(source: str, revision: str | None) -> str:
        read.append(source)
        return fingerprint(source, revision)

    monkeypatch.setattr("lofi.engine.job.fingerprint", counted)
    models = {"tiny": {"source": str(tiny_model), "text_tower": str(tiny_model)}}
    job = make_job(tmp_path, make_sweep(tiny_model, digits, models=models), "digits-pope")
    assert len({job.key(cell) for cell in job.cells()}) == len(job.cells()) > 20
    assert read == [str(tiny_model)] * 2  # the model's and the tower's


def test_a_foreign_or_missing_reference_is_refused(tmp_path: Path, tiny_model: Path, digits: Path) -> None:
    job = make_job(tmp_path, make_sweep(tiny_model, digits), "digits-pope")
    with pytest.raises(UserError, match="run `lofi reference --model tiny --dataset digits-pope --shard 0`"):
        evaluate(job, job.cells("lofi"))


def test_cells_are_narrowed_by_name_with_a_hint(jobs: dict[str, Job]) -> None:
    job = jobs["digits-pope"]
    assert [cell.keep for cell in job.cells("lofi")] == ["0.2500", "9"]
    with pytest.raises(UserError, match="did you mean 'lofi'"):
        job.cells("lofy")


def test_divergence_equals_its_definition() -> None:
    p = torch.tensor([[0.7, 0.2, 0.1]], dtype=torch.float64)
    q = torch.tensor([[0.1, 0.3, 0.6]], dtype=torch.float64)
    found = divergence(p.log(), q.log())
    m = (p + q) / 2
    assert found["kl_full_to_this"][0] == pytest.approx(float((p * (p / q).log()).sum()))
    assert found["kl_this_to_full"][0] == pytest.approx(float((q * (q / p).log()).sum()))
    assert found["js"][0] == pytest.approx(float((p * (p / m).log()).sum() / 2 + (q * (q / m).log()).sum() / 2))
    assert found["tv"][0] == pytest.approx(0.6)


def test_an_option_is_read_from_its_likeliest_form() -> None:
    logp = torch.tensor([-3.0, -1.0, -2.0, -9.0]).numpy()
    choice = choose(logp, Options(("yes", "no"), ((0, 1), (2, 3))))
    assert choice is not None
    assert (choice.label, choice.token_ids, choice.margin) == ("yes", [1, 2], 1.0)
    tied = choose(torch.tensor([-1.0, -1.0]).numpy(), Options(("A", "B"), ((0,), (1,))))
    assert tied is not None
    assert tied.label == "A"
    assert choose(logp, Options((), ())) is None
