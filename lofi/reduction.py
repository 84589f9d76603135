"""`lofi.reduce`: any model of a known family, pruned by any reducer while a `with` block lasts."""

import hashlib
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from lofi.cell import KEEP_ALL, OWN_COUNT, keep_text, kept_count
from lofi.engine.session import tapped_layers
from lofi.errors import UserError
from lofi.methods import lofi_adaptive
from lofi.methods.context import Question, Selection, TextTower, VisualContext
from lofi.methods.decoder import DecoderView
from lofi.methods.registry import check_params, get_reducer
from lofi.methods.schedule import Stages, needs_fit
from lofi.methods.select import select, select_stage
from lofi.models.adapter import Adapter
from lofi.models.facts import facts_of
from lofi.models.families import get_family
from lofi.models.hooked import PruneBeforeDecoder, PrunePromptsInDecoder, context_of
from lofi.models.obstacles import obstacle
from lofi.models.prompts import Prompts
from lofi.sweep import MethodSpec, stages_of

_reduced: dict[int, str] = {}  # id of a model -> the method that reduces it now
_lock = threading.Lock()


@dataclass(frozen=True)
class Pruned:
    """What one prompt of one forward has lost."""

    n: int  # visual tokens before
    kept: tuple[Tensor, ...] | None  # of each image (k,) ascending, tile after tile; None where the method merges
    per_layer: tuple[int, ...]  # visual tokens that each decoder layer read
    values: tuple[Mapping[str, float], ...]  # what the method says of each image: rank, mass, …


@dataclass
class Trace:
    """What has happened in the block so far: one entry for each prompt that was read."""

    method: str
    prompts: list[Pruned] = field(default_factory=list)
    select_seconds: float = 0.0  # spent on selecting, on the host's clock
    seconds: float = 0.0  # from entering the block to leaving it

    @property
    def kept(self) -> tuple[Tensor, ...] | None:
        """The kept tokens of each image of the last prompt."""
        return self._last().kept

    @property
    def per_layer(self) -> tuple[int, ...]:
        """The visual tokens that each decoder layer read of the last prompt."""
        return self._last().per_layer

    def _last(self) -> Pruned:
        if not self.prompts:
            raise UserError("no prompt with an image was read in this block; call the model inside it")
        return self.prompts[-1]


