"""Two devices on a machine that has one: tensors stay in main memory, and know on which device they pretend to be.

Whatever joins tensors of two devices raises, as it would on two GPUs; `.to` moves. The names are cpu:1 and cpu:2, so
that nothing asks a driver for them.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

HOST = torch.device("cpu")


def where(tensor: Tensor) -> torch.device:
    return vars(tensor).get("pretended", HOST)


def put(tensor: Tensor, device: torch.device) -> Tensor:
    vars(tensor)["pretended"] = device
    return tensor


class Pretend(TorchFunctionMode):
    """While it lasts, every function of torch keeps to one device."""

    def __init__(self) -> None:
        super().__init__()
        self.moved = 0  # tensors that went from one device to another
        self.paused = False

    def __torch_function__(
        self, func: Callable[..., Any], _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if self.paused:
            return func(*args, **kwargs)
        if func == Tensor.device.__get__:  # type: ignore[attr-defined]
            return where(args[0])
        if name in ("to", "cpu"):
            return self._move(func, name, args, kwargs)
        given = list(tensors((args, kwargs)))
        device = kwargs.get("device")
        target = self._together(name, given) if device is None else torch.device(device)
        if name == "numpy" and target != HOST:
            raise TypeError(f"can't convert {target} device type tensor to numpy")
        return labelled(func(*args, **kwargs), target)

    def _together(self, name: str, given: list[Tensor]) -> torch.device:
        found = {where(tensor) for tensor in given if tensor.dim() or where(tensor) != HOST}
        if name in ("__getitem__", "__setitem__", "index_put_"):
            found = {where(given[0])} | (found - {HOST})  # indices may lie in main memory
        if len(found) > 1:
            raise RuntimeError(f"{name}: tensors on {sorted(map(str, found))}, but all must be on one device")
        return next(iter(found), HOST)

    def _move(self, func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        source = args[0]
        target, rest = where(source), []
        for value in (*args[1:], *([kwargs["device"]] if "device" in kwargs else [])):
            if isinstance(value, torch.device | str):
                target = torch.device(value)
            elif isinstance(value, Tensor):
                target = where(value)
                rest.append(value.dtype)
            else:
                rest.append(value)
        options = {key: value for key, value in kwargs.items() if key != "device"}
        if name == "cpu":
            target, result = HOST, source
        else:
            rest = [value for value in rest if value is not None]
            result = func(source, *rest, **options) if rest or options else source
        if target == where(source):
            return result if result is source else put(result, target)
        self.moved += 1
        return put(result.clone() if result is source else result, target)


def tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        for value in values.values():
            yield from tensors(value)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from tensors(value)


def labelled(result: Any, device: torch.device) -> Any:
    for tensor in tensors(result):
        put(tensor, device)
    return result


def spread(model: nn.Module, devices: dict[str, torch.device]) -> None:
    """Accelerate's own hooks, as it puts them for a map from modules to devices, and weights that lie there."""
    from accelerate.hooks import attach_align_device_hook_on_blocks

    host = dict.fromkeys(devices, HOST)
    attach_align_device_hook_on_blocks(
        model, {**host, "": HOST}, dict.fromkeys(devices, False), skip_keys=model._skip_keys_device_placement
    )
    model._hf_hook.execution_device = next(iter(devices.values()))
    for path, device in devices.items():
        for module in model.get_submodule(path).modules():
            if hasattr(module, "_hf_hook"):
                module._hf_hook.execution_device = device
            for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                put(tensor, device)
