"""The last decoder layer, run for the tokens that are read behind it.

Every other layer's output is read by the layer above, at all tokens. Behind the last one there is only the head, which
reads each question's last token; of all others the layer makes keys and values, and no more.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from lofi.models.adapter import Adapter
from lofi.models.early import replaced


@contextmanager
def answering(adapter: Adapter, last_among: Callable[[int], Tensor]) -> Iterator[None]:
    """While the block lasts, the last layer's MLP, and its attention to packed rows, add nothing to other columns.

    last_among: the columns (b, q) of the questions' last tokens among so many.
    """
    layer, family = adapter.layers[-1], adapter.family
    attention, mlp = layer.get_submodule(family.attention), layer.get_submodule(family.mlp)
    attend, run = attention.forward, mlp.forward

    def attend_at_ends(*args: Any, **kwargs: Any) -> Any:
        if "packed" in kwargs:
            kwargs["ends"] = True
        return attend(*args, **kwargs)

    def run_at_ends(x: Tensor) -> Tensor:
        at = last_among(x.shape[1]).to(x.device)[..., None].expand(-1, -1, x.shape[-1])
        return torch.zeros_like(x).scatter(1, at, run(x.gather(1, at)))

    with replaced(attention, attend_at_ends), replaced(mlp, run_at_ends):
        yield
