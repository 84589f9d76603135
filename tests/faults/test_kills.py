"""Kill -9 at random instants of every stage: what is there is whole, and the same command makes what is missing."""

import random

import pytest

from tests.faults.conftest import COMMANDS, Sweep
from tests.faults.process import run, start

CI = [("evaluate", 1), ("evaluate", 2), ("prepare", 3), ("aggregate", 4), ("report", 5)]
NIGHTLY = [(command, seed) for command in ("prepare", "evaluate", "aggregate", "report") for seed in range(10, 24)]


def killed(sweep: Sweep, command: str, seed: int) -> int:
    """Start a command and kill it after a random share of the time that it takes; how it ended."""
    started = start(sweep.folder, *COMMANDS[command])
    started.is_over(random.Random(seed).random() * sweep.seconds[command])
    return started.kill()


@pytest.mark.parametrize(("command", "seed"), [*CI, *(pytest.param(*each, marks=pytest.mark.slow) for each in NIGHTLY)])
def test_a_killed_command_leaves_nothing_half_and_goes_on(finished, copy, command, seed, record_property):
    copy.forget(command)
    code = killed(copy, command, seed)
    assert code in (0, -9)
    record_property("killed", code)
    record_property("left", len(copy.leftovers()))
    assert not copy.half()
    n_parts = len(copy.parts())

    again = run(copy.folder, *COMMANDS[command])
    assert copy.contents(command) == finished.contents(command)
    assert not copy.leftovers()
    assert not copy.parts()
    assert n_parts <= 4, again.text()
