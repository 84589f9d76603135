"""One packed pass: the system text and visual tokens of an image once, all its questions behind them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lofi.models.adapter import Adapter, Prompt
from lofi.models.packing import Packed, pack
from lofi.models.taps import DecoderTap, site_layers


@dataclass(frozen=True)
class Questions:
    """The prompts of b images, at most q each, split where the image stands."""

    before: Tensor  # (p,) long: the same for all
    after: Tensor  # (b, q, t) long, right padded
    lengths: Tensor  # (b, q) long, 0 where an image has fewer questions


@dataclass(frozen=True)
class Prefilled:
    """What a packed pass leaves behind: b images, q questions, k visual tokens, width d."""

    hidden: Tensor  # (b, q, d) normed state at each question's first answer position
    packed: Packed
    questions: Questions
    visual: dict[str, Tensor]  # site -> (b, k, d)
    text: dict[str, Tensor]  # site -> (b, q, t, d); padding rows hold anything
    ends: Tensor  # (b, q) long: position of each question's last token
    cache: Any


def gather_questions(prompts: Sequence[Sequence[Prompt]], device: torch.device) -> Questions:
    """Token ids of b images' prompts as padded tensors."""
    before = {prompt.before for row in prompts for prompt in row}
    if len(before) != 1:
        raise ValueError("prompts of one batch differ before the image, so they cannot share a prefix")
    most = max(len(row) for row in prompts)
    flat = [torch.tensor(row[j].after if j < len(row) else ()).long() for row in prompts for j in range(most)]
    lengths = torch.tensor([len(ids) for ids in flat]).reshape(len(prompts), most)
    after = pad_sequence(flat, batch_first=True).reshape(len(prompts), most, -1)
    return Questions(torch.tensor(before.pop(), device=device).long(), after.to(device), lengths.to(device))


def prefill(
    adapter: Adapter, questions: Questions, visual: Tensor, kept: Tensor, *, positions: str, n_full: int, cache: Any
) -> Prefilled:
    """Run the decoder over [system text | visual tokens | question 1 | question 2 | …] of b images at once.

    visual: (b, k, d) rows the LLM reads; kept: (b, k) their places among the n_full visual tokens.
    positions: `reindexed` numbers what is left without gaps, `kept` leaves every token its own position.
    """
    b, k, width = visual.shape
    p, t = len(questions.before), questions.after.shape[-1]
    prefix_positions, start = _prefix_positions(p, kept, positions, n_full)
    packed = pack(prefix_positions, questions.lengths, t, start=start)
    system = adapter.embed(questions.before).expand(b, -1, -1)
    asked = adapter.embed(questions.after.reshape(b, -1))
    embeds = torch.cat([system, visual.to(asked.dtype), asked], 1)
    sites = site_layers(len(adapter.layers))
    with DecoderTap(adapter, list(sites.values())) as tap:
        states = adapter.decode(embeds, packed.positions, packed.mask, cache)
    taken = {site: tap.states[layer] for site, layer in sites.items()}
    return Prefilled(
        hidden=states.gather(1, packed.last[..., None].expand(-1, -1, width)),
        packed=packed,
        questions=questions,
        visual={site: state[:, p : p + k] for site, state in taken.items()},
        text={site: state[:, p + k :].reshape(b, -1, t, width) for site, state in taken.items()},
        ends=packed.positions.gather(1, packed.last),
        cache=cache,
    )


def _prefix_positions(p: int, kept: Tensor, positions: str, n_full: int) -> tuple[Tensor, Tensor]:
    """Positions (b, p + k) of the prefix and (b,) where every question starts."""
    b, k = kept.shape
    reindexed = positions == "reindexed"
    places = torch.arange(k, device=kept.device).expand(b, -1) if reindexed else kept
    system = torch.arange(p, device=kept.device).expand(b, -1)
    start = torch.full((b,), p + (k if reindexed else n_full), device=kept.device)
    return torch.cat([system, places + p], 1), start
