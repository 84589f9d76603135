"""Read a sweep's config, check all of it, and say what is wrong in one line."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lofi.breach import check_schema
from lofi.cell import AS_LOADED, FLOOR, FULL, KEEP_ALL, OWN_COUNT, WEIGHTS, keep_text
from lofi.data.registry import dataset_names, get_card
from lofi.errors import UserError, unknown
from lofi.feasible import check_models, check_revision
from lofi.methods.registry import METHODS, check_params, get_reducer, known_params
from lofi.models.conversation import template_text
from lofi.scoring.figures import figures_of
from lofi.scoring.registry import get_scorer
from lofi.strict_yaml import read_mapping
from lofi.sweep import AXES, DatasetSpec, MethodSpec, ModelSpec, Sweep, draws

__all__ = ["DatasetSpec", "MethodSpec", "ModelSpec", "Sweep", "check_models", "check_revision", "from_dict", "load"]

OWN_KEYS = ("reducer", "weights", "seeds", "keeps")  # of a method's entry; every other key is a parameter


def load(path: Path) -> Sweep:
    """The sweep of a config file (YAML, or JSON where the name ends in .json)."""
    entries = read_mapping(path)
    try:
        return from_dict(entries)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def from_dict(config: Mapping[str, Any]) -> Sweep:
    """The sweep that a config describes, or one error that names the value, the rule and the fix."""
    config = check_schema(config)
    sweep = Sweep(
        models=tuple(_model(name, entry or {}) for name, entry in config["models"].items()),
        datasets=tuple(_dataset(name, entry or {}) for name, entry in config["datasets"].items()),
        methods=tuple(_method(name, entry or {}, config) for name, entry in config["methods"].items()),
        keeps=_keeps("keeps", config["keeps"]),
        shards=int(config.get("shards", 1)),
        pack=tuple(axis for axis in AXES if axis in config.get("pack", AXES)),
        stability_images=int(config.get("stability_images", 32)),
        cache=config.get("cache"),
    )
    _refuse_twins("models", ((model.name, _without_name(model)) for model in sweep.models))
    datasets = (replace(dataset, card=dataset.card_name) for dataset in sweep.datasets)
    _refuse_twins("datasets", ((dataset.name, _without_name(dataset)) for dataset in datasets))
    _refuse_twins("methods", ((method.name, _without_name(method)) for method in sweep.methods))
    sweep.packed()
    return sweep


def _model(name: str, entry: Mapping[str, Any]) -> ModelSpec:
    settings = {"source": f"embedded:{name}", **entry}
    spec = ModelSpec(name=name, **{key: _whole(value) for key, value in settings.items()})
    if spec.min_pixels and spec.max_pixels and spec.min_pixels > spec.max_pixels:
        raise UserError(
            f"models.{name}.min_pixels {spec.min_pixels} is more than its max_pixels {spec.max_pixels}; swap them"
        )
    if spec.template is not None:
        try:
            template_text(spec.template)
        except UserError as error:
            raise UserError(f"models.{name}: {error}") from None
    return spec


def _dataset(name: str, entry: Mapping[str, Any]) -> DatasetSpec:
    spec = DatasetSpec(name=name, **{key: _whole(value) for key, value in entry.items()})
    if not spec.card and name not in dataset_names():
        error = unknown("dataset", name, dataset_names())
        raise UserError(f"{error}; or give its `card`: one of these, or the YAML file of a dataset of your own")
    if spec.card_name != name and name in dataset_names():
        raise UserError(
            f"datasets.{name} has the card {spec.card_name}, but {name!r} is a dataset that comes with lofi, and "
            "tables would pass one off as the other; give this entry another name, or remove its card"
        )
    try:
        card = get_card(spec.card_name)
    except UserError as error:
        raise UserError(f"datasets.{name}.card: {error}") from None
    if spec.prompt_style not in card.prompts:
        raise unknown(f"prompt style of dataset {name!r}", spec.prompt_style, card.prompts)
    try:
        get_scorer(spec.scorer or card.scorer_of(spec.prompt_style))
        figures_of(name, card.metrics)
    except UserError as error:
        raise UserError(f"datasets.{name}: {error}") from None
    return spec


def _method(name: str, entry: Mapping[str, Any], config: Mapping[str, Any]) -> MethodSpec:
    weights = _weights(name, entry)
    reducer = _reducer(name, entry, weights)
    known = known_params(reducer)
    given = {key: value for key, value in entry.items() if key not in OWN_KEYS}
    if extra := [key for key in given if key not in known]:
        raise unknown(f"key in methods.{name}", extra[0], (*known, *OWN_KEYS))
    if "budget" in known and "budget" in config:
        given = {"budget": config["budget"], **given}
    try:
        params = check_params(reducer, given)
    except UserError as error:
        raise UserError(f"methods.{name}: {error}") from None
    seeds = tuple(int(seed) for seed in entry.get("seeds", (0,)))
    method = MethodSpec(name, reducer, tuple(sorted(params.items())), seeds, _own_keeps(name, reducer, entry), weights)
    if "seeds" in entry and not draws(method):
        random = ", ".join(other for other, traits in METHODS.items() if traits.random)
        raise UserError(
            f"methods.{name} has seeds, but {reducer!r} draws no random numbers; remove them "
            f"(methods with seeds: {random}, and lofi with score: sampled)"
        )
    return method


def _own_keeps(name: str, reducer: str, entry: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The keeps of one method, where they are not those of the sweep."""
    if reducer == FULL:
        only, why = KEEP_ALL, "keeps every token"
    elif get_reducer(reducer).count == "own":
        only, why = OWN_COUNT, "sets its own count for every image"
    else:
        return _keeps(f"methods.{name}.keeps", entry["keeps"]) if "keeps" in entry else None
    if "keeps" in entry:
        raise UserError(f"methods.{name} has keeps, but {reducer!r} {why}; remove them")
    return (only,)


