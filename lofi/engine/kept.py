"""What a cell kept of each row's image: before the LLM, and inside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lofi.engine.batch import Batch
from lofi.engine.select import FAILURES, Selected
from lofi.methods.context import Selection
from lofi.methods.decoder import DecoderView
from lofi.methods.registry import check_params, get_reducer
from lofi.methods.schedule import Stages
from lofi.methods.select import select_stage
from lofi.models.adapter import Adapter
from lofi.models.staged import PruneBatch
from lofi.sweep import MethodSpec


@dataclass(frozen=True)
class Kept:
    """Of b rows: the visual tokens at each decoder layer's input, and which are left after the last prune."""

    per_layer: Sequence[Sequence[int]]
    indices: Sequence[Tensor] | None  # (k,) ascending raster places; None where the method merges
    traces: Sequence[Mapping[str, float]]
    errors: Mapping[int, str]  # row -> why its selection failed; its tokens mean nothing


def kept_before(selected: Selected, method: MethodSpec, depth: int) -> Kept:
    """What a method before the LLM kept: the same for every layer."""
    rows = selected.selections
    return Kept(
        per_layer=[[row.count] * depth for row in rows],
        indices=None if get_reducer(method.reducer).merges else [row.kept for row in rows],
        traces=[row.trace for row in rows],
        errors=selected.errors,
    )


class Inside:
    """One method at work inside the decoder on one batch of single questions."""

    def __init__(self, adapter: Adapter, batch: Batch, method: MethodSpec, seed: int, plan: Stages) -> None:
        self._method, self._seed, self._plan, self._depth = method, seed, plan, len(adapter.layers)
        self._params = check_params(method.reducer, dict(method.params))
        self._traces: list[dict[str, float]] = [{} for _ in batch.photos]
        self._errors: dict[int, str] = {}
        self.pruner = PruneBatch(
            adapter,
            plan,
            self._choose,
            positions=str(self._params["positions"]),
            grid=batch.grid,
            image_keys=[photo.key for photo in batch.photos],
        )

    @property
    def first(self) -> int:
        """The first layer before which tokens go: those in front of it run alike for all methods."""
        return min((stage.layer for stage in self._plan), default=self._depth)

    def _choose(self, row: int, view: DecoderView, k: int) -> Selection:
        """One stage of one row; a row whose scores are not finite goes on with any tokens, as an error."""
        try:
            found = select_stage(self._method.reducer, view, k, seed=self._seed, params=self._params)
        except torch.OutOfMemoryError:  # of the batch, not of the selection
            raise
        except FAILURES as error:
            where = f"before decoder layer {view.layer}"
            self._errors.setdefault(row, f"{self._method.name} could not select tokens {where}: {error}")
            return Selection(view.visual.new_tensor(range(k)))
        self._traces[row].update({f"{name}_{view.layer}": value for name, value in found.trace.items()})
        return found

    def kept(self) -> Kept:
        """What was kept, after the prefill."""
        read = self.pruner.read
        merges = get_reducer(self._method.reducer).merges and bool(self._plan)
        return Kept(
            per_layer=[
                [len(read[layer].visual[row]) for layer in range(self._depth)] for row in range(len(self._traces))
            ],
            indices=None if merges else [places.sort().values for places in self.pruner.left.places],
            traces=self._traces,
            errors=self._errors,
        )
