"""Spectra of one cell's tokens at every site, as one Arrow column."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from lofi.engine.prefill import Prefilled, State
from lofi.engine.select import Selected
from lofi.spectra import spectra_of
from lofi.store import SPECTRUM, STATISTICS

PROJECTOR = "projector"
Both = tuple[dict[str, Tensor], dict[str, Tensor]]  # statistics of the raw and of the centred tokens


class Memo:
    """Statistics of token sets that come back unchanged, for one batch: nothing is decomposed twice.

    Question tokens enter the first layer alike in every cell, and visual tokens enter it as they left the projector.
    """

    SITES = (PROJECTOR, "llm_0")

    def __init__(self) -> None:
        self._known: list[tuple[Tensor, Tensor | None, Both]] = []

    def spectra(self, site: str, x: Tensor, mean: Tensor, mask: Tensor | None = None) -> Both:
        """Raw and centred statistics of x (…, n, d)."""
        if site not in self.SITES:
            return spectra_of(x, mean, mask)
        for known, known_mask, statistics in self._known:
            if _equal(known, x) and _equal(known_mask, mask):
                return statistics
        statistics = spectra_of(x, mean, mask)
        self._known.append((x, mask, statistics))
        return statistics


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.shape == other.shape and torch.equal(one, other)


@dataclass(frozen=True)
class Spectrum:
    """The statistics of one token set at one site, for every sample of a batch."""

    site: str
    tokens: str  # visual, text
    centred: bool
    n: Tensor  # (b,) or (b, q) tokens in the set
    statistics: dict[str, Tensor]  # name -> the same shape


def visual_states(selected: Selected, prefilled: Prefilled) -> dict[str, State]:
    """The visual tokens as the LLM reads them, and at each of its sites."""
    return {PROJECTOR: State(selected.visual, selected.real), **prefilled.visual}


def visual_spectra(states: dict[str, State], means: dict[str, Tensor], memo: Memo) -> list[Spectrum]:
    """Raw and centred spectra of the visual tokens; means: site -> (b, d) over the full run's tokens.

    Both runs are centred by the full run's mean, because a subset's own mean makes IPR_U drift with its size.
    """
    found = []
    for site, state in states.items():
        x, real = state.tokens, state.real
        if x.shape[1] == 0:  # a site behind a layer that reads no image: one row of padding has no spectrum either
            x, real = x.new_zeros(len(x), 1, x.shape[2]), real.new_zeros(len(x), 1)
        raw, centred = memo.spectra(site, x, means[site], None if bool(real.all()) else real)
        n = state.real.sum(1)
        found += [Spectrum(site, "visual", False, n, raw), Spectrum(site, "visual", True, n, centred)]
    return found


def text_spectra(prefilled: Prefilled, memo: Memo) -> list[Spectrum]:
    """Raw and centred spectra of the question tokens; their number is the same in both runs."""
    lengths = prefilled.questions.lengths
    found = []
    for site, state in prefilled.text.items():
        mean = (state.tokens * state.real[..., None]).sum(-2) / lengths.clamp_min(1)[..., None]
        raw, centred = memo.spectra(site, state.tokens, mean, state.real)
        found += [Spectrum(site, "text", False, lengths, raw), Spectrum(site, "text", True, lengths, centred)]
    return found


def spectra_column(spectra: list[Spectrum], image: np.ndarray, question: np.ndarray) -> pa.Array:
    """The store's `spectra` column for m samples: sample s asks question[s] of image[s] in the batch."""
    m, entries = len(image), len(spectra)

    def pick(values: Tensor) -> np.ndarray:
        array: np.ndarray = values.cpu().numpy()
        picked: np.ndarray = array[image] if array.ndim == 1 else array[image, question]
        return picked

    def flat(columns: list[np.ndarray], dtype: type) -> np.ndarray:
        return np.stack(columns, 1).reshape(-1).astype(dtype)

    fields: list[pa.Array] = [
        pa.array([spectrum.site for spectrum in spectra] * m),
        pa.array([spectrum.tokens for spectrum in spectra] * m),
        pa.array([spectrum.centred for spectrum in spectra] * m),
        pa.array(flat([pick(spectrum.n) for spectrum in spectra], np.int32)),
    ]
    for name in STATISTICS:
        values = flat([pick(spectrum.statistics[name]) for spectrum in spectra], np.float32)
        fields.append(pa.array(values, mask=~np.isfinite(values)))  # undefined is null, never NaN
    struct = pa.StructArray.from_arrays(fields, fields=list(SPECTRUM))
    return pa.ListArray.from_arrays(np.arange(0, (m + 1) * entries, entries, dtype=np.int32), struct)
