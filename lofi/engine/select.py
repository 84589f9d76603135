"""Selections of every cell for one batch: each method ranks an image once for all its keeps."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lofi.cell import Cell, kept_count
from lofi.engine.batch import Batch, clock
from lofi.methods.context import Selection
from lofi.methods.registry import check_params, get_reducer
from lofi.methods.select import select
from lofi.models.adapter import Adapter
from lofi.sweep import MethodSpec

FAILURES = (ValueError, ArithmeticError, RuntimeError)  # of a selection: they make an error row, not an end


@dataclass(frozen=True)
class Selected:
    """What one cell keeps of b images before the LLM, at most k rows each."""

    cell: Cell
    positions: str  # reindexed, kept
    selections: tuple[Selection, ...]  # of each row
    visual: Tensor  # (b, k, d) rows that the LLM reads, zeros behind those of a row
    places: Tensor  # (b, k) long, where they stand among the n, zeros behind them
    counts: Tensor  # (b,) long
    errors: Mapping[int, str]  # row -> why its selection failed; its tokens above mean nothing
    t_select_ms: float  # per sample

    @property
    def real(self) -> Tensor:
        """(b, k) bool: no padding."""
        return torch.arange(self.places.shape[1], device=self.counts.device) < self.counts[:, None]


def select_batch(
    adapter: Adapter,
    batch: Batch,
    cells: Sequence[tuple[Cell, MethodSpec]],
    fitted: Mapping[MethodSpec, Mapping[str, object]],
) -> Iterator[Selected]:
    """The selections of all cells, grouped so that a method sees each image once per seed.

    `fitted` holds what a calibration has added to a method's parameters. Rows are gathered when a cell is reached,
    so that those of one cell at a time are in memory.
    """
    groups: dict[tuple[MethodSpec, int], list[Cell]] = defaultdict(list)
    for cell, method in cells:
        groups[method, cell.seed].append(cell)
    for (method, seed), group in groups.items():
        yield from _select_group(adapter, batch, method, seed, group, fitted.get(method, {}))


def _select_group(
    adapter: Adapter, batch: Batch, method: MethodSpec, seed: int, cells: list[Cell], fitted: Mapping[str, object]
) -> Iterator[Selected]:
    n = batch.n_visual
    ks = [kept_count(cell.keep, n) for cell in cells]
    params = check_params(method.reducer, dict(method.params))
    errors: dict[int, str] = {}
    start = clock(adapter)
    chosen: list[list[Selection]] = []
    for row in range(len(batch.photos)):
        try:
            context = batch.context(row, sees_text=get_reducer(method.reducer).sees_text)
            chosen.append(select(method.reducer, context, ks, seed=seed, params={**params, **fitted}))
        except torch.OutOfMemoryError:  # of the batch, not of the selection
            raise
        except FAILURES as error:
            errors[row] = f"{method.name} could not select tokens: {error}"
            chosen.append([Selection(torch.arange(max(1, k), device=adapter.device)) for k in ks])
    share = 1000 * (clock(adapter) - start) / (len(batch.docs) * len(cells))
    for j, cell in enumerate(cells):
        policy = adapter.policy(str(params["positions"]))
        selected = assemble(batch, cell, policy, [row[j] for row in chosen])
        yield replace(selected, errors=errors, t_select_ms=share)


def keep_all(batch: Batch, cell: Cell, positions: str) -> Selected:
    """All tokens of every row, for a method that acts inside the LLM."""
    everything = torch.arange(batch.n_visual, device=batch.encoded.projected.device)
    return assemble(batch, cell, positions, [Selection(everything)] * len(batch.photos))


def assemble(batch: Batch, cell: Cell, positions: str, rows: Sequence[Selection]) -> Selected:
    """The selections of all rows as padded tensors."""
    projected = batch.encoded.projected
    visual = [projected[i, row.kept] if row.embeds is None else row.embeds for i, row in enumerate(rows)]
    return Selected(
        cell=cell,
        positions=positions,
        selections=tuple(rows),
        visual=pad_sequence([tokens.to(projected.dtype) for tokens in visual], batch_first=True),
        places=pad_sequence([row.rows.to(projected.device) for row in rows], batch_first=True),
        counts=torch.tensor([row.count for row in rows], device=projected.device),
        errors={},
        t_select_ms=0.0,
    )
