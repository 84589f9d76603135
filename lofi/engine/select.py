"""Selections of every cell for one batch: each method ranks an image once for all its keeps."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lofi.cell import Cell, kept_count
from lofi.engine.batch import Batch, clock
from lofi.methods.context import Selection
from lofi.methods.registry import check_params
from lofi.methods.select import select
from lofi.models.adapter import Adapter
from lofi.sweep import MethodSpec


@dataclass(frozen=True)
class Selected:
    """What one cell keeps of b images, k tokens each."""

    cell: Cell
    positions: str  # reindexed, kept
    kept: Tensor  # (b, k) long
    visual: Tensor  # (b, k, d) rows that the LLM reads
    merges: bool
    traces: tuple[dict[str, float], ...]
    errors: dict[int, str]  # image -> why its selection failed; its rows above mean nothing
    t_select_ms: float  # per sample


def select_batch(adapter: Adapter, batch: Batch, cells: Sequence[tuple[Cell, MethodSpec]]) -> list[Selected]:
    """The selections of all cells, grouped so that a method sees each image once per seed."""
    groups: dict[tuple[MethodSpec, int], list[Cell]] = defaultdict(list)
    for cell, method in cells:
        groups[method, cell.seed].append(cell)
    return [
        selected
        for (method, seed), group in groups.items()
        for selected in _select_group(adapter, batch, method, seed, group)
    ]


def _select_group(adapter: Adapter, batch: Batch, method: MethodSpec, seed: int, cells: list[Cell]) -> list[Selected]:
    n = batch.encoded.projected.shape[1]
    ks = [kept_count(cell.keep, n) for cell in cells]
    params = check_params(method.reducer, dict(method.params))
    errors: dict[int, str] = {}
    start = clock(adapter)
    chosen: list[list[Selection]] = []
    for index, photo in enumerate(batch.photos):
        context = batch.encoded.context(index, photo.key)
        try:
            chosen.append(select(method.reducer, context, ks, seed=seed, params=params))
        except (ValueError, ArithmeticError, RuntimeError) as error:
            errors[index] = f"{method.name} could not select tokens: {error}"
            chosen.append([Selection(torch.arange(k)) for k in ks])
    share = 1000 * (clock(adapter) - start) / (len(batch.docs) * len(cells))
    return [
        _assemble(batch, cell, str(params["positions"]), [row[j] for row in chosen], errors, share)
        for j, cell in enumerate(cells)
    ]


def _assemble(
    batch: Batch, cell: Cell, positions: str, rows: list[Selection], errors: dict[int, str], t_select_ms: float
) -> Selected:
    projected = batch.encoded.projected
    kept = torch.stack([row.kept for row in rows]).to(projected.device)
    merges = any(row.embeds is not None for row in rows)
    if merges:
        picked = [projected[i, row.kept] if row.embeds is None else row.embeds for i, row in enumerate(rows)]
        visual = torch.stack(picked).to(projected.dtype)
    else:
        visual = projected.gather(1, kept[..., None].expand(-1, -1, projected.shape[-1]))
    traces = tuple(dict(row.trace) for row in rows)
    return Selected(cell, positions, kept, visual, merges, traces, errors, t_select_ms)
