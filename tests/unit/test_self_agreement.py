"""Self-agreement: from the rows of `lofi stability` to the table, and from the table to the page."""

import re
from collections import defaultdict
from dataclasses import replace
from statistics import fmean

import duckdb
import pyarrow.parquet as pq
import pytest

from lofi.errors import UserError
from lofi.report import build as build_module
from lofi.report import self_agreement
from lofi.stats.aggregate import aggregate
from tests.unit.report_setup import make_results
from tests.unit.synthetic import make_stability, make_sweep, write_stability, write_sweep

KEY = ("model", "dataset", "method", "keep", "variant")


@pytest.fixture(scope="module")
def sweep():
    return make_sweep(models=("tiny-a", "tiny-b"), datasets=("scenes-yesno", "scenes-open"), keeps=("0.5000", "16"))


def aggregated(sweep, rows, results, **options):
    stability = write_stability(rows, results)
    aggregate(
        write_sweep(sweep, results, shards=1),
        results / "tables",
        results / "audit.duckdb",
        stability=stability[:: options.pop("step", 1)],
        **options,
    )
    return pq.read_table(results / "tables" / "stability.parquet").to_pylist()


def test_the_table_equals_a_slow_computation(sweep, tmp_path):
    rows = make_stability(sweep)
    expected = defaultdict(list)
    for row in rows:
        expected[tuple(row[name] for name in KEY)].append(row)
    found = {tuple(row[name] for name in KEY): row for row in aggregated(sweep, rows, tmp_path)}
    assert list(found) == sorted(expected)
    assert any(row["n_errors"] for row in found.values())
    for key, row in found.items():
        good = [each for each in expected[key] if each["status"] == "ok"]
        overlaps = [each["n_same"] / each["n_kept"] for each in good]
        assert row["n_images"] == len({each["image_hash"] for each in good})
        assert row["n_errors"] == len(expected[key]) - len(good)
        assert row["overlap"] == pytest.approx(fmean(overlaps), abs=1e-9)
        assert row["worst"] == pytest.approx(min(overlaps), abs=1e-9)
        assert row["identical"] == pytest.approx(fmean(overlap == 1 for overlap in overlaps))
        assert row["overlap_low"] <= row["overlap"] <= row["overlap_high"]
        assert (row["overlap_high"] == 1) == (max(overlaps) == 1)
    with duckdb.connect(tmp_path / "audit.duckdb", read_only=True) as con:
        assert con.table("stability").to_arrow_table().to_pylist() == list(found.values())


def test_images_are_what_is_resampled(sweep, tmp_path):
    """Two seeds on one image are no second image."""
    row = make_stability(sweep)[0] | {"status": "ok", "error": None, "n_kept": 4, "n_kept_variant": 4}
    rows = [row | {"seed": seed, "n_same": same} for seed, same in ((0, 4), (1, 3))]
    (found,) = aggregated(sweep, rows, tmp_path)
    assert (found["n_images"], found["overlap"], found["identical"], found["worst"]) == (1, 0.875, 0.5, 0.75)
    assert found["overlap_low"] is found["overlap_high"] is None


@pytest.mark.parametrize(
    ("counts", "overlap", "identical"),
    [((0, 0, 0), 1, 1), ((0, 0, 2), 0, 0), ((2, 2, 3), 1, 0), ((2, 0, 0), 0, 0)],
    ids=["none, as before", "none before", "one more", "none now"],
)
def test_counts_that_differ_and_empty_sets(sweep, tmp_path, counts, overlap, identical):
    row = make_stability(sweep)[0] | dict(zip(("n_kept", "n_same", "n_kept_variant"), counts, strict=True))
    (found,) = aggregated(sweep, [row | {"status": "ok"}], tmp_path)
    assert (found["overlap"], found["identical"]) == (overlap, identical)


def test_what_failed_everywhere_is_null(sweep, tmp_path):
    rows = [row | {"status": "error", "n_kept": None} for row in make_stability(sweep)]
    for row in aggregated(sweep, rows, tmp_path):
        assert row["n_images"] == 0 < row["n_errors"]
        assert [row[name] for name in ("overlap", "overlap_low", "identical", "worst")] == [None] * 4


def test_without_files_the_table_is_empty(sweep, tmp_path):
    assert aggregated(sweep, [], tmp_path) == []


def test_same_files_give_the_same_bytes(sweep, tmp_path):
    written = []
    for name, threads, step in (("a", 1, 1), ("b", 4, -1)):
        aggregated(sweep, make_stability(sweep), tmp_path / name, threads=threads, step=step)
        written.append((tmp_path / name / "tables" / "stability.parquet").read_bytes())
    assert written[0] == written[1]


def test_a_file_that_is_missing_broken_or_foreign_is_named(sweep, tmp_path):
    files = write_sweep(sweep, tmp_path, shards=1)
    absent, broken = tmp_path / "absent.parquet", tmp_path / "broken.parquet"
    broken.write_bytes(b"no Parquet")
    for file, said in ((absent, "cannot be read"), (broken, "cannot be read"), (files[0], "lacks the columns variant")):
        with pytest.raises(UserError, match=rf"{file.name} {said}.*run `lofi stability`") as raised:
            aggregate(files, tmp_path / "tables", tmp_path / "audit.duckdb", stability=[file])
        assert "\n" not in str(raised.value)


