"""What the decoder's first layers made of a batch, kept for the other cells of that batch.

Methods inside the LLM let every token into the first layers. Until the first of them prunes, all cells of a batch
compute the same, so a layer is run once and then gives what it gave.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from lofi.models.adapter import Adapter


@contextmanager
def replaced(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """While the block lasts, a module runs this instead; its hooks go on."""
    before = vars(module).get("forward")  # of the module alone, where its weights are moved for it
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if before is not None:
            module.forward = before


class EarlyLayers:
    """Outputs, keys and values of the layers that no cell so far has pruned before; for passes of one input alone."""

    def __init__(self, adapter: Adapter) -> None:
        self._layers = adapter.layers
        self._outputs: dict[int, Any] = {}
        self._read: dict[int, tuple[Tensor, Tensor]] = {}

    @contextmanager
    def once(self, stop: int) -> Iterator[None]:
        """While the block lasts, the layers before `stop` are run if they have not been, and else repeat themselves."""
        with ExitStack() as stack:
            for index, layer in enumerate(self._layers[:stop]):
                if index in self._outputs:
                    stack.enter_context(replaced(layer, self._again(index)))
                else:
                    handle = layer.register_forward_hook(self._note(index), with_kwargs=True)
                    stack.callback(handle.remove)
            yield

    def _again(self, index: int) -> Callable[..., Any]:
        def forward(*_args: Any, past_key_values: Any = None, **_kwargs: Any) -> Any:
            if past_key_values is not None:
                past_key_values.update(*self._read[index], index)
            return self._outputs[index]

        return forward

    def _note(self, index: int) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: Any, kwargs: dict[str, Any], output: Any) -> None:
            self._outputs[index] = output
            cache = kwargs.get("past_key_values")
            if cache is not None:
                self._read[index] = (cache.layers[index].keys, cache.layers[index].values)

        return hook
