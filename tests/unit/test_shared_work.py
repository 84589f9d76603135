"""How often the engine does what: counts, which no busy machine changes."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from lofi import checksum
from lofi.cell import kept_count
from lofi.engine.calibrate import calibrate
from lofi.engine.job import Job
from lofi.engine.parts import open_session, read_full_run
from lofi.engine.plans import Plan
from lofi.engine.run import run_images
from lofi.engine.stages import evaluate, reference
from lofi.models.adapter import Adapter
from tests.unit.engine_setup import make_job, make_sweep

IMAGES = 4
METHODS: dict[str, Any] = {
    "lofi": {},
    "random": {"seeds": [0, 1]},
    "fastv": {"budget": "tokens"},  # before layer 2 of 6
    "pyramiddrop": {"budget": "tokens"},  # before layers 2, 3 and 5, for a decoder of 6 layers
    "cdpruner": {},  # sees the question
}
KEEPS = [0.25, 9]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, digits: Path) -> Job:
    sweep = make_sweep(tiny_model, digits, methods=METHODS, keeps=KEEPS)
    job = make_job(tmp_path_factory.mktemp("results"), sweep, "digits-pope")
    reference(job)
    return job


@contextmanager
def counted(adapter: Adapter) -> Iterator[Counter[str]]:
    """Calls of the encoder, and tokens that go through each decoder layer's MLP."""
    found: Counter[str] = Counter()

    def tokens(name: str) -> Callable[..., None]:
        def hook(_module: Any, inputs: tuple[Any, ...], _output: Any) -> None:
            found[name] += inputs[0].shape[0] * inputs[0].shape[1]

        return hook

    def images(_module: Any, _inputs: Any, output: Any) -> None:
        found["images"] += len(output)

    layers = enumerate(adapter.layers)
    handles = [layer.mlp.gate_proj.register_forward_hook(tokens(f"layer {i}")) for i, layer in layers]
    handles.append(adapter.projector.register_forward_hook(images))
    yield found
    for handle in handles:
        handle.remove()


def test_shared_work_is_done_once(job: Job) -> None:
    """Of four images and all their questions: encoder, text before the image, prefix and first layers."""
    session = open_session(job)
    session.fitted = calibrate(session, job, job.cells())
    photos = job.photos(job.spans[0])[:IMAGES]
    plans = [Plan(cell, job.method(cell), job.params_hash(cell)) for cell in job.cells()]
    full = read_full_run(job)
    with counted(session.adapter) as found:
        rows = list(run_images(session, photos, plans, full))
    (batch,) = session.open(list(session.load(photos)), [plan.method for plan in plans])
    assert sum(table.num_rows for tables, _ in rows for table in tables.values()) == len(plans) * len(batch.docs)
    assert found["images"] == IMAGES
    assert dict(found) == {"images": IMAGES, **expected(job, batch, plans, session.stages, len(session.adapter.layers))}


def test_images_are_read_once_and_every_cell_is_written_as_parts_and_whole(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the number of cells: files that are opened, groups of images that are read, bytes that are written."""
    found: Counter[str] = Counter()
    read, begin, seal = pq.ParquetFile.read_row_group, pq.ParquetFile.__init__, checksum.sealing

    def reading(self: pq.ParquetFile, *args: Any, **options: Any) -> Any:
        found[f"groups of {','.join(options['columns'])}"] += 1
        return read(self, *args, **options)

    def opening(self: pq.ParquetFile, source: Any, *args: Any, **options: Any) -> None:
        found[
            f"opened {Path(source).name}" if isinstance(source, str | Path) else "opened for what is stamped on it"
        ] += 1
        begin(self, source, *args, **options)

    @contextmanager
    def sealing(path: Path, *args: Any, **options: Any) -> Iterator[pq.ParquetWriter]:
        with seal(path, *args, **options) as writer:
            yield writer
        found["files written"] += 1
        found["bytes written"] += path.stat().st_size

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", reading)
    monkeypatch.setattr(pq.ParquetFile, "__init__", opening)
    monkeypatch.setattr(checksum, "sealing", sealing)
    job = replace(job)  # which has read nothing yet
    cells = job.cells("lofi") + job.cells("random")
    evaluate(job, cells)
    (span,), groups = job.spans, job.stored._file.num_row_groups
    assert found.pop("bytes written") < 2.1 * sum(job.published(cell).stat().st_size for cell in cells)
    assert found.pop("opened for what is stamped on it") <= 3 * len(cells) + 3  # its part, the whole, what is published
    assert dict(found) == {
        "opened docs.parquet": 1,
        "opened images.parquet": 2,  # what is wrong with them, and the images
        "opened shard-0000.parquet": 1,  # the full model's states
        "opened images-0000.parquet": 1,
        "groups of image_hash": groups,
        "groups of bytes": groups,
        f"opened samples-{span.start:07d}-{span.stop:07d}.parquet": len(cells),
        "files written": 2 * len(cells),  # a part and the whole
    }


def expected(job: Job, batch: Any, plans: list[Plan], stages_of: Any, depth: int) -> dict[str, int]:
    """Tokens through the MLP of each layer, by the rules of the engine: in the last, those whose output is read."""
    n, asked = batch.n_visual, int(batch.questions.lengths.sum(1).max())  # a row has as many columns as the longest
    text = int(batch.questions.before.placeholders.min())
    behind = len(batch.questions.before.ids) - n - text  # text between the image and the questions
    found = Counter({f"layer {i}": text for i in range(depth)})  # the text in front of the images, once for all
    m = len(batch.docs)
    widths = sorted(int(batch.questions.lengths[i, j]) for i, j in zip(batch.image, batch.question, strict=True))
    size = batch.questions.lengths.shape[0]
    # one question to a row: questions of one length together, as wide as the widest of its batch
    rows = [max(widths[start : start + size]) for start in range(0, m, size) for _ in widths[start : start + size]]
    last, slots = depth - 1, batch.questions.lengths.numel()  # of questions, also where an image has fewer
    run: set[int] = set()
    for plan in plans:
        kept = kept_count(plan.cell.keep, n)
        stages = stages_of(plan.cell, plan.method, n)
        if plan.method.reducer == "cdpruner":
            for i in range(last):
                found[f"layer {i}"] += sum(kept + behind + width for width in rows)
            found[f"layer {last}"] += m
        elif stages is None:
            for i in range(last):
                found[f"layer {i}"] += size * (kept + behind + asked)
            found[f"layer {last}"] += slots
        else:
            left, at = n, {stage.layer: stage.count for stage in stages}
            for i in range(last):
                left = at.get(i, left)
                if i >= min(at) or i not in run:
                    found[f"layer {i}"] += sum(text + left + behind + width for width in rows)
                if i < min(at):
                    run.add(i)
            found[f"layer {last}"] += m
    return dict(found)
