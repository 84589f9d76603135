"""Operations of every cell of one model and dataset, with shared work counted as often as the engine does it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from lofi.cell import FLOOR, FULL, OWN_COUNT, Cell, kept_count
from lofi.errors import UserError
from lofi.methods.registry import get_reducer
from lofi.methods.schedule import counts_per_layer, needs_fit
from lofi.plan.asked import Asked
from lofi.plan.flops import Decoder, Views, encode, logits, mlp, prefill, step
from lofi.plan.shape import Shape
from lofi.sweep import AXES, MethodSpec, Sweep, stages_of

SYSTEM_TOKENS = 16.0  # of the chat template before the image
STABILITY_PASSES = 4  # features as they are, and under three changes


@dataclass(frozen=True)
class Work:
    """Operations by the stage whose time is stored."""

    vision: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(self.vision + other.vision, self.prefill + other.prefill, self.decode + other.decode)

    @property
    def total(self) -> float:
        """All of them."""
        return self.vision + self.prefill + self.decode


@dataclass(frozen=True)
class Load:
    """What one cell asks of the decoder."""

    images: float
    answers: float
    alone: bool  # one question to a row, not all questions of an image behind one prefix
    inside: bool  # it prunes between layers of the decoder
    visual: Sequence[float]  # tokens at each layer's input
    text: float  # tokens of a question
    drawn: float  # decoding steps of an answer
    whole: bool = False  # the last layer's MLP runs at every token, not only where an answer is read

    def work(self, decoder: Decoder) -> Work:
        """Prefill and decoding of this cell."""
        drawn, beside = self.answers * self.drawn, SYSTEM_TOKENS + self._asked
        return Work(
            prefill=self.prefill(decoder, self.visual) - self._unread(decoder) + logits(decoder, self.answers),
            decode=drawn * (step(decoder, self.visual, beside) + logits(decoder, 1)) if drawn else 0.0,
        )

    def prefill(self, decoder: Decoder, visual: Sequence[float]) -> float:
        """All rows through as many layers, with visual[l] visual tokens at the input of layer l."""
        return self._rows * prefill(decoder, visual, SYSTEM_TOKENS - self._read + self._asked, self._read)

    def _unread(self, decoder: Decoder) -> float:
        """What the last layer's MLP would make of tokens whose output nothing reads."""
        tokens = self._rows * (self.visual[-1] + SYSTEM_TOKENS - self._read + self._asked) - self.answers
        return 0.0 if self.whole else mlp(decoder, tokens)

    @property
    def _read(self) -> float:
        """Text before the image, read once for all but by a method that looks at every token of a prompt."""
        return 0.0 if self.inside else SYSTEM_TOKENS

    @property
    def _rows(self) -> float:
        return self.answers if self.alone else self.images

    @property
    def _asked(self) -> float:
        """Tokens behind one prefix."""
        return self.text * self.answers / max(self._rows, 1.0)


def stands_alone(method: MethodSpec) -> bool:
    """Whether each question of an image needs a row of its own."""
    reducer = get_reducer(method.reducer)
    return reducer.sees_text or reducer.acts == "llm"


def visual_tokens(method: MethodSpec, keep: str, n: int, depth: int) -> list[int]:
    """Visual tokens at each decoder layer's input. Where only a run can tell: all of them, or the mean asked for."""
    if keep == OWN_COUNT:
        return [n] * depth
    schedule = get_reducer(method.reducer).schedule
    if schedule is None or needs_fit(schedule, n, depth):
        return [kept_count(keep, n)] * depth
    return counts_per_layer(stages_of(method, keep, n, depth) or (), n, depth)


