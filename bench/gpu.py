"""What only a GPU can say: LoFi beside the prefill of a 7B model, its two ways to leverage, and two ways to attend.

These items run where CUDA is; elsewhere `make bench` leaves them out.
"""

from collections.abc import Callable

import torch
from item import Item, Target, item_of, seconds
from made_model import ASKED, BEFORE, made_model, made_photos, made_session
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from lofi import projector
from lofi.cell import KEEP_ALL, kept_count
from lofi.leverage import directions
from lofi.methods.registry import check_params
from lofi.methods.select import select
from lofi.models.packed_attention import attend
from lofi.models.packing import pack
from lofi.spectra import choose_rank, row_gram
from lofi.sweep import MethodSpec

WIDTH, DEPTH = 4096, 32  # of the decoder of LLaVA-1.5-7B
TOKENS = kept_count(KEEP_ALL, 576)
ROUNDS = 7
HEADS, HEAD = 32, 128
QUESTIONS = 18
RULE = "energy:0.9"


def gpu_lofi_share_of_prefill(device: str = "cuda", width: int = WIDTH, depth: int = DEPTH) -> Item:
    """LoFi's whole selection at one keep, over the prefill of a prompt with all its visual tokens, bfloat16."""
    adapter = made_model(depth, width=width, device=device, dtype=torch.bfloat16)
    session = made_session(adapter, 1)
    method = MethodSpec("lofi", "lofi", tuple(sorted(check_params("lofi", {}).items())))
    (batch,) = session.open(list(session.load(made_photos(1, 1))), [method])
    context, params = batch.context(0, sees_text=False), dict(method.params)
    embeds = torch.randn(1, BEFORE + TOKENS + ASKED, width, device=device, dtype=torch.bfloat16)

    @torch.inference_mode()
    def prefill() -> None:
        adapter.language(inputs_embeds=embeds, use_cache=False)

    def chosen() -> None:
        select("lofi", context, [TOKENS // 4], seed=0, params=params)

    reference = f"the forward of a decoder of {depth} layers, {width} wide, over one prompt with all {TOKENS} tokens"
    return item_of("gpu_lofi_share_of_prefill", _ratios(chosen, prefill), reference, target=Target(0.01, at_most=True))


def gpu_products_vs_eigh(device: str = "cuda", width: int = WIDTH) -> Item:
    """Leverage at the rank of 90 % of the energy by matrix products, against eigenvectors."""
    x = torch.randn(TOKENS, width, generator=torch.Generator().manual_seed(0)).to(device)
    x *= torch.logspace(0, -2, width, device=device)  # few directions hold most of the energy, as in a model's tokens

    def products() -> None:
        if projector.leading(row_gram(x), RULE) is None:
            raise SystemExit("the products did not converge, so there is nothing to compare")

    def vectors() -> None:
        found = directions(x)
        found.leverage(choose_rank(found.energy, RULE, found.count, 0))

    return item_of("gpu_products_vs_eigh", _ratios(vectors, products), "torch.linalg.eigh of the Gram matrix, float64")


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

    def split() -> None:
        attend(nn.Identity(), query, key, value, front, scaling=scale, packed=packed)

    reference = f"one kernel under a mask, {kept} tokens kept, {QUESTIONS} questions of {ASKED}"
    return item_of("gpu_split_vs_mask", _ratios(fused, split), reference)


def _ratios(one: Callable[[], None], other: Callable[[], None]) -> list[float]:
    """one / other of rounds in which both run to the end of what the device was given."""

    def whole(work: Callable[[], None]) -> Callable[[], None]:
        def finished() -> None:
            work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()

        return finished

    one, other = whole(one), whole(other)
    one(), other()
    return [seconds(one) / seconds(other) for _ in range(ROUNDS)]
