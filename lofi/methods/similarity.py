"""Cosines between tokens: the one step that most reducers share."""

import torch
from torch import Tensor
from torch.nn.functional import normalize


def unit_rows(tokens: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """(n, d) tokens to rows of length 1; rows of zeros stay zero. NaN and infinity are errors."""
    unit = normalize(tokens.to(dtype), dim=1)
    if not bool(torch.isfinite(unit).all()):
        raise ValueError("tokens hold NaN or infinity: they have no directions")
    return unit


def cosines(tokens: Tensor, others: Tensor | None = None, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """(n, m) cosines of the tokens (n, d) with the others (m, d), or (n, n) with each other."""
    unit = unit_rows(tokens, dtype)
    return unit @ (unit if others is None else unit_rows(others, dtype)).T
