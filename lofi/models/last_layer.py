"""The last decoder layer's MLP, run for the tokens that are read behind it.

Every other layer's output is read by the layer above, at all tokens. Behind the last one there is only the head, which
reads each question's last token; the keys and values of all tokens are made before the MLP.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from lofi.models.adapter import Adapter
from lofi.models.early import replaced


@contextmanager
def answering(adapter: Adapter, read: Callable[[int], Tensor]) -> Iterator[None]:
    """While the block lasts, all other columns leave the last layer without what its MLP adds to them.

    read: the columns (b, q) that matter among so many.
    """
    mlp = adapter.layers[-1].get_submodule(adapter.family.mlp)
    run = mlp.forward

    def forward(x: Tensor) -> Tensor:
        at = read(x.shape[1]).to(x.device)[..., None].expand(-1, -1, x.shape[-1])
        return torch.zeros_like(x).scatter(1, at, run(x.gather(1, at)))

    with replaced(mlp, forward):
        yield