class Reduction:
    """The block of `lofi.reduce`: hooks on entry, the model as it was on leaving, whatever happened."""

    def __init__(
        self,
        model: nn.Module,
        method: MethodSpec,
        keep: str,
        *,
        seed: int,
        processor: Any,
        tower: TextTower | None,
        question: str | None,
    ) -> None:
        config: Any = getattr(model, "config", None)
        known = config.to_dict() if hasattr(config, "to_dict") else {}
        self.adapter = Adapter(model, processor, get_family(known, type(model).__name__))
        self.trace = Trace(method.name)
        self._method, self._keep, self._seed = method, keep, seed
        self._tower, self._question = tower, question
        self._reducer = get_reducer(method.reducer)
        self._params = check_params(method.reducer, dict(method.params))
        self._hook: PruneBeforeDecoder | PrunePromptsInDecoder
        self._parts: tuple[int, ...] = ()
        self._thread = self._entered = 0.0
        _check(self.adapter, method, tower, processor, question)

    def __enter__(self) -> Trace:
        adapter = self.adapter
        with _lock:
            if id(adapter.model) in _reduced:
                raise UserError(
                    f"this model is already reduced by {_reduced[id(adapter.model)]!r}; leave that block first"
                )
            _reduced[id(adapter.model)] = self._method.reducer
        try:
            self._thread, self._entered = threading.get_ident(), time.perf_counter()
            self._parts = _parts(adapter)
            self._hook = self._inside() if self._reducer.acts == "llm" else self._before()
            self._hook.after_prefill(self._note)
        except BaseException:
            _reduced.pop(id(adapter.model))
            raise
        return self.trace

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hook.remove()
        self.trace.seconds = time.perf_counter() - self._entered
        with _lock:
            _reduced.pop(id(self.adapter.model), None)

    def _before(self) -> PruneBeforeDecoder:
        layers = tapped_layers(self.adapter, [self._method])
        positions = str(self._params["positions"])
        return PruneBeforeDecoder(self.adapter, self._choose, positions=positions, layers=layers)

    def _inside(self) -> PrunePromptsInDecoder:
        return PrunePromptsInDecoder(
            self.adapter,
            self._plan,
            self._choose_stage,
            positions=str(self._params["positions"]),
            key=lambda prompts, row: self._key(prompts, prompts.of_row(row)[0]),
        )

    def _choose(self, prompts: Prompts, image: int) -> Selection:
        self._check_unchanged()
        start = time.perf_counter()
        context = self._context(prompts, image)
        params = dict(self._params)
        k = kept_count(self._keep, len(context))
        if self._reducer.count == "calibrated" and k < len(context):
            contexts = [self._context(prompts, i) for i in range(len(prompts.images))]
            ks = sorted({kept_count(self._keep, len(each)) for each in contexts})
            own = {name: str(self._params[name]) for name in self._reducer.params}
            params["targets"] = lofi_adaptive.calibrate(contexts, ks, **own)  # type: ignore[assignment]
        found = select(self._method.reducer, context, [k], seed=self._seed, params=params)[0]
        self.trace.select_seconds += time.perf_counter() - start
        return found

    def _context(self, prompts: Prompts, image: int) -> VisualContext:
        question = self._asked(prompts, prompts.rows[image]) if self._reducer.sees_text else None
        return context_of(prompts, image, self._key(prompts, image), question=question, tower=self._tower)

    def _asked(self, prompts: Prompts, row: int) -> Question:
        """The question that was given, or else all text behind the prompt's last image."""
        adapter = self.adapter
        if self._question is not None:
            return Question(self._question, adapter.embed(adapter.text_ids(self._question)))
        tokenizer = adapter.processor.tokenizer
        behind = prompts.ids[row, int(prompts.visual(row).max()) + 1 :]
        ids = [int(token) for token in behind if int(token) not in tokenizer.all_special_ids]
        text = tokenizer.decode(ids).strip()
        return Question(text, adapter.embed(torch.tensor(ids, device=prompts.ids.device)))

    def _key(self, prompts: Prompts, image: int) -> int:
        """63 bits of an image's pixels, so that it draws the same random numbers in every batch."""
        if not self._reducer.draws(self._params):
            return 0
        pixels = prompts.images.pixels_of(image).float().cpu().numpy().tobytes()
        return int.from_bytes(hashlib.sha256(pixels).digest()[:8], "big") >> 1

    def _plan(self, n: int) -> Stages:
        self._check_unchanged()
        if self._keep == KEEP_ALL:
            return ()
        _check_fit(self._method.reducer, n, len(self.adapter.layers))
        return stages_of(self._method, self._keep, n, len(self.adapter.layers)) or ()

    def _choose_stage(self, _row: int, view: DecoderView, k: int) -> Selection:
        if "square" in self._reducer.needs and view.grid[0] != view.grid[1]:
            raise UserError(
                f"{self._method.reducer} needs one square grid that holds all visual tokens of a prompt, and this "
                "prompt has several images; ask about one at a time"
            )
        start = time.perf_counter()
        found = select_stage(self._method.reducer, view, k, seed=self._seed, params=self._params)
        self.trace.select_seconds += time.perf_counter() - start
        return found

    def _note(self, prompts: Prompts) -> None:
        depth = len(self.adapter.layers)
        for row in range(len(prompts.ids)):
            images = prompts.of_row(row)
            n = sum(len(prompts.columns[image]) for image in images)
            if isinstance(self._hook, PrunePromptsInDecoder):
                read = self._hook.pruner.read
                counts = tuple(len(read[layer].visual[row]) for layer in range(depth))
                left = None if self._reducer.merges else (read[depth - 1].places[row].sort().values,)
                self.trace.prompts.append(Pruned(n, left, counts, ()))
            else:
                found = [self._hook.selections[image] for image in images]
                kept = None if any(s.embeds is not None for s in found) else tuple(s.kept for s in found)
                counts = (sum(s.count for s in found),) * depth
                self.trace.prompts.append(Pruned(n, kept, counts, tuple(s.trace for s in found)))

    def _check_unchanged(self) -> None:
        if threading.get_ident() != self._thread:
            raise UserError("a model that is reduced in one thread was called from another; call it in its own block")
        if _parts(self.adapter) != self._parts:
            raise UserError("the model was changed inside the block: its parts are not those it was entered with")


