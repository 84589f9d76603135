"""The plan of a sweep: cells, answers, jobs, hours and bytes, by model and in all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lofi.cell import FLOOR, FULL
from lofi.models.facts import model_folder
from lofi.plan.asked import Asked, read_asked
from lofi.plan.rates import Rates, assumed, given, measured
from lofi.plan.shape import BYTES, Shape, read_shape
from lofi.plan.timings import Timing, device_of, read_timings, stored_files
from lofi.plan.work import Work, evaluations, work_apart, work_of
from lofi.sweep import ModelSpec, Sweep

ROW_BYTES = 2000  # of one stored answer, where none is stored yet; the demo's have 1,000
SITES = 7  # whose mean visual tokens the reference stores
SHARED_JOBS = 3  # aggregate, report and Snakemake's own `all`


@dataclass(frozen=True)
class ModelPlan:
    """One model's share of a sweep. What its missing config.json would tell is None."""

    name: str
    cells: int
    answers: int
    jobs: int
    results: int  # bytes
    weights: int | None = None  # bytes
    work: Work | None = None
    apart: Work | None = None  # the same answers one at a time, nothing shared
    seconds: float | None = None
    basis: str = ""
    family: str = ""


@dataclass(frozen=True)
class Plan:
    """A sweep's models, and what its datasets ask."""

    models: tuple[ModelPlan, ...]
    asked: Mapping[str, Asked]
    shared_jobs: int

    @property
    def missing(self) -> tuple[str, ...]:
        """The models whose config.json is not on this machine."""
        return tuple(model.name for model in self.models if model.work is None)


def plan(sweep: Sweep, results: Path, tflops: float | None = None) -> Plan:
    """What a sweep will cost. `tflops` takes the place of stored timings and of what is assumed."""
    asked = {spec.name: read_asked(spec, results / "data") for spec in sweep.datasets}
    models = tuple(_model(sweep, model, results, asked, tflops) for model in sweep.models)
    return Plan(models, asked, len(sweep.datasets) + SHARED_JOBS)


def _model(
    sweep: Sweep, model: ModelSpec, results: Path, asked: Mapping[str, Asked], tflops: float | None
) -> ModelPlan:
    files = stored_files(results, model.name)
    timings = read_timings(files)
    cells = [cell for cell in sweep.cells() if cell.model == model.name]
    answers = sum(asked[cell.dataset].questions for cell in cells)
    evaluate = len(evaluations(sweep, [cell for cell in cells if cell.method not in (FULL, FLOOR)]))
    found = ModelPlan(
        name=model.name,
        cells=len(cells),
        answers=answers,
        jobs=len(asked) * (sweep.shards * (1 + evaluate) + bool(sweep.stability_images)),
        results=round(answers * _row_bytes(files, timings)),
    )
    folder = model_folder(model.source, model.planned_revision)
    if folder is None:
        return found
    shape = read_shape(folder)
    work = apart = Work()
    for name, one in asked.items():
        text, drawn = _texts(name, one, timings, folder)
        work += work_of(sweep, model.name, name, shape, one, text=text, drawn=drawn)
        apart += work_apart(sweep, model.name, name, shape, one, text=text, drawn=drawn)
    rates = given(tflops) if tflops else _stored(sweep, shape, timings, files) or assumed(model.dtype)
    return replace(
        found,
        results=found.results + _reference_bytes(model, shape, asked),
        weights=_weights(folder, shape),
        work=work,
        apart=apart,
        seconds=rates.seconds(work),
        basis=rates.basis,
        family=shape.family,
    )


def _stored(sweep: Sweep, shape: Shape, timings: Sequence[Timing], files: Sequence[Path]) -> Rates | None:
    return measured(sweep, shape, timings, device_of(files[0])) if timings else None


def _texts(dataset: str, asked: Asked, timings: Sequence[Timing], folder: Path) -> tuple[float, float]:
    """Tokens of a question, and decoding steps of an answer: stored ones, else counted and at most."""
    stored = [timing for timing in timings if timing.dataset == dataset]
    if not stored:
        return asked.text(folder), float(asked.new_tokens)
    answers = sum(timing.answers for timing in stored)
    text = sum(timing.text * timing.answers for timing in stored) / answers
    return text, sum(timing.drawn * timing.answers for timing in stored) / answers


def _row_bytes(files: Sequence[Path], timings: Sequence[Timing]) -> float:
    """Bytes of one answer in the sample files."""
    rows = sum(timing.answers for timing in timings)
    return sum(file.stat().st_size for file in files) / rows if rows else ROW_BYTES


def _reference_bytes(model: ModelSpec, shape: Shape, asked: Mapping[str, Asked]) -> int:
    """The full model's states for each question, and its mean tokens for each image."""
    width = shape.decoder.width
    return sum(
        one.questions * width * BYTES[model.dtype] + one.images * SITES * width * BYTES["float32"]
        for one in asked.values()
    )


def _weights(folder: Path, shape: Shape) -> int:
    """Bytes of the weights: of the files, or where these are not here yet, of the matrices."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors")) or shape.weights
