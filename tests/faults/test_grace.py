"""SIGTERM: stages finish the part in flight, all else ends at once and leaves nothing; a killed image worker."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
import yaml

from lofi import grace
from tests.faults.conftest import COMMANDS, Sweep
from tests.faults.process import Started, run, start
from tests.workflow.test_kills import mark, marked

ENDED = "ended by SIGTERM; what is finished is kept, and the same command goes on from there"


def in_flight(sweep: Sweep) -> tuple[Started, list[int]]:
    """An evaluation amid its first part, and the two processes that open images for it."""
    sweep.forget("evaluate")
    config = sweep.folder / "config.yaml"
    settings = yaml.safe_load(config.read_text())
    settings["models"]["m"]["workers"] = 2  # they start with the first part
    config.write_text(yaml.safe_dump(settings))
    started = start(sweep.folder, *COMMANDS["evaluate"])
    children = Path(f"/proc/{started.number}/task/{started.number}/children")
    while not started.is_over() and len(children.read_text().split()) < 2:
        time.sleep(0.01)
    assert not started.is_over(), started.text()
    return started, [int(number) for number in children.read_text().split()]


def test_slurms_signals_let_a_part_finish(finished, copy):
    started, _ = in_flight(copy)
    assert not copy.parts()
    for number in (signal.SIGTERM, signal.SIGCONT, signal.SIGTERM):
        started.send(number)
    assert started.end() == 143, started.text()
    assert started.complaint() == f"lofi evaluate: {ENDED}"
    assert len(copy.parts()) == 2, "one part of each cell"
    assert not copy.leftovers()

    n_marked = sum(map(mark, copy.parts()))
    run(copy.folder, *COMMANDS["evaluate"])
    assert marked(copy.folder) == n_marked == 2 * 64 * 4, "finished parts were used, not computed again"
    assert copy.contents("evaluate") == finished.contents("evaluate")


@pytest.mark.slow
def test_a_killed_image_worker_is_said_and_nothing_is_lost(finished, copy):
    started, workers = in_flight(copy)
    os.kill(workers[0], signal.SIGKILL)
    assert started.end() == 2, started.text()
    assert "a worker process that opens images was killed" in started.complaint()
    assert not copy.half()
    assert not copy.leftovers()
    assert not any(Path(f"/proc/{number}").exists() for number in workers), "the other one ends, too"
    run(copy.folder, *COMMANDS["evaluate"])
    assert copy.contents("evaluate") == finished.contents("evaluate")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "seed"),
    [(command, seed) for command in ("prepare", "reference", "evaluate", "aggregate", "report") for seed in range(5)],
)
def test_sigterm_at_any_instant_ends_in_order(finished, copy, command, seed):
    if command != "reference":
        copy.forget(command)
    started = start(copy.folder, *COMMANDS[command])
    started.is_over(random.Random(seed).uniform(0.1, 0.9) * copy.seconds[command])
    if not started.is_over():
        started.send(signal.SIGTERM)
    assert started.end() in (0, 143, -signal.SIGTERM), started.text()
    if started.code == 143:
        assert started.complaint() == f"lofi {command}: {ENDED}"
        assert not copy.leftovers()
    assert not copy.half()
    run(copy.folder, *COMMANDS[command])
    if command != "reference":
        assert copy.contents(command) == finished.contents(command)
    assert not copy.leftovers()
    assert not copy.parts()


def test_a_part_that_takes_too_long_does_not_hold_the_end_off(monkeypatch):
    monkeypatch.setattr(grace, "SECONDS", 0.05)
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGALRM)
    reached = []

    def part() -> None:
        signal.raise_signal(signal.SIGTERM)
        reached.append("the signal waits")
        while True:
            time.sleep(1)

    with pytest.raises(grace.Terminated), grace.ending_in_order(), grace.finishing():
        part()
    assert reached
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGALRM)) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    with grace.finishing():
        reached.append("what comes after was not asked to end")
    assert len(reached) == 2
