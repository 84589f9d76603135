"""Changed answers to look at: which ones, with the question, both answers, and what the reducer kept."""

import base64
import io
import math
import os
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from markupsafe import Markup

from lofi.cell import OWN_COUNT
from lofi.report.audit import Audit
from lofi.report.words import keep_label, keep_name, method_label, number
from lofi.tables import Row

CAP = 150
SIDE = 192  # pixels of a thumbnail's longer side
CLASSES = {
    "neg_flip": "lost",
    "pos_flip": "gained",
    "wrong_to_other": "wrong to other wrong",
    "right_to_other": "right to other right",
    None: "changed, not graded",
}

# Evenly over the groups: the first of every group before the second of any. The hash makes the choice blind to
# the order of sample ids and the same every time.
CHOICE = """
WITH placed AS (
    SELECT
        file_row_number, model, dataset, method, keep, class,
        md5_number_lower(concat_ws('|', model, dataset, method, keep, seed, sample_id)) AS draw
    FROM read_parquet($flips, file_row_number = true)
),
ranked AS (
    SELECT
        file_row_number, draw,
        row_number() OVER (PARTITION BY model, dataset, method, keep, class ORDER BY draw) AS place
    FROM placed
),
chosen AS (SELECT file_row_number, draw FROM ranked ORDER BY place, draw LIMIT $cap)
SELECT * EXCLUDE (file_row_number)
FROM read_parquet($flips, file_row_number = true) JOIN chosen USING (file_row_number)
ORDER BY draw
"""


@dataclass(frozen=True)
class Thumbnail:
    """A small picture that the page holds once, however many samples show it."""

    id: str
    uri: Markup
    width: int
    height: int


@dataclass(frozen=True)
class Sample:
    """One changed answer, ready to print."""

    sample_id: str
    model: str
    dataset: str
    method: str
    keep: str
    keep_name: str  # with the word `keep` before it, where that fits
    seed: int
    kind: str
    category: str
    question: str
    options: list[str]
    full_answer: str
    reduced_answer: str
    correct_answer: str
    margin: str
    kl: str
    kept: str
    image: str  # id of the thumbnail's symbol; empty where there is none
    box: tuple[int, int]  # its width and height: in tokens where they are drawn over it, else in pixels
    dropped: str  # SVG path over the dropped tokens


def choose(audit: Audit, tables: Path, cap: int = CAP) -> tuple[list[Row], int]:
    """At most `cap` changed answers in the order of the page, and how many there are in all."""
    source = str(tables / "flips.parquet")
    with tempfile.TemporaryDirectory() as spill, duckdb.connect() as connection:
        connection.execute("SET threads = 2")
        connection.execute("SET memory_limit = '2GB'")
        connection.execute(f"SET temp_directory = '{spill}'")
        (total,) = connection.execute("SELECT count(*) FROM read_parquet(?)", [source]).fetchall()[0]
        result = connection.execute(CHOICE, {"flips": source, "cap": cap})
        names = [column[0] for column in result.description or ()]
        rows = [dict(zip(names, values, strict=True)) for values in result.fetchall()]
    methods = ("full", "floor", *audit.methods)
    order = (*audit.keeps, OWN_COUNT)
    classes = list(CLASSES)
    rows.sort(
        key=lambda r: (
            audit.datasets.index(r["dataset"]),
            methods.index(r["method"]),
            order.index(r["keep"]) if r["keep"] in order else -1,
            classes.index(r["class"]),
            r["draw"],
        )
    )
    return rows, int(total)


def samples(rows: Sequence[Row], data: Path, thumbnails: Collection[str]) -> tuple[list[Sample], list[Thumbnail]]:
    """Rows joined to their questions, and every thumbnail they need."""
    docs, images = {}, {}
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        mine = [row for row in rows if row["dataset"] == dataset]
        found = _lookup(data / dataset / "docs.parquet", "sample_id", {row["sample_id"] for row in mine})
        docs.update({(dataset, key): doc for key, doc in found.items()})
        if dataset in thumbnails:
            hashes = {row["image_hash"] for row in mine if row["image_hash"]}
            images.update(_lookup(data / dataset / "images.parquet", "image_hash", hashes))
    made = ((key, thumbnail(images[key].get("bytes"), f"img-{i}")) for i, key in enumerate(sorted(images)))
    pictures = {key: picture for key, picture in made if picture}
    written = []
    for row in rows:
        picture = pictures.get(row["image_hash"]) if row["dataset"] in thumbnails else None
        written.append(_sample(row, docs.get((row["dataset"], row["sample_id"]), {}), picture))
    return written, list(pictures.values())