def _parts(adapter: Adapter) -> tuple[int, ...]:
    """The modules that hooks stand on, as the model has them now, and how its decoder attends."""
    family, model = adapter.family, adapter.model
    core: Any = model.model
    paths = (family.tower, family.projector, family.language, f"{family.language}.layers")
    modules = [core.get_submodule(path) for path in paths]
    layers = list(modules[-1].children())
    return (*(id(module) for module in (core, *modules, *layers)), hash(modules[2].config._attn_implementation))


def _check(adapter: Adapter, method: MethodSpec, tower: TextTower | None, processor: Any, question: str | None) -> None:
    """Refuse at once what the model or the call lacks."""
    reducer, facts = get_reducer(method.reducer), facts_of(adapter.config.to_dict(), type(adapter.model).__name__)
    if lacks := obstacle(method.reducer, dict(method.params), facts):
        raise UserError(f"{method.reducer} needs {lacks}")
    if "tower" in reducer.needs and tower is None:
        raise UserError(f"{method.reducer} needs the CLIP text model of the vision encoder; pass tower=")
    if tower is not None and not facts.encoder.tower:
        raise UserError("tower= is given with a model whose vision encoder comes from no CLIP model; leave it out")
    if reducer.sees_text and processor is None and question is None:
        raise UserError(f"{method.reducer} reads the question; pass processor=, or question= and processor=")
    if reducer.sees_text and processor is None:
        raise UserError(f"{method.reducer} reads the question, whose tokens it needs; pass processor=")
    _check_fit(method.reducer, facts.n_visual or 0, len(adapter.layers))


def _check_fit(name: str, n: int, depth: int) -> None:
    """Refuse a schedule that only a calibration finds, for n visual tokens and `depth` layers."""
    schedule = get_reducer(name).schedule
    if schedule is not None and needs_fit(schedule, n, depth):
        raise UserError(f"{name} fits its schedule to a model and a dataset, which a sweep does; run it in a sweep")


def reduce(
    model: nn.Module,
    method: str,
    keep: float | int | str = KEEP_ALL,
    *,
    seed: int = 0,
    processor: Any = None,
    tower: TextTower | None = None,
    question: str | None = None,
    **params: object,
) -> Reduction:
    """Prune every forward and `generate` of a model inside the block.

    keep: a share of the visual tokens of each image in (0, 1], a whole count above 1, or `auto` for methods that set
    their own count. params: those of the method (docs/methods.md), and `positions: kept|reindexed`. processor: the
    model's, for methods that read the question. tower: a `lofi.models.clip_text.ClipTextTower`, for those that
    compare patches with it. Methods whose count varies by image meet a budget in the mean over the images of a batch.
    """
    values = tuple(sorted(check_params(method, params).items()))
    text = keep if keep in (OWN_COUNT, KEEP_ALL) else keep_text(keep)  # type: ignore[arg-type]
    own = get_reducer(method).count == "own"
    if own and text not in (OWN_COUNT, KEEP_ALL):
        raise UserError(f"{method} sets its own count; give keep 'auto'")
    if not own and text == OWN_COUNT:
        raise UserError(f"{method} keeps what it is asked for; give keep a share in (0, 1] or a count")
    spec = MethodSpec(method, method, values)
    make = partial(Reduction, seed=seed, processor=processor, tower=tower, question=question)
    return make(model, spec, str(text))
