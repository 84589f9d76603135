"""Every benchmark, from a made folder, asked and graded by a trained model: nothing but the rows' own faults fails."""

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lofi.config import from_dict
from lofi.data.registry import dataset_names, get_card
from lofi.engine.stages import evaluate, reference
from lofi.stats.aggregate import aggregate
from tests.datasets.folders import write_dataset
from tests.unit.engine_setup import make_job

# one pass for letters, several images and two tasks, a joined table; the others run in the slow set
QUICK = ("gqa", "mmbench_en_dev", "mmmu_val")
NAMES = [
    pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow)
    for name in dataset_names()
    if not get_card(name).generated
]


def answered(name: str, folder: Path, **settings: object) -> tuple[dict[str, pa.Table], Path]:
    """The samples of `full` and of a reduced cell, and the file of the figures."""
    sweep = from_dict(
        {
            "models": {"digits-llava": {"batch_images": 4, "image_mode": "pad"}},
            "datasets": {name: {"source": str(write_dataset(name, folder / "hub")), **settings}},
            "methods": {"random": {}},
            "keeps": [0.25],
            "stability_images": 0,
        }
    )
    job = make_job(folder / "results", sweep, name, model="digits-llava")
    reference(job)
    evaluate(job, job.cells())
    files = [job.results / cell.path() for cell in sweep.cells()]
    tables = folder / "results" / "tables"
    aggregate(files, tables, folder / "results" / "audit.duckdb", metrics={name: get_card(name).metrics})
    samples = {cell.method: pq.ParquetFile(job.results / cell.path()).read() for cell in sweep.cells()}
    return samples, tables / "metrics.parquet"


@pytest.mark.parametrize("name", NAMES)
def test_only_rows_with_a_fault_fail(name: str, tmp_path: Path) -> None:
    samples, figures = answered(name, tmp_path)
    for method in ("full", "random"):
        rows = samples[method].to_pylist()
        faults = Counter(row["error"] for row in rows if row["status"] != "ok")
        assert faults["the row has no image"] == 1
        assert all("image" in error or error.startswith(("OSError: Trunc", "no row of")) for error in faults)
        good = [row for row in rows if row["status"] == "ok"]
        assert len(good) >= 7
        for row in good:
            assert row["scoring_mode"] == {"mcq": "letters", "yesno": "yesno", "open": "generate"}[row["task_type"]]
            assert (row["prediction_parsed"] is None) == (row["parse_status"] != "ok")
            assert row["task_type"] == "open" or row["prediction"] in row["option_labels"]
    assert pq.read_table(figures).num_rows


def test_options_may_be_answered_in_words(tmp_path: Path) -> None:
    samples, _ = answered("mmbench_en_dev", tmp_path, scoring_mode="generate", prompt_style="vlmevalkit")
    good = [row for row in samples["full"].to_pylist() if row["status"] == "ok"]
    assert {row["scoring_mode"] for row in good} == {"generate"}
    assert {(row["scorer"], row["prompt_style"]) for row in good} == {("mmbench_vlmevalkit", "vlmevalkit")}
    assert all(row["n_generated"] > 0 for row in good)