def _lookup(path: Path, column: str, wanted: set[str]) -> dict[str, Row]:
    """The rows of a Parquet file whose `column` is wanted, by that column; nothing where there is no file."""
    if not path.is_file() or not wanted:
        return {}
    with duckdb.connect() as connection:
        query = f"SELECT * FROM read_parquet(?) WHERE list_contains(?, {column}) ORDER BY {column}"
        result = connection.execute(query, [os.fspath(path), sorted(wanted)])
        names = [name[0] for name in result.description or ()]
        rows = [dict(zip(names, values, strict=True)) for values in result.fetchall()]
    return {row[column]: row for row in rows}


def thumbnail(encoded: bytes | None, id: str) -> Thumbnail | None:
    """The image as a small JPEG data URI, made again from its pixels so that nothing else travels with it."""
    from PIL import Image, ImageOps

    if not encoded:
        return None
    try:
        with Image.open(io.BytesIO(encoded)) as opened:
            picture = ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    picture.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88)
    uri = Markup("data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode())
    return Thumbnail(id, uri, *picture.size)


def _sample(row: Row, doc: Row, picture: Thumbnail | None) -> Sample:
    options = [str(option) for option in doc.get("options") or ()]
    labels = [str(label) for label in doc.get("option_labels") or ()] or [""] * len(options)
    names = dict(zip(labels, options, strict=False)) if any(labels) else {option: option for option in options}
    height, width = _grid(row)
    overlaid = picture is not None and height and abs(picture.width * height / (picture.height * width) - 1) < 0.1
    kept = row["kept_indices"]
    if kept is None:
        note = "merged tokens: none is kept as it was"
    else:
        note = f"{len(kept)} of {row['n_visual_full']} visual tokens kept"
    return Sample(
        sample_id=str(row["sample_id"]),
        model=row["model"],
        dataset=row["dataset"],
        method=method_label(row["method"], row["weights"]),
        keep=keep_label(row["keep"]),
        keep_name=keep_name(row["keep"]),
        seed=row["seed"],
        kind=CLASSES.get(row["class"], str(row["class"])),
        category=str(row.get("category") or ""),
        question=str(doc.get("question") or doc.get("prompt") or "(the question is not in the prepared data)"),
        options=[f"{label}. {text}" if label not in ("", text) else text for label, text in names.items()],
        full_answer=_answer(row["full_answer"], row["full_prediction"], names),
        reduced_answer=_answer(row["reduced_answer"], row["reduced_prediction"], names),
        correct_answer=_correct(doc, names),
        margin=number(_finite(row.get("margin_full"))),
        kl=number(_finite(row.get("kl")), 3),
        kept=note,
        image=picture.id if picture else "",
        box=(width, height) if overlaid or picture is None else (picture.width, picture.height),
        dropped=dropped_path(kept, (height, width)) if overlaid and kept is not None else "",
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _answer(parsed: str | None, prediction: str | None, names: dict[str, str]) -> str:
    """The parsed answer with its option, and the text it was parsed from where that says more."""
    said = (prediction or "").strip()
    if parsed is None:
        return f"unparsed: “{said}”"
    option = names.get(parsed, parsed)
    answer = parsed if option == parsed else f"{parsed}. {option}"
    plain = said.rstrip(". ").casefold()
    return answer if plain in (parsed.casefold(), answer.casefold()) or not said else f"{answer} (“{said}”)"


def _correct(doc: Row, names: dict[str, str]) -> str:
    targets = [str(t) for t in doc.get("targets") or ()] or ([str(doc["target"])] if doc.get("target") else [])
    unique = list(dict.fromkeys(targets))
    text = " / ".join(unique[:4]) + (f" and {len(unique) - 4} more" if len(unique) > 4 else "")
    return f"{text}. {names[text]}" if names.get(text, text) != text else text or "unknown"


def _grid(row: Row) -> tuple[int, int]:
    """Rows and columns of the visual tokens: as stored, else a square; (0, 0) where neither fits."""
    height, width = row.get("grid_h"), row.get("grid_w")
    if height and width:
        return int(height), int(width)
    n = row.get("n_visual_full") or 0
    side = math.isqrt(n)
    return (side, side) if n and side * side == n else (0, 0)


def dropped_path(kept: Sequence[Any], grid: tuple[int, int]) -> str:
    """An SVG path that covers every dropped token, one rectangle for each run within a row."""
    height, width = grid
    keep = {int(i) for i in kept}
    parts = []
    for y in range(height):
        x = 0
        while x < width:
            start = x
            while x < width and y * width + x not in keep:
                x += 1
            if x > start:
                parts.append(f"M{start} {y}h{x - start}v1h-{x - start}z")
            x += 1
    return "".join(parts)
