"""Run one reducer on one image by name, and check what it gives back."""

from collections.abc import Mapping, Sequence
from importlib import import_module

import torch
from torch import Tensor

from lofi.errors import UserError
from lofi.methods.context import Reduce, Selection, VisualContext
from lofi.methods.registry import METHODS, get_reducer

__all__ = ["METHODS", "Selection", "VisualContext", "get_reducer", "resolve", "select"]


def resolve(name: str) -> Reduce:
    """The function of a registered reducer, imported on first use."""
    module, _, function = get_reducer(name).function.partition(":")
    reduce: Reduce = getattr(import_module(module), function)
    return reduce


def select(
    name: str, context: VisualContext, ks: Sequence[int], *, seed: int, params: Mapping[str, object]
) -> list[Selection]:
    """One checked selection per entry of `ks` (any order, each in 1..n) for one image.

    `params` are those of `check_params`; `positions` is for whoever places the kept tokens and is not passed
    on. Keeping every token is the identity for every reducer, so no reducer is asked for it.
    """
    n = len(context.projected)
    _check_request(name, context, ks)
    arguments = {key: value for key, value in params.items() if key != "positions"}
    fewer = [k for k in ks if k < n]
    given = resolve(name)(context, fewer, seed=seed, **arguments) if fewer else []
    if len(given) != len(fewer):
        raise RuntimeError(f"method {name!r} gave {len(given)} selections for {len(fewer)} counts")
    for selection, k in zip(given, fewer, strict=True):
        if fault := _fault(selection, k, context.projected):
            raise RuntimeError(f"method {name!r}, asked to keep {k} of {n} tokens, {fault}")
    reduced = iter(given)
    everything = torch.arange(n, device=context.projected.device)
    return [next(reduced) if k < n else Selection(everything) for k in ks]


def _check_request(name: str, context: VisualContext, ks: Sequence[int]) -> None:
    """Refuse counts outside 1..n, and a grid that does not hold n tokens where the method reads the grid."""
    n = len(context.projected)
    for k in ks:
        if not 1 <= k <= n:
            raise UserError(f"method {name!r} cannot keep {k} of {n} tokens; use a count from 1 to {n}")
    height, width = context.grid
    if "grid" in get_reducer(name).needs and height * width != n:
        raise UserError(f"method {name!r} needs a grid, and {height} x {width} does not hold the {n} tokens")


def _fault(selection: Selection, k: int, projected: Tensor) -> str:
    """What is wrong with a selection of k of the rows of `projected` (n, d); empty where nothing is."""
    kept, embeds = selection.kept, selection.embeds
    if kept.dtype != torch.long or kept.shape != (k,):
        return f"gave indices of type {kept.dtype} and shape {tuple(kept.shape)}"
    if bool((kept.diff() <= 0).any()):
        return "gave indices that are not strictly ascending"
    if int(kept[0]) < 0 or int(kept[-1]) >= len(projected):
        return f"gave indices from {int(kept[0])} to {int(kept[-1])}"
    if embeds is None:
        return ""
    if embeds.shape != (k, projected.shape[1]):
        return f"gave embeddings of shape {tuple(embeds.shape)}, not {(k, projected.shape[1])}"
    return "" if bool(torch.isfinite(embeds).all()) else "gave embeddings with NaN or infinity"
