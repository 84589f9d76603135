"""The typed sweep: models, datasets, methods and keeps, expanded to cells and packed into jobs."""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, Protocol, TypeVar

from lofi.cell import AS_LOADED, FLOOR, FULL, KEEP_ALL, OWN_COUNT, Cell, kept_count, stability_path
from lofi.errors import UserError, unknown
from lofi.methods.registry import check_params, get_reducer
from lofi.methods.schedule import Stages, solve

AXES = ("method", "keep", "seed")  # of a cell, apart from model and dataset: what `pack` may name
FILL = "FILL"  # a revision that somebody has still to look up: plans are made with it, and nothing runs
GENERATE = "generate"  # the scoring mode in which every answer is generated, options or not
ALWAYS_PACK = "use pack: [] or pack: [method, keep, seed], which work with every sweep"

Value = str | int | float | bool


@dataclass(frozen=True)
class ModelSpec:
    """One model: where it comes from and how it runs."""

    name: str
    source: str
    revision: str | None = None
    dtype: str = "float32"
    device: str = "auto"
    attention: str = "sdpa"
    batch_images: int = 32
    text_tower: str | None = None
    min_pixels: int | None = None  # of an image, where the processor follows its size; None: the checkpoint's own
    max_pixels: int | None = None
    template: str | None = None  # of the conversation: a built-in name or a file; None: the checkpoint's
    image_mode: str = "original"  # or pad: to a square, in the mean colour, as LLaVA-1.5's own loader does
    threads: int = 1  # of the CPU, to compute with; sums in another order end in other last digits, so a key has them
    workers: int | str = "auto"  # processes that open images; auto: none on a CPU, else the cores but one, at most 8

    @property
    def planned_revision(self) -> str | None:
        """The revision to plan with: the newest, as long as it is still to be filled in."""
        return None if self.revision == FILL else self.revision


@dataclass(frozen=True)
class DatasetSpec:
    """One dataset: its card, how much of it, how its questions are worded and its answers are graded."""

    name: str
    limit: int = 0
    prompt_style: str = "lmms_eval"
    source: str | None = None
    card: str | None = None  # a built-in dataset, or the YAML file of one's own; None: the built-in one of this name
    scorer: str | None = None  # None: that of the card for this prompt style
    scoring_mode: str = "logits"  # answers on offer are read from the logits; or generate: every answer is generated
    exif: str = "ignored"  # or applied: photographs are turned as their files ask
    report_images: str = "auto"  # shown, hidden; auto: those that lofi draws itself, whose copies nobody forbids

    @property
    def card_name(self) -> str:
        """What `lofi.data.registry.get_card` finds the card by."""
        return self.card or self.name


@dataclass(frozen=True)
class MethodSpec:
    """One method: a reducer with all its parameters (defaults filled in, sorted by name), and what it runs on."""

    name: str
    reducer: str
    params: tuple[tuple[str, Value], ...]
    seeds: tuple[int, ...] = (0,)
    keeps: tuple[str, ...] | None = None  # None: those of the sweep
    weights: str = AS_LOADED  # int8, int4: the decoder's, quantised


def stages_of(method: MethodSpec, keep: str, n: int, depth: int) -> Stages | None:
    """When a method inside the LLM prunes n visual tokens to meet `keep`; None for a method before the LLM."""
    schedule, params = get_reducer(method.reducer).schedule, dict(method.params)
    if schedule is None:
        return None
    layer, budget = int(params.get("layer", 0)), str(params.get("budget"))
    return solve(schedule, kept_count(keep, n), n, depth, budget=budget, layer=layer)


def draws(method: MethodSpec) -> bool:
    """Whether a method draws random numbers, so that seeds are an axis."""
    return get_reducer(method.reducer).draws(dict(method.params))


def has_fixed_keep(method: MethodSpec) -> bool:
    """Whether the reducer leaves no choice of keeps: it sets its own counts, or keeps all on quantised weights."""
    return method.keeps in ((OWN_COUNT,), (KEEP_ALL,))


REFERENCES = tuple(MethodSpec(name, FULL, tuple(sorted(check_params(FULL, {}).items()))) for name in (FULL, FLOOR))


class _Named(Protocol):
    @property
    def name(self) -> str: ...


Spec = TypeVar("Spec", bound=_Named)


