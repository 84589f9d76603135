"""The prepared questions of a dataset, as evaluation reads them. Needs neither torch nor the network."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lofi.data.digest import digest_values
from lofi.data.stored import StoredImages
from lofi.errors import UserError
from lofi.store import read_checked, read_metadata

DOCS_FILE = "docs.parquet"
IMAGES_FILE = "images.parquet"

_name = pa.dictionary(pa.int32(), pa.string())
DOCS = pa.schema(
    [
        ("sample_id", pa.string()),
        ("group_id", pa.string()),
        ("figure_id", pa.string()),
        ("cluster_id", pa.string()),
        ("image_hash", pa.string()),
        ("image_hashes", pa.list_(pa.string())),
        ("doc_hash", pa.string()),
        ("category", _name),
        ("l2_category", _name),
        ("question", pa.string()),
        ("options", pa.list_(pa.string())),
        ("option_labels", pa.list_(pa.string())),
        ("target", pa.string()),
        ("targets", pa.list_(pa.string())),
        ("task_type", _name),
        ("prompt", pa.string()),
        ("prompt_hash", pa.string()),
        ("split", _name),
        ("max_new_tokens", pa.int32()),
        ("image_error", pa.string()),
    ]
)
OPTIONAL = ("figure_id", "category", "l2_category", "image_error")  # what a question may lack


@dataclass(frozen=True, slots=True)
class Doc:
    """One question about one image.

    `image_error` says why the question cannot be asked: its image is missing or broken, or it shows several; then
    `image_hash` stands for all of `image_hashes`.
    """

    sample_id: str
    group_id: str
    figure_id: str | None
    cluster_id: str
    image_hash: str
    image_hashes: tuple[str, ...]
    doc_hash: str
    category: str | None
    l2_category: str | None
    question: str
    options: tuple[str, ...]
    option_labels: tuple[str, ...]
    target: str
    targets: tuple[str, ...]
    task_type: str
    prompt: str
    prompt_hash: str
    split: str
    max_new_tokens: int
    image_error: str | None = None


@dataclass(frozen=True)
class Docs:
    """All questions of a prepared dataset, those of one image side by side, in the order of the images.

    `revision` tells whether two runs asked the same: a hash of the ids, rows, prompts, images and what may be answered.
    """

    rows: tuple[Doc, ...]
    revision: str
    split: str


def docs_table(docs: Iterable[Doc]) -> pa.Table:
    """Docs under the frozen schema. An error is stored where the row is the reason; that of an image is the image's."""
    rows = [asdict(doc) for doc in docs]
    return pa.Table.from_pylist(rows, schema=DOCS)


def revision_of(table: pa.Table) -> str:
    """The revision of a table of docs, whatever its encoding on disk."""
    asked = ("sample_id", "doc_hash", "prompt_hash", "image_hash", "task_type", "option_labels", "max_new_tokens")
    return digest_values([table.column(name).to_pylist() for name in asked])


def load_docs(folder: Path) -> Docs:
    """The docs that `prepare` wrote to `folder`, checked against their revision and their images."""
    path = folder / DOCS_FILE
    try:
        metadata = read_metadata(path)
        table = read_checked(path).cast(DOCS)
        errors = _image_errors(folder)
    except (OSError, ValueError, pa.ArrowException) as error:  # ValueError: other columns, or a stamp that is no JSON
        raise UserError(f"{folder} holds no readable dataset ({error}); run `lofi prepare`") from None
    if lacking := [name for name in DOCS.names if table.column(name).null_count and name not in OPTIONAL]:
        raise UserError(f"{folder} holds questions without {', '.join(lacking)}; run `lofi prepare` again")
    revision = revision_of(table)
    if metadata.get("key") != revision or not errors.keys() >= set(
        pc.list_flatten(table.column("image_hashes")).to_pylist()
    ):
        raise UserError(f"{folder} holds questions and images that do not belong together; run `lofi prepare` again")
    return Docs(rows=_rows(table, errors), revision=revision, split=metadata["split"])


def read_images(folder: Path, hashes: Iterable[str]) -> dict[str, bytes]:
    """The encoded bytes of the images asked for; empty for an image that its row lacked."""
    return StoredImages(folder / IMAGES_FILE).read(hashes)


def _image_errors(folder: Path) -> dict[str, str | None]:
    table = read_checked(folder / IMAGES_FILE, ["image_hash", "error"])
    return dict(zip(*(table.column(name).to_pylist() for name in ("image_hash", "error")), strict=True))


def _rows(table: pa.Table, errors: dict[str, str | None]) -> tuple[Doc, ...]:
    values: dict[str, Any] = {
        name: map(tuple, column.to_pylist()) if pa.types.is_list(column.type) else column.to_pylist()
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
    values["image_hashes"] = list(values["image_hashes"])
    values["image_error"] = [
        error or next(filter(None, map(errors.get, images)), None)
        for error, images in zip(values["image_error"], values["image_hashes"], strict=True)
    ]
    names = [field.name for field in fields(Doc)]
    return tuple(Doc(*row) for row in zip(*(values[name] for name in names), strict=True))
