"""The files beside the page that the sample explorer reads as a reader asks for rows.

Each is a script that hands one part of the data over: from disk, scripts and images are all that a page may load.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lofi.cell import FLOOR, KEEP_ALL, OWN_COUNT
from lofi.report import changes, encode
from lofi.report.audit import Audit
from lofi.report.changes import CLASSES, MOST, Changes
from lofi.report.pictures import Picture, pictures
from lofi.report.side import Side
from lofi.report.words import keep_label
from lofi.tables import Row

CHUNK = 200  # rows, or questions, of one file
PICTURES = 2000  # images at most
SEARCHED = 500  # letters of a text that the search looks at

Part = dict[str, Any]


def write(audit: Audit, tables: Path, data: Path, folder: Path, thumbnails: Collection[str], most: int = MOST) -> Side:
    """Put the changed answers, at most so many, into `folder`, a new one.

    data: the folder of prepared datasets. thumbnails: the datasets whose licence allows images.
    """
    found = changes.read(tables, data, most)
    images = {name: (number, small) for number, (name, small) in enumerate(_pictures(found, data, thumbnails).items())}
    parts = _parts(audit, found, dict.fromkeys(thumbnails, images))
    stamp = hashlib.sha256("".join(parts.values()).encode()).hexdigest()[:16]
    folder.mkdir()
    for name, text in parts.items():
        (folder / f"{name}.js").write_text(f'lofiPart("{name}","{stamp}",{text});\n', encoding="utf-8")
    for number, small in images.values():
        (folder / f"image-{number}.jpg").write_bytes(small.content)
    lost = sum(not doc for doc in found.questions.values())
    return Side(folder.name, stamp, len(found.rows), len(images), lost)


def _pictures(found: Changes, data: Path, thumbnails: Collection[str]) -> dict[str, Picture]:
    """The first images of rows, by hash, in the order in which rows show them."""
    wanted: dict[str, str] = {}
    for row in found.rows:
        if row["dataset"] in thumbnails and row["image_hash"] and len(wanted) < PICTURES:
            wanted.setdefault(row["image_hash"], row["dataset"])
    made: dict[str, Picture] = {}
    for dataset in dict.fromkeys(wanted.values()):
        mine = [name for name in wanted if wanted[name] == dataset]
        made.update(pictures(data / dataset / "images.parquet", mine))
    return {name: made[name] for name in wanted if name in made}


def _parts(audit: Audit, found: Changes, images: Mapping[str, Mapping[str, tuple[int, Picture]]]) -> dict[str, str]:
    """The text of each part. All text of data stands in arrays, so that none of it is ever taken for a key.

    images: by dataset and hash, the number and small copy of each that may be shown.
    """
    numbers = {key: number for number, key in enumerate(found.questions)}
    of_row = [numbers[row["dataset"], row["sample_id"]] for row in found.rows]
    first = {number: row for number, row in zip(reversed(of_row), reversed(found.rows), strict=True)}
    questions = [
        encode.question(first[n], doc, images.get(first[n]["dataset"], {}).get(first[n]["image_hash"]))
        for n, doc in enumerate(found.questions.values())
    ]
    rows = [encode.row(row, questions[n]) for row, n in zip(found.rows, of_row, strict=True)]
    parts: dict[str, Part] = {"samples-index": _index(audit, found.rows, of_row)}
    parts |= _chunks("samples", encode.ROW, rows) | _chunks("questions", encode.QUESTION, questions)
    parts["samples-search"] = {
        "questions": [_searched(q["id"], q["question"], *q["texts"], q["right"]) for q in questions],
        "rows": [_searched(r["full"], r["full_said"], r["reduced"], r["reduced_said"]) for r in rows],
    }
    return {name: json.dumps(part, ensure_ascii=False, separators=(",", ":")) for name, part in parts.items()}


def _index(audit: Audit, rows: Sequence[Row], of_row: Sequence[int]) -> Part:
    """What filters and sorts, of every row: names once, and their numbers."""
    keeps = [keep_label(keep) for keep in (KEEP_ALL, *audit.keeps, OWN_COUNT)]
    methods = [audit.label(method) for method in (FLOOR, *audit.methods)]
    named = {
        "model": ([row["model"] for row in rows], audit.models),
        "dataset": ([row["dataset"] for row in rows], audit.datasets),
        "method": ([audit.label(row["method"]) for row in rows], methods),
        "keep": ([keep_label(row["keep"]) for row in rows], keeps),
        "seed": ([str(row["seed"]) for row in rows], ()),
        "class": ([CLASSES[row["class"]] for row in rows], tuple(CLASSES.values())),
        "category": ([row["category"] or "" for row in rows], ()),
    }
    coded = {name: _coded(values, order) for name, (values, order) in named.items()}
    return {
        "chunk": CHUNK,
        "names": [[name, names] for name, (names, _) in coded.items()],
        "codes": [codes for _, codes in coded.values()],
        "ids": "".join(row["id"] for row in rows),
        "margin": [encode.short(row["margin_full"]) for row in rows],
        "kl": [encode.short(row["kl"]) for row in rows],
        "question": list(of_row),
    }


def _coded(values: Sequence[str], order: Iterable[str]) -> tuple[list[str], list[int]]:
    """The distinct values, those of `order` first, and the place of each value among them."""
    found = set(values)
    known = [name for name in dict.fromkeys(order) if name in found]
    names = [*known, *sorted(found - set(known), key=lambda name: (len(name), name) if name.isdigit() else (0, name))]
    place = {name: i for i, name in enumerate(names)}
    return names, [place[value] for value in values]


def _chunks(name: str, fields: Sequence[str], records: Sequence[Row]) -> dict[str, Part]:
    """Records as columns, so many to a part."""
    return {
        f"{name}-{start // CHUNK}": {
            field: [record[field] for record in records[start : start + CHUNK]] for field in fields
        }
        for start in range(0, len(records), CHUNK)
    }


def _searched(*texts: str | None) -> str:
    return "\n".join(text[:SEARCHED].lower() for text in texts if text)
