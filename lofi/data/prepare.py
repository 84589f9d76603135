"""From a dataset, wherever it lies, to `docs.parquet` and `images.parquet`. The rest needs no network."""

from collections.abc import Callable
from pathlib import Path

from lofi.data.collection import BATCH_DOCS, UNFIT, Collection
from lofi.data.docs import DOCS_FILE, IMAGES_FILE, revision_of
from lofi.data.images import image_writer
from lofi.data.reading import Reading, readings
from lofi.data.registry import Card
from lofi.data.source import open_source
from lofi.errors import UserError, unknown
from lofi.store import write_table

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
    exif: str = "ignored",
    progress: Progress = silent,
) -> None:
    """Write the dataset of `card` to the folder `out`.

    `limit` is a number of images, in order, each with all of its questions; 0 takes all. `source` overrides the
    card's: a hub id, a local folder or a table in the same columns. `exif` is how images are decoded. A row whose
    image is missing or broken stays.
    """
    if prompt_style not in card.prompts:
        raise unknown(f"prompt style of dataset {card.name}", prompt_style, card.prompts)
    opened = open_source(card, source, out, limit=limit)
    metadata = {
        "dataset": card.name,
        "source": source or card.source,
        "revision": opened.revision,
        "config": card.config,
        "split": card.split,
        "limit": limit,
        "exif": exif,
    }
    collection = Collection(card, prompt_style)
    with image_writer(out / IMAGES_FILE, metadata) as images:
        for reading in readings(opened, card, images.add, exif=exif, limit=limit):
            _take(collection, reading)
            if collection.taken % BATCH_DOCS == 0:
                progress(collection.taken, images.n_images)
        if not collection.taken:
            raise UserError(f"dataset {card.name} has no rows; check its source, config, split and `where`")
    docs = collection.table()
    metadata |= {"prompt_style": prompt_style, "key": revision_of(docs), "n_images": images.n_images}
    write_table(docs, out / DOCS_FILE, metadata)
    progress(docs.num_rows, images.n_images)


def _take(collection: Collection, reading: Reading) -> None:
    entry = reading.entry
    try:
        if entry.error:
            raise ValueError(entry.error)
        collection.take(reading)
    except UNFIT as error:
        raise UserError(
            f"dataset {collection.card.name}, {entry.place}: {error}; correct the row or the card, and see "
            "`lofi data check` for all such rows"
        ) from None
