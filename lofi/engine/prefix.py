"""What stands before the questions: the text around the image, and the visual tokens that a method has kept."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from lofi.engine.questions import Prefix
from lofi.engine.select import Selected
from lofi.models.adapter import Adapter
from lofi.models.columns import Columns
from lofi.models.deepstack import left_features
from lofi.models.encoded import Encoded


@dataclass(frozen=True)
class ReadPrefix:
    """The columns of b images' prompts that are left before their questions, and what stands in them."""

    columns: Columns
    embeds: Tensor  # (b, p, d)
    positions: Tensor  # (b, p), or (3, b, p)
    start: Tensor  # (b,) where every question starts
    features: tuple[Tensor, ...]  # (m, d) what the decoder adds to visual tokens after each of its first layers
    featured: Tensor  # (b, p) bool: those tokens

    def behind(self, columns: int) -> "ReadPrefix":
        """Without the first columns, which hold text and are in every row."""
        return replace(
            self,
            columns=self.columns.behind(columns),
            embeds=self.embeds[:, columns:],
            positions=self.positions[..., columns:],
            featured=self.featured[:, columns:],
        )

    def mask(self, causal: Tensor) -> Tensor:
        """A mask (b, 1, s, s) in which visual tokens also see those behind them."""
        visual = torch.zeros(causal.shape[0], causal.shape[-1], dtype=torch.bool, device=causal.device)
        for row, columns in enumerate(self.columns.visual):
            visual[row, columns] = True
        return causal | (visual[:, None, :, None] & visual[:, None, None, :])

    def deep(self, behind: int) -> dict[str, Any]:
        """What the decoder is told of its features, with `behind` more columns."""
        if not self.features:
            return {}
        return {"visual_pos_masks": pad(self.featured, (0, behind)), "deepstack_visual_embeds": list(self.features)}


def read_prefix(adapter: Adapter, before: Prefix, selected: Selected, encoded: Encoded) -> ReadPrefix:
    """The prefix of each image with its kept tokens only, cut by the rule that cuts every prompt."""
    b, p = len(encoded.lines), len(before.ids)
    whole = _embeds(adapter, before, encoded)
    steps = torch.arange(p, device=whole.device).expand(b, -1)
    columns = Columns.of([before.visual] * b, torch.ones_like(steps, dtype=torch.bool), steps)
    rank = before.visual.argsort().argsort()  # of each visual token, tile after tile, among the columns
    rows = [rank[s.rows].sort().values if s.embeds is None else rank[s.rows] for s in selected.selections]
    left, index = columns.keep(rows, selected.positions)
    embeds = whole.gather(1, index[..., None].expand(-1, -1, whole.shape[-1]))
    for row, selection in enumerate(selected.selections):
        if selection.embeds is not None:
            embeds[row, left.visual[row]] = selection.embeds.to(embeds.dtype)
    reindexed = selected.positions == "reindexed"
    positions, end = left.positions, int(before.positions.max()) + 1
    if before.positions.ndim == 2:
        positions = before.positions[:, None].expand(-1, b, -1).gather(2, left.origin.expand(3, -1, -1))
    placed = torch.zeros_like(steps, dtype=torch.bool)
    placed[:, before.placeholders] = True
    deep = [left_features(level.flatten(0, 1), placed, left) for level in encoded.deep]
    return ReadPrefix(
        columns=left,
        embeds=embeds,
        positions=positions,
        start=left.real.sum(1) if reindexed else torch.full((b,), end, device=whole.device),
        features=tuple(features for features, _ in deep),
        featured=deep[0][1] if deep else placed,
    )


def _embeds(adapter: Adapter, before: Prefix, encoded: Encoded) -> Tensor:
    """(b, p, d) the prefix as the model itself would read it."""
    text = before.ids.clone()
    text[before.placeholders] = 0  # some models have no embedding for the token that holds an image's place
    whole = adapter.embed(text).expand(len(encoded.lines), -1, -1).clone()
    whole[:, before.placeholders] = encoded.lines.to(whole.dtype)
    return whole
