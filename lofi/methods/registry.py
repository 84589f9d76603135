"""Every reducer by name. Light on purpose: reading a config must not import torch.

To add a method: write `lofi/methods/<name>.py`, add one line here, add one test.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lofi.errors import UserError, unknown

Need = Literal["cls_attention", "encoder_attention", "grid"]


@dataclass(frozen=True)
class Param:
    """One parameter of a reducer: its default, the pattern its text must match, and the rule in words."""

    default: str | int | float | bool
    pattern: str
    rule: str


@dataclass(frozen=True)
class Reducer:
    """A method's traits. `function` is `module:name`, imported when the method first runs."""

    function: str
    version: int = 1  # raise it when the method's numbers change: it is part of every cell key
    needs: tuple[Need, ...] = ()
    nested: bool = False  # one ranking serves every keep
    sees_text: bool = False
    random: bool = False  # draws random numbers, so seeds are an axis
    merges: bool = False  # replaces rows, does not only drop them
    params: Mapping[str, Param] = field(default_factory=dict)


SCORE = Param("leverage", "leverage|ridge|energy|residual|sampled", "one of leverage, ridge, energy, residual, sampled")
RANK = Param(
    "energy:0.9",
    r"fixed:[1-9]\d*|energy:(0?\.\d*[1-9]\d*|1(\.0*)?)|budget|erank",
    "one of fixed:<k>, energy:<share in (0, 1]>, budget, erank",
)
RIDGE = Param(0.0, r"\d+(\.\d*)?([eE]-?\d+)?", "a number >= 0; 0 takes the mean eigenvalue")
POSITIONS = Param("reindexed", "reindexed|kept", "one of reindexed, kept")

METHODS: dict[str, Reducer] = {
    "full": Reducer("lofi.methods.full:full", nested=True),
    "random": Reducer("lofi.methods.random:random", nested=True, random=True),
    "grid_1d": Reducer("lofi.methods.grid:grid_1d", needs=("grid",)),
    "grid_2d": Reducer("lofi.methods.grid:grid_2d", needs=("grid",)),
    "pool": Reducer("lofi.methods.pool:pool", needs=("grid",), merges=True),
    "fastervlm": Reducer("lofi.methods.fastervlm:fastervlm", needs=("cls_attention",), nested=True),
    "divprune": Reducer("lofi.methods.divprune:divprune", nested=True),
    "lofi": Reducer("lofi.methods.lofi:lofi", params={"score": SCORE, "rank": RANK, "ridge": RIDGE}),
}


def get_reducer(name: str) -> Reducer:
    """The reducer of that name, or an error that lists the names and the nearest one."""
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    return METHODS[name]


def check_params(name: str, params: Mapping[str, object]) -> dict[str, str | int | float | bool]:
    """The full parameters of a method: its defaults with `params` over them, each checked by its rule.

    `positions` belongs to every reducer: whether kept tokens keep their positions or are re-indexed.
    """
    known = {**get_reducer(name).params, "positions": POSITIONS}
    full: dict[str, str | int | float | bool] = {key: param.default for key, param in known.items()}
    for key, value in params.items():
        if key not in known:
            raise unknown(f"parameter of method {name!r}", key, known)
        if not isinstance(value, str | int | float | bool) or not re.fullmatch(known[key].pattern, str(value)):
            raise UserError(f"{key} {value!r} of method {name!r} is not allowed; use {known[key].rule}")
        full[key] = value
    return full