# ---- the report ------------------------------------------------------------------------------------------------


def row(method, overlap, variant="bfloat16", **more):
    known = {"model": "m", "dataset": "d", "keep": "0.2500", "n_images": 32, "n_errors": 0}
    bounds = {} if overlap is None else {"overlap_low": overlap - 0.01, "overlap_high": min(1.0, overlap + 0.01)}
    measured = {"overlap": overlap, "overlap_low": None, "overlap_high": None, "identical": overlap, "worst": overlap}
    return {**known, "method": method, "variant": variant, **measured, **bounds, **more}


@pytest.fixture(scope="module")
def empty_audit(tmp_path_factory):
    made = make_results(tmp_path_factory.mktemp("results"), datasets=("scenes-yesno",), keeps=("0.2500",), images=2)
    return replace(build_module.read(made.root / "tables", made.sweep), stability=[])


def lead(audit, *rows):
    found = self_agreement.lead(replace(audit, stability=list(rows)))
    return found.headline.replace("\xa0", " "), found.detail.replace("\xa0", " ")


@pytest.mark.parametrize(
    ("rows", "headline"),
    [
        (
            [row("a", 0.9), row("b", 0.985), row("c", 0.5)],
            "At the worst, c keeps only 50.0 % of its tokens when features are rounded to bfloat16; "
            "1 of 3 methods keeps at least 98 %.",
        ),
        ([row("a", 0.99), row("b", 1.0)], "Every method keeps at least 98 % of its tokens when features are rounded"),
        ([row("a", 0.99), row("b", 1.0)], "the least is a with 99.0 %."),
        ([row("a", 1.0), row("b", 1.0)], "Rounding features to bfloat16 changes no token that is kept"),
        ([row("a", None, n_errors=3)], "Self-agreement is undefined."),
    ],
)
def test_the_lead_fits_the_data(empty_audit, rows, headline):
    assert headline in lead(empty_audit, *rows)[0]


def test_the_lead_names_who_cannot_bear_noise(empty_audit):
    calm = [row("a", 1.0), row("a", 0.999, "noise")]
    assert (
        lead(empty_audit, *calm)[1] == "Under a relative noise of 1e-6 every method keeps at least 98 % of its tokens."
    )
    assert "make b (60.0 %) keep less than 98 % of its tokens" in lead(empty_audit, *calm, row("b", 0.6, "noise"))[1]
    many = [row(f"m{i}", 0.5 + i / 100, "noise") for i in range(7)]
    assert "m3 (53.0 %), m4 (54.0 %) and 2 more keep less" in lead(empty_audit, *calm, *many)[1]
    assert lead(empty_audit, row("a", 1.0))[1] == "Under noise no method could be compared."


def test_methods_stand_worst_first_and_undefined_last(empty_audit):
    rows = [row("a", 0.99), row("b", None, n_errors=9), row("c", 0.5), row("d", 0.99), row("d", 0.4, "float16")]
    found = self_agreement.method_rows(replace(empty_audit, stability=rows))
    assert [each["method"] for each in found] == ["c", "d", "a", "b"]


def test_a_row_is_the_mean_over_keeps_models_and_datasets(empty_audit):
    rows = [
        row("a", overlap, keep=keep, model=model, dataset=dataset, n_images=images)
        for keep, overlap in (("0.5000", 1.0), ("auto", 0.8))
        for model in ("m", "n")
        for dataset, images in (("d", 32), ("e", 20))
    ]
    (found,) = self_agreement.method_rows(replace(empty_audit, stability=[*rows, row("a", 0.95, "noise", worst=0.1)]))
    assert found["bfloat16"] == pytest.approx(0.9)
    assert found["bfloat16_low"] == pytest.approx(0.9 - 0.01 / 2**0.5)  # images of two datasets
    assert (found["n_images"], found["worst"], found["float16"]) == (52, 0.1, None)
    table = self_agreement.stability_table(replace(empty_audit, stability=rows), 10)
    texts = [entry.text.replace("\xa0", " ") for entry in table.rows[0]]
    assert "80.0 % (bfloat16, own count)" in texts


def test_the_section_of_a_page(tmp_path):
    made = make_results(tmp_path, keeps=("0.2500", "16"))
    page = made.build(tmp_path / "index.html")
    section = page[page.index('<section id="self-agreement"') : page.index('<section id="samples"')].replace(
        "\xa0", " "
    )
    assert 'href="#self-agreement"' in page
    assert "At the worst, fastv keeps only" in section
    assert "2 of 3 methods keep at least" in section
    rows = re.findall(r"<tr>\n<td>(\w+)</td>", section)
    assert rows == ["fastv", "lofi", "random"]
    assert "rounded where they enter the LLM" in section


def test_a_sweep_without_it_names_the_key(tmp_path):
    made = make_results(tmp_path, datasets=("scenes-yesno",), keeps=("0.2500",), stability=False)
    pages = [made.build(tmp_path / "empty.html")]
    (tmp_path / "tables" / "stability.parquet").unlink()
    pages.append(made.build(tmp_path / "absent.html"))
    for page in pages:
        assert "Self-agreement was not measured: the config key <code>stability_images</code>" in page
        assert '<table id="stability"' not in page