def _weights(name: str, entry: Mapping[str, Any]) -> str:
    weights = str(entry.get("weights", AS_LOADED))
    if weights not in WEIGHTS:
        raise UserError(f"methods.{name}.weights is {weights}; give int8, int4 or {AS_LOADED}")
    return weights


def _reducer(name: str, entry: Mapping[str, Any], weights: str) -> str:
    reducer = str(entry.get("reducer", name))
    if reducer == FULL and name not in (FULL, FLOOR) and weights != AS_LOADED:
        return reducer
    if name in (FULL, FLOOR) or reducer in (FULL, FLOOR):
        raise UserError(
            f"methods.{name}: {FULL!r} and {FLOOR!r} are reserved, because they always run as the reference and its "
            f"noise floor; remove this entry, or for quantised weights alone give it a name of its own, "
            f"reducer: {FULL} and weights: int8 or int4"
        )
    reducers = [other for other in METHODS if other != FULL]
    if reducer in reducers:
        return reducer
    if "reducer" in entry:
        raise unknown(f"reducer of methods.{name}", reducer, reducers)
    error = unknown("method", name, reducers)
    raise UserError(f"{error}; to run one of them under the name {name!r}, add its `reducer`")


def _keeps(where: str, keeps: Iterable[float]) -> tuple[str, ...]:
    texts: dict[str, int] = {}
    for place, keep in enumerate(keeps, start=1):
        text = keep_text(keep)
        if text == KEEP_ALL:
            raise UserError(
                f"{where} has {keep}, which is every token: {FULL!r} always runs; remove {keep} from {where}"
            )
        if text in texts:
            raise UserError(f"{where} has {text} twice, as entries {texts[text]} and {place}; remove one of them")
        texts[text] = place
    return tuple(texts)


def _refuse_twins(kind: str, named: Iterable[tuple[str, str]]) -> None:
    seen: dict[str, str] = {}
    for name, contents in named:
        if contents in seen:
            raise UserError(
                f"{kind}.{name} is the same as {kind}.{seen[contents]} once defaults are filled in; "
                "remove one of them or change a setting"
            )
        seen[contents] = name


def _without_name(spec: ModelSpec | DatasetSpec | MethodSpec) -> str:
    return json.dumps({key: value for key, value in vars(spec).items() if key != "name"}, sort_keys=True)


def _whole(value: Any) -> Any:
    """A YAML 24.0 where the schema asked for a whole number."""
    return int(value) if isinstance(value, float) else value
