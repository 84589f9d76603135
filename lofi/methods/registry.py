"""Every reducer by name. Light on purpose: reading a config must not import torch.

To add a method: write `lofi/methods/<name>.py`, add one line here, add one test. The module's docstring says what
the method does, which paper it is from, and where lofi deviates; `docs/methods.md` is generated from both.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lofi.errors import UserError, unknown
from lofi.methods.schedule import Depth, Fitted, Schedule, Searched, Staged

Need = Literal["attention", "cls", "grid", "square", "tower", "blocks"]
Value = str | int | float | bool


@dataclass(frozen=True)
class Param:
    """One parameter of a reducer: its default, the pattern its text must match, and the rule in words."""

    default: Value
    pattern: str
    rule: str


@dataclass(frozen=True)
class Reducer:
    """A method's traits. `function` is `module:name`, imported when the method first runs."""

    function: str
    version: int = 1  # raise it when the method's numbers change: it is part of every cell key
    acts: Literal["encoder", "tokens", "llm"] = "tokens"  # inside the encoder, before the LLM, inside it
    needs: tuple[Need, ...] = ()
    cls_when: tuple[str, Value] | None = None  # where this parameter has this value it needs a CLS token, too
    layers: tuple[int, ...] = ()  # encoder layers it reads beside the feature layer; see `encoder_layer`
    nested: bool = False  # one ranking serves every keep
    sees_text: bool = False
    random: bool = False  # draws random numbers, so seeds are an axis
    random_when: tuple[str, Value] | None = None  # ... only where this parameter has this value
    merges: bool = False  # replaces rows, does not only drop them
    rectangle: bool = False  # its counts fill a rectangle of the grid
    count: Literal["asked", "own", "calibrated"] = "asked"  # who sets the count of one image
    positions: Literal["reindexed", "kept"] = "reindexed"  # the authors' choice
    tiles: Literal["each", "whole"] = "each"  # any-resolution images: tile by tile, or all tiles as one
    schedule: Schedule | None = None  # of a method inside the LLM
    params: Mapping[str, Param] = field(default_factory=dict)

    def all_needs(self, params: Mapping[str, Value]) -> tuple[Need, ...]:
        """What it needs with these parameters."""
        wants_cls = self.cls_when is not None and params.get(self.cls_when[0]) == self.cls_when[1]
        return (*self.needs, "cls") if wants_cls else self.needs

    def draws(self, params: Mapping[str, Value]) -> bool:
        """Whether it draws random numbers with these parameters, so that seeds are an axis."""
        return self.random or (self.random_when is not None and params.get(self.random_when[0]) == self.random_when[1])


NUMBER = r"\d+(\.\d*)?([eE]-?\d+)?"
SHARE = r"0?\.\d*[1-9]\d*|1(\.0*)?"
SCORE = Param("leverage", "leverage|ridge|energy|residual|sampled", "one of leverage, ridge, energy, residual, sampled")
RANK = Param(
    "energy:0.9",
    rf"fixed:[1-9]\d*|energy:({SHARE})|budget|erank",
    "one of fixed:<k>, energy:<share in (0, 1]>, budget, erank",
)
OWN_RANK = Param(
    "energy:0.9",
    rf"fixed:[1-9]\d*|energy:({SHARE})|erank",
    "one of fixed:<k>, energy:<share in (0, 1]>, erank",
)
RIDGE = Param(0.0, NUMBER, "a number >= 0; 0 takes the mean eigenvalue")
POSITIONS = Param("reindexed", "reindexed|kept", "one of reindexed, kept")
BUDGET = Param("layer_mean", "layer_mean|tokens", "one of layer_mean, tokens")
IMPORTANT = Param(0.5, rf"0(\.0*)?|{SHARE}", "a share in [0, 1] of the kept tokens")
RATE = Param(0.5, SHARE, "a share in (0, 1]")
MASS = Param("mass", "mass|spectral", "one of mass, spectral")


def whole(default: int, rule: str = "a whole number >= 1") -> Param:
    """A parameter that counts something."""
    return Param(default, r"[1-9]\d*", rule)


