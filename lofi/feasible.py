"""What a sweep asks for against what its models can do, as far as their files tell without loading them."""

from fractions import Fraction
from math import ceil, floor

from lofi.cell import AS_LOADED, OWN_COUNT, kept_count
from lofi.errors import UserError
from lofi.methods import merge_schedule
from lofi.methods.rectangle import rectangle
from lofi.methods.registry import get_reducer
from lofi.methods.schedule import needs_fit
from lofi.models.facts import Facts, check_pixel_limits, model_folder, read_facts, tower_width
from lofi.models.obstacles import obstacle
from lofi.models.weights import check_torchao
from lofi.sweep import FILL, MethodSpec, ModelSpec, Sweep, stages_of

MANY = 10_000  # tokens that stand for any number of them, where it follows the image: a share is then met in all alike


def check_models(sweep: Sweep) -> None:
    """Refuse what would fail hours later. A model whose files are not on this machine yet is let pass."""
    if any(method.weights != AS_LOADED for method in sweep.methods):
        check_torchao()
    for model in sweep.models:
        check_revision(model)
        try:
            facts = read_facts(model.source, model.revision)
            _check_tower(model, facts)
            _check_pixels(model)
        except UserError as error:
            raise UserError(f"models.{model.name}: {error}") from None
        if facts is None:
            continue
        for method in sweep.methods:
            _check_needs(model, method, facts)
            for keep in sweep.keeps_of(method):
                _check_keep(model, method, keep, facts)


def check_revision(model: ModelSpec) -> None:
    """Refuse a revision that was left to be filled in."""
    if model.revision == FILL:
        raise UserError(
            f"models.{model.name}: revision is still {FILL}, so nobody could tell what ran; give the commit "
            f"(40 hex digits) that the hub shows for {model.source}"
        )


def _check_tower(model: ModelSpec, facts: Facts | None) -> None:
    if model.text_tower is None or facts is None:
        return
    if not facts.encoder.tower:
        raise UserError(
            f"text_tower {model.text_tower!r} is given to a model whose vision encoder comes from no CLIP model; "
            "remove it"
        )
    width = tower_width(model.text_tower)
    if width is not None and width != facts.encoder_width:
        raise UserError(
            f"text_tower {model.text_tower!r} belongs to a vision encoder of width {width}, and this model's has "
            f"{facts.encoder_width}; give the CLIP model that its vision encoder comes from"
        )


def _check_pixels(model: ModelSpec) -> None:
    folder = model_folder(model.source, model.revision)
    if folder is not None:
        limits = {"min_pixels": model.min_pixels, "max_pixels": model.max_pixels}
        check_pixel_limits(model.source, folder, [name for name, value in limits.items() if value is not None])


def _check_needs(model: ModelSpec, method: MethodSpec, facts: Facts) -> None:
    """Every need of a method that a model's files can rule out, and the text tower that the sweep has to name."""
    needs = get_reducer(method.reducer).needs
    lacks = obstacle(method.reducer, dict(method.params), facts)
    if not lacks and "tower" in needs and model.text_tower is None:
        lacks = "the CLIP text model of its vision encoder: set text_tower of the model"
    if lacks:
        raise UserError(
            f"methods.{method.name} needs {lacks} (models.{model.name}, {facts.family.model_type}); "
            "or remove the method, or give this model its own sweep"
        )


def _check_keep(model: ModelSpec, method: MethodSpec, keep: str, facts: Facts) -> None:
    """One method at one keep: the count, its rectangle, the merges inside the encoder, and the stages in the LLM."""
    is_share = "." in keep
    if keep == OWN_COUNT or (facts.n_visual is None and not is_share):
        return
    n = MANY if facts.n_visual is None else facts.n_visual
    if not is_share and int(keep) >= n:
        raise UserError(
            f"keep {keep} asks for all or more of the {n} visual tokens of models.{model.name}; "
            f"use at most {n - 1}, or a share such as 0.5"
        )
    reducer = get_reducer(method.reducer)
    try:
        if reducer.rectangle and facts.grid is not None:
            for count in _counts_of_grid(keep, facts, facts.grid):
                rectangle(count, facts.grid)
        if reducer.acts == "encoder" and facts.feature_layer is not None:
            blocks = facts.feature_layer % facts.encoder_depth + 1
            merge_schedule.schedule(n, kept_count(keep, n), blocks)
        if reducer.schedule and facts.depth is not None and not needs_fit(reducer.schedule, n, facts.depth):
            stages_of(method, keep, n, facts.depth)
    except UserError as error:
        raise UserError(
            f"methods.{method.name} cannot keep {keep} of models.{model.name}: {error}; "
            "or give the method `keeps` of its own, or remove it"
        ) from None


def _counts_of_grid(keep: str, facts: Facts, grid: tuple[int, int]) -> set[int]:
    """What may be kept of one grid: of an image, or of one of its tiles, whose parts of a count differ by one."""
    m = grid[0] * grid[1]
    if facts.n_visual is not None:
        return {kept_count(keep, m)}
    part = Fraction(keep) * m
    return {max(1, floor(part)), max(1, ceil(part))}
