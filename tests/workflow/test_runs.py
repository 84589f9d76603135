"""The whole workflow with the real command line on a small untrained model: runs and additions."""

import pyarrow.parquet as pq
import pytest

from tests.workflow.conftest import PACKS, computed, samples


def test_self_agreement_is_measured_and_on_the_page(real):
    real.sweep["stability_images"] = 6
    real.run()
    rows = pq.read_table(real.folder / "results/tables/stability.parquet").to_pylist()
    assert {(row["method"], row["variant"]) for row in rows} == {
        (method, variant) for method in real.sweep["methods"] for variant in ("bfloat16", "float16", "noise")
    }
    assert all(row["n_images"] == 6 and row["n_errors"] == 0 for row in rows)
    assert all(row["overlap"] == 1.0 for row in rows if row["method"] == "random")
    assert '<table id="stability"' in (real.folder / "reports/index.html").read_text()
    assert (real.folder / "reports/index_files/samples-index.js").is_file()
    assert "Nothing to be done" in real.run()


@PACKS
def test_additions_compute_only_themselves(real, pack):
    real.sweep["pack"] = pack
    real.run()
    assert computed(real) == (2, 0)
    report = real.folder / "reports/index.html"
    assert report.stat().st_size > 10_000
    assert len(samples(real.folder)) == 2 + 2
    before = samples(real.folder)

    assert "Nothing to be done" in real.run()
    assert computed(real) == (0, 0)

    real.sweep["methods"]["divprune"] = {}
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


def test_lost_outputs_come_back_from_the_cache(real):
    real.run("--until", "evaluate")
    before = samples(real.folder)
    computed(real)
    for path in real.folder.glob("results/samples/**/method=lofi/**/*.parquet"):
        path.unlink()
    real.run("--until", "evaluate")
    assert computed(real) == (0, 2)
    assert samples(real.folder) == before


@pytest.mark.parametrize("damage", ["truncated", "another key", "short"])
def test_a_damaged_cache_is_computed_again(real, damage):
    real.run("--until", "evaluate")
    before = samples(real.folder)
    computed(real)
    path = next(real.folder.glob("results/samples/**/method=lofi/**/*.parquet"))
    (cached,) = [
        each for each in real.folder.glob("results/cache/*/samples.parquet") if each.stat().st_ino == path.stat().st_ino
    ]
    table, content = pq.read_table(path), path.read_bytes()
    path.unlink()
    if damage == "truncated":
        cached.write_bytes(content[: len(content) // 2])
    elif damage == "short":
        pq.write_table(table.slice(0, table.num_rows - 1), cached)
    else:
        pq.write_table(table.replace_schema_metadata({b"lofi": b'{"key": "another"}'}), cached)
    real.run("--until", "evaluate")
    assert computed(real) == (1, 1)
    assert samples(real.folder) == before


def test_the_log_of_a_failed_rule_says_what_is_wrong_in_plain_lines(real):
    real.run("--until", "reference")
    for path in real.folder.glob("results/reference/**/shard-*.parquet"):
        path.write_bytes(b"no Parquet")
    said = real.run("--until", "evaluate", "--rerun-triggers", "params", ok=False)
    (log,) = real.folder.glob("logs/evaluate/**/*.log")
    assert str(log.relative_to(real.folder)) in said
    assert "lofi evaluate: the reference" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert "\r" not in log.read_text()
