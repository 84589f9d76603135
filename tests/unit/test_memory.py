"""A device that runs out of memory: hooks in the model refuse batches that are too large, as an allocator would."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from lofi.cell import FLOOR, FULL, KEEP_ALL, Cell, stability_path
from lofi.data.images import open_image
from lofi.engine import calibrate, memory, parts
from lofi.engine.job import Job
from lofi.engine.stability import VARIANTS, stability
from lofi.engine.stages import evaluate, reference
from lofi.errors import UserError
from lofi.models.adapter import Adapter
from lofi.store import read_metadata

from .engine_setup import make_job, make_sweep, opened
from .test_not_finite import alike

MESSAGE = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which 1.17 GiB is free."
)
NAME, IMAGES, BATCH = "digits-vqa", 5, 4
METHODS: dict[str, Any] = {"lofi": {}, "mmtok": {}, "fastv": {"budget": "tokens"}, "tome_vit": {}}

Refuse = Callable[[Adapter], None]  # puts hooks that raise into a loaded model
Rows = dict[Cell, dict[str, dict[str, Any]]]


def refuse(module: nn.Module, too_large: Callable[[torch.Tensor], bool]) -> list[int]:
    """From now on a forward of the module raises where its input is too large; the sizes at which it did."""
    refused: list[int] = []

    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = (
            args[0]
            if args
            else next(
                iter(kwargs[name] for name in ("inputs_embeds", "hidden_states", "pixel_values") if name in kwargs)
            )
        )
        if too_large(given):
            refused.append(len(given))
            raise torch.OutOfMemoryError(MESSAGE)

    module.register_forward_pre_hook(hook, with_kwargs=True)
    return refused


def encode(limit: int) -> Refuse:
    return lambda adapter: void(refuse(adapter.part("vision_tower"), lambda x: len(x) > limit))


def prefill(limit: int) -> Refuse:
    return lambda adapter: void(refuse(adapter.language, lambda x: x.shape[1] > 100 and len(x) > limit))


def decode(limit: int) -> Refuse:
    return lambda adapter: void(refuse(adapter.language, lambda x: x.shape[1] < 10 and len(x) > limit))


def stage(limit: int) -> Refuse:
    """Of a method inside the LLM: its probes call the attention of a layer, whose input the hook sees."""
    return lambda adapter: void(refuse(adapter.layers[1].get_submodule("self_attn.q_proj"), lambda x: len(x) > limit))


def void(_: object) -> None:
    return None


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[Refuse], None]:
    """From now on loaded models have these hooks."""
    load_model = parts.load_model

    def install(hooks: Refuse) -> None:
        def load_refusing(*args: Any, **kwargs: Any) -> Adapter:
            adapter = load_model(*args, **kwargs)
            hooks(adapter)
            return adapter

        monkeypatch.setattr(parts, "load_model", load_refusing)

    return install


@pytest.fixture
def make(tmp_path: Path, tiny_model: Path, digits: Path) -> Callable[..., Job]:
    def make_here(**changes: Any) -> Job:
        return job_of(tmp_path, tiny_model, digits, **changes)

    return make_here


def job_of(results: Path, tiny_model: Path, digits: Path, batch: int = BATCH, methods: dict[str, Any] = METHODS) -> Job:
    sweep = make_sweep(
        tiny_model,
        digits,
        models={"tiny": {"source": str(tiny_model), "batch_images": batch}},
        datasets={NAME: {"source": str(digits / NAME), "limit": IMAGES}},
        methods=methods,
        keeps=[0.5],
        stability_images=4,
    )
    return make_job(results, sweep, NAME)


def run(job: Job) -> Rows:
    reference(job)
    evaluate(job, job.cells())
    return rows_of(job, *REFERENCES, *job.cells())


REFERENCES = tuple(Cell("tiny", NAME, method, KEEP_ALL) for method in (FULL, FLOOR))


def rows_of(job: Job, *cells: Cell) -> Rows:
    return {cell: {row["sample_id"]: row for row in pq.read_table(job.published(cell)).to_pylist()} for cell in cells}


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, digits: Path) -> Rows:
    """The same job where everything fits."""
    return run(job_of(tmp_path_factory.mktemp("roomy"), tiny_model, digits))


def check_same(found: Rows, roomy: Rows) -> None:
    """The same answers, the same kept tokens, and log-probabilities to 1e-4."""
    for cell, rows in found.items():
        assert rows.keys() == roomy[cell].keys()
        for key, row in rows.items():
            other = roomy[cell][key]
            assert row["status"] == "ok", row["error"]
            assert (row["prediction"], row["kept_indices"]) == (other["prediction"], other["kept_indices"]), cell
            assert row["logsumexp"] == pytest.approx(other["logsumexp"], abs=1e-4)
            assert row["topk_logprobs"] == pytest.approx(other["topk_logprobs"], abs=1e-4)


def sizes(rows: Rows, cell: Cell) -> list[int]:
    return sorted({row["batch_size"] for row in rows[cell].values()})


@pytest.mark.parametrize(
    ("where", "methods"), [(encode, ["lofi"]), (prefill, ["lofi", "mmtok"]), (decode, ["lofi"]), (stage, ["fastv"])]
)
def test_a_batch_that_does_not_fit_is_halved_and_the_numbers_stay(
    where: Callable[[int], Refuse],
    methods: list[str],
    make: Callable[..., Job],
    load: Callable[[Refuse], None],
    roomy: Rows,
    capsys: pytest.CaptureFixture[str],
) -> None:
    load(where(2))
    job = make(methods={name: METHODS[name] for name in methods})
    found = run(job)
    check_same(found, roomy)
    full, *others = found
    assert [sizes(roomy, cell) for cell in found] == [[4], [1]] + [[4]] * (len(others) - 1)
    assert [sizes(found, cell) for cell in found] == [[2], [1]] + [[2]] * (len(others) - 1)
    assert read_metadata(job.published(full))["batch_images"] == 4
    told = [line for line in capsys.readouterr().err.splitlines() if "out of memory" in line]
    line = "out of memory with 4 images together, going on with 2: CUDA out of memory. Tried to allocate 2.00 GiB"
    assert told == [line] * 2  # once in each of the two jobs, because the smaller size stays


def test_half_of_an_odd_batch_is_the_larger_half(
    make: Callable[..., Job], load: Callable[[Refuse], None], roomy: Rows
) -> None:
    load(encode(4))
    job = make(batch=5, methods={"lofi": {}})
    reference(job)
    found = rows_of(job, *REFERENCES)
    check_same(found, roomy)
    assert sizes(found, REFERENCES[0]) == [3]


def test_a_floor_of_single_images_still_has_a_layout_of_its_own(
    make: Callable[..., Job], load: Callable[[Refuse], None], roomy: Rows
) -> None:
    widths: list[tuple[int, int]] = []

    def look(adapter: Adapter) -> None:
        encode(1)(adapter)
        adapter.language.register_forward_pre_hook(
            lambda _m, _a, kwargs: widths.append(tuple(kwargs["inputs_embeds"].shape[:2])), with_kwargs=True
        )

    load(look)
    job = make(methods={"lofi": {}})
    reference(job)
    prefills = [width for b, width in widths if width > 100]
    assert {b for b, width in widths if width > 100} == {1}
    assert len(prefills) == 2 * IMAGES
    full, floor = prefills[:IMAGES], prefills[IMAGES:]
    assert [b - a for a, b in zip(full, floor, strict=True)] == [parts.FLOOR_PADDING] * IMAGES
    check_same(rows_of(job, *REFERENCES), roomy)


def test_a_cell_that_fits_no_single_image_is_errors_and_the_others_go_on(
    make: Callable[..., Job], load: Callable[[Refuse], None], roomy: Rows
) -> None:
    job = make(methods={name: METHODS[name] for name in ("lofi", "tome_vit")})
    reference(job)
    refused: list[list[int]] = []

    def hooks(adapter: Adapter) -> None:
        # tome_vit runs the encoder's blocks by itself, on one image without a batch axis
        norm = adapter.encoder_layers[0].get_submodule("layer_norm1")
        refused.append(refuse(norm, lambda x: x.ndim == 2))

    load(hooks)
    assert evaluate(job, job.cells()).computed == 2
    for cell, rows in rows_of(job, *job.cells()).items():
        if cell.method != "tome_vit":
            check_same({cell: rows}, {cell: roomy[cell]})
            continue
        assert {(row["status"], row["error"], row["batch_size"]) for row in rows.values()} == {
            ("error", "one image by itself is out of memory: CUDA out of memory. Tried to allocate 2.00 GiB", 1)
        }
    # halving twice, then for each image its halves of the cells: never without an end
    assert len(refused[0]) <= 2 + IMAGES * 4


def test_an_image_that_fits_nowhere_is_errors_in_every_cell(
    make: Callable[..., Job], load: Callable[[Refuse], None], roomy: Rows
) -> None:
    job = make(methods={"lofi": {}})
    marked: list[torch.Tensor] = []

    def hooks(adapter: Adapter) -> None:
        (photo,) = job.first_photos(3)[2:]
        marked.append(opened(adapter, [open_image(photo.content)]).pixels["pixel_values"])
        refuse(adapter.part("vision_tower"), lambda x: bool((x == marked[0]).flatten(1).all(1).any()))

    load(hooks)
    image_hash = job.images[2][0]
    for cell, rows in run(job).items():
        for key, row in rows.items():
            if row["image_hash"] != image_hash:
                assert alike(row["topk_logprobs"], roomy[cell][key]["topk_logprobs"])
                continue
            assert row["status"] == "error"
            first = "one image by itself is out of memory: CUDA out of memory"
            lost = "the full model failed on this image, so there is nothing to compare with"
            assert row["error"].startswith(first if cell.method == FULL else lost)


def test_a_model_that_never_fits_is_rows_of_errors_not_the_end(
    make: Callable[..., Job], load: Callable[[Refuse], None]
) -> None:
    load(encode(0))
    job = make(methods={"lofi": {}, "fastv": {"budget": "tokens"}})
    for rows in run(job).values():
        assert len(rows) == job.n_samples
        assert {row["status"] for row in rows.values()} == {"error"}


def test_a_calibration_goes_on_in_smaller_batches_and_says_what_it_needs(
    make: Callable[..., Job], load: Callable[[Refuse], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = {"lofi_adaptive": {}, "fitprune": {"keeps": [0.6]}}
    monkeypatch.setattr(calibrate, "SAMPLES", 3)
    job = make(methods=methods)
    reference(job)
    load(encode(2))
    evaluate(job, job.cells())
    found = rows_of(job, *job.cells())
    assert {row["status"] for rows in found.values() for row in rows.values()} == {"ok"}
    load(prefill(0))
    other = make(methods={"fitprune": {"keeps": [0.7]}})
    with pytest.raises(
        UserError, match=r"none of the first 3 images of digits-vqa decodes and runs through tiny in its memory"
    ):
        evaluate(other, other.cells())


def test_self_agreement_goes_on_in_smaller_batches(make: Callable[..., Job], load: Callable[[Refuse], None]) -> None:
    job = make(methods={"lofi": {}, "fastv": {"budget": "tokens"}, "tome_vit": {}})
    path = job.results / stability_path("tiny", NAME)
    stability(job)
    expected = pq.read_table(path).to_pylist()

    def hooks(adapter: Adapter) -> None:
        encode(2)(adapter)
        refuse(adapter.encoder_layers[0].get_submodule("layer_norm1"), lambda x: x.ndim == 2)

    load(hooks)
    assert stability(job) == len(expected) == 3 * 4 * len(VARIANTS)
    key = ("method", "variant", "image_hash")
    found = {tuple(row[name] for name in key): row for row in pq.read_table(path).to_pylist()}
    for row in expected:
        other = found[tuple(row[name] for name in key)]
        if row["method"] == "tome_vit":
            assert other["error"].startswith("one image by itself is out of memory")
        else:
            assert other == row


def test_what_a_failed_pass_held_is_free_again() -> None:
    import weakref

    held: list[weakref.ref[torch.Tensor]] = []

    def work() -> None:
        tensor = torch.zeros(10)
        cycle: list[Any] = [tensor]
        cycle.append(cycle)  # as hooks and closures make them
        held.append(weakref.ref(tensor))
        raise torch.OutOfMemoryError(MESSAGE)

    assert memory.attempt(work) == memory.OutOfMemory("CUDA out of memory. Tried to allocate 2.00 GiB")
    assert held[0]() is None


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    def work() -> None:
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        memory.attempt(work)
