"""One packed pass: the system text and visual tokens of an image once, all its questions behind them."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lofi.engine.questions import Questions
from lofi.engine.select import Selected
from lofi.models.adapter import Adapter
from lofi.models.packing import Packed, pack
from lofi.models.staged import Columns, PruneInDecoder
from lofi.models.taps import DecoderTap, site_layers


@dataclass(frozen=True)
class State:
    """The tokens of one set at one site: rows of width d, and which of them are real."""

    tokens: Tensor  # (b, k, d) or (b, q, t, d)
    real: Tensor  # (b, k) or (b, q, t) bool


@dataclass(frozen=True)
class Prefilled:
    """What a packed pass leaves behind: b images, q questions, width d."""

    hidden: Tensor  # (b, q, d) normed state at each question's first answer position
    packed: Packed
    questions: Questions
    visual: dict[str, State]  # site -> (b, k, d)
    text: dict[str, State]  # site -> (b, q, t, d)
    ends: Tensor  # (b, q) long: position of each question's last token
    cache: Any


def prefill(
    adapter: Adapter,
    questions: Questions,
    selected: Selected,
    *,
    n_full: int,
    cache: Any,
    pruner: PruneInDecoder | None = None,
) -> Prefilled:
    """Run the decoder over [system text | visual tokens | question 1 | question 2 | …] of b images at once.

    Position `reindexed` numbers what is left without gaps, `kept` leaves every token its place among n_full. A
    pruner, already hooked, goes on pruning inside the decoder; it takes rows of one question.
    """
    b, k, _ = selected.visual.shape
    p, t = len(questions.before), questions.after.shape[-1]
    prefix_positions, start = _prefix_positions(p, selected, n_full)
    prefix_real = torch.cat([torch.ones_like(selected.real[:, :1]).expand(-1, p), selected.real], 1)
    packed = pack(prefix_positions, questions.lengths, t, start=start, prefix_real=prefix_real)
    system = adapter.embed(questions.before).expand(b, -1, -1)
    asked = adapter.embed(questions.after.reshape(b, -1))
    embeds = torch.cat([system, selected.visual.to(asked.dtype), asked], 1)
    if pruner is not None:
        visual = torch.arange(p, p + k, device=embeds.device).expand(b, -1)
        pruner.begin(Columns.of(visual, packed.real, packed.positions))
    sites = site_layers(len(adapter.layers))
    with DecoderTap(adapter, list(sites.values())) as tap:
        states = adapter.decode(embeds, packed.positions, packed.mask, cache)
    left = {site: pruner.read[layer].visual.shape[1] if pruner else k for site, layer in sites.items()}
    fewer = k - (pruner.left.visual.shape[1] if pruner else k)  # columns that the last layer no longer has
    last = (packed.last - fewer).clamp_min(0)
    asked_real = torch.arange(t, device=embeds.device) < questions.lengths[..., None]
    taken = {site: tap.states[layer] for site, layer in sites.items()}
    return Prefilled(
        hidden=states.gather(1, last[..., None].expand(-1, -1, states.shape[-1])),
        packed=packed,
        questions=questions,
        visual={site: State(x[:, p : p + left[site]], selected.real[:, : left[site]]) for site, x in taken.items()},
        text={
            site: State(x[:, p + left[site] :].reshape(b, -1, t, x.shape[-1]), asked_real) for site, x in taken.items()
        },
        ends=packed.positions.gather(1, packed.last),
        cache=cache,
    )


def _prefix_positions(p: int, selected: Selected, n_full: int) -> tuple[Tensor, Tensor]:
    """Positions (b, p + k) of the prefix and (b,) where every question starts."""
    b, k = selected.places.shape
    device = selected.places.device
    reindexed = selected.positions == "reindexed"
    places = torch.arange(k, device=device).expand(b, -1) if reindexed else selected.places
    system = torch.arange(p, device=device).expand(b, -1)
    start = p + (selected.counts if reindexed else torch.full((b,), n_full, device=device))
    return torch.cat([system, places + p], 1), start