def work_of(sweep: Sweep, model: str, dataset: str, shape: Shape, asked: Asked, *, text: float, drawn: float) -> Work:
    """All cells of one model on one dataset, and their self-agreement."""
    spec = sweep.model(model)
    views = shape.views(*asked.picture, spec.min_pixels, spec.max_pixels)
    picture = Work(vision=encode(shape.encoder, shape.projector, views))
    cells = [cell for cell in sweep.cells() if (cell.model, cell.dataset) == (model, dataset)]
    reduced = [cell for cell in cells if cell.method not in (FULL, FLOOR)]
    encodings = 2 + len(_loadings(sweep, reduced)) + sum(_encodes(sweep, cell) for cell in reduced)
    readings = 2 + len(_layouts(sweep, reduced))  # of what the full model says, to compare cells with
    total = Work(asked.images * encodings * picture.vision, readings * logits(shape.decoder, asked.questions))
    loads = {cell: _load(sweep, cell, shape, views, asked, text, drawn) for cell in cells}
    for load in loads.values():
        total += load.work(shape.decoder)
    for job in _loadings(sweep, reduced).values():
        total += _repeated((loads[cell] for cell in job), shape.decoder, views.tokens)
    images = min(sweep.stability_images, asked.images)
    if images and reduced:
        total += Work(vision=images * picture.vision)
        for cell in _probed(sweep, reduced):
            one = Asked(images, images * STABILITY_PASSES, asked.prepared, asked.picture)
            total += _load(sweep, cell, shape, views, one, text, 0.0).work(shape.decoder)
    return total


def work_apart(
    sweep: Sweep, model: str, dataset: str, shape: Shape, asked: Asked, *, text: float, drawn: float
) -> Work:
    """The same cells as a loop over samples runs them: every answer encodes its picture and reads its whole prompt."""
    spec = sweep.model(model)
    views = shape.views(*asked.picture, spec.min_pixels, spec.max_pixels)
    total = Work()
    for cell in sweep.cells():
        if (cell.model, cell.dataset) == (model, dataset):
            load = replace(_load(sweep, cell, shape, views, asked, text, drawn), alone=True, inside=True, whole=True)
            picture = Work(vision=asked.questions * encode(shape.encoder, shape.projector, views))
            total += picture + load.work(shape.decoder)
    return total


def evaluations(sweep: Sweep, cells: Iterable[Cell]) -> set[tuple[object, ...]]:
    """What tells apart the `evaluate` jobs of one shard: the axes that do not run inside one job."""
    return {tuple(getattr(cell, axis) for axis in AXES if axis not in sweep.pack) for cell in cells}


def _loadings(sweep: Sweep, cells: Sequence[Cell]) -> dict[tuple[object, ...], list[Cell]]:
    """The cells of those jobs, once for each kind of weights: each loads a model and encodes for itself."""
    found: dict[tuple[object, ...], list[Cell]] = {}
    for cell in cells:
        job = tuple(getattr(cell, axis) for axis in AXES if axis not in sweep.pack)
        found.setdefault((sweep.method(cell.method).weights, *job), []).append(cell)
    return found


def _layouts(sweep: Sweep, cells: Sequence[Cell]) -> set[tuple[object, ...]]:
    """The same twice where a job holds cells that ask one question to a row, and others."""
    return {
        (*job, stands_alone(sweep.method(cell.method)))
        for job, inside in _loadings(sweep, cells).items()
        for cell in inside
    }


def _repeated(loads: Iterable[Load], decoder: Decoder, n: int) -> Work:
    """What cells that prune inside the decoder do not repeat: the layers in which they all read n tokens."""
    inside = [load for load in loads if load.inside]
    layers = sorted(sum(1 for _ in takewhile(lambda count: count == n, load.visual)) for load in inside)
    return Work(prefill=-sum(inside[0].prefill(decoder, [n] * each) for each in layers[:-1]))


def _encodes(sweep: Sweep, cell: Cell) -> bool:
    """Whether a cell runs the encoder again, with its merging in it."""
    return get_reducer(sweep.method(cell.method).reducer).acts == "encoder"


def _probed(sweep: Sweep, cells: Sequence[Cell]) -> Iterator[Cell]:
    """The cells whose self-agreement needs the decoder: those inside it, with their first seed."""
    for cell in cells:
        method = sweep.method(cell.method)
        if get_reducer(method.reducer).acts == "llm" and cell.seed == method.seeds[0]:
            yield cell


def _load(sweep: Sweep, cell: Cell, shape: Shape, views: Views, asked: Asked, text: float, drawn: float) -> Load:
    method = sweep.method(cell.method)
    try:
        visual = visual_tokens(method, cell.keep, views.tokens, shape.decoder.depth)
    except UserError as error:
        raise UserError(
            f"methods.{method.name} cannot keep {cell.keep} of models.{cell.model}: {error}; "
            "or give the method `keeps` of its own, or remove it"
        ) from None
    inside = get_reducer(method.reducer).acts == "llm"
    return Load(asked.images, asked.questions, stands_alone(method), inside, visual, text, drawn)
