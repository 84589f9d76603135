"""What a sweep asks for against what its models can do, as far as their files tell without loading them."""

from lofi.cell import OWN_COUNT, kept_count
from lofi.errors import UserError
from lofi.methods import merge_schedule
from lofi.methods.rectangle import rectangle
from lofi.methods.registry import get_reducer
from lofi.methods.schedule import needs_fit
from lofi.models.facts import Facts, read_facts, tower_width
from lofi.sweep import MethodSpec, ModelSpec, Sweep, stages_of

BLOCKWISE = ("clip_vision_model", "siglip_vision_model")  # encoders that can be run block by block


def check_models(sweep: Sweep) -> None:
    """Refuse what would fail hours later. A model whose files are not on this machine yet is let pass."""
    for model in sweep.models:
        try:
            facts = read_facts(model.source, model.revision)
            _check_tower(model, facts)
        except UserError as error:
            raise UserError(f"models.{model.name}: {error}") from None
        if facts is None:
            continue
        for method in sweep.methods:
            _check_needs(model, method, facts)
            for keep in sweep.keeps_of(method):
                _check_keep(model, method, keep, facts)


def _check_tower(model: ModelSpec, facts: Facts | None) -> None:
    width = None if model.text_tower is None else tower_width(model.text_tower)
    if width is not None and facts is not None and width != facts.encoder_width:
        raise UserError(
            f"text_tower {model.text_tower!r} belongs to a vision encoder of width {width}, and this model's has "
            f"{facts.encoder_width}; give the CLIP model that its vision encoder comes from"
        )


def _check_needs(model: ModelSpec, method: MethodSpec, facts: Facts) -> None:
    """Every need of a method that a model's files can rule out."""
    lacks = {
        "cls": (not facts.has_cls, "a CLS token, which the vision encoder lacks"),
        "grid": (facts.grid is None, "a fixed grid of visual tokens, which this model does not have"),
        "square": (
            facts.grid is None or facts.grid[0] != facts.grid[1],
            "a square grid of visual tokens, which this model does not have",
        ),
        "tower": (model.text_tower is None, "the CLIP text model of its vision encoder: set text_tower of the model"),
        "blocks": (facts.encoder not in BLOCKWISE, f"an encoder of the kind {' or '.join(BLOCKWISE)}"),
    }
    for need in get_reducer(method.reducer).all_needs(dict(method.params)):
        missing, what = lacks.get(need, (False, ""))
        if missing:
            raise UserError(
                f"methods.{method.name} needs {what} (models.{model.name}, {facts.family}); "
                "or remove the method, or give this model its own sweep"
            )


def _check_keep(model: ModelSpec, method: MethodSpec, keep: str, facts: Facts) -> None:
    """One method at one keep: the count, its rectangle, the merges inside the encoder, and the stages in the LLM."""
    n = facts.n_visual
    if n is None or keep == OWN_COUNT:
        return
    if "." not in keep and int(keep) >= n:
        raise UserError(
            f"keep {keep} asks for all or more of the {n} visual tokens of models.{model.name}; "
            f"use at most {n - 1}, or a share such as 0.5"
        )
    reducer = get_reducer(method.reducer)
    try:
        if reducer.rectangle and facts.grid is not None:
            rectangle(kept_count(keep, n), facts.grid)
        if reducer.acts == "encoder" and facts.encoder_depth is not None and facts.feature_layer is not None:
            blocks = facts.feature_layer % facts.encoder_depth + 1
            merge_schedule.schedule(n, kept_count(keep, n), blocks)
        if reducer.schedule and facts.depth is not None and not needs_fit(reducer.schedule, n, facts.depth):
            stages_of(method, keep, n, facts.depth)
    except UserError as error:
        raise UserError(
            f"methods.{method.name} cannot keep {keep} of models.{model.name}: {error}; "
            "or give the method `keeps` of its own, or remove it"
        ) from None
