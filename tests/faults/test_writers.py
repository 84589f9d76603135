"""Two processes that make the same things at the same time."""

import pytest

from tests.faults.conftest import COMMANDS
from tests.faults.process import start


@pytest.mark.parametrize(
    "command", ["evaluate", *(pytest.param(each, marks=pytest.mark.slow) for each in ("prepare", "aggregate"))]
)
def test_two_writers_both_end_well(finished, copy, command):
    copy.forget(command)
    both = [start(copy.folder, *COMMANDS[command]) for _ in range(2)]
    assert [each.end() for each in both] == [0, 0], "\n".join(each.text() for each in both)
    assert copy.contents(command) == finished.contents(command)
    assert not copy.leftovers()
    assert not copy.half()
    if command == "evaluate":
        assert len(copy.cached()) == 2
