"""Why a reducer cannot run on a model: what the reducer needs against what the model is. No torch here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lofi.methods.registry import Value, get_reducer
from lofi.models.facts import Facts


@dataclass(frozen=True)
class Obstacle:
    """Something that a reducer may need, which models has it not, and how to say that."""

    need: str  # one of `lofi.methods.registry.Need`, or `rectangle`
    stands: Callable[[Facts], bool]
    reason: str  # what follows `needs`


OBSTACLES = (
    Obstacle("cls", lambda model: model.encoder.cls == 0, "a CLS token, which this model's vision encoder lacks"),
    Obstacle(
        "cls",
        lambda model: not model.family.patchwise,
        "a CLS token that can go through the projector, and this model's projector reads several patches at a time",
    ),
    Obstacle(
        "square",
        lambda model: model.grid is None or model.n_visual is None or model.grid[0] != model.grid[1],
        "one square grid that holds all visual tokens of every image, which this model does not have",
    ),
    Obstacle(
        "rectangle",
        lambda model: model.grid is None,
        "a grid of one size, since its counts fill rectangles of it, and this model's grid follows the image",
    ),
    Obstacle(
        "tower",
        lambda model: not model.encoder.tower,
        "the CLIP model that the vision encoder was cut from, and this model's comes from none",
    ),
    Obstacle("blocks", lambda model: not model.encoder.blocks, "a vision encoder that is built like CLIP's"),
    Obstacle(
        "blocks",
        lambda model: not model.family.patchwise,
        "a token for every patch of the encoder, and this model makes one of several patches",
    ),
    Obstacle(
        "blocks",
        lambda model: not model.family.whole_tiles,
        "a token for every patch of the encoder, and this model cuts the borders off its tiles",
    ),
)


def obstacle(name: str, params: Mapping[str, Value], model: Facts) -> str:
    """What the reducer of that name needs, with these parameters, and the model lacks; empty where it can run."""
    reducer = get_reducer(name)
    needs = (*reducer.all_needs(params), *(("rectangle",) if reducer.rectangle else ()))
    return next((each.reason for each in OBSTACLES if each.need in needs and each.stands(model)), "")
