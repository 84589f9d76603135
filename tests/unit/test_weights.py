"""Quantised weights: what becomes of a model, and of its cells from the config to the report."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from lofi import cli
from lofi.cell import AS_LOADED, FULL, KEEP_ALL, WEIGHTS, Cell, stability_path
from lofi.config import from_dict
from lofi.data.images import open_image
from lofi.engine import parts
from lofi.engine.calibrate import calibrate
from lofi.engine.job import Job
from lofi.engine.parts import read_full_run
from lofi.engine.plain import run_plain
from lofi.engine.readout import divergence
from lofi.engine.stability import VARIANTS, stability
from lofi.engine.stages import evaluate, reference
from lofi.errors import UserError
from lofi.models import weights as module
from lofi.models.adapter import Adapter
from lofi.models.load import load_model
from lofi.models.probe import probe
from lofi.models.weights import BITS, GROUP, quantise
from lofi.report.build import build
from lofi.report.words import method_label
from lofi.stats.aggregate import aggregate
from lofi.store import read_metadata
from lofi.sweep import Sweep

from .engine_setup import make_job

MODEL = "digits-llava"
LAYERS, NARROW = 42, 6  # six decoder layers of seven matrices, of which the last has rows of 344: 32 does not divide it
METHODS: dict[str, Any] = {
    "full_int8": {"reducer": "full", "weights": "int8"},
    "full_int4": {"reducer": "full", "weights": "int4"},
    "fastervlm": {},
    "fastervlm_int8": {"reducer": "fastervlm", "weights": "int8"},
    "fastv_int4": {"reducer": "fastv", "weights": "int4", "keeps": [0.5]},
    "depth": {"reducer": "vtw_search", "weights": "int4"},  # calibrated on the quantised model
}


def sweep_of(*datasets: str, methods: dict[str, Any] = METHODS, limit: int = 2, **changes: Any) -> Sweep:
    config = {
        "models": {MODEL: {"batch_images": 2}},
        "datasets": {name: {"limit": limit} for name in datasets},
        "methods": methods,
        "keeps": [0.25],
        "stability_images": 2,
    }
    return from_dict({**config, **changes})


def states(adapter: Adapter) -> Tensor:
    """(2, 40, v) logits of a fixed text."""
    ids = torch.arange(80).reshape(2, 40) % 60 + 5
    positions = torch.arange(40).expand(2, -1)
    mask = torch.ones(2, 1, 40, 40, dtype=torch.bool).tril()
    with torch.inference_mode():
        return adapter.logits(adapter.decode(adapter.embed(ids), positions, mask))


@pytest.fixture(scope="module")
def models() -> dict[str, Adapter]:
    """The embedded model on every weights."""
    found = {weights: load_model(f"embedded:{MODEL}") for weights in WEIGHTS}
    for weights in BITS:
        quantised = quantise(found[weights], weights)
        assert (quantised.weights, quantised.layers) == (weights, LAYERS)
        assert quantised.by_row == (LAYERS if weights == "int8" else NARROW)
        numbers = sum(layer.weight.numel() for layer in decoder(found[AS_LOADED]).values())
        scales = sum(layer.weight.scale.numel() for layer in decoder(found[weights]).values())
        assert quantised.bytes_before == 4 * numbers
        assert quantised.bytes_after == numbers * BITS[weights] // 8 + 4 * scales
    return found


def decoder(adapter: Adapter) -> dict[str, Any]:
    """The linear layers of the decoder by name."""
    named = nn.ModuleList(adapter.layers).named_modules()
    return {name: layer for name, layer in named if isinstance(layer, nn.Linear)}


def test_every_matrix_of_the_decoder_holds_few_values_near_its_own(models: dict[str, Adapter]) -> None:
    assert set(WEIGHTS) == {AS_LOADED, *BITS}
    for weights, bits in BITS.items():
        for name, layer in decoder(models[weights]).items():
            matrix, before = layer.weight, decoder(models[AS_LOADED])[name].weight
            assert matrix.qdata.dtype is torch.int8
            assert len(matrix.qdata.unique()) <= 2**bits
            assert int(matrix.qdata.min()) >= -(2 ** (bits - 1))
            assert int(matrix.qdata.max()) < 2 ** (bits - 1)
            groups = before.shape[1] // GROUP if weights == "int4" and before.shape[1] % GROUP == 0 else 1
            assert matrix.scale.shape == (before.shape[0], groups)
            off = (matrix.dequantize() - before).abs().reshape(*matrix.scale.shape, -1)
            assert bool((off <= 0.5001 * matrix.scale[..., None]).all())
            assert bool((off > 0).any())


def test_nothing_else_changes(models: dict[str, Adapter]) -> None:
    whole = dict(models[AS_LOADED].model.named_parameters())
    rounded = {f"model.language_model.layers.{name}.weight" for name in decoder(models[AS_LOADED])}
    assert rounded < whole.keys()
    for weights in BITS:
        for name, parameter in models[weights].model.named_parameters():
            assert (type(parameter.data) is Tensor) == (name not in rounded), name
            assert name in rounded or torch.equal(parameter, whole[name])


def test_int4_is_coarser_than_int8_and_both_are_close(models: dict[str, Adapter]) -> None:
    exact = states(models[AS_LOADED]).double().log_softmax(-1)
    off = {w: divergence(exact.flatten(0, 1), states(models[w]).double().log_softmax(-1).flatten(0, 1)) for w in BITS}
    int8, int4 = (off[weights]["kl_full_to_this"].mean() for weights in ("int8", "int4"))
    assert 0 < int8 < 0.01
    assert 10 * int8 < int4 < 1


@pytest.mark.parametrize("weights", BITS)
def test_a_probe_reads_the_quantised_projections(models: dict[str, Adapter], weights: str) -> None:
    adapter = models[weights]
    layer, hidden = adapter.layers[1], torch.randn(1, 5, 128, generator=torch.Generator().manual_seed(0))
    still = torch.ones(1, 5, 32), torch.zeros(1, 5, 32)
    queries, keys = probe(adapter, 1, hidden, still)
    normed = layer.input_layernorm(hidden)
    for found, matrix in ((queries, layer.self_attn.q_proj.weight), (keys, layer.self_attn.k_proj.weight)):
        own = linear(normed, matrix.dequantize()).view(1, 5, 4, 32).transpose(1, 2)
        torch.testing.assert_close(found, own, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(queries, probe(models[AS_LOADED], 1, hidden, still)[0], atol=1e-4)


def test_half_precision_keeps_its_type() -> None:
    adapter = load_model(f"embedded:{MODEL}", dtype="bfloat16")
    quantised = quantise(adapter, "int4")
    assert quantised.bytes_before == 2 * sum(layer.weight.numel() for layer in decoder(adapter).values())
    assert adapter.dtype is torch.bfloat16
    assert bool(torch.isfinite(states(adapter)).all())


def without_linear(adapter: Adapter) -> None:
    adapter.layers = [nn.LayerNorm(4)]


def with_experts(adapter: Adapter) -> None:
    adapter.layers[2].mlp.experts = nn.Parameter(torch.zeros(2, 3, 4))


REFUSED: dict[str, tuple[Callable[[Adapter], object], str]] = {
    "no linear layer": (without_linear, "its decoder has no linear layer"),
    "experts": (with_experts, "2.mlp.experts of its decoder belongs to no linear layer"),
    "twice": (
        lambda adapter: quantise(adapter, "int8"),
        "0.self_attn.q_proj.weight of its decoder is quantised already",
    ),
}


@pytest.mark.parametrize(("change", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_a_decoder_that_cannot_be_quantised_whole_is_refused(change: Callable[[Adapter], object], why: str) -> None:
    adapter = load_model(f"embedded:{MODEL}")
    change(adapter)
    with pytest.raises(UserError, match=f"cannot run with int4 weights: {re.escape(why)}; remove the methods"):
        quantise(adapter, "int4")


def test_a_layer_that_torchao_skips_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import torchao.quantization

    monkeypatch.setattr(torchao.quantization, "quantize_", lambda *_: None)
    with pytest.raises(UserError, match=r"torchao left its 0\.self_attn\.q_proj as it was"):
        quantise(load_model(f"embedded:{MODEL}"), "int8")


def test_a_missing_library_is_told_before_any_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="need torchao, which is not installed; install the version in envs/"):
        quantise(load_model(f"embedded:{MODEL}"), "int8")
    config = tmp_path / "sweep.json"
    config.write_text(sweep_of("digits-pope").to_json())
    assert cli.main(["check", "--config", str(config)]) == cli.EXIT_USER_ERROR
    config.write_text(sweep_of("digits-pope", methods={"lofi": {}}).to_json())
    assert cli.main(["check", "--config", str(config)]) == 0


def test_wrong_weights_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="unknown weights 'int3': did you mean 'int8'"):
        quantise(load_model(f"embedded:{MODEL}"), "int3")
    config = tmp_path / "sweep.yaml"
    config.write_text(
        "{models: {digits-llava: {}}, datasets: {digits-pope: {}}, methods: {x: {reducer: lofi, weights: int3}}, keeps: [0.5]}"
    )
    assert cli.main(["check", "--config", str(config)]) == cli.EXIT_USER_ERROR
    assert "methods.x.weights is int3; give int8, int4 or none\n" in capsys.readouterr().err


def test_quantised_full_has_one_cell_and_the_config_comes_back() -> None:
    sweep = sweep_of("digits-pope", keeps=[0.5, 0.25])
    assert from_dict(sweep.to_dict()) == sweep
    found = [(cell.method, cell.keep) for cell in sweep.reduced_cells()]
    assert [keep for method, keep in found if method == "full_int8"] == [KEEP_ALL]
    assert [keep for method, keep in found if method == "fastervlm_int8"] == ["0.5000", "0.2500"]
    assert sweep.method("fastervlm").weights == sweep.method(FULL).weights == AS_LOADED
    spelled = {"lofi": {"weights": "none"}}
    assert sweep_of("digits-pope", methods=spelled) == sweep_of("digits-pope", methods={"lofi": {}})


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Job]:
    results = tmp_path_factory.mktemp("weights")
    sweep = sweep_of("digits-pope", "digits-vqa")
    found = {name: make_job(results, sweep, name, model=MODEL) for name in ("digits-pope", "digits-vqa")}
    loaded: list[object] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "load_model", lambda *a, **k: loaded.append(a) or load_model(*a, **k))
        for job in found.values():
            reference(job)
            loaded.clear()
            assert evaluate(job, job.cells()).computed == len(METHODS)
            assert len(loaded) == len(WEIGHTS)  # one model for all cells of the same weights
            assert evaluate(job, job.cells()).from_cache == len(METHODS)
            assert len(loaded) == len(WEIGHTS)
    return found


def rows_of(job: Job, method: str) -> list[dict[str, Any]]:
    (cell,) = job.cells(method)
    return pq.read_table(job.published(cell)).to_pylist()


@pytest.mark.parametrize("name", ["digits-pope", "digits-vqa"])
def test_every_quantised_cell_equals_the_plain_path(jobs: dict[str, Job], name: str) -> None:
    job = jobs[name]
    photo = job.photos(job.spans[0])[1]
    for weights, cells in job.by_weights(job.cells()).items():
        session = parts.open_session(job, weights)
        session.fitted = calibrate(session, job, cells)
        for cell in cells:
            rows = {row["sample_id"]: row for row in rows_of(job, cell.method)}
            for doc in photo.docs[:2]:
                row, budget = rows[doc.sample_id], 0 if doc.option_labels else doc.max_new_tokens
                method, image = job.method(cell), open_image(photo.content or b"")
                plain = run_plain(session, image, photo.key, doc.prompt, cell, method, budget)
                logp = plain.logits.double().log_softmax(-1)
                assert row["topk_logprobs"] == pytest.approx([float(logp[i]) for i in row["topk_token_ids"]], abs=1e-4)
                assert row["n_visual_kept"] == len(plain.kept)
                assert not budget or row["prediction"] == plain.answer


def test_cells_are_compared_with_the_model_as_loaded(jobs: dict[str, Job]) -> None:
    job = jobs["digits-pope"]
    head = load_model(f"embedded:{MODEL}").logits
    stored = read_full_run(job).hidden
    rows = {row["sample_id"]: row for row in rows_of(job, "full_int4")}
    for key, row in rows.items():
        full = head(stored[key]).double().log_softmax(-1)
        best = full.topk(len(row["topk_token_ids"])).indices.tolist()
        this = dict(zip(row["topk_token_ids"], row["topk_logprobs"], strict=True))
        shared = [token for token in best if token in this]
        assert row["ref_topk_logprobs"][0] == pytest.approx(this[best[0]], abs=1e-5)
        # the head's few tokens hold nearly all probability, so nearly all of the divergence is in them
        kl = sum(float(full[token].exp()) * (float(full[token]) - this[token]) for token in shared)
        assert row["kl_full_to_this"] == pytest.approx(kl, abs=1e-4)


def test_quantised_rows_say_so_and_keep_every_token_where_full_does(jobs: dict[str, Job]) -> None:
    for job in jobs.values():
        full = Cell(MODEL, job.dataset.name, FULL, KEEP_ALL)
        assert {row["weights"] for row in pq.read_table(job.published(full)).to_pylist()} == {AS_LOADED}
        for method in METHODS:
            rows, weights = rows_of(job, method), job.sweep.method(method).weights
            assert {(row["weights"], row["status"]) for row in rows} == {(weights, "ok")}
            stamp = read_metadata(job.published(job.cells(method)[0]))
            assert stamp["constants"]["weights"] == weights
            assert stamp.get("quantised", {}).get("layers") == (None if weights == AS_LOADED else LAYERS)
        off = {
            method: [row["kl_full_to_this"] for row in rows_of(job, method)] for method in ("full_int8", "full_int4")
        }
        assert 0 < sum(off["full_int8"]) < sum(off["full_int4"])
        assert {row["n_visual_kept"] for row in rows_of(job, "full_int8")} == {144}
        plain, both = (rows_of(job, method) for method in ("fastervlm", "fastervlm_int8"))
        # the encoder is untouched
        assert [row["kept_indices"] for row in plain] == [row["kept_indices"] for row in both]
        assert [row["logsumexp"] for row in plain] != [row["logsumexp"] for row in both]


def test_weights_are_part_of_key_and_parameters(jobs: dict[str, Job]) -> None:
    job = jobs["digits-pope"]
    cells = {method: job.cells(method)[0] for method in METHODS}
    assert len({job.key(cell) for cell in cells.values()}) == len(METHODS)
    assert len({job.params_hash(cell) for cell in cells.values()}) == len(METHODS)
    other = {**METHODS, "fastervlm_int8": {"reducer": "fastervlm", "weights": "int4"}}
    changed = make_job(job.results, sweep_of("digits-pope", "digits-vqa", methods=other), "digits-pope", model=MODEL)
    assert changed.key(cells["fastervlm_int8"]) != job.key(cells["fastervlm_int8"])
    assert changed.key(cells["fastervlm"]) == job.key(cells["fastervlm"])


def test_self_agreement_leaves_out_what_keeps_every_token(jobs: dict[str, Job]) -> None:
    job = jobs["digits-pope"]
    choosing = [cell for cell in job.cells() if cell.keep != KEEP_ALL]
    assert stability(job) == len(choosing) * len(VARIANTS) * 2
    rows = pq.read_table(job.results / stability_path(MODEL, "digits-pope")).to_pylist()
    assert {row["method"] for row in rows} == METHODS.keys() - {"full_int8", "full_int4"}
    assert {row["status"] for row in rows} == {"ok"}


@pytest.fixture(scope="module")
def page(jobs: dict[str, Job]) -> str:
    """The report of both jobs."""
    (sweep,) = {job.sweep for job in jobs.values()}
    results = next(iter(jobs.values())).results
    files = [results / cell.path() for cell in sweep.cells()]
    aggregate(files, results / "tables", results / "audit.duckdb")
    output = results / "index.html"
    build(sweep.to_dict(), files, results / "tables", results / "data", output, command="lofi report", generated=None)
    return output.read_text()


def test_tables_say_what_is_quantised(jobs: dict[str, Job], page: str) -> None:
    tables = next(iter(jobs.values())).results / "tables"
    cells = pq.read_table(tables / "cells.parquet").to_pylist()
    assert {(row["method"], row["weights"]) for row in cells} == {
        *((name, entry.get("weights", AS_LOADED)) for name, entry in METHODS.items()),
        *(("full", AS_LOADED), ("floor", AS_LOADED)),
    }
    assert "weights" in pq.read_schema(tables / "flips.parquet").names
    pooled = [row for row in pq.read_table(tables / "correlations.parquet").to_pylist() if row["scope"] == "pooled"]
    assert {row["n_cells"] for row in pooled if row["primary"]} == {2}  # fastervlm on two datasets


def test_the_report_tells_weights_apart(page: str) -> None:
    assert page.count('href="#def-weights"') > 5  # tables of methods have the column
    assert "int8 weights change" in page
    assert "fastervlm keeps" in page
    assert "Methods on quantised weights are in no panel" in page
    assert "depth (int4)" in page
    assert method_label("fastv_int4", "int4") == "fastv_int4"
    assert method_label("lofi", AS_LOADED) == "lofi"


def test_the_ready_sweep_is_valid(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "--config", str(repository / "workflow/sweeps/weights.yaml")]) == 0
    assert "nothing is wrong" in capsys.readouterr().out
