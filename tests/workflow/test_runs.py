"""The whole workflow with the real command line on a small untrained model: a run, and additions to it."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from tests.workflow.conftest import PACKED, REPOSITORY, UNPACKED, Workflow, computed, copy_of, samples


@pytest.fixture(
    scope="module", params=[PACKED, pytest.param(UNPACKED, marks=pytest.mark.slow)], ids=["packed", "one by one"]
)
def whole(request: pytest.FixtureRequest, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """The smoke sweep on an untrained model, run to its end."""
    sweep = yaml.safe_load((REPOSITORY / "workflow/sweeps/smoke.yaml").read_text())
    sweep["models"]["digits-llava"] = {"source": str(tiny_model), "batch_images": 8}
    sweep |= {"pack": request.param, "stability_images": 6}
    workflow = Workflow(tmp_path_factory.mktemp("whole"), sweep)
    workflow.run()
    return workflow


def test_self_agreement_is_measured_and_on_the_page(whole):
    rows = pq.read_table(whole.folder / "results/tables/stability.parquet").to_pylist()
    assert {(row["method"], row["variant"]) for row in rows} == {
        (method, variant) for method in whole.sweep["methods"] for variant in ("bfloat16", "float16", "noise")
    }
    assert all(row["n_images"] == 6 and row["n_errors"] == 0 for row in rows)
    assert all(row["overlap"] == 1.0 for row in rows if row["method"] == "random")
    assert '<table id="stability"' in (whole.folder / "reports/index.html").read_text()
    assert (whole.folder / "reports/index_files/samples-index.js").is_file()
    assert "Nothing to be done" in whole.run()


def test_additions_compute_only_themselves(whole, tmp_path):
    real, pack = copy_of(whole, tmp_path / "copy"), whole.sweep["pack"]
    assert computed(real) == (2, 0)
    report = real.folder / "reports/index.html"
    assert report.stat().st_size > 10_000
    assert len(samples(real.folder)) == 2 + 2
    before = samples(real.folder)

    assert "Nothing to be done" in real.run()
    assert computed(real) == (0, 0)

    real.sweep["methods"]["divprune"] = {}
    real.sweep["stability_images"] = 0  # it looks at all methods together
    real.run()
    assert computed(real) == (1, 2 if pack else 0)

    real.sweep["keeps"].append(0.5)
    real.run()
    assert computed(real) == (3, 3 if pack else 0)
    after = samples(real.folder)
    assert {name: after[name] for name in before} == before
    assert len(after) == 2 + 6

    real.sweep["methods"]["lofi"] = {"score": "ridge"}
    real.run("--until", "evaluate")
    assert computed(real) == (2, 4 if pack else 0)

    real.sweep["methods"]["lofi"] = {}  # and back: all of it is in the cache
    real.run("--until", "evaluate")
    assert computed(real) == (0, 6 if pack else 2)
    assert samples(real.folder) == after
    assert real.plan() == {}, "tables of equal cells are still right"
