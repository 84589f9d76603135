"""One job: a model, a dataset and a shard of its images, with the keys and caches of its cells."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lofi.cell import AS_LOADED, FLOOR, FULL, KEEP_ALL, Cell
from lofi.data.docs import IMAGES_FILE, Doc, Docs, load_docs
from lofi.data.stored import StoredImages
from lofi.engine.cache import CellCache, Span
from lofi.engine.photo import Photo
from lofi.errors import UserError, unknown
from lofi.grading import Grading
from lofi.identity import cell_key, scorer_of
from lofi.methods.registry import check_params
from lofi.models.conversation import template_text
from lofi.models.facts import fingerprint
from lofi.store import concat, read_metadata, write_table
from lofi.sweep import DatasetSpec, MethodSpec, ModelSpec, Sweep

PART_IMAGES = 64  # that a killed job loses at most, and among which batches are made of questions of like length


@dataclass(frozen=True)
class Job:
    """All that is known before a model is loaded."""

    results: Path
    sweep: Sweep
    model: ModelSpec
    dataset: DatasetSpec
    shard: int

    @cached_property
    def data(self) -> Path:
        """Where `prepare` put the dataset."""
        return self.results / "data" / self.dataset.name

    @cached_property
    def docs(self) -> Docs:
        """Every question of the dataset."""
        return load_docs(self.data)

    @cached_property
    def stored(self) -> StoredImages:
        """The encoded images of the dataset."""
        return StoredImages(self.data / IMAGES_FILE)

    @cached_property
    def grading(self) -> Grading:
        """How the answers to these questions are graded."""
        return Grading(scorer_of(self.dataset), self.docs)

    @cached_property
    def images(self) -> tuple[tuple[str, tuple[Doc, ...]], ...]:
        """The images of this shard with their questions, in the order of the docs."""
        n = len(self.all_images)
        return self.all_images[n * self.shard // self.sweep.shards : n * (self.shard + 1) // self.sweep.shards]

    @cached_property
    def all_images(self) -> tuple[tuple[str, tuple[Doc, ...]], ...]:
        """The images of all shards with their questions, in the order of the docs."""
        return tuple((key, tuple(rows)) for key, rows in groupby(self.docs.rows, key=lambda doc: doc.image_hash))

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """The parts a shard is evaluated in."""
        return tuple(
            Span(start, stop, sum(len(docs) for _, docs in self.images[start:stop]))
            for start in range(0, len(self.images), PART_IMAGES)
            for stop in [min(start + PART_IMAGES, len(self.images))]
        )

    @cached_property
    def n_samples(self) -> int:
        """Questions in this shard."""
        return sum(span.n_samples for span in self.spans)

    def part_rows(self, kind: str) -> list[int]:
        """How many rows each part of a table of that kind has: one for each sample, or for each image."""
        return [span.stop - span.start if kind == "means" else span.n_samples for span in self.spans]

    @property
    def references(self) -> tuple[Cell, Cell]:
        """The cells of the full model and of the noise floor."""
        full, floor = (Cell(self.model.name, self.dataset.name, method, KEEP_ALL) for method in (FULL, FLOOR))
        return full, floor

    @property
    def reference_tables(self) -> list[tuple[Cell, str]]:
        """The tables that a reference makes: a cell, and what of it."""
        full, floor = self.references
        return [(full, "samples"), (full, "hidden"), (full, "means"), (floor, "samples")]

    @cached_property
    def model_revision(self) -> str:
        """The model's commit or fingerprint."""
        return fingerprint(self.model.source, self.model.revision)

    def key(self, cell: Cell) -> str:
        """The hash of all that could change the answers of this cell's shard."""
        return cell_key(
            model=self._model_settings,
            dataset=self._dataset_settings,
            method=self.method(cell),
            cell=cell,
            shard=self.shard,
            shards=self.sweep.shards,
        )

    @cached_property
    def _model_settings(self) -> dict[str, Any]:
        """What keys say of the model. Its files are read once: they have gigabytes, and so has a text tower."""
        return {
            **vars(self.model),
            "revision": self.model_revision,
            "text_tower": self.model.text_tower and fingerprint(self.model.text_tower, None),
            "template": self.model.template and template_text(self.model.template),
        }

    @cached_property
    def _dataset_settings(self) -> dict[str, Any]:
        """What keys say of the dataset."""
        return {**vars(self.dataset), "revision": self.docs.revision}

    def method(self, cell: Cell) -> MethodSpec:
        """What the cell's method runs."""
        return self.sweep.method(cell.method)

    def by_weights(self, cells: Iterable[Cell]) -> dict[str, list[Cell]]:
        """The cells that can share a loaded model."""
        groups: dict[str, list[Cell]] = {}
        for cell in cells:
            groups.setdefault(self.method(cell).weights, []).append(cell)
        return groups

    def params_hash(self, cell: Cell) -> str:
        """A short name for the reducer, its full parameters and what weights it runs on."""
        method = self.method(cell)
        named = [method.reducer, check_params(method.reducer, dict(method.params))]
        text = json.dumps(named + [method.weights] * (method.weights != AS_LOADED), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def cache(self, cell: Cell, kind: str = "samples") -> CellCache:
        """The cache of one of the cell's tables."""
        root = Path(self.sweep.cache).expanduser() if self.sweep.cache else self.results / "cache"
        return CellCache(root, self.key(cell), kind)

    def published(self, cell: Cell) -> Path:
        """Where the cell's samples are published."""
        return self.results / cell.path(self.shard)

    def graded(self, parts: Sequence[pa.Table]) -> pa.Table:
        """The parts of a cell as one table, with the grades of today."""
        return self.grading.grade(concat(parts))

    def publish(self, cell: Cell) -> None:
        """Put the cell's finished samples where they are read; in the cache, too, they carry the grades of today."""
        cache, published, wanted = self.cache(cell), self.published(cell), self.grading.stamp
        while True:
            metadata = read_metadata(cache.whole)
            if metadata.get("grading") != wanted:
                graded = self.grading.grade(pq.read_table(cache.whole))
                write_table(graded, cache.whole, {**metadata, "grading": wanted})
            cache.publish(published)
            if read_metadata(published).get("grading") == wanted:
                return  # else a sweep that shares the cache has just graded it otherwise

    def reference_file(self, kind: str) -> Path:
        """Where the reference publishes its `hidden` states or `means`."""
        stem = {"hidden": "shard", "means": "images"}[kind]
        folder = f"reference/model={self.model.name}/dataset={self.dataset.name}"
        return self.results / folder / f"{stem}-{self.shard:04d}.parquet"

    def photos(self, span: Span) -> list[Photo]:
        """The encoded images of a span with their questions."""
        return self._photos(self.images[span.start : span.stop])

    def first_photos(self, count: int) -> list[Photo]:
        """The first images of the dataset, whatever the shard, each with its first question."""
        return self._photos([(key, docs[:1]) for key, docs in self.all_images[:count]])

    def _photos(self, wanted: Sequence[tuple[str, tuple[Doc, ...]]]) -> list[Photo]:
        # several images have one hash together, under which no picture lies
        contents = self.stored.read(key for key, docs in wanted if any(not doc.image_error for doc in docs))
        return [Photo(key, contents.get(key), docs) for key, docs in wanted]

    def cells(self, method: str | None = None, keep: str | None = None, seed: int | None = None) -> tuple[Cell, ...]:
        """The reduced cells of this job, narrowed to those asked for."""
        here = (self.model.name, self.dataset.name)
        found = [cell for cell in self.sweep.reduced_cells() if (cell.model, cell.dataset) == here]
        for axis, wanted in (("method", method), ("keep", keep), ("seed", seed)):
            if wanted is None:
                continue
            offered = {getattr(cell, axis) for cell in found}
            if wanted not in offered:
                raise unknown(axis, wanted, map(str, offered))
            found = [cell for cell in found if getattr(cell, axis) == wanted]
        return tuple(found)


def open_job(results: Path, sweep: Sweep, model: str, dataset: str, shard: int) -> Job:
    """The job of these names; a name or shard that the sweep lacks is an error."""
    if not 0 <= shard < sweep.shards:
        raise UserError(f"shard {shard} is not one of the sweep's {sweep.shards}; use 0 to {sweep.shards - 1}")
    return Job(results, sweep, sweep.model(model), sweep.dataset(dataset), shard)
