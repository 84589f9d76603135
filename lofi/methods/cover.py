"""Greedy cover: again and again the token that adds most to how well all targets are covered.

A set of tokens covers a target as well as its best member does. What a token adds never grows as others are chosen, and
neither does its float32 sum, which is always taken in the same order. So the sum of a token is only made again where
the last one known would still win; the choices are those of a search that makes all sums at each step. The steps
follow one another and each is small, so they run on the CPU wherever the tokens are.
"""

import numpy as np
import torch
from torch import Tensor


def cover_order(near: Tensor, weights: Tensor, count: int) -> Tensor:
    """The first `count` tokens in greedy order: (count,) long; lower index first on ties, no token twice.

    near: (n, m) how well each of n tokens covers each of m targets, from 0 up (less counts as 0). weights: (n,) >= 0,
    a factor of what each token adds.
    """
    rows, factors = near.cpu().contiguous().numpy(), weights.cpu().numpy()
    covered = np.zeros(rows.shape[1], rows.dtype)
    gains = factors * rows.clip(0).sum(1)
    order = np.empty(count, np.int64)
    for step in range(count):
        choice, before = int(gains.argmax()), -1
        while choice != before:  # the winner is known once its own sum is new and still the largest
            gains[choice] = factors[choice] * np.maximum(rows[choice] - covered, 0).sum()
            before, choice = choice, int(gains.argmax())
        order[step] = choice
        gains[choice] = -np.inf
        np.maximum(covered, rows[choice], out=covered)
    return torch.from_numpy(order).to(near.device)
