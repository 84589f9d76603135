"""Features that a decoder adds to visual tokens after its first layers, for the tokens that are left."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from lofi.models.adapter import Adapter
from lofi.models.columns import Columns


def left_features(features: Tensor, mask: Tensor, left: Columns) -> tuple[Tensor, Tensor]:
    """Features of the visual tokens that are left, row by row, and their mask (b, s').

    features: (m, d) of all that `mask` (b, s) marks in the unpruned prompts, row by row.
    """
    going = mask.gather(1, left.origin) & left.real
    ranks = (mask.flatten().cumsum(0) - 1).view_as(mask).gather(1, left.origin)
    return features[ranks[going].to(features.device)], going


class Deepstack:
    """While it lasts, the decoder adds its features to what `now` says is left of the prompts."""

    def __init__(self, adapter: Adapter, now: Callable[[], Columns | None]) -> None:
        language: Any = adapter.language
        self._language, add = language, language._deepstack_process

        def process(hidden: Tensor, mask: Tensor, features: Tensor) -> Tensor:
            left = now()
            if left is not None and hidden.shape[1] != mask.shape[1]:
                features, mask = left_features(features, mask, left)
            result: Tensor = add(hidden, mask, features)
            return result

        language._deepstack_process = process

    def remove(self) -> None:
        """Give the decoder its function back."""
        vars(self._language).pop("_deepstack_process", None)
