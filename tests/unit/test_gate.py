"""`lofi check --reference full`: what passes, what fails, and how machines are told."""

import io
import json
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from types import SimpleNamespace
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lofi.cli import main
from lofi.stats.aggregate import aggregate
from tests.unit.synthetic import make_sweep, write_sweep

AXES = ("model", "dataset", "method", "keep", "seed")
REFERENCE = ("--reference", "full")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Every cell of two models and one dataset, samples that fail among them."""
    results = tmp_path_factory.mktemp("gate") / "results"
    files = write_sweep(make_sweep(datasets=("scenes-yesno",), images=10), results, shards=1)
    aggregate(files, results / "tables", results / "audit.duckdb", threads=1)
    return results


def run(results, *arguments):
    """The command in this process, which is faster."""
    said, mistakes = io.StringIO(), io.StringIO()
    with redirect_stdout(said), redirect_stderr(mistakes):
        code = main(["check", "--results", str(results), *arguments])
    return SimpleNamespace(returncode=code, stdout=said.getvalue(), stderr=mistakes.getvalue())


def run_apart(results, *arguments):
    """The command as a user has it."""
    code = "import sys; from lofi.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "check", "--results", str(results), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def risks(results):
    found = pq.read_table(results / "tables" / "risks.parquet").to_pylist()
    return {(*(row[name] for name in AXES), row["risk"]): row for row in found}


def cell(check):
    return tuple(check[name] for name in AXES)


def test_all_pass(results):
    done = run_apart(results, *REFERENCE, "--max-flip-rate", "1", "--min-agreement", "0")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "0 of 48 checks failed, on the values of 24 cells against full\n"


def test_every_check_is_the_rate_of_its_cell(results, tmp_path):
    report = tmp_path / "made" / "check.json"
    done = run(
        results,
        *(*REFERENCE, "--max-flip-rate", "0.15", "--min-agreement", "0.8", "--max-negative-flips", "0.1"),
        *("--json", str(report)),
    )
    found = json.loads(report.read_text())
    table = risks(results)
    of_rule = {
        "flip rate": ("flip", lambda rate: rate, lambda value: value <= 0.15),
        "agreement": ("divergence", lambda rate: 1 - rate, lambda value: value >= 0.8),
        "negative flips": ("negative_flip", lambda rate: rate, lambda value: value <= 0.1),
    }
    assert len(found["checks"]) == 24 * 3
    for check in found["checks"]:
        risk, seen, passes = of_rule[check["rule"]]
        row = table[(*cell(check), risk)]
        assert check["value"] == pytest.approx(seen(row["rate"]))
        assert check["bound"] == pytest.approx(seen(row["upper"]))
        assert check["passed"] == passes(check["value"])
        assert (check["n"], check["n_errors"]) == (row["n"], row["n_errors"])
    failed = [check for check in found["checks"] if not check["passed"]]
    assert 0 < len(failed) < 24 * 3
    assert found["passed"] is False
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[-1] == f"{len(failed)} of 72 checks failed, on the values of 24 cells against full"
    assert lines[0].split() == [*AXES, "rule", "value", "limit", "bound", "n", "errors"]
    assert [line.split()[:5] for line in lines[2:-2]] == [list(map(str, cell(check))) for check in failed]


def test_junit_has_a_case_for_each_cell_and_rule(results, tmp_path):
    files = {name: str(tmp_path / name) for name in ("check.json", "check.xml")}
    limits = ("--max-flip-rate", "0.15", "--min-agreement", "0.8")
    done = run_apart(results, *REFERENCE, *limits, "--json", files["check.json"], "--junit", files["check.xml"])
    assert done.returncode == 1
    checks = json.loads((tmp_path / "check.json").read_text())["checks"]
    root = ElementTree.parse(files["check.xml"]).getroot()
    failed = sum(not check["passed"] for check in checks)
    assert (root.tag, root.get("tests"), root.get("failures")) == ("testsuites", "48", str(failed))
    suites = root.findall("testsuite")
    assert [suite.get("name") for suite in suites] == [f"{model} / scenes-yesno" for model in ("tiny-a", "tiny-b")]
    for suite in suites:
        cases = suite.findall("testcase")
        assert (suite.get("tests"), suite.get("errors"), suite.get("skipped")) == (str(len(cases)), "0", "0")
        assert suite.get("failures") == str(len(suite.findall("testcase/failure")))
    cases = root.findall("testsuite/testcase")
    assert len({(case.get("classname"), case.get("name")) for case in cases}) == len(cases) == len(checks)
    for case, check in zip(cases, checks, strict=True):
        assert case.get("classname") == f"{check['model']}.{check['dataset']}.{check['method']}"
        assert case.get("name") == f"keep {check['keep']} seed {check['seed']}: {check['rule']}"
        failure = case.find("failure")
        assert (failure is None) == check["passed"]
        if failure is not None:
            said = failure.get("message")
            assert said.startswith(f"{check['rule']} {check['value']:.6g}, limit {check['limit']:g}, bound ")
            assert f"{check['n']} samples" in said


def test_the_bound_is_judged_where_that_is_asked_for(results, tmp_path):
    value = risks(results)["tiny-a", "scenes-yesno", "lofi", "0.5000", 0, "divergence"]
    limit = 1 - (value["rate"] + value["upper"]) / 2  # between the measured rate and its bound
    chosen = (*REFERENCE, "--min-agreement", str(limit), "--method", "lofi", "--keep", "0.5000")
    report = tmp_path / "check.json"
    codes = []
    for extra in ((), ("--confident",)):
        done = run(results, *chosen, *extra, "--json", str(report))
        found = json.loads(report.read_text())
        (check,) = [each for each in found["checks"] if cell(each)[:2] == ("tiny-a", "scenes-yesno")]
        assert found["judged"] == ("bound" if extra else "value")
        assert f"on the {found['judged']}s of 2 cells" in done.stdout
        codes.append(check["passed"])
    assert codes == [True, False]
    assert done.returncode == 1


def test_a_limit_that_is_just_met_passes(results, tmp_path):
    row = risks(results)["tiny-a", "scenes-yesno", "random", "16", 1, "divergence"]
    chosen = ("--method", "random", "--keep", "16", "--json", str(tmp_path / "check.json"))
    run(results, *REFERENCE, "--min-agreement", repr((row["n"] - row["n_events"]) / row["n"]), *chosen)
    checks = json.loads((tmp_path / "check.json").read_text())["checks"]
    (check,) = [each for each in checks if cell(each) == ("tiny-a", "scenes-yesno", "random", "16", 1)]
    assert check["passed"]
    assert check["value"] == check["limit"]


def test_the_floor_is_judged_where_it_is_named(results, tmp_path):
    report = tmp_path / "check.json"
    run(results, *REFERENCE, "--min-agreement", "0.5", "--method", "floor", "lofi", "--json", str(report))
    assert {check["method"] for check in json.loads(report.read_text())["checks"]} == {"floor", "lofi"}


def test_what_is_not_known_does_not_pass(results, tmp_path):
    table = pq.read_table(results / "tables" / "risks.parquet")
    (tmp_path / "tables").mkdir()
    unknown = {name: pa.nulls(len(table), table.schema.field(name).type) for name in ("n_events", "rate", "upper")}
    for name, values in unknown.items():
        table = table.set_column(table.schema.get_field_index(name), name, values)
    pq.write_table(table, tmp_path / "tables" / "risks.parquet")
    done = run(tmp_path, *REFERENCE, "--max-flip-rate", "1", "--junit", str(tmp_path / "check.xml"))
    assert done.returncode == 1
    assert "24 of 24 checks failed" in done.stdout
    (failure, *_) = ElementTree.parse(tmp_path / "check.xml").getroot().iter("failure")
    assert failure.get("message") == "flip rate is not known: none of 30 samples has a grade"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (REFERENCE, "no limit was given; give --max-flip-rate, --min-agreement or --max-negative-flips"),
        (("--reference", "floor", "--max-flip-rate", "0.1"), "use --reference full"),
        ((*REFERENCE, "--max-flip-rate", "5"), "flip rate 5 is outside [0, 1]; write a share, such as 0.05 for 5 %"),
        ((*REFERENCE, "--min-agreement", "0.9", "--method", "lofl"), "unknown method 'lofl': did you mean 'lofi'?"),
        ((*REFERENCE, "--min-agreement", "0.9", "--keep", "0.25"), "unknown keep '0.25': did you mean '0.2500'?"),
        (
            (*REFERENCE, "--min-agreement", "0.9", "--method", "floor", "--keep", "16"),
            "no cell of the tables has this method and keep",
        ),
        ((*REFERENCE, "--min-agreement", "0.9", "--junit", "/dev/null/x.xml"), "cannot be written"),
        (("--max-flip-rate", "0.1"), "--max-flip-rate is about results, and without --reference a config is checked"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(results, arguments, said):
    done = run(results, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("lofi check: ")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


def test_a_mistake_in_a_process_of_its_own(results):
    done = run_apart(results, *REFERENCE)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("lofi check: no limit was given")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("content", ["missing", "empty", "broken", "older"])
def test_tables_that_cannot_be_judged(results, tmp_path, content):
    (tmp_path / "tables").mkdir()
    file = tmp_path / "tables" / "risks.parquet"
    table = pq.read_table(results / "tables" / "risks.parquet")
    if content == "empty":
        pq.write_table(table[:0], file)
    elif content == "broken":
        file.write_bytes(b"nothing")
    elif content == "older":
        pq.write_table(table.drop_columns("upper"), file)
    done = run(tmp_path, *REFERENCE, "--min-agreement", "0.9")
    assert (done.returncode, done.stdout) == (2, "")
    said = {
        "missing": "there is no table risks in",
        "empty": "has no row; evaluate a method beside full",
        "broken": "cannot be read; make the tables again with: lofi aggregate",
        "older": "cannot be read; make the tables again with: lofi aggregate",
    }[content]
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
