"""`lofi recover` after a Snakemake that ran on this machine was killed, its job left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.conftest import REPOSITORY
from tests.workflow.conftest import STUB, Workflow, write_lofi

# `lofi evaluate` says that it has started, and goes on when it is told to.
HELD = """#!{python}
import pathlib, runpy, sys, time
if sys.argv[1] == "evaluate":
    pathlib.Path("started").touch()
    while not pathlib.Path("go").exists():
        time.sleep(0.05)
runpy.run_path("{program}", run_name="__main__")
"""


@pytest.fixture
def held(stubbed: Workflow) -> Workflow:
    """The stub, with one dataset and an `evaluate` that waits."""
    write_lofi(stubbed.folder, HELD, STUB)
    stubbed.sweep.update(datasets={"digits-pope": {}}, stability_images=0)
    return stubbed


def until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"no {what} within {seconds:.0f} s"
        time.sleep(0.05)


def kill_while_evaluating(workflow: Workflow, *arguments: str) -> None:
    """Start a run and kill Snakemake itself, nothing else, in the middle of `lofi evaluate`."""
    with workflow.running(*arguments) as process:
        until(lambda: (workflow.folder / "started").exists() or process.poll() is not None, "evaluate", 180)
        assert process.poll() is None, workflow.said() + workflow.logs()


def recover(workflow: Workflow, *arguments: str) -> list[str]:
    """The command line of `lofi recover` on the workflow's folder."""
    main = "import sys; from lofi.cli import main; sys.exit(main())"
    return [sys.executable, "-c", main, "recover", "--directory", str(workflow.folder), *arguments]


@contextmanager
def recovering(workflow: Workflow, *arguments: str) -> Iterator[Callable[[], list[str]]]:
    """A recovery that runs beside the block, and what it has said so far. It must end well."""
    path = workflow.folder / "recover.txt"

    def said() -> list[str]:
        return path.read_text().splitlines()

    with open(path, "w") as output:
        process = subprocess.Popen(
            recover(workflow, *arguments), env=workflow.environment, stderr=output, cwd=REPOSITORY
        )
    try:
        yield said
        assert process.wait(120) == 0, said()
    finally:
        process.kill()
        process.wait()


def recovered(workflow: Workflow, *arguments: str) -> list[str]:
    """What a recovery says that has nothing to wait for."""
    with recovering(workflow, *arguments) as said:
        pass
    return said()


def test_a_job_of_a_killed_snakemake_is_waited_for(held):
    kill_while_evaluating(held, "--cores", "2")
    assert held.calls()[0].startswith("prepare")
    with recovering(held) as said:
        until(lambda: any("waiting for 1 job: process" in line for line in said()), "line about the job")
        assert "Directory cannot be locked" in held.run(ok=False)
        (held.folder / "go").touch()
    assert "unlocked" in said()
    assert said()[-2] == "left to run: 1 evaluate, 1 aggregate, 1 report", "without its Snakemake no job counts as done"
    assert f"go on with: snakemake -s {REPOSITORY / 'Snakefile'} --cores 2" in said()[-1]
    held.calls()
    held.run()
    assert [call.split()[0] for call in held.calls()] == ["aggregate", "evaluate", "report"]
    assert recovered(held)[-1] == "left to run: nothing"


@pytest.mark.slow
def test_a_job_of_a_killed_snakemake_is_ended(held):
    kill_while_evaluating(held, "--cores", "2")
    said = recovered(held, "--cancel")
    assert any("cancelling 1 job: process" in line for line in said)
    assert "unlocked" in said
    assert said[-2] == "left to run: 1 evaluate, 1 aggregate, 1 report"
    assert not list(held.folder.glob("results/samples/**/method=lofi/**/*.parquet"))
    (held.folder / "go").touch()
    held.run()
    assert recovered(held)[-1] == "left to run: nothing"


@pytest.mark.slow
def test_an_interrupted_wait_leaves_all_as_it_is(held):
    kill_while_evaluating(held, "--cores", "2")
    with subprocess.Popen(
        recover(held), env=held.environment, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY
    ) as process:
        assert process.stderr
        while "waiting for" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline().startswith("lofi recover: stopped waiting; the jobs go on")
    assert process.returncode == 2
    assert list((held.folder / ".snakemake/locks").glob("*.lock"))
    assert recovered(held, "--cancel")[-2].startswith("left to run: 1 evaluate")


@pytest.mark.slow
def test_a_sweep_that_snakemake_refuses_is_one_line(held):
    kill_while_evaluating(held, "--cores", "2")
    recovered(held, "--cancel")
    (held.folder / "results/sweep.json").write_text("{}")
    done = subprocess.run(recover(held), env=held.environment, capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("lofi recover: snakemake --dry-run failed (lofi: ")
    assert "Traceback" not in done.stderr
    assert os.listdir(held.folder / "results/data")
