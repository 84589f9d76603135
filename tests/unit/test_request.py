"""What jobs ask a cluster for."""

from dataclasses import replace
from pathlib import Path

import pytest

from lofi.config import load
from lofi.request import LONGEST, lines, requests

SWEEP = load(Path(__file__).parents[2] / "config.yaml")
SCALES = [
    # rule, whether its memory and its minutes grow with the cells of a job, and whether shards take minutes off
    ("reference", False, True),
    ("evaluate", True, True),
    ("stability", False, False),
    ("aggregate", False, False),
    ("report", False, False),
]


@pytest.mark.parametrize(("rule", "packed", "sharded"), SCALES)
def test_what_a_request_depends_on(rule, packed, sharded):
    asked = requests(SWEEP)[rule]
    alone, cut = requests(replace(SWEEP, pack=()))[rule], requests(replace(SWEEP, shards=4))[rule]
    assert (alone.memory < asked.memory, alone.minutes < asked.minutes) == (packed, packed)
    assert cut.memory == asked.memory
    assert (cut.minutes < asked.minutes) == sharded


@pytest.mark.parametrize("rule", ["evaluate", "stability", "aggregate", "report"])
def test_a_larger_sweep_asks_for_more(rule):
    asked, less = requests(SWEEP)[rule], requests(replace(SWEEP, keeps=SWEEP.keeps[:1]))[rule]
    assert (less.memory, less.minutes) < (asked.memory, asked.minutes)


def test_each_attempt_asks_for_as_much_again_but_not_for_more_than_a_day():
    asked = requests(SWEEP)["evaluate"]
    assert asked.at(1) == asked
    assert (asked.at(2).memory, asked.at(2).minutes) == (2 * asked.memory, 2 * asked.minutes)
    assert (asked.at(9).memory, asked.at(9).minutes) == (9 * asked.memory, LONGEST)


def test_check_prints_every_rule():
    assert [line.split(":")[0] for line in lines(SWEEP)] == [rule for rule, *_ in SCALES]
    assert "evaluate: asks a cluster for 18.1 GB of main memory and 440 minutes" in lines(SWEEP)
