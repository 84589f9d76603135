from dataclasses import replace

import pytest

from lofi import identity
from lofi.cell import FLOOR, FULL, KEEP_ALL, Cell
from lofi.config import from_dict
from lofi.data.registry import get_card
from lofi.identity import cell_key, planned_answers, planned_docs, planned_key
from lofi.methods import registry
from lofi.scoring.registry import SCORERS

MODEL = {"source": "some/model", "revision": "abc", "dtype": "float32", "attention": "sdpa", "device": "cpu"}
DATASET = {"revision": "def", "prompt_style": "lmms_eval"}
CONFIG = {
    "models": {"m": {"source": "some/model", "revision": "abc"}},
    "datasets": {"digits-pope": {}},
    "methods": {"random": {"seeds": [0, 1]}, "lofi": {}},
    "keeps": [0.5, 0.25],
}
SWEEP = from_dict(CONFIG)
LOFI = SWEEP.method("lofi")
CELL = Cell("m", "digits-pope", "lofi", "0.2500", 0)


def key(**changes):
    settings = {"model": MODEL, "dataset": DATASET, "method": LOFI, "cell": CELL, "shard": 0, "shards": 1}
    return cell_key(**{**settings, **changes})


def with_param(name, value):
    params = dict(LOFI.params)
    params[name] = value
    return replace(LOFI, params=tuple(sorted(params.items())))


CHANGES = {
    "source": {"model": {**MODEL, "source": "other/model"}},
    "model revision": {"model": {**MODEL, "revision": "abd"}},
    "dtype": {"model": {**MODEL, "dtype": "bfloat16"}},
    "attention": {"model": {**MODEL, "attention": "eager"}},
    "least pixels": {"model": {**MODEL, "min_pixels": 1024}},
    "most pixels": {"model": {**MODEL, "max_pixels": 1024}},
    "dataset revision": {"dataset": {**DATASET, "revision": "deg"}},
    "prompt style": {"dataset": {**DATASET, "prompt_style": "vlmevalkit"}},
    "scoring mode": {"dataset": {**DATASET, "scoring_mode": "generate"}},
    "exif": {"dataset": {**DATASET, "exif": "applied"}},
    "template": {"model": {**MODEL, "template": "USER: {{ text }}"}},
    "image mode": {"model": {**MODEL, "image_mode": "pad"}},
    "reducer": {"method": replace(LOFI, reducer="divprune", params=(("positions", "reindexed"),))},
    "score": {"method": with_param("score", "ridge")},
    "rank": {"method": with_param("rank", "budget")},
    "ridge": {"method": with_param("ridge", 0.5)},
    "positions": {"method": with_param("positions", "kept")},
    "weights": {"method": replace(LOFI, weights="int8")},
    "other weights": {"method": replace(LOFI, weights="int4")},
    "model name": {"cell": replace(CELL, model="n")},
    "dataset name": {"cell": replace(CELL, dataset="digits-sqa")},
    "method name": {"cell": replace(CELL, method="lofi2")},
    "keep": {"cell": replace(CELL, keep="0.5000")},
    "seed": {"cell": replace(CELL, seed=1)},
    "shard": {"shard": 1, "shards": 1},
    "shards": {"shards": 2},
}


def test_every_ingredient_changes_the_key():
    keys = {name: key(**change) for name, change in CHANGES.items()}
    assert len({key(), *keys.values()}) == len(CHANGES) + 1
    assert all(len(each) == 32 and int(each, 16) >= 0 for each in keys.values())


def test_versions_change_the_key(monkeypatch):
    before, planned = key(), planned_key(SWEEP, CELL)
    monkeypatch.setattr(identity, "NUMERICS_VERSION", 99)
    numerics = key(), planned_key(SWEEP, CELL)
    monkeypatch.undo()
    monkeypatch.setitem(registry.METHODS, "lofi", replace(registry.METHODS["lofi"], version=99))
    version = key(), planned_key(SWEEP, CELL)
    assert len({before, numerics[0], version[0]}) == 3
    assert len({planned, numerics[1], version[1]}) == 3


def test_how_it_runs_does_not_change_the_key():
    assert key(model={**MODEL, "device": "cuda", "batch_images": 7}) == key()
    assert key(dataset={**DATASET, "limit": 7, "source": "elsewhere"}) == key()
    assert key(model=dict(reversed(MODEL.items()))) == key()
    assert key(model={**MODEL, "image_mode": "original", "template": None, "min_pixels": None}) == key()
    assert key(dataset={**DATASET, "scoring_mode": "logits", "exif": "ignored"}) == key()
    assert key(method=replace(LOFI, params=())) == key()  # defaults are filled in
    assert key(method=replace(LOFI, seeds=(0, 1, 2))) == key()


def test_a_scorer_changes_no_answer_and_publishes_anew(monkeypatch):
    """Neither the scorer nor its version makes a model run; the workflow's own key has both."""
    assert key(dataset={**DATASET, "scorer": "textvqa", "scorer_version": 7}) == key()
    other = from_dict({**CONFIG, "datasets": {"digits-pope": {"scorer": "scienceqa"}}})
    assert planned_answers(other, CELL) == planned_answers(SWEEP, CELL)
    assert planned_docs(other.datasets[0]) == planned_docs(SWEEP.datasets[0])
    assert planned_key(other, CELL) != planned_key(SWEEP, CELL)
    before = planned_key(SWEEP, CELL), planned_answers(SWEEP, CELL)
    monkeypatch.setitem(SCORERS, "pope", replace(SCORERS["pope"], version=99))
    assert planned_key(SWEEP, CELL) != before[0]
    assert planned_answers(SWEEP, CELL) == before[1]


