"""One packed pass: the system text and visual tokens of an image once, all its questions behind them."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from lofi.engine.prefix import ReadPrefix, read_prefix
from lofi.engine.questions import Questions
from lofi.engine.select import Selected
from lofi.engine.system import System
from lofi.models.adapter import Adapter
from lofi.models.columns import Columns
from lofi.models.encoded import Encoded
from lofi.models.last_layer import answering
from lofi.models.packing import Packed, pack
from lofi.models.staged import PruneBatch
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
    system: int = 0  # columns that had been read before


def prefill(
    adapter: Adapter,
    questions: Questions,
    selected: Selected,
    *,
    encoded: Encoded,
    generates: bool = False,
    system: System | None = None,
    pruner: PruneBatch | None = None,
) -> Prefilled:
    """Run the decoder over [text and visual tokens | question 1 | question 2 | …] of b images at once.

    Position `reindexed` numbers what is left without gaps, `kept` leaves every token its own. A method inside the
    decoder goes on pruning there through a pruner that is already hooked; it takes rows of one question.
    """
    prefix = read_prefix(adapter, questions.before, selected, encoded)
    read, cache = 0, DynamicCache(config=adapter.language.config) if generates else None
    if system and system.columns and bool(prefix.columns.real.all()):
        read, cache = system.columns, system.cache(len(prefix.embeds), goes_on=generates)
        prefix = prefix.behind(read)
    packed = pack(
        prefix.columns.positions,
        questions.lengths,
        questions.after.shape[2],
        start=prefix.start,
        prefix_real=prefix.columns.real,
        spare=questions.spare,
    )
    asked = adapter.embed(packed.row(questions.after))
    embeds = torch.cat([prefix.embeds.to(asked.dtype), asked], 1)
    if pruner is not None:
        pruner.announce(Columns.of([questions.before.visual] * len(asked), packed.real, packed.positions))
    sites = site_layers(len(adapter.layers))
    with DecoderTap(adapter, list(sites.values())) as tap, answering(adapter, packed.last_among):
        states = _decode(adapter, embeds, prefix, packed, read, cache, one_mask=pruner is not None)
    taken = {site: tap.states[layer] for site, layer in sites.items()}
    columns = {site: pruner.read[layer] if pruner else prefix.columns for site, layer in sites.items()}
    last = packed.last_among(states.shape[1])[..., None]
    asked_real = torch.arange(packed.width, device=asked.device) < questions.lengths[..., None]
    return Prefilled(
        hidden=states.gather(1, last.expand(-1, -1, states.shape[-1])),
        packed=packed,
        questions=questions,
        visual={site: _visual(x, columns[site]) for site, x in taken.items()},
        text={site: State(packed.grid(x), asked_real) for site, x in taken.items()},
        ends=packed.positions.gather(1, packed.last),
        cache=cache,
        system=read,
    )


def _decode(
    adapter: Adapter, embeds: Tensor, prefix: ReadPrefix, packed: Packed, read: int, cache: Any, *, one_mask: bool
) -> Tensor:
    """The decoder over packed rows, `read` columns of which it has read before."""
    positions, p = packed.positions, packed.prefix
    if prefix.positions.ndim == 3:
        positions = torch.cat([prefix.positions, positions[:, p:].expand(3, -1, -1)], 2)
    deep = prefix.deep(embeds.shape[1] - p)
    split = adapter.splits and not one_mask
    mask = packed.prefix_mask if split else packed.mask
    mask = pad(prefix.mask(mask) if adapter.family.both_ways else mask, (read, 0), value=True)
    if split:
        return adapter.decode_packed(embeds, positions, packed, mask, cache, **deep)
    return adapter.decode(embeds, positions, mask, cache, **deep)


def _visual(x: Tensor, columns: Columns) -> State:
    """The visual tokens among the states (b, s, d)."""
    index = pad_sequence(list(columns.visual), batch_first=True)
    counts = torch.tensor([len(each) for each in columns.visual], device=x.device)
    real = torch.arange(index.shape[1], device=x.device) < counts[:, None]
    return State(x.gather(1, index[..., None].expand(-1, -1, x.shape[-1])), real)
