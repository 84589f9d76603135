"""The reference path: one question, one forward of the unmodified model, nothing shared with any other.

It exists to check the engine by: both must give the same logits and the same answers.
"""

from dataclasses import dataclass

import torch
from PIL.Image import Image
from torch import Tensor

from lofi.cell import Cell, kept_count
from lofi.methods.context import Selection
from lofi.methods.registry import check_params, get_reducer
from lofi.methods.select import select
from lofi.models.adapter import Adapter, Encoded
from lofi.models.hooked import PruneBeforeDecoder
from lofi.sweep import MethodSpec


@dataclass(frozen=True)
class Plain:
    """What the plain path says about one sample."""

    logits: Tensor  # (v,) float32, first answer position
    kept: Tensor  # (k,)
    answer: str  # greedy, empty if no token was asked for


@torch.inference_mode()
def run_plain(
    adapter: Adapter, image: Image, image_key: int, prompt: str, cell: Cell, method: MethodSpec, max_new_tokens: int
) -> Plain:
    """One sample through processor, `forward` and `generate`, as a user of transformers would run it."""
    params = check_params(method.reducer, dict(method.params))

    def choose(encoded: Encoded) -> Selection:
        k = kept_count(cell.keep, encoded.projected.shape[1])
        context = encoded.context(0, image_key)
        return select(method.reducer, context, [k], seed=cell.seed, params=params)[0]

    inputs = adapter.processor(images=image, text=adapter.chat(prompt), return_tensors="pt").to(adapter.device)
    layers = {adapter.config.vision_feature_layer} if get_reducer(method.reducer).needs else set()
    with PruneBeforeDecoder(adapter, choose, positions=str(params["positions"]), layers=layers) as hook:
        logits = adapter.model(**inputs, logits_to_keep=1).logits[0, -1].float()
        answer = ""
        if max_new_tokens:
            ids = adapter.model.generate(**inputs, do_sample=False, max_new_tokens=max_new_tokens)  # type: ignore[operator]
            new = ids[0, inputs["input_ids"].shape[1] :]
            answer = adapter.processor.tokenizer.decode(new, skip_special_tokens=True).strip()
        assert hook.selection is not None  # the forward above went through the projector
        return Plain(logits, hook.selection.kept, answer)
