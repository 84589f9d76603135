"""What a sweep asks for against what its models can do, as far as their files tell without loading them."""

from lofi.cell import kept_count
from lofi.errors import UserError
from lofi.methods.rectangle import rectangle
from lofi.methods.registry import get_reducer
from lofi.models.facts import Facts, read_facts
from lofi.sweep import MethodSpec, ModelSpec, Sweep

RECTANGULAR = ("grid_2d", "pool")  # reducers whose kept tokens fill a rectangle of the grid


def check_models(sweep: Sweep) -> None:
    """Refuse what would fail hours later. A model whose files are not on this machine yet is let pass."""
    for model in sweep.models:
        try:
            facts = read_facts(model.source, model.revision)
        except UserError as error:
            raise UserError(f"models.{model.name}: {error}") from None
        if facts is None:
            continue
        for method in sweep.methods:
            _check_needs(model, method, facts)
        if facts.n_visual is not None:
            for keep in sweep.keeps:
                _check_count(model, keep, facts.n_visual)
        if facts.n_visual is not None and facts.grid is not None:
            for method in sweep.methods:
                _check_rectangles(model, method, sweep.keeps, facts.n_visual, facts.grid)


def _check_needs(model: ModelSpec, method: MethodSpec, facts: Facts) -> None:
    if "cls_attention" in get_reducer(method.reducer).needs and not facts.has_cls:
        raise UserError(
            f"methods.{method.name} needs the attention of a CLS token, which the vision encoder of "
            f"models.{model.name} ({facts.family}) lacks; remove the method, or give this model its own sweep"
        )


def _check_count(model: ModelSpec, keep: str, n_visual: int) -> None:
    if "." not in keep and int(keep) >= n_visual:
        raise UserError(
            f"keep {keep} asks for all or more of the {n_visual} visual tokens of models.{model.name}; "
            f"use at most {n_visual - 1}, or a share such as 0.5"
        )


def _check_rectangles(
    model: ModelSpec, method: MethodSpec, keeps: tuple[str, ...], n_visual: int, grid: tuple[int, int]
) -> None:
    if method.reducer not in RECTANGULAR:
        return
    for keep in keeps:
        try:
            rectangle(kept_count(keep, n_visual), grid)
        except UserError as error:
            raise UserError(
                f"methods.{method.name} cannot keep {keep} of models.{model.name}: {error}; "
                "change keeps or remove the method"
            ) from None
