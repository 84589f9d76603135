"""NaN and infinity: a method that meets them gives error rows that say where, and every other sample is untouched."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

from lofi.cell import FLOOR, FULL, KEEP_ALL, Cell
from lofi.data.images import open_image
from lofi.engine import calibrate
from lofi.engine.job import Job
from lofi.engine.parts import open_session
from lofi.engine.stages import evaluate, reference
from lofi.methods.registry import METHODS as REDUCERS
from lofi.models.adapter import Adapter
from lofi.models.encoded import Encoded
from lofi.models.opened import Opened

from .engine_setup import METHODS, make_job, make_sweep, opened
from .test_clip_text import save_clip

NAME, IMAGES, N, TOKEN = "digits-pope", 2, 144, 70
OWN = {"run_id", "t_vision_ms", "t_select_ms", "t_prefill_ms", "t_decode_ms"}  # of a run, not of what it computes
LOGITS = "the logits are not finite"
BLIND = ("random", "grid_1d", "grid_2d", "vtw", "vtw_search", FULL)  # they choose without a look at values
EVERY: dict[str, Any] = {**METHODS, **{name: {} for name, reducer in REDUCERS.items() if "tower" in reducer.needs}}
INSIDE = {name: entry for name, entry in EVERY.items() if REDUCERS[entry.get("reducer", name)].acts == "llm"}
BROKEN_LAYER = 2  # of the decoder, which has five

Rows = dict[str, dict[str, Any]]  # by sample


def differing(row: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The columns in which two rows differ by more than the rounding of batches that are padded to another length."""
    return [name for name in row if name not in OWN and not alike(row[name], other[name])]


def alike(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return one == pytest.approx(other, rel=1e-3, abs=1e-5)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[name], other[name]) for name in one)
    return bool(one == other)


@dataclass
class Runs:
    """The same sweep with and without numbers in the features of one image."""

    make: Callable[[str, dict[str, Any]], Job]
    clean: dict[Cell, Rows]
    pixels: Tensor  # (1, 3, h, w) of the image
    projected: Tensor  # (1, n, d)
    n_before: int  # tokens of a prompt before the image
    image_hash: str

    def same(self, pixels: Mapping[str, Tensor]) -> Tensor:
        """(b,) bool: which of these images it is."""
        return (pixels["pixel_values"] == self.pixels).flatten(1).all(1)

    def run(self, folder: str, methods: dict[str, Any] = EVERY) -> dict[Cell, Rows]:
        return rows_of(self.make(folder, methods))

    def failed(self, found: dict[Cell, Rows]) -> dict[Cell, list[dict[str, Any]]]:
        """The image's rows of each cell; all other rows are what they were without any NaN."""
        for cell, rows in found.items():
            assert rows.keys() == self.clean[cell].keys()
            for key, row in rows.items():
                if row["image_hash"] != self.image_hash:
                    assert differing(row, self.clean[cell][key]) == []
        return {
            cell: [row for row in rows.values() if row["image_hash"] == self.image_hash] for cell, rows in found.items()
        }


def rows_of(job: Job) -> dict[Cell, Rows]:
    reference(job)
    evaluate(job, job.cells())
    cells = [Cell("tiny", NAME, method, KEEP_ALL) for method in (FULL, FLOOR)]
    return {
        cell: {row["sample_id"]: row for row in pq.read_table(job.published(cell)).to_pylist()}
        for cell in (*cells, *job.cells())
    }


