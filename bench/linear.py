"""The linear algebra of lofi against a singular value decomposition."""

import torch
from item import Item, Target, compare

ROUNDS = 7
TOKENS, WIDTH = 576, 4096


def tokens() -> torch.Tensor:
    return torch.randn(TOKENS, WIDTH, generator=torch.Generator().manual_seed(0))


def through_svd(x: torch.Tensor) -> torch.Tensor:
    p = torch.linalg.svd(x, full_matrices=False).S.square()
    return (p / p.sum()).square().sum()


def ipr_vs_svd() -> Item:
    """IPR of a 576 x 4096 token matrix: half a Gram product against singular values."""
    from lofi.spectra import ipr

    x = tokens()
    reference = "torch.linalg.svd, float32"
    return compare("ipr_vs_svd", reference, lambda: through_svd(x), lambda: ipr(x), ROUNDS, Target(30))


def leverage_vs_svd() -> Item:
    """Leverage of a 576 x 4096 token matrix: half a Gram product and some eigenvectors, against a thin SVD."""
    from lofi.leverage import Leverages
    from lofi.spectra import row_gram

    x = tokens()
    return compare(
        "leverage_vs_svd",
        "torch.linalg.svd, float32",
        lambda: torch.linalg.svd(x, full_matrices=False),
        lambda: Leverages(x, row_gram(x)).at("energy:0.9", 144),
        ROUNDS,
        Target(10),
    )
