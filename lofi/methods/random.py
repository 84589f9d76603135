"""Random tokens: the baseline that every method has to beat (arXiv 2511.02650 uses it as a reference).

One permutation per (image, seed), of which every budget takes a prefix, put back in raster order. The
permutation comes from a counter-based generator keyed by the image and the seed, so neither the order of the
images nor the batch they sit in can change it.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lofi.methods.context import Selection, VisualContext, best_first, prefixes


def uniforms(image_key: int, n: int, *, seed: int, stream: int, device: torch.device) -> Tensor:
    """(n,) float64 in (0, 1), a function of image, seed and stream alone; two methods take two streams.

    The raw words of Philox, because numpy keeps them the same across versions, as it does not for
    `permutation`.
    """
    generator = np.random.Philox(
        key=np.array([image_key, seed], dtype=np.uint64),
        counter=np.array([0, 0, 0, stream], dtype=np.uint64),
    )
    words = generator.random_raw(n) >> np.uint64(11)
    return torch.from_numpy((words.astype(np.float64) + 0.5) * 2.0**-53).to(device)


def random(context: VisualContext, ks: Sequence[int], /, *, seed: int) -> list[Selection]:
    """The tokens with the largest random numbers."""
    device = context.projected.device
    return prefixes(best_first(uniforms(context.image_key, len(context), seed=seed, stream=0, device=device)), ks)
