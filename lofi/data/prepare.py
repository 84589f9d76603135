"""From a dataset, wherever it lies, to `docs.parquet` and `images.parquet`. The rest needs no network."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa

from lofi.data.digest import digest, digest_text, digest_values
from lofi.data.docs import DOCS_FILE, IMAGES_FILE, Doc, docs_table, revision_of
from lofi.data.images import ImageWriter, image_writer, inspect
from lofi.data.prompts import fill, options_of, render, task_of
from lofi.data.registry import Card
from lofi.data.rows import category_of, image_bytes, labels_of, target_of, targets_of
from lofi.errors import UserError, unknown
from lofi.store import write_table

DEFAULT_GENERATED_IMAGES = 300
BATCH_DOCS = 4096

Row = dict[str, Any]
Progress = Callable[[int, int], None]  # told the number of questions and of images so far


def silent(questions: int, images: int) -> None:
    """The progress that nobody watches."""


def prepare(
    card: Card,
    out: Path,
    *,
    limit: int = 0,
    prompt_style: str,
    source: str | None = None,
    progress: Progress = silent,
) -> None:
    """Write the dataset of `card` to the folder `out`.

    `limit` is a number of images, in order, each with all of its questions; 0 takes all. `source` overrides
    the card's: a hub id or a local folder in the same columns. A row whose image is missing or broken stays.
    """
    if prompt_style not in card.prompts:
        raise unknown(f"prompt style of dataset {card.name}", prompt_style, card.prompts)
    origin = locate(card, source, out, limit)
    metadata = {
        "dataset": card.name,
        "source": source or card.source,
        "revision": origin.revision,
        "config": card.config,
        "split": card.split,
        "limit": limit,
    }
    reading = Reading(card, prompt_style)
    with image_writer(out / IMAGES_FILE, metadata) as images:
        read_all(rows_of(card, origin), reading, images, limit=limit, progress=progress)
    docs = reading.table()
    metadata |= {"prompt_style": prompt_style, "key": revision_of(docs), "n_images": len(reading.images)}
    write_table(docs, out / DOCS_FILE, metadata)
    progress(docs.num_rows, len(reading.images))


def read_all(rows: Iterator[Row], reading: "Reading", images: ImageWriter, *, limit: int, progress: Progress) -> None:
    """Feed the rows of the first `limit` images to `reading`, and each distinct image to `images`."""
    card = reading.card
    for row in rows:
        content = image_bytes(row.pop(card.images[0]))
        image_hash = digest(content)
        if image_hash not in reading.images:
            if limit and len(reading.images) == limit:
                if card.grouped:
                    break
                reading.skip()
                continue
            images.add(inspect(content))
        reading.take(row, image_hash, missing=not content)
        if reading.taken % BATCH_DOCS == 0:
            progress(reading.taken, len(reading.images))


class Reading:
    """Rows become docs, in compact batches; at the end they are put in the order of their images."""

    def __init__(self, card: Card, prompt_style: str) -> None:
        self.card = card
        self.prompt_style = prompt_style
        self.images: dict[str, int] = {}  # the order of first appearance
        self.taken = 0
        self._seen = 0
        self._ids: Counter[str] = Counter()
        self._ranks: list[int] = []
        self._docs: list[Doc] = []
        self._batches: list[pa.Table] = []

    def skip(self) -> None:
        """Pass over a row; the rows after it keep their numbers."""
        self._seen += 1

    def take(self, row: Row, image_hash: str, *, missing: bool) -> None:
        """Turn a row, its image taken out of it, into a doc."""
        try:
            doc = self._doc(row, image_hash, missing=missing)
        except (ValueError, TypeError) as error:
            raise UserError(
                f"dataset {self.card.name}, row {self._seen}: {error}; correct the row or the card"
            ) from None
        self._seen += 1
        self.taken += 1
        self._ranks.append(self.images.setdefault(image_hash, len(self.images)))
        self._docs.append(doc)
        if len(self._docs) == BATCH_DOCS:
            self._compact()

    def table(self) -> pa.Table:
        """All docs, by image and then by row."""
        self._compact()
        if not self.taken:
            raise UserError(f"dataset {self.card.name} has no rows; check its source, config and split")
        order = pa.table({"rank": self._ranks, "at": range(self.taken)}).sort_by(
            [("rank", "ascending"), ("at", "ascending")]
        )
        return pa.concat_tables(self._batches).unify_dictionaries().take(order.column("at")).combine_chunks()

    def _compact(self) -> None:
        self._batches.append(docs_table(self._docs))
        self._docs = []

    def _doc(self, row: Row, image_hash: str, *, missing: bool) -> Doc:
        card = self.card
        fields = {**row, "row": self._seen}
        options = options_of(card, row)
        task = task_of(card, row)
        labels = labels_of(task, options)
        target = target_of(str(row[card.target]), task, labels)
        prompt = render(card, self.prompt_style, fields)
        sample_id = self._unique(fill(card.sample_id, fields))
        cluster = fill(card.cluster, fields) if card.cluster else sample_id if missing else image_hash
        return Doc(
            sample_id=sample_id,
            group_id=fill(card.group, fields) if card.group else sample_id,
            figure_id=fill(card.figure, fields) if card.figure else None,
            cluster_id=cluster,
            image_hash=image_hash,
            doc_hash=digest_values(row),
            category=category_of(row, card.category),
            l2_category=category_of(row, card.l2_category),
            question=str(row[card.question]),
            options=tuple(options),
            option_labels=tuple(labels),
            target=target,
            targets=tuple(targets_of(card, row, target)),
            task_type=task,
            prompt=prompt,
            prompt_hash=digest_text(prompt),
            split=card.split,
            max_new_tokens=card.max_new_tokens,
        )

    def _unique(self, sample_id: str) -> str:
        """A dataset may repeat an id (MME: one per image); the second row of an id gets `#2`."""
        self._ids[sample_id] += 1
        return sample_id if self._ids[sample_id] == 1 else f"{sample_id}#{self._ids[sample_id]}"


@dataclass(frozen=True)
class Origin:
    """A local folder, or a repository of the hub at a revision (empty: its main branch)."""

    place: str
    revision: str = ""
    other_places: tuple[str, ...] = ()  # where the hub keeps the same data

    @property
    def is_folder(self) -> bool:
        """Whether it is here already."""
        return Path(self.place).is_dir()


def locate(card: Card, source: str | None, out: Path, limit: int) -> Origin:
    """Where to read from. A built-in dataset is made first; a hub id given here may be `id@revision`."""
    if source and source not in (card.source, *card.aliases):
        place, _, revision = (source, "", "") if Path(source).is_dir() else source.partition("@")
        return Origin(place, revision)
    if not card.generated:
        return Origin(card.source, card.revision, card.aliases)
    from lofi.data.digits.folder import write_folder

    folder = out / "source"
    write_folder(card.generated, folder, n_images=limit or DEFAULT_GENERATED_IMAGES)
    return Origin(str(folder))


def rows_of(card: Card, origin: Origin) -> Iterator[Row]:
    """The rows in order, the card's columns only, images still encoded, never more than a batch in memory."""
    import datasets

    with TemporaryDirectory() as scratch:  # a stream stores nothing, but leaves a lock file
        try:
            stream = open_stream(card, origin, scratch)
            names = stream.column_names or []
            if missing := [column for column in card.columns if column not in names]:
                raise UserError(
                    f"{origin.place} lacks the columns {', '.join(missing)} of dataset {card.name}; "
                    f"it has {', '.join(names)}"
                )
            # By row groups: within one shard Arrow reads ahead, up to a gigabyte of it.
            stream = stream.reshard().select_columns(list(card.columns))
            yield from stream.cast_column(card.images[0], datasets.Image(decode=False))
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"cannot read dataset {card.name} from {origin.place}: {reason}; check its source, or "
                "download it where there is a network and give the folder as `source`"
            ) from error


def open_stream(card: Card, origin: Origin, scratch: str) -> Any:
    """The dataset as a stream; of the hub's names for it, the first that exists."""
    import datasets

    places = [str(Path(origin.place).resolve())] if origin.is_folder else [origin.place, *origin.other_places]
    for place in places:
        try:
            return datasets.load_dataset(
                place,
                card.config,
                split=card.split,
                revision=origin.revision or None,
                streaming=True,
                cache_dir=scratch,
            )
        except FileNotFoundError:
            if place == places[-1]:
                raise
    raise AssertionError("there is always one place")