def choice(*values: str) -> Param:
    """A parameter that takes one of some words, the first by default."""
    return Param(values[0], "|".join(values), "one of " + ", ".join(values))


ONE = Staged((2,), (0.5,), fixed=True)  # one stage before layer 2, whatever the depth
LAYER = whole(2, "a decoder layer from 1 on: the first that reads fewer tokens")
M = "lofi.methods."

METHODS: dict[str, Reducer] = {
    "full": Reducer(M + "full:full", nested=True, tiles="whole"),
    # baselines
    "random": Reducer(M + "random:random", nested=True, random=True, tiles="whole"),
    "grid_1d": Reducer(M + "grid:grid_1d", needs=("grid",)),
    "grid_2d": Reducer(M + "grid:grid_2d", needs=("grid",), rectangle=True),
    "pool": Reducer(M + "pool:pool", needs=("grid",), rectangle=True, merges=True),
    # by the encoder's attention
    "fastervlm": Reducer(M + "fastervlm:fastervlm", needs=("attention",), nested=True),
    "vispruner": Reducer(M + "vispruner:vispruner", needs=("attention",), params={"important": IMPORTANT}),
    "hired": Reducer(
        M + "hired:hired",
        needs=("attention",),
        layers=(0,),
        tiles="whole",
        params={"alpha": RATE, "regions": choice("strips", "spatial")},
    ),
    "hiprune": Reducer(
        M + "hiprune:hiprune",
        needs=("attention", "grid"),
        layers=(8,),
        params={"alpha": Param(0.1, rf"0(\.0*)?|{SHARE}", "a share in [0, 1]")},
    ),
    "holov": Reducer(
        M + "holov:holov",
        needs=("attention",),
        tiles="whole",
        params={"crops": whole(16), "order": choice("attention", "raster")},
    ),
    "scope": Reducer(M + "scope:scope", needs=("attention",), nested=True),
    "vscan": Reducer(M + "vscan:vscan", needs=("attention", "grid"), layers=(5,), merges=True),
    "visionzip": Reducer(
        M + "visionzip:visionzip",
        needs=("attention",),
        cls_when=("cls", "keep"),
        merges=True,
        tiles="whole",
        params={"cls": choice("auto", "keep", "drop")},
    ),
    "prumerge": Reducer(M + "prumerge:prumerge", needs=("attention",), layers=(-1,), merges=True, count="own"),
    "prumerge_fixed": Reducer(M + "prumerge:prumerge_fixed", needs=("attention",), layers=(-1,), merges=True),
    "prumerge_plus": Reducer(
        M + "prumerge:prumerge_plus", needs=("attention",), layers=(-1,), merges=True, count="own"
    ),
    # by similarity alone
    "divprune": Reducer(M + "divprune:divprune", nested=True, tiles="whole"),
    "gprune": Reducer(M + "gprune:gprune", nested=True),
    "tome": Reducer(M + "tome:tome", merges=True),
    "tome_vit": Reducer(M + "tome_vit:tome_vit", acts="encoder", needs=("blocks",), merges=True),
    # by the question
    "cdpruner": Reducer(M + "cdpruner:cdpruner", nested=True, sees_text=True, tiles="whole"),
    "trim": Reducer(M + "trim:trim", needs=("tower",), sees_text=True, merges=True),
    "trim_auto": Reducer(
        M + "trim:trim_auto", needs=("tower",), sees_text=True, merges=True, count="own", tiles="whole"
    ),
    "mmtok": Reducer(M + "mmtok:mmtok", version=2, nested=True, sees_text=True, tiles="whole"),
    # by leverage
    "lofi": Reducer(
        M + "lofi:lofi",
        random_when=("score", "sampled"),
        tiles="whole",
        params={"score": SCORE, "rank": RANK, "ridge": RIDGE},
    ),
    "lofi_adaptive": Reducer(
        M + "lofi_adaptive:lofi_adaptive", count="calibrated", tiles="whole", params={"measure": MASS, "rank": OWN_RANK}
    ),
    # inside the LLM
    "fastv": Reducer(
        M + "fastv:fastv",
        acts="llm",
        positions="kept",
        schedule=Staged((2,), (0.5,), fixed=True),
        params={"layer": LAYER},
    ),
    "dart": Reducer(
        M + "dart:dart",
        acts="llm",
        positions="kept",
        schedule=Staged((2,), (0.5,), fixed=True),
        params={"layer": LAYER},
    ),
    "sparsevlm": Reducer(
        M + "sparsevlm:sparsevlm",
        acts="llm",
        random=True,
        merges=True,
        schedule=Staged((3, 7, 16), (309 / 576, 204 / 576, 113 / 576)),
    ),
    "sparsevlm_plus": Reducer(
        M + "sparsevlm:sparsevlm_plus",
        acts="llm",
        positions="kept",
        schedule=Staged((3, 7, 16), (300 / 576, 200 / 576, 118 / 576)),
        params={"heads": whole(14)},
    ),
    "pyramiddrop": Reducer(M + "pyramiddrop:pyramiddrop", acts="llm", schedule=Staged((8, 16, 24), (0.5, 0.25, 0.125))),
    "vtw": Reducer(M + "vtw:vtw", acts="llm", positions="kept", schedule=Depth()),
    "vtw_search": Reducer(
        M + "vtw:vtw_search",
        acts="llm",
        positions="kept",
        schedule=Searched(),
        count="own",
        params={"eta": Param(0.003, NUMBER, "a number >= 0: the mean divergence that the depth may cost")},
    ),
    "feather": Reducer(
        M + "feather:feather",
        acts="llm",
        positions="kept",
        needs=("square",),
        schedule=Staged((8, 16), (217 / 576, 19 / 576)),
        params={"stride": whole(3)},
    ),
    "v2drop": Reducer(
        M + "v2drop:v2drop", acts="llm", positions="kept", schedule=Staged((3, 17, 22), (0.5, 0.25, 0.0))
    ),
    "fitprune": Reducer(M + "fitprune:fitprune", acts="llm", positions="kept", schedule=Fitted()),
    "vscan_llm": Reducer(
        M + "vscan_llm:vscan_llm",
        acts="llm",
        schedule=Staged((16,), (1 / 3,)),
        params={"rotary": choice("kept", "dropped"), "layer": Param(0, r"\d+", "a decoder layer; 0: the middle one")},
    ),
    "lofi_llm": Reducer(
        M + "lofi_llm:lofi_llm",
        acts="llm",
        positions="kept",
        schedule=ONE,
        params={"layer": LAYER, "score": SCORE, "rank": RANK, "ridge": RIDGE},
        random_when=("score", "sampled"),
    ),
}


