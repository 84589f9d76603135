"""The reference path: one question, one forward of the unmodified model, nothing shared with any other.

It exists to check the engine by: both must give the same logits and the same answers.
"""

from dataclasses import dataclass

import torch
from PIL.Image import Image
from torch import Tensor

from lofi.cell import Cell, kept_count
from lofi.engine.session import Session, tapped_layers
from lofi.methods.context import Question, Selection
from lofi.methods.decoder import DecoderView
from lofi.methods.registry import check_params, get_reducer
from lofi.methods.schedule import Stages
from lofi.methods.select import select, select_stage
from lofi.models.adapter import Encoded
from lofi.models.hooked import PruneBeforeDecoder, PruneOnePrompt
from lofi.sweep import MethodSpec


@dataclass(frozen=True)
class Plain:
    """What the plain path says about one sample."""

    logits: Tensor  # (v,) float32, first answer position
    kept: Tensor  # (k,) raster places of the rows left after the last prune, in the LLM's order
    answer: str  # greedy, empty if no token was asked for


@torch.inference_mode()
def run_plain(
    session: Session, image: Image, image_key: int, prompt: str, cell: Cell, method: MethodSpec, max_new_tokens: int
) -> Plain:
    """One sample through processor, `forward` and `generate`, as a user of transformers would run it."""
    stages = session.stages(cell, method)
    hook = (
        _before(session, image_key, prompt, cell, method)
        if stages is None
        else _inside(session, image_key, cell, method, stages)
    )
    adapter = session.adapter
    inputs = adapter.processor(images=image, text=adapter.chat(prompt), return_tensors="pt").to(adapter.device)
    with hook:
        logits = adapter.model(**inputs, logits_to_keep=1).logits[0, -1].float()
        kept = hook.left.places[0] if isinstance(hook, PruneOnePrompt) else _rows(hook)
        answer = ""
        if max_new_tokens:
            ids = adapter.model.generate(**inputs, do_sample=False, max_new_tokens=max_new_tokens)  # type: ignore[operator]
            new = ids[0, inputs["input_ids"].shape[1] :]
            answer = adapter.processor.tokenizer.decode(new, skip_special_tokens=True).strip()
    return Plain(logits, kept, answer)


def _rows(hook: PruneBeforeDecoder) -> Tensor:
    assert hook.selection is not None  # the forward went through the projector
    return hook.selection.rows


def _before(session: Session, image_key: int, prompt: str, cell: Cell, method: MethodSpec) -> PruneBeforeDecoder:
    adapter, fit = session.adapter, session.fitted.get(method)
    params = {**check_params(method.reducer, dict(method.params)), **(fit.params if fit else {})}

    def choose(encoded: Encoded) -> Selection:
        k = kept_count(cell.keep, encoded.projected.shape[1])
        question = None
        if get_reducer(method.reducer).sees_text:
            question = Question(prompt, adapter.embed(adapter.text_ids(prompt)))
        context = encoded.context(0, image_key, question=question, tower=session.tower)
        return select(method.reducer, context, [k], seed=cell.seed, params=params)[0]

    layers = tapped_layers(adapter, [method])
    return PruneBeforeDecoder(adapter, choose, positions=str(params["positions"]), layers=layers)


def _inside(session: Session, image_key: int, cell: Cell, method: MethodSpec, stages: Stages) -> PruneOnePrompt:
    params = check_params(method.reducer, dict(method.params))

    def choose(_row: int, view: DecoderView, k: int) -> Selection:
        return select_stage(method.reducer, view, k, seed=cell.seed, params=params)

    positions = str(params["positions"])
    return PruneOnePrompt(session.adapter, stages, choose, positions=positions, image_key=image_key)
