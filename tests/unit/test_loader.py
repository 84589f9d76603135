"""Photos opened ahead: the same as opened here, in order, few at a time, and nothing lost when a worker dies."""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from lofi.data.docs import Doc
from lofi.engine import job as job_module
from lofi.engine import loader as loader_module
from lofi.engine.batch import OpenPhoto
from lofi.engine.cache import Span
from lofi.engine.job import Job
from lofi.engine.loader import AHEAD, CHUNK, Loader, workers_for
from lofi.engine.photo import Photo
from lofi.engine.stages import evaluate, reference
from lofi.errors import UserError
from lofi.models.facts import ASSETS
from lofi.models.pictures import Opening
from lofi.models.processor import load_processor
from tests.datasets.pictures import encoded

from .engine_setup import make_job, make_sweep, random_image

CPU = torch.device("cpu")
MODELS = ("digits-llava", "digits-qwen")
OF_A_RUN = {"run_id", "t_vision_ms", "t_select_ms", "t_prefill_ms", "t_decode_ms"}


@pytest.fixture(scope="module", params=MODELS)
def opening(request: pytest.FixtureRequest) -> Opening:
    return Opening(load_processor(ASSETS / request.param), CPU)


@pytest.fixture(scope="module")
def llava() -> Opening:
    return Opening(load_processor(ASSETS / "digits-llava"), CPU)


def doc(number: int) -> Doc:
    values: dict[str, Any] = dict.fromkeys(Doc.__dataclass_fields__, "")
    return Doc(**{**values, "sample_id": str(number), "prompt": f"What is number {number}?", "option_labels": ()})


def photo(number: int, content: bytes | None) -> Photo:
    return Photo(f"{number:064x}", content, (doc(number),))


