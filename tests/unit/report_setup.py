"""A small made-up sweep, aggregated, with questions and pictures: what the report is built from in tests."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from lofi.report.build import build
from lofi.stats.aggregate import aggregate
from tests.unit.synthetic import ANSWERS, DATASETS, make_stability, make_sweep, write_stability, write_sweep

HOSTILE = """<script>alert("x")</script> & 'quoted' </style> {{ 7 * 7 }} <img src="http://example.org/x.png">"""
METHODS = {"random": (0, 1), "lofi": (0,), "fastv": (0,)}
METRICS = {"scenes-yesno": ("pope", "mme"), "scenes-letters": ("circular", "categories"), "scenes-open": ("score",)}


@dataclass(frozen=True)
class Results:
    """A results folder and the sweep that made it."""

    root: Path
    sweep: dict[str, Any]
    files: list[Path]

    def build(self, output: Path, **options: Any) -> str:
        """Build the report and return its text."""
        given: dict[str, Any] = {"command": "lofi report", "generated": None, "thumbnails": set(DATASETS)}
        tables, data = self.root / "tables", self.root / "data"
        build(self.sweep, self.files, tables, data, output, **{**given, **options})
        return output.read_text(encoding="utf-8")


def make_results(
    root: Path,
    *,
    models: Sequence[str] = ("tiny-a",),
    datasets: Sequence[str] = ("scenes-letters", "scenes-yesno"),
    methods: Mapping[str, Sequence[int]] = METHODS,
    keeps: Sequence[str] = ("0.5000", "0.2500", "16"),
    images: int = 6,
    own: Sequence[str] = (),
    stability: bool = True,
    hostile: bool = False,
) -> Results:
    """Samples, tables and prepared data under `root`. Hostile: every text is `HOSTILE`."""
    made = make_sweep(models=models, datasets=datasets, methods=methods, keeps=keeps, images=images, own=own)
    if hostile:
        for rows in made.values():
            for row in rows:
                row["prediction"] = HOSTILE
                row["category"] = HOSTILE
                if row.get("prediction_parsed") is not None:
                    row["prediction_parsed"] += HOSTILE
    files = write_sweep(made, root, shards=1)
    compared = write_stability(make_stability(made), root) if stability else []
    aggregate(files, root / "tables", root / "audit.duckdb", metrics=METRICS, stability=compared, threads=1)
    for dataset in datasets:
        write_data(root / "data" / dataset, dataset, images, HOSTILE if hostile else "")
    sweep = {
        "models": {model: {"source": HOSTILE if hostile else "local"} for model in models},
        "datasets": {dataset: {} for dataset in datasets},
        "methods": {method: {} for method in (*methods, *own)},
        "keeps": [float(keep) if "." in keep else int(keep) for keep in keeps],
    }
    return Results(root, sweep, files)


def write_data(folder: Path, dataset: str, images: int, text: str) -> None:
    """docs.parquet and images.parquet as the prepare stage writes them, as far as the report reads them."""
    folder.mkdir(parents=True)
    answers = ANSWERS[DATASETS[dataset]]
    docs, pictures = [], []
    for image in range(images):
        buffer = io.BytesIO()
        Image.linear_gradient("L").resize((96, 96)).rotate(image * 20).save(buffer, "PNG")
        pictures.append({"image_hash": f"{image:016x}", "bytes": buffer.getvalue(), "width": 96, "height": 96})
        for question in range(3):
            target = answers[(image + question) % len(answers)]
            docs.append(
                {
                    "sample_id": f"{dataset}-{image:03d}-{question}",
                    "image_hash": f"{image:016x}",
                    "question": f"What is in picture {image}? {text}",
                    "options": [f"option {label} {text}" for label in "ABCD"] if "letters" in dataset else [],
                    "option_labels": list("ABCD") if "letters" in dataset else [],
                    "target": target + text,
                    "targets": [target + text],
                }
            )
    pq.write_table(pa.Table.from_pylist(docs), folder / "docs.parquet")
    pq.write_table(pa.Table.from_pylist(pictures), folder / "images.parquet")
