"""Run one reducer on one image by name, and check what it gives back."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from statistics import fmean
from typing import Any

import torch

from lofi.errors import UserError
from lofi.methods.context import Reduce, Selection, VisualContext, portions, split_tiles
from lofi.methods.decoder import DecoderView, Stagewise
from lofi.methods.registry import METHODS, get_reducer

__all__ = ["METHODS", "Selection", "VisualContext", "get_reducer", "resolve", "select", "select_stage"]

SHARED = ("positions", "budget")  # parameters for whoever places the kept tokens and plans the stages
OWN = 0  # the count that stands for "as many as the method wants"


def resolve(name: str) -> Any:
    """The function of a registered reducer, imported on first use."""
    module, _, function = get_reducer(name).function.partition(":")
    return getattr(import_module(module), function)


def select(
    name: str, context: VisualContext, ks: Sequence[int], *, seed: int, params: Mapping[str, object]
) -> list[Selection]:
    """One checked selection per entry of `ks` (any order, each in 1..n) for one image.

    `params` are those of `check_params`. Keeping every token is the identity for every reducer, so no reducer is
    asked for it. A method that sets its own count is asked for `OWN`.
    """
    n = len(context)
    _check_request(name, context, ks)
    arguments = {key: value for key, value in params.items() if key not in SHARED}
    fewer = [k for k in ks if k < n]
    given = _reduce(name, context, fewer, seed, arguments) if fewer else []
    if len(given) != len(fewer):
        raise RuntimeError(f"method {name!r} gave {len(given)} selections for {len(fewer)} counts")
    exact = get_reducer(name).count == "asked"
    for selection, k in zip(given, fewer, strict=True):
        if fault := _fault(selection, k if exact else selection.count, n, context.projected.shape[1]):
            raise RuntimeError(f"method {name!r}, asked to keep {k} of {n} tokens, {fault}")
    reduced = iter(given)
    everything = torch.arange(n, device=context.projected.device)
    return [next(reduced) if k < n else Selection(everything) for k in ks]


def _reduce(
    name: str, context: VisualContext, ks: Sequence[int], seed: int, arguments: Mapping[str, object]
) -> list[Selection]:
    """What the method selects; of an any-resolution image tile by tile, where the method wants that."""
    reduce: Reduce = resolve(name)
    if context.tiles is None or get_reducer(name).tiles == "whole":
        return reduce(context, ks, seed=seed, **arguments)
    parts = split_tiles(context)
    shares = [[(part, OWN) for part in parts] if k == OWN else portions(parts, k) for k in ks]
    return [_join(parts, [_of_tile(name, part, k, seed, arguments) for part, k in share]) for share in shares]


def _of_tile(name: str, part: VisualContext, k: int, seed: int, arguments: Mapping[str, object]) -> Selection:
    """One tile of an image; all of a tile is the identity."""
    if k == len(part):
        return Selection(torch.arange(k, device=part.projected.device))
    reduce: Reduce = resolve(name)
    return reduce(part, [k], seed=seed, **arguments)[0]


def _join(parts: Sequence[VisualContext], found: Sequence[Selection]) -> Selection:
    """The selections of all tiles as one, tile after tile.

    The trace holds the number of tiles, and means over those tiles that the method has reduced.
    """
    offsets = [sum(map(len, parts[:i])) for i in range(len(parts))]
    placed = [selection.at(offset) for selection, offset in zip(found, offsets, strict=True)]
    told = [(key, selection.trace[key]) for selection in placed for key in selection.trace]
    trace = {key: fmean(value for other, value in told if other == key) for key, _ in told}
    kept = torch.cat([selection.kept for selection in placed])
    if all(selection.embeds is None for selection in placed):
        return Selection(kept, trace={**trace, "tiles": float(len(parts))})
    rows = [
        part.projected[selection.kept] if selection.embeds is None else selection.embeds
        for part, selection in zip(parts, found, strict=True)
    ]
    places = torch.cat([selection.rows for selection in placed])
    return Selection(kept, torch.cat(rows), places, {**trace, "tiles": float(len(parts))})


def select_stage(name: str, view: DecoderView, k: int, *, seed: int, params: Mapping[str, object]) -> Selection:
    """One checked selection of k of a view's visual tokens, for one stage of a method inside the LLM."""
    v = len(view.visual)
    if k >= v:
        return Selection(torch.arange(v, device=view.visual.device))
    if k == 0:
        return Selection(view.visual.new_empty(0))
    reduce: Stagewise = resolve(name)
    arguments = {key: value for key, value in params.items() if key not in SHARED}
    selection = reduce(view, k, seed=seed, **arguments)
    if fault := _fault(selection, k, v, view.hidden.shape[1]):
        raise RuntimeError(f"method {name!r}, asked at layer {view.layer} to keep {k} of {v} tokens, {fault}")
    return selection


def _check_request(name: str, context: VisualContext, ks: Sequence[int]) -> None:
    """Refuse counts outside 1..n, and a grid that does not hold n tokens where the method reads the grid."""
    n = len(context)
    own = get_reducer(name).count == "own"
    for k in ks:
        if not 1 <= k <= n and not (own and k == OWN):
            raise UserError(f"method {name!r} cannot keep {k} of {n} tokens; use a count from 1 to {n}")
    if "grid" in get_reducer(name).needs and sum(height * width for height, width in context.grids) != n:
        grids = ", ".join(f"{height} x {width}" for height, width in dict.fromkeys(context.grids))
        raise UserError(f"method {name!r} needs a grid, and {grids} does not hold the {n} tokens")


def _fault(selection: Selection, k: int, n: int, width: int) -> str:
    """What is wrong with a selection of k of n rows of that width; empty where nothing is."""
    kept, embeds, rows = selection.kept, selection.embeds, selection.rows
    if kept.dtype != torch.long or kept.ndim != 1 or selection.count != k or len(rows) != k:
        return f"gave {selection.count} rows at {len(rows)} places of type {kept.dtype}"
    if bool((kept.diff() <= 0).any()):
        return "gave indices that are not strictly ascending"
    if outside := [int(i) for i in (*kept.tolist(), *rows.tolist()) if not 0 <= i < n]:
        return f"gave the index {outside[0]}"
    if embeds is None:
        return ""
    if embeds.shape != (k, width):
        return f"gave embeddings of shape {tuple(embeds.shape)}, not {(k, width)}"
    return "" if bool(torch.isfinite(embeds).all()) else "gave embeddings with NaN or infinity"