CARD = "like: pope\nsource: here\n"
OTHER_CARDS = {
    "source": "like: pope\nsource: there\n",
    "prompt": CARD + "prompts: {lmms_eval: '{question}'}\n",
    "length": CARD + "max_new_tokens: 3\n",
    "category": CARD + "category: question\n",
}


def planned_with(path, text):
    path.write_text(text)
    get_card.cache_clear()
    return from_dict({**CONFIG, "datasets": {"mine": {"card": str(path)}}})


def test_a_changed_card_of_ones_own_prepares_again(tmp_path):
    path, cell = tmp_path / "mine.yaml", replace(CELL, dataset="mine")
    sweep = planned_with(path, CARD)
    first = planned_docs(sweep.datasets[0]), planned_key(sweep, cell)
    sweep = planned_with(path, CARD + "traps: [Half the answers are no.]\nmetrics: [pope]\n")
    assert (planned_docs(sweep.datasets[0]), planned_key(sweep, cell)) == first
    for text in OTHER_CARDS.values():
        sweep = planned_with(path, text)
        assert planned_docs(sweep.datasets[0]) != first[0]
        assert planned_key(sweep, cell) != first[1]
    sweep = planned_with(path, CARD + "scorer: textvqa\n")
    assert planned_docs(sweep.datasets[0]) == first[0]
    assert planned_key(sweep, cell) != first[1]
    get_card.cache_clear()


def test_a_missing_ingredient_is_an_error():
    with pytest.raises(KeyError, match="revision"):
        key(model={"source": "some/model", "dtype": "float32", "attention": "sdpa"})


def test_full_and_floor_differ():
    full, floor = (Cell("m", "digits-pope", name, KEEP_ALL) for name in (FULL, FLOOR))
    assert key(method=SWEEP.method(FULL), cell=full) != key(method=SWEEP.method(FLOOR), cell=floor)
    assert planned_key(SWEEP, full) != planned_key(SWEEP, floor)


def test_the_key_is_stable(monkeypatch):
    """Another hash here means that every stored result is computed again."""
    monkeypatch.setattr(identity, "NUMERICS_VERSION", 1)
    monkeypatch.setitem(registry.METHODS, "lofi", registry.Reducer("lofi.methods.lofi:lofi"))
    assert key(method=replace(LOFI, params=())) == "397634753e1348c05d8cc9713c9ba80a"


PLANNED = {
    "source": {"models": {"m": {"source": "other/model", "revision": "abc"}}},
    "revision": {"models": {"m": {"source": "some/model", "revision": None}}},
    "dtype": {"models": {"m": {"source": "some/model", "revision": "abc", "dtype": "float16"}}},
    "attention": {"models": {"m": {"source": "some/model", "revision": "abc", "attention": "eager"}}},
    "least pixels": {"models": {"m": {"source": "some/model", "revision": "abc", "min_pixels": 64}}},
    "most pixels": {"models": {"m": {"source": "some/model", "revision": "abc", "max_pixels": 64}}},
    "limit": {"datasets": {"digits-pope": {"limit": 3}}},
    "dataset source": {"datasets": {"digits-pope": {"source": "./here"}}},
    "prompt style": {"datasets": {"digits-pope": {"prompt_style": "vlmevalkit"}}},
    "scorer": {"datasets": {"digits-pope": {"scorer": "scienceqa"}}},
    "scoring mode": {"datasets": {"digits-pope": {"scoring_mode": "generate"}}},
    "exif": {"datasets": {"digits-pope": {"exif": "applied"}}},
    "image mode": {"models": {"m": {"source": "some/model", "revision": "abc", "image_mode": "pad"}}},
    "template": {"models": {"m": {"source": "some/model", "revision": "abc", "template": "vicuna_v1"}}},
    "parameter": {"methods": {"lofi": {"score": "ridge"}}},
    "weights": {"methods": {"lofi": {"weights": "int8"}}},
    "shards": {"shards": 2},
}


def test_planned_keys_change_with_what_the_config_says():
    keys = {planned_key(from_dict({**CONFIG, **change}), CELL) for change in PLANNED.values()}
    assert len(keys | {planned_key(SWEEP, CELL)}) == len(PLANNED) + 1


SAME = {
    "device": {"models": {"m": {"source": "some/model", "revision": "abc", "device": "cpu"}}},
    "batch": {"models": {"m": {"source": "some/model", "revision": "abc", "batch_images": 1}}},
    "other models": {"models": {**CONFIG["models"], "n": {"source": "x/y"}}},
    "other methods": {"methods": {"lofi": {"score": "leverage", "ridge": 0}}},
    "other keeps": {"keeps": [0.25]},
    "pack": {"pack": []},
}


@pytest.mark.parametrize("change", SAME.values(), ids=SAME.keys())
def test_planned_keys_ignore_the_rest(change):
    assert planned_key(from_dict({**CONFIG, **change}), CELL) == planned_key(SWEEP, CELL)


def test_planned_keys_of_all_cells_differ():
    keys = [planned_key(SWEEP, cell) for cell in SWEEP.cells()]
    assert len(set(keys)) == len(keys) == 8
