"""What a benchmark says: a ratio against a reference that ran beside it, and whether that is what was wanted."""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """What a value must reach: at least, or at most, so much."""

    value: float
    at_most: bool = False

    def met(self, value: float) -> bool:
        return value <= self.value if self.at_most else value >= self.value

    def __str__(self) -> str:
        return f"{'<=' if self.at_most else '>='} {self.value:g}"


@dataclass(frozen=True)
class Item:
    """One measured number: how many times faster than its reference, or in a unit of its own."""

    name: str
    value: float
    unit: str
    reference: str
    spread: tuple[float, float]
    runs: int
    target: Target | None = None

    @property
    def met(self) -> bool | None:
        return self.target and self.target.met(self.value)


# On a busy machine BENCH_CLOCK=cpu counts what this process has computed; that tells nothing of a GPU, nor of waiting.
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
CLOCK = os.environ.get("BENCH_CLOCK", "wall")


def seconds(work: Callable[[], object]) -> float:
    start = CLOCKS[CLOCK]()
    work()
    return CLOCKS[CLOCK]() - start


def ratios(slow: Callable[[], object], fast: Callable[[], object], rounds: int) -> list[float]:
    """slow / fast of rounds in which both run, so that a busy machine slows both."""
    slow(), fast()
    return [seconds(slow) / seconds(fast) for _ in range(rounds)]


def item_of(name: str, values: list[float], reference: str, *, unit: str = "x", target: Target | None = None) -> Item:
    """The median of several rounds, and their spread."""
    return Item(name, statistics.median(values), unit, reference, (min(values), max(values)), len(values), target)


def compare(
    name: str,
    reference: str,
    slow: Callable[[], object],
    fast: Callable[[], object],
    rounds: int,
    target: Target | None = None,
) -> Item:
    return item_of(name, ratios(slow, fast, rounds), reference, target=target)