@pytest.fixture(scope="module", autouse=True)
def fits_leave_the_last_image_out() -> Any:
    """So that its NaN cannot change what other images get from a calibration."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibrate, "IMAGES", IMAGES - 1)
        patch.setattr(calibrate, "SAMPLES", IMAGES - 1)
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, digits: Path) -> Runs:
    root = tmp_path_factory.mktemp("not-finite")
    tower = str(save_clip(root / "clip", width=32))

    def make(folder: str, methods: dict[str, Any]) -> Job:
        models = {"tiny": {"source": str(tiny_model), "batch_images": IMAGES, "text_tower": tower}}
        datasets = {NAME: {"source": str(digits / NAME), "limit": IMAGES}}
        sweep = make_sweep(tiny_model, digits, models=models, datasets=datasets, methods=methods, keeps=[0.25])
        return make_job(root / folder, sweep, NAME)

    job = make("clean", EVERY)
    adapter = open_session(job).adapter
    photo = job.first_photos(IMAGES)[-1]
    seen = opened(adapter, [open_image(photo.content)])
    n_before = len(seen.before) - N
    projected = adapter.encode(seen).projected
    return Runs(make, rows_of(job), seen.pixels["pixel_values"], projected, n_before, photo.image_hash)


def reducer_of(cell: Cell) -> str:
    return str(EVERY.get(cell.method, {}).get("reducer", FULL if cell.method == FLOOR else cell.method))


def test_without_nan_every_row_is_good(runs: Runs) -> None:
    assert {reducer_of(cell) for cell in runs.clean} == set(REDUCERS)
    assert {row["status"] for rows in runs.clean.values() for row in rows.values()} == {"ok"}


def test_an_image_of_nan_fails_in_every_method(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = Adapter.encode

    def with_nan(self: Adapter, seen: Opened, layers: Any = ()) -> Encoded:
        values = seen.pixels["pixel_values"].masked_fill(runs.same(seen.pixels)[:, None, None, None], torch.nan)
        return encode(self, replace(seen, pixels={"pixel_values": values}), layers)

    monkeypatch.setattr(Adapter, "encode", with_nan)
    for cell, rows in runs.failed(runs.run("image")).items():
        (error,) = {row["error"] for row in rows}
        assert {row["status"] for row in rows} == {"error"}
        assert {row[name] for row in rows for name in ("prediction", "kept_indices", "margin")} == {None}
        reducer = reducer_of(cell)
        if reducer in BLIND:
            assert error == LOGITS
        elif cell.method in INSIDE:
            assert re.match(rf"{cell.method} could not select tokens before decoder layer [12]: ", error), error
        else:
            assert error.startswith(f"{cell.method} could not select tokens: "), error
            assert "NaN or infinity" in error


@pytest.fixture(scope="module", params=[torch.nan, torch.inf], ids=["nan", "infinity"])
def one_token(runs: Runs, request: pytest.FixtureRequest) -> dict[Cell, list[dict[str, Any]]]:
    """The rows of an image one of whose tokens left the encoder as NaN or infinity."""
    encode = Adapter.encode

    def with_value(self: Adapter, seen: Opened, layers: Any = ()) -> Encoded:
        encoded, same = encode(self, seen, layers), runs.same(seen.pixels)
        images = encoded.images
        hidden, projected, entry = images.hidden.clone(), encoded.projected.clone(), images.entry.clone()
        hidden.view(len(same), N, -1)[same, TOKEN] = projected[same, TOKEN] = request.param
        entry[same, TOKEN + entry.shape[1] - N] = request.param
        changed = replace(images, hidden=hidden, entry=entry)
        return replace(encoded, images=changed, lines=projected, projected=projected)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Adapter, "encode", with_value)
        return runs.failed(runs.run(f"token-{request.param}"))


def test_a_token_without_numbers_is_never_ranked(one_token: dict[Cell, list[dict[str, Any]]]) -> None:
    """Every row is an error: the full model, which each is compared with, reads the token whatever a method does."""
    spared = set()
    for cell, rows in one_token.items():
        for row in rows:
            assert row["status"] == "error"
            if row["error"] == f"the full model's {LOGITS.removeprefix('the ')}":
                spared.add(reducer_of(cell))
            else:
                assert row["error"] == LOGITS or row["error"].startswith(f"{cell.method} could not select tokens")
    assert spared <= {"random", "grid_1d", "grid_2d", "fastervlm", "hired", "hiprune"}


@pytest.fixture(scope="module")
def no_attention(runs: Runs) -> dict[Cell, list[dict[str, Any]]]:
    """The rows of an image whose features are fine and whose queries and keys in the encoder are NaN."""
    encode = Adapter.encode

    def with_nan(self: Adapter, seen: Opened, layers: Any = ()) -> Encoded:
        encoded, same = encode(self, seen, layers), runs.same(seen.pixels).tolist()
        tapped = encoded.images.attention
        chunks = {
            layer: [(q * torch.nan, k * torch.nan) if bad else (q, k) for (q, k), bad in zip(pairs, same, strict=True)]
            for layer, pairs in tapped.chunks.items()
        }
        images = replace(encoded.images, attention=replace(tapped, chunks=chunks))
        return replace(encoded, images=images)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Adapter, "encode", with_nan)
        return runs.failed(runs.run("attention"))


def test_encoder_attention_of_nan_fails_in_the_methods_that_read_it(
    runs: Runs, no_attention: dict[Cell, list[dict[str, Any]]]
) -> None:
    for cell, rows in no_attention.items():
        reads = "attention" in REDUCERS[reducer_of(cell)].needs
        assert {row["status"] for row in rows} == {"error" if reads else "ok"}, cell
        for row in rows:
            if reads:
                assert row["error"].startswith(f"{cell.method} could not select tokens: ")
            else:
                assert differing(row, runs.clean[cell][row["sample_id"]]) == []


READERS = [name for name, reducer in REDUCERS.items() if "attention" in reducer.needs]


@pytest.mark.parametrize("name", READERS)
def test_the_encoder_layer_is_named(name: str, no_attention: dict[Cell, list[dict[str, Any]]]) -> None:
    for cell, rows in no_attention.items():
        if reducer_of(cell) == name:
            for row in rows:
                assert re.search(r"attention of encoder layer -?\d+ holds NaN or infinity", row["error"]), row["error"]


def test_nan_inside_the_decoder_names_the_next_stage(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = Adapter.decode

    def with_nan(self: Adapter, embeds: Tensor, positions: Tensor, *others: Any, **more: Any) -> Tensor:
        start = runs.n_before if int(positions.min()) == 0 else 0  # the text before the image may have been read before
        visual = embeds[:, start : start + N]
        whole = visual.shape[1] == N and visual.shape == (len(embeds), *runs.projected.shape[1:])
        same = torch.isclose(visual, runs.projected, atol=1e-5).flatten(1).all(1) if whole else torch.zeros(1) > 0

        def hook(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
            return output.masked_fill(same[:, None, None], torch.nan)

        handle = self.layers[BROKEN_LAYER].register_forward_hook(hook)
        try:
            return decode(self, embeds, positions, *others, **more)
        finally:
            handle.remove()

    monkeypatch.setattr(Adapter, "decode", with_nan)
    named = set()
    for cell, rows in runs.failed(runs.run("decoder", INSIDE)).items():
        assert {row["status"] for row in rows} == {"error"}, cell
        for row in rows:
            found = re.match(rf"{cell.method} could not select tokens before decoder layer (\d): ", row["error"])
            assert found or row["error"] == LOGITS
            if found:
                assert int(found[1]) > BROKEN_LAYER
                named.add(reducer_of(cell))
    assert {"pyramiddrop", "fitprune", "v2drop"} <= named
