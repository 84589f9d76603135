"""The decoder's weights in 8 or 4 bits, through torchao.

What is quantised: every linear layer of the language model's decoder. The vision encoder, the projector, the
embeddings, the norms and the head stay as loaded, so that reducers see the same visual tokens, and equal states give
equal logits.

How: weights only, symmetric, rounded to the nearest, with nothing calibrated. int8 has one scale for each row of a
matrix; int4 has one for every 32 neighbours in a row, or one for the row where 32 does not divide its length.
Activations stay in the model's type.

Answers are what this serves, not speed: a product first turns the weights into floats, and torchao holds each 4-bit
number in a byte of its own here, because that runs alike on every device.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from lofi.errors import UserError, unknown

if TYPE_CHECKING:
    from torch import nn

    from lofi.models.adapter import Adapter

BITS = {"int8": 8, "int4": 4}
GROUP = 32  # neighbours in a row that share a scale, in int4


@dataclass(frozen=True)
class Quantised:
    """What was quantised, and into how much."""

    weights: str
    layers: int  # linear layers, all of the decoder's
    by_row: int  # those with one scale for each row
    bytes_before: int  # of their matrices
    bytes_after: int  # the same matrices at 8 or 4 bits a number, with their scales


def check_torchao() -> None:
    """Refuse quantised weights where the library that makes them is missing."""
    if find_spec("torchao") is None:
        raise UserError(
            "quantised weights need torchao, which is not installed; install the version in envs/requirements.lock"
        )


def quantise(adapter: "Adapter", weights: str) -> Quantised:
    """Quantise the decoder's linear layers in place; a decoder that cannot be quantised whole is refused."""
    if weights not in BITS:
        raise unknown("weights", weights, BITS)
    check_torchao()
    from torchao.quantization import quantize_
    from torchao.utils import TorchAOBaseTensor

    linear = _linear(adapter, weights)
    before = sum(module.weight.nbytes for module in linear.values())
    by_row, after = 0, 0
    for name, module in linear.items():
        rows = weights == "int8" or module.in_features % GROUP != 0
        quantize_(module, _config(weights, rows))
        matrix: Any = module.weight
        if not isinstance(matrix, TorchAOBaseTensor):
            raise _refusal(weights, f"torchao left its {name} as it was")
        by_row += rows
        after += -(-matrix.numel() * BITS[weights] // 8) + matrix.scale.nbytes
    return Quantised(weights, len(linear), by_row, before, after)


def _linear(adapter: "Adapter", weights: str) -> dict[str, "nn.Linear"]:
    """The decoder's linear layers by name, all of them in plain floats, with no matrix outside them."""
    import torch
    from torch import nn

    layers = nn.ModuleList(adapter.layers)
    found = {name: module for name, module in layers.named_modules() if isinstance(module, nn.Linear)}
    if not found:
        raise _refusal(weights, "its decoder has no linear layer")
    for name, matrix in layers.named_parameters():
        if matrix.ndim < 2:
            continue
        if name.removesuffix(".weight") not in found:
            raise _refusal(weights, f"{name} of its decoder belongs to no linear layer")
        if type(matrix.data) is not torch.Tensor or not matrix.is_floating_point():
            raise _refusal(weights, f"{name} of its decoder is quantised already")
    return found


def _config(weights: str, rows: bool) -> Any:
    """What torchao is told for one layer; its settings for the compiler, which is not used, are left alone."""
    from torch import int4  # type: ignore[attr-defined]
    from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig
    from torchao.quantization.granularity import PerAxis, PerGroup

    if weights == "int8":
        return Int8WeightOnlyConfig(set_inductor_config=False)
    return IntxWeightOnlyConfig(int4, PerAxis(0) if rows else PerGroup(GROUP))


def _refusal(weights: str, why: str) -> UserError:
    return UserError(f"this model cannot run with {weights} weights: {why}; remove the methods with `weights`")