@dataclass(frozen=True)
class Sweep:
    """Models x datasets x methods x keeps, as `lofi.config` has checked them."""

    models: tuple[ModelSpec, ...]
    datasets: tuple[DatasetSpec, ...]
    methods: tuple[MethodSpec, ...]
    keeps: tuple[str, ...]  # texts of `keep_text`
    shards: int = 1
    pack: tuple[str, ...] = AXES
    stability_images: int = 32  # of each dataset; 0: self-agreement is not measured
    cache: str | None = None  # a folder of finished cells that several sweeps share; None: the sweep's own

    def model(self, name: str) -> ModelSpec:
        """The model of that name."""
        return _find("model", name, self.models)

    def dataset(self, name: str) -> DatasetSpec:
        """The dataset of that name."""
        return _find("dataset", name, self.datasets)

    def method(self, name: str) -> MethodSpec:
        """The method of that name; `full` and `floor` are always there."""
        return _find("method", name, (*self.methods, *REFERENCES))

    def keeps_of(self, method: MethodSpec) -> tuple[str, ...]:
        """The keeps at which a method runs."""
        return self.keeps if method.keeps is None else method.keeps

    def cells(self) -> tuple[Cell, ...]:
        """Every cell: the references first, then the reduced ones."""
        return self.reference_cells() + self.reduced_cells()

    def reference_cells(self) -> tuple[Cell, ...]:
        """`full` and `floor` of every model and dataset."""
        return tuple(
            Cell(model.name, dataset.name, method, KEEP_ALL)
            for model, dataset, method in product(self.models, self.datasets, (FULL, FLOOR))
        )

    def reduced_cells(self) -> tuple[Cell, ...]:
        """Every method at every keep and seed, for every model and dataset."""
        return tuple(
            Cell(model.name, dataset.name, method, keep, seed)
            for model, dataset in product(self.models, self.datasets)
            for method, keep, seed in self._treatments()
        )

    def stability_files(self) -> tuple[str, ...]:
        """The files of self-agreement, relative to the results folder; none where it is not measured."""
        if not self.stability_images:
            return ()
        return tuple(stability_path(model.name, dataset.name) for model, dataset in product(self.models, self.datasets))

    def packed(self) -> tuple[dict[str, str | int], ...]:
        """The values of the packed axes, one dict for each cell of a job; all jobs have the same."""
        groups: dict[tuple[Any, ...], list[tuple[Any, ...]]] = defaultdict(list)
        for treatment in self._treatments():
            values = dict(zip(AXES, treatment, strict=True))
            group = tuple((axis, values[axis]) for axis in AXES if axis not in self.pack)
            groups[group].append(tuple((axis, values[axis]) for axis in AXES if axis in self.pack))
        (first, cells), *others = groups.items()
        for other, theirs in others:
            if theirs != cells:
                raise _uneven(self.pack, first, cells, other, theirs)
        return tuple(dict(cell) for cell in cells)

    def to_dict(self) -> dict[str, Any]:
        """A config that says all of this sweep; `lofi.config.from_dict` turns it into an equal sweep."""
        return {
            "models": dict(map(_entry, self.models)),
            "datasets": dict(map(_entry, self.datasets)),
            "methods": {
                method.name: {
                    "reducer": method.reducer,
                    **({"weights": method.weights} if method.weights != AS_LOADED else {}),
                    **({"seeds": list(method.seeds)} if draws(method) else {}),
                    **({"keeps": _numbers(method.keeps)} if method.keeps and not has_fixed_keep(method) else {}),
                    **dict(method.params),
                }
                for method in self.methods
            },
            "keeps": _numbers(self.keeps),
            "shards": self.shards,
            "pack": list(self.pack),
            "stability_images": self.stability_images,
            **({"cache": self.cache} if self.cache else {}),
        }

    def to_json(self) -> str:
        """`to_dict` in one line, in the order of the config: tables list methods in that order."""
        return json.dumps(self.to_dict(), allow_nan=False, separators=(",", ":"))

    def _treatments(self) -> Iterator[tuple[str, str, int]]:
        for method in self.methods:
            for keep, seed in product(self.keeps_of(method), method.seeds):
                yield method.name, keep, seed


def _find(kind: str, name: str, specs: tuple[Spec, ...]) -> Spec:
    for spec in specs:
        if spec.name == name:
            return spec
    raise unknown(kind, name, (spec.name for spec in specs))


def _numbers(keeps: tuple[str, ...]) -> list[float | int]:
    return [float(keep) if "." in keep else int(keep) for keep in keeps]


def _entry(spec: ModelSpec | DatasetSpec) -> tuple[str, dict[str, Any]]:
    values = asdict(spec)
    return values.pop("name"), values


def _uneven(pack: tuple[str, ...], first: Any, cells: list[Any], other: Any, theirs: list[Any]) -> UserError:
    def named(values: tuple[tuple[str, object], ...]) -> str:
        return ", ".join(f"{axis} {value}" for axis, value in values)

    larger, smaller = sorted([(first, cells), (other, theirs)], key=lambda group: -len(group[1]))
    missing = next(cell for cell in larger[1] if cell not in smaller[1])
    return UserError(
        f"pack [{', '.join(pack)}] does not fit this sweep: every job must hold the same cells, "
        f"but the job of {named(larger[0])} has {named(missing)} and the job of {named(smaller[0])} has not; "
        f"{ALWAYS_PACK}"
    )