def photos(count: int) -> list[Photo]:
    """Pictures of several sizes and kinds, some of them none."""
    found = []
    for number in range(count):
        image = random_image(number).resize((96 + 16 * (number % 3), 96))
        content: bytes | None = encoded(image, ("PNG", "JPEG")[number % 2])
        if number % 7 == 3:
            content = (None, b"", b"no image", content and content[:400])[number // 7 % 4]
        found.append(photo(number, content))
    return found


def same(one: list[OpenPhoto], other: list[OpenPhoto]) -> None:
    assert [each.photo for each in one] == [each.photo for each in other]
    assert [each.error for each in one] == [each.error for each in other]
    for here, there in zip(one, other, strict=True):
        assert (here.picture is None) == (there.picture is None) == bool(here.error)
        if here.picture and there.picture:
            assert here.picture.inputs.keys() == there.picture.inputs.keys()
            for name, tensor in here.picture.inputs.items():
                assert tensor.dtype == there.picture.inputs[name].dtype
                assert torch.equal(tensor, there.picture.inputs[name])


def test_workers_open_what_is_opened_here(opening: Opening) -> None:
    asked = photos(43)
    here = list(Loader(opening).open(asked))
    assert [each.photo for each in here] == asked
    errors = [each.error for each in here if each.error]
    assert errors[0] == errors[1] == "the image is missing from the dataset"
    assert errors[2] == "image does not decode: UnidentifiedImageError: cannot identify image file"
    assert len(errors) == 6
    assert errors[3].startswith("image does not decode")
    ahead = Loader(opening, workers=2)
    same(list(ahead.open(asked)), here)
    same(list(ahead.open(asked[:5])), here[:5])  # the workers stay


def test_what_no_slot_holds_arrives_all_the_same(opening: Opening, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = photos(9)
    here = list(Loader(opening).open(asked))
    monkeypatch.setattr(loader_module, "SLOT", 2**16)  # less than four pictures
    same(list(Loader(opening, workers=1).open(asked)), here)


def test_few_photos_are_taken_ahead(llava: Opening) -> None:
    taken, given, most = 0, 0, 0

    def counted() -> Iterator[Photo]:
        nonlocal taken
        for each in photos(60):
            taken += 1
            yield each

    for _ in Loader(llava, workers=2).open(counted()):
        most = max(most, taken - given)
        given += 1
    assert (given, most) == (60, 2 * AHEAD * CHUNK)


def test_one_who_stops_early_leaves_the_loader_usable(llava: Opening) -> None:
    loader, asked = Loader(llava, workers=2), photos(40)
    stream = loader.open(asked)
    next(stream)
    with pytest.raises(RuntimeError, match="still opening other photos"):
        next(loader.open(asked))
    stream.close()
    same(list(loader.open(asked)), list(Loader(llava).open(asked)))


def test_photographs_are_turned_where_that_is_asked(llava: Opening) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = random_image(1).resize((120, 96))
    asked = [photo(0, encoded(image, "JPEG", exif=exif.tobytes()))]
    shown = {policy: list(Loader(llava, 1, policy).open(asked)) for policy in ("ignored", "applied")}
    for policy, found in shown.items():
        same(found, list(Loader(llava, 0, policy).open(asked)))
    pictures = [found[0].picture for found in shown.values()]
    assert not torch.equal(*(picture.inputs["pixel_values"] for picture in pictures if picture))


def test_a_killed_worker_is_one_clear_error(llava: Opening) -> None:
    loader = Loader(llava, workers=2)
    stream = loader.open(photos(60))
    next(stream)
    before = multiprocessing.active_children()
    assert len(before) >= 2
    for process in before:
        os.kill(process.pid or 0, signal.SIGKILL)
    with pytest.raises(UserError, match=r"a worker process that opens images was killed.*run the same command again"):
        list(stream)


def test_a_killed_worker_costs_no_finished_part(
    tmp_path: Path, tiny_model: Path, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_module, "PART_IMAGES", 2)
    job = ready(tmp_path, tiny_model, digits, workers=1)
    fatal, original = job.photos(job.spans[2])[0].content, loader_module.open_image
    with monkeypatch.context() as deadly:

        def open_image(content: bytes, *, exif: str) -> Image.Image:
            if content == fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(content, exif=exif)

        deadly.setattr(loader_module, "open_image", open_image)
        with pytest.raises(UserError, match="a worker process that opens images was killed"):
            reference(job)
    parts = list((tmp_path / "cache").rglob("samples-*.parquet"))
    assert len(parts) == 4  # two finished spans of full and floor
    seen, photos_of_span = [], Job.photos

    def photos_of(self: Job, span: Span) -> list[Photo]:
        seen.append(span)
        return photos_of_span(self, span)

    monkeypatch.setattr(Job, "photos", photos_of)
    assert reference(job).computed == 2
    assert set(seen) == set(job.spans[2:])


def ready(folder: Path, model: Path, digits: Path, workers: int) -> Job:
    spec = {"source": str(model), "batch_images": 4, "workers": workers}
    sweep = make_sweep(model, digits, models={"tiny": spec}, methods={"lofi": {}}, keeps=[9])
    return make_job(folder, sweep, "digits-pope")


def test_rows_do_not_depend_on_the_workers(tmp_path: Path, tiny_model: Path, digits: Path) -> None:
    tables, keys = [], []
    for workers in (0, 2):
        job = ready(tmp_path / str(workers), tiny_model, digits, workers)
        reference(job)
        evaluate(job, job.cells())
        tables.append([pq.read_table(job.published(cell)).drop_columns(sorted(OF_A_RUN)) for cell in job.cells()])
        keys.append([job.key(cell) for cell in job.cells()])
    assert tables[0] == tables[1]
    assert keys[0] == keys[1]


def test_auto_starts_none_beside_a_model_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert workers_for("auto", CPU) == 0
    for cores, expected in ((1, 0), (2, 1), (6, 5), (64, 8)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: range(cores))
        assert workers_for("auto", torch.device("cuda")) == expected
    assert workers_for(3, CPU) == 3


def lonely(opening: Opening, told: Connection) -> None:
    """Start workers, tell who they are, and wait to be killed."""
    next(Loader(opening, workers=2).open(photos(60)))
    told.send([process.pid for process in multiprocessing.active_children()])
    time.sleep(60)


def test_workers_end_with_a_killed_parent(llava: Opening) -> None:
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    parent = context.Process(target=lonely, args=(llava, there))
    parent.start()
    workers = here.recv()
    assert len(workers) == 2
    parent.kill()
    parent.join()
    for _ in range(200):
        if not any(map(alive, workers)):
            return
        time.sleep(0.05)
    pytest.fail("workers outlive the process they work for")


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"
