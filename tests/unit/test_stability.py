"""Self-agreement on a model: who keeps what when features are rounded or noised."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from lofi.cell import FULL, stability_path
from lofi.data.images import open_image
from lofi.engine.job import Job
from lofi.engine.stability import VARIANTS, stability
from lofi.methods.registry import METHODS as REDUCERS
from lofi.models.adapter import Adapter
from lofi.models.encoded import Encoded
from lofi.models.load import load_model
from lofi.models.opened import Opened
from lofi.store import STABILITY

from .engine_setup import METHODS, make_job, make_sweep, opened
from .test_clip_text import save_clip

NAME, IMAGES, N, K = "digits-pope", 3, 144, 36
BLIND = ("random", "grid_1d", "grid_2d", "pool", "vtw", "vtw_search")  # to the values of the image they reduce
EVERY: dict[str, Any] = {**METHODS, **{name: {} for name, reducer in REDUCERS.items() if "tower" in reducer.needs}}


def job_of(folder: Path, tiny_model: Path, digits: Path, methods: dict[str, Any] = EVERY, **model: Any) -> Job:
    clip = folder / "clip"
    tower = str(clip if clip.exists() else save_clip(clip, width=32))
    sweep = make_sweep(
        tiny_model,
        digits,
        models={"tiny": {"source": str(tiny_model), "batch_images": 2, "text_tower": tower, **model}},
        datasets={NAME: {"source": str(digits / NAME), "limit": 4}},
        methods=methods,
        keeps=[0.25],
        stability_images=IMAGES,
    )
    return make_job(folder, sweep, NAME)


def rows_of(job: Job) -> list[dict[str, Any]]:
    return pq.read_table(job.results / stability_path("tiny", NAME)).to_pylist()


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, digits: Path) -> Job:
    job = job_of(tmp_path_factory.mktemp("stability"), tiny_model, digits)
    cells = {cell for cell in job.cells() if cell.seed == 0}
    assert stability(job) == len(cells) * len(VARIANTS) * IMAGES
    return job


def test_a_row_for_each_cell_variant_and_image(job: Job) -> None:
    table = pq.read_table(job.results / stability_path("tiny", NAME))
    assert table.schema.equals(STABILITY)
    rows = table.to_pylist()
    cells = {(cell.method, cell.keep, cell.seed) for cell in job.cells() if cell.seed == 0}
    images = [key for key, _ in job.all_images[:IMAGES]]
    keys = [(row["method"], row["keep"], row["seed"], row["variant"], row["image_hash"]) for row in rows]
    assert len(set(keys)) == len(keys)
    assert set(keys) == {(*cell, variant, image) for cell in cells for variant in VARIANTS for image in images}
    assert {job.sweep.method(row["method"]).reducer for row in rows} == REDUCERS.keys() - {FULL}
    assert {(row["status"], row["error"], row["n_visual_full"]) for row in rows} == {("ok", None, N)}


def test_what_is_shared_is_part_of_both(job: Job) -> None:
    for row in rows_of(job):
        assert 0 <= row["n_same"] <= min(row["n_kept"], row["n_kept_variant"])
        assert max(row["n_kept"], row["n_kept_variant"]) <= N
        reducer = REDUCERS[job.sweep.method(row["method"]).reducer]
        budget = dict(job.sweep.method(row["method"]).params).get("budget", "tokens")
        if reducer.count == "asked" and budget == "tokens" and row["keep"] == "0.2500" and not reducer.merges:
            assert row["n_kept"] == row["n_kept_variant"] == K


def test_methods_that_are_blind_to_features_agree_and_others_feel_the_rounding(job: Job) -> None:
    lost: dict[str, dict[str, int]] = {}
    for row in rows_of(job):
        of_method = lost.setdefault(job.sweep.method(row["method"]).reducer, dict.fromkeys(VARIANTS, 0))
        of_method[row["variant"]] += row["n_kept"] + row["n_kept_variant"] - 2 * row["n_same"]
    for name in BLIND:
        assert set(lost[name].values()) == {0}, name
    felt = {variant: sum(found[variant] for found in lost.values()) for variant in VARIANTS}
    assert felt["bfloat16"] > felt["float16"] > felt["noise"]


def test_a_rerun_writes_the_same_file(job: Job) -> None:
    path = job.results / stability_path("tiny", NAME)
    before = path.read_bytes()
    path.unlink()
    stability(job)
    assert path.read_bytes() == before


def test_an_image_without_numbers_gives_error_rows_and_the_others_stay(
    job: Job, tmp_path: Path, tiny_model: Path, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {(row["method"], row["variant"], row["image_hash"]): row for row in rows_of(job)}
    methods = {name: EVERY[name] for name in ("random", "grid_2d", "lofi", "fastervlm", "prumerge", "tome", "cdpruner")}
    methods |= {name: EVERY[name] for name in ("fastv", "sparsevlm", "v2drop", "vtw", "dart", "trim", "tome_vit")}
    poisoned = job_of(tmp_path, tiny_model, digits, methods)
    photo = job.first_photos(IMAGES)[1]
    adapter = load_model(str(tiny_model), dtype="float32", device="cpu")
    marked = opened(adapter, [open_image(photo.content or b"")]).pixels["pixel_values"]
    encode = Adapter.encode

    def with_nan(self: Adapter, seen: Opened, layers: Any = ()) -> Encoded:
        values = seen.pixels["pixel_values"]
        same = (values == marked).flatten(1).all(1)[:, None, None, None]
        return encode(self, replace(seen, pixels={"pixel_values": values.masked_fill(same, torch.nan)}), layers)

    monkeypatch.setattr(Adapter, "encode", with_nan)
    assert stability(poisoned) == len(methods) * len(VARIANTS) * IMAGES
    for row in rows_of(poisoned):
        if row["image_hash"] != photo.image_hash or row["method"] in BLIND:
            assert row == expected[row["method"], row["variant"], row["image_hash"]]
            continue
        assert (row["status"], row["n_kept"], row["n_same"], row["n_kept_variant"]) == ("error", None, None, None)
        assert row["error"].startswith(f"{row['method']} could not select tokens"), row
        inside = REDUCERS[row["method"]].acts == "llm"
        assert ("before decoder layer" in row["error"]) == inside


def test_features_of_a_half_precision_model_are_compared_in_float32(
    tmp_path: Path, tiny_model: Path, digits: Path
) -> None:
    """Rounded features would not change when they are rounded, and the projector could not read them in float32."""
    half = job_of(tmp_path, tiny_model, digits, dtype="bfloat16")
    stability(half)
    rows = rows_of(half)
    assert {(row["method"], row["error"]) for row in rows if row["status"] == "error"} == set()
    before = [row for row in rows if REDUCERS[half.sweep.method(row["method"]).reducer].acts != "llm"]
    rounded = {row["method"] for row in before if row["variant"] == "bfloat16" and row["n_same"] < row["n_kept"]}
    assert {"lofi", "divprune", "tome_vit"} <= rounded
