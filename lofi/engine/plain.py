"""The reference path: one question, one forward of the unmodified model, nothing shared with any other.

It exists to check the engine by: both must give the same logits and the same answers.
"""

from collections.abc import Mapping
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
from lofi.models.adapter import Adapter
from lofi.models.conversation import chat_inputs
from lofi.models.hooked import PruneBeforeDecoder, PrunePromptsInDecoder, context_of
from lofi.models.prompts import Prompts
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
    adapter = session.adapter
    inputs = chat_inputs(adapter.processor, [([image], prompt)]).to(adapter.device, adapter.dtype)
    hook: PruneBeforeDecoder | PrunePromptsInDecoder = (
        _inside(session, image_key, cell, method)
        if get_reducer(method.reducer).acts == "llm"
        else _before(session, image_key, prompt, cell, method)
    )
    with hook:
        logits, ids = _run(adapter, inputs, max_new_tokens)
        kept = hook.pruner.left.places[0] if isinstance(hook, PrunePromptsInDecoder) else hook.selections[0].rows
    return Plain(logits, kept, adapter.processor.tokenizer.decode(ids, skip_special_tokens=True).strip())


def _run(adapter: Adapter, inputs: Mapping[str, Tensor], max_new_tokens: int) -> tuple[Tensor, list[int]]:
    """Logits (v,) at the first answer position, and the tokens of the greedy answer, in one pass over the prompt."""
    if not max_new_tokens:
        return adapter.model(**inputs, logits_to_keep=1).logits[0, -1].float(), []
    options = {"do_sample": False, "max_new_tokens": max_new_tokens}
    drawn = adapter.model.generate(**inputs, **options, output_logits=True, return_dict_in_generate=True)  # type: ignore[operator]
    return drawn.logits[0][0].float(), drawn.sequences[0, inputs["input_ids"].shape[1] :].tolist()


def _before(session: Session, image_key: int, prompt: str, cell: Cell, method: MethodSpec) -> PruneBeforeDecoder:
    adapter, fit = session.adapter, session.fitted.get(method)
    params = {**check_params(method.reducer, dict(method.params)), **(fit.params if fit else {})}

    def choose(prompts: Prompts, number: int) -> Selection:
        question = None
        if get_reducer(method.reducer).sees_text:
            question = Question(prompt, adapter.embed(adapter.text_ids(prompt)))
        context = context_of(prompts, number, image_key, question=question, tower=session.tower)
        return select(method.reducer, context, [kept_count(cell.keep, len(context))], seed=cell.seed, params=params)[0]

    layers = tapped_layers(adapter, [method])
    return PruneBeforeDecoder(adapter, choose, positions=str(params["positions"]), layers=layers)


def _inside(session: Session, image_key: int, cell: Cell, method: MethodSpec) -> PrunePromptsInDecoder:
    params = check_params(method.reducer, dict(method.params))

    def choose(_row: int, view: DecoderView, k: int) -> Selection:
        return select_stage(method.reducer, view, k, seed=cell.seed, params=params)

    def plan(n: int) -> Stages:
        return session.stages(cell, method, n) or ()

    return PrunePromptsInDecoder(
        session.adapter, plan, choose, positions=str(params["positions"]), key=lambda _prompts, _row: image_key
    )
