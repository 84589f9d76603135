"""When a reducer inside the LLM prunes, and to how many tokens: solved for a budget. Light: no torch.

Two budgets exist. `tokens` is the count after the last prune. `layer_mean` is the mean, over the decoder's layers,
of the visual tokens that enter each: what a method inside the LLM costs, whatever its stages are.
"""

from dataclasses import dataclass

PAPER_DEPTH = 32  # decoder layers of the models the papers name their layers for


@dataclass(frozen=True)
class Stage:
    """Before decoder layer `layer`, the visual tokens are cut to `count`."""

    layer: int
    count: int


@dataclass(frozen=True)
class Staged:
    """Stages before some of 32 layers, each leaving a share of the n tokens at the authors' own setting.

    Where `fixed`, the layers are those of every model, whatever its depth; else they scale with the depth.
    """

    layers: tuple[int, ...]
    shares: tuple[float, ...]
    fixed: bool = False


@dataclass(frozen=True)
class Depth:
    """All visual tokens leave before one layer: the budget chooses the layer."""


@dataclass(frozen=True)
class Table:
    """Counts for every layer from a table in the method's module, or fitted to the model at hand."""

    name: str


Schedule = Staged | Depth | Table
