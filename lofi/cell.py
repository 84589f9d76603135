"""A cell, the unit of comparison: its name, its file, and how many tokens it keeps."""

import re
from dataclasses import dataclass

from lofi.errors import UserError

FULL = "full"
FLOOR = "floor"
KEEP_ALL = "1.0000"
OWN_COUNT = "auto"  # the keep of a method that sets its own count for every image
AS_LOADED = "none"  # weights of the decoder that are not quantised
WEIGHTS = (AS_LOADED, "int8", "int4")
# What may stand in a path: no separator, no wildcard character, no leading dot.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


@dataclass(frozen=True, order=True)
class Cell:
    """One (model, dataset, method, keep, seed). `keep` is the text that `keep_text` makes."""

    model: str
    dataset: str
    method: str
    keep: str
    seed: int = 0

    def path(self, shard: int = 0) -> str:
        """The published file of this cell, relative to the results folder."""
        return (
            f"samples/model={self.model}/dataset={self.dataset}/method={self.method}"
            f"/keep={self.keep}/seed={self.seed}/shard-{shard:04d}.parquet"
        )

    def __str__(self) -> str:
        return f"{self.model} / {self.dataset} / {self.method} / keep {self.keep} / seed {self.seed}"


def stability_path(model: str, dataset: str) -> str:
    """The file that compares what each method keeps under rounded features, relative to the results folder."""
    return f"stability/model={model}/dataset={dataset}.parquet"


def keep_text(keep: float | int) -> str:
    """The one spelling of a keep: a share with four decimals (`0.2500`), or a count (`36`).

    An integer above 1 is an absolute count of tokens; 1 and 1.0 both mean all of them.
    """
    if isinstance(keep, bool) or not isinstance(keep, int | float):
        raise UserError(f"keep {keep!r} is not a number; use a share in (0, 1] or a whole count of tokens")
    if isinstance(keep, int) and keep > 1:
        return str(keep)
    if not 0 < keep <= 1:
        raise UserError(f"keep {keep} is outside (0, 1]; use 1.0 for the full model, or a whole count of tokens")
    text = f"{keep:.4f}"
    if float(text) == 0 or abs(float(text) - keep) > 1e-9:
        raise UserError(f"keep {keep} has more than four decimals; write {float(text) or 0.0001} or a whole count")
    return text


def kept_count(keep: str, n: int) -> int:
    """K, the number of the `n` visual tokens that `keep` asks for: rounded, at least 1; 0 for `auto`."""
    if keep == OWN_COUNT:
        return 0
    if "." in keep:
        return max(1, round(float(keep) * n))
    if int(keep) > n:
        raise UserError(f"keep {keep} asks for more tokens than the {n} an image has; use at most {n}")
    return int(keep)


def keep_share(keep: str, n: int | None) -> float | None:
    """The share of the `n` visual tokens that `keep` asks for; None for `auto`, and for a count of an unknown n."""
    if keep == OWN_COUNT:
        return None
    if "." in keep:
        return float(keep)
    return None if n is None else int(keep) / n