def get_reducer(name: str) -> Reducer:
    """The reducer of that name, or an error that lists the names and the nearest one."""
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    return METHODS[name]


def known_params(name: str) -> dict[str, Param]:
    """Every parameter of a method, with those that belong to all: positions, and the budget inside the LLM.

    `positions`: whether kept tokens keep their positions or are re-indexed; its default is the authors' choice.
    """
    reducer = get_reducer(name)
    budget = {"budget": BUDGET} if reducer.schedule and reducer.count != "own" else {}
    positions = Param(reducer.positions, POSITIONS.pattern, POSITIONS.rule)
    return {**reducer.params, **budget, "positions": positions}


def check_params(name: str, params: Mapping[str, object]) -> dict[str, Value]:
    """The full parameters of a method: its defaults with `params` over them, each checked by its rule.

    A value takes the type of its default, so that 1, 1.0 and YAML's text '1e0' give one cell key.
    """
    known = known_params(name)
    full: dict[str, Value] = {key: param.default for key, param in known.items()}
    for key, value in params.items():
        if key not in known:
            raise unknown(f"parameter of method {name!r}", key, known)
        if not isinstance(value, Value) or not re.fullmatch(known[key].pattern, str(value)):
            raise UserError(f"{key} {value!r} of method {name!r} is not allowed; use {known[key].rule}")
        full[key] = value if isinstance(value, bool) else type(known[key].default)(value)
    return full
