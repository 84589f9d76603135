"""What only a GPU can say: LoFi beside the prefill of a 7B model, its two ways to leverage, and two ways to attend.

These items run where CUDA is; elsewhere `make bench` leaves them out.
"""

import torch
from engine import share_of_prefill, wait
from item import Item, Target, compare
from made_model import ASKED, BEFORE, made_model
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from lofi import projector
from lofi.cell import KEEP_ALL, kept_count
from lofi.leverage import directions
from lofi.models.packed_attention import attend
from lofi.models.packing import pack
from lofi.spectra import choose_rank, row_gram

WIDTH, DEPTH = 4096, 32  # of the decoder of LLaVA-1.5-7B
TOKENS = kept_count(KEEP_ALL, 576)
ROUNDS = 7
HEADS, HEAD = 32, 128
QUESTIONS = 18
RULE = "energy:0.9"


def gpu_lofi_share_of_prefill(device: str = "cuda", width: int = WIDTH, depth: int = DEPTH) -> Item:
    """LoFi's whole selection at one keep, over the prefill of a prompt with all its visual tokens, bfloat16."""
    adapter = made_model(depth, width=width, device=device, dtype=torch.bfloat16)
    return share_of_prefill("gpu_lofi_share_of_prefill", adapter, Target(0.01, at_most=True))


def gpu_products_vs_eigh(device: str = "cuda", width: int = WIDTH) -> Item:
    """Leverage at the rank of 90 % of the energy by matrix products, against eigenvectors."""
    x = torch.randn(TOKENS, width, generator=torch.Generator().manual_seed(0)).to(device)
    x *= torch.logspace(0, -2, width, device=device)  # few directions hold most of the energy, as in a model's tokens

    def products() -> None:
        if projector.leading(row_gram(x), RULE) is None:
            raise SystemExit("the products did not converge, so there is nothing to compare")
        wait()

    def vectors() -> None:
        found = directions(x)
        found.leverage(choose_rank(found.energy, RULE, found.count, 0))
        wait()

    reference = "torch.linalg.eigh of the Gram matrix, float64"
    return compare("gpu_products_vs_eigh", reference, vectors, products, ROUNDS)


def gpu_split_vs_mask(device: str = "cuda") -> Item:
    """Attention of one layer with the questions apart, against one fused kernel under a mask over all columns."""
    kept = TOKENS // 8
    packed = pack(
        torch.arange(BEFORE + kept, device=device)[None], torch.full((1, QUESTIONS), ASKED, device=device), ASKED
    )
    query, key, value = (
        torch.randn(1, HEADS, packed.size, HEAD, device=device, dtype=torch.bfloat16) for _ in range(3)
    )
    mask, front, scale = packed.mask, packed.prefix_mask, HEAD**-0.5

    def fused() -> None:
        scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
        wait()

    def split() -> None:
        attend(nn.Identity(), query, key, value, front, scaling=scale, packed=packed)
        wait()

    reference = f"one kernel under a mask, {kept} tokens kept, {QUESTIONS} questions of {ASKED}"
    return compare("gpu_split_vs_mask", reference, fused, split, ROUNDS)
