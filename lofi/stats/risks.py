"""Upper bounds of a risk, such as the rate of negative flips, that hold at every sample size.

The trials are images, drawn independently from a population in which no image has more samples than the most that one
has here; how samples of one image depend on each other may be anything. The risk is the expected share of samples that
go wrong. Where no image has two samples the bound is the exact binomial one (Clopper and Pearson). Elsewhere it comes
from betting against the risk being as high as the limit (Waudby-Smith and Ramdas, 2024). A stake is multiplied, image
by image, by 1 - bet * (wrong - limit * samples). A risk of the limit or more keeps it from growing on average, so by
Markov's inequality it then exceeds 1 / (1 - confidence) with a probability of at most 1 - confidence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from scipy.special import betainc

from lofi.stats.resample import Floats

CONFIDENCE = 0.95
# Shares of the highest bet that cannot ruin, and of the stake on each. The highest one loses least where nothing goes
# wrong, and most where a whole image does; a bet that followed the data would spoil the guarantee.
BETS = ((1.0, 0.5), (2 / 3, 0.25), (1 / 3, 0.25))
MOST_IMAGES = 10**9  # more than this is as good as never
HALVINGS = 50  # of [0, 1]: to 1e-15


@dataclass(frozen=True)
class Counts:
    """How many `images` have so many `samples`, of which so many `events` went wrong: three (patterns,) arrays."""

    samples: Floats
    events: Floats
    images: Floats

    @property
    def n(self) -> float:
        """All samples."""
        return float(self.samples @ self.images)

    @property
    def n_images(self) -> float:
        """All images."""
        return float(self.images.sum())

    @property
    def rate(self) -> float:
        """The share of samples that went wrong."""
        return float(self.events @ self.images) / self.n

    def scaled(self, images: float) -> "Counts":
        """The same shares of every pattern in so many images."""
        return Counts(self.samples, self.events, self.images * (images / self.n_images))


def counts_of(patterns: Sequence[dict[str, int]]) -> Counts:
    """From the column `patterns` of the table `risks`."""
    samples, events, images = (
        np.array([pattern[name] for pattern in patterns], np.float64) for name in ("samples", "events", "images")
    )
    return Counts(samples, events, images)


def p_value(counts: Counts, limit: float) -> float:
    """How likely a risk of at least `limit`, in (0, 1), leaves so little that went wrong; never too small."""
    most = counts.samples.max()
    if most == 1:
        n, events = counts.n, counts.rate * counts.n
        return float(betainc(n - events, events + 1, 1 - limit)) if events < n else 1.0
    bets, stakes = np.array(BETS).T
    room = (1 - limit) * most
    factors = (room - bets[:, None] * (counts.events - limit * counts.samples)) / room  # (bets, patterns)
    with np.errstate(divide="ignore"):  # the highest bet may lose all
        grown = np.log(np.maximum(factors, 0)) @ counts.images + np.log(stakes)
    return float(np.exp(min(0.0, -np.logaddexp.reduce(grown))))


def upper_bound(counts: Counts, confidence: float) -> float:
    """The least risk that can be ruled out with one-sided `confidence`, and every greater one with it."""
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if p_value(counts, middle) <= 1 - confidence else (middle, high)
    return high


def images_needed(counts: Counts, limit: float, confidence: float) -> int | None:
    """How many images with the same shares of every pattern would bring the bound to `limit`; None if none would."""
    low, high = 0, MOST_IMAGES
    if p_value(counts.scaled(high), limit) > 1 - confidence:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if p_value(counts.scaled(middle), limit) <= 1 - confidence else (middle, high)
    return high


def bounded(con: duckdb.DuckDBPyConnection) -> pa.Table:
    """What `risks.sql` counts, with `upper`, the bound at the default confidence; NULL where nothing is known."""
    table = con.sql(Path(__file__).with_name("risks.sql").read_text(encoding="utf-8")).to_arrow_table()
    patterns = table.column("patterns").to_pylist()
    upper = [upper_bound(counts_of(found), CONFIDENCE) if found else None for found in patterns]
    place = table.column_names.index("patterns")
    return table.add_column(place, "upper", pa.array(upper, pa.float64()))
