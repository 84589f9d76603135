import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lofi import feasible
from lofi.cell import KEEP_ALL
from lofi.config import check_models, from_dict, load
from lofi.data.registry import dataset_names
from lofi.errors import UserError
from lofi.methods.registry import METHODS, known_params
from lofi.models.facts import Facts, read_facts
from lofi.models.families import ENCODERS, FAMILIES
from lofi.strict_yaml import read_overrides

ROOT = Path(__file__).parents[2]


def config(**changes):
    """A small valid config with some keys replaced, or removed where the value is `...`."""
    base = {
        "models": {"m": {"source": "some/model"}},
        "datasets": {"digits-pope": {}},
        "methods": {"lofi": {}},
        "keeps": [0.25],
    }
    return {key: value for key, value in {**base, **changes}.items() if value is not ...}


def attempt(entries):
    """The sweep, or the message of its error."""
    try:
        return from_dict(entries), ""
    except UserError as error:
        return None, str(error)


def message(entries):
    with pytest.raises(UserError) as caught:
        from_dict(entries)
    text = str(caught.value)
    assert "\n" not in text
    return text


WRONG = {
    "unknown top key": (config(keep=[0.5]), ["'keep'", "did you mean 'keeps'", "shards"]),
    "missing keeps": (config(keeps=...), ["the config has no 'keeps'", "add a list of shares"]),
    "missing models": (config(models=...), ["no 'models'", "add a mapping"]),
    "no models": (config(models={}), ["models {} is not allowed", "at least one entry"]),
    "models is a list": (config(models=["m"]), ["models ['m'] is not allowed", "use a mapping"]),
    "model is text": (config(models={"m": "some/model"}), ["models.m 'some/model'", "use a mapping of settings"]),
    "unknown model key": (config(models={"m": {"dype": "float32"}}), ["models.m", "'dype'", "did you mean 'dtype'"]),
    "dtype": (config(models={"m": {"dtype": "float23"}}), ["models.m.dtype", "'float23'", "did you mean 'float32'"]),
    "dtype is a number": (config(models={"m": {"dtype": 16}}), ["models.m.dtype 16", "use one of float32"]),
    "device": (config(models={"m": {"device": "gpu"}}), ["models.m.device 'gpu'", "use auto, cpu, cuda"]),
    "attention": (config(models={"m": {"attention": "flash"}}), ["attention 'flash'", "eager, sdpa"]),
    "no pixels": (config(models={"m": {"max_pixels": 0}}), ["models.m.max_pixels 0", "a whole number of pixels"]),
    "pixels swapped": (
        config(models={"m": {"min_pixels": 9, "max_pixels": 8}}),
        ["models.m.min_pixels 9 is more than its max_pixels 8", "swap them"],
    ),
    "batch": (config(models={"m": {"batch_images": 0}}), ["models.m.batch_images 0", "at least 1"]),
    "batch is true": (config(models={"m": {"batch_images": True}}), ["batch_images True", "whole number"]),
    "unquoted revision": (config(models={"m": {"revision": 1234567}}), ["revision 1234567", "in quotes"]),
    "model name as a path": (config(models={"a/b": {}}), ["'a/b'", "letters, digits"]),
    "name with a wildcard": (config(methods={"{x}": {"reducer": "lofi"}}), ["'{x}'", "letters, digits"]),
    "key that is no text": (config(datasets={1: {}}), ["key 1 in datasets", "put it in quotes"]),
    "YAML's no": (config(methods={False: {}}), ["key False in methods", "put it in quotes"]),
    "unknown dataset": (config(datasets={"digits-pop": {}}), ["unknown dataset", "did you mean 'digits-pope'"]),
    "limit": (config(datasets={"digits-pope": {"limit": -1}}), ["datasets.digits-pope.limit -1", "0 for all"]),
    "half a limit": (config(datasets={"digits-pope": {"limit": 2.5}}), ["limit 2.5", "whole number"]),
    "prompt style": (
        config(datasets={"digits-pope": {"prompt_style": "lmms"}}),
        ["prompt style of dataset 'digits-pope'", "'lmms'", "lmms_eval"],
    ),
    "unknown scorer": (
        config(datasets={"digits-pope": {"scorer": "pop"}}),
        ["datasets.digits-pope: unknown scorer 'pop'", "did you mean 'pope'"],
    ),
    "scoring mode": (
        config(datasets={"digits-pope": {"scoring_mode": "logit"}}),
        ["datasets.digits-pope.scoring_mode 'logit'", "did you mean 'logits'"],
    ),
    "exif": (config(datasets={"digits-pope": {"exif": True}}), ["exif True", "use one of ignored, applied"]),
    "report images": (
        config(datasets={"digits-pope": {"report_images": "all"}}),
        ["report_images 'all'", "choose from auto, hidden, shown"],
    ),
    "no such card": (
        config(datasets={"mine": {"card": "nowhere/mine.yaml"}}),
        ["datasets.mine.card: nowhere/mine.yaml cannot be read: No such file"],
    ),
    "unknown card": (
        config(datasets={"mine": {"card": "digits-pop"}}),
        ["datasets.mine.card: unknown dataset 'digits-pop'", "did you mean 'digits-pope'"],
    ),
    "a card under the name of another": (
        config(datasets={"digits-pope": {"card": "digits-sqa"}}),
        ["datasets.digits-pope has the card digits-sqa", "give this entry another name"],
    ),
    "a card of one's own under a built-in name": (
        config(datasets={"digits-pope": {"card": "mine.yaml"}}),
        ["datasets.digits-pope has the card mine.yaml", "comes with lofi", "another name, or remove its card"],
    ),
    "twin datasets": (
        config(datasets={"digits-pope": {}, "again": {"card": "digits-pope"}}),
        ["datasets.again is the same as datasets.digits-pope"],
    ),
    "template": (
        config(models={"m": {"source": "some/model", "template": "vicuna"}}),
        ["models.m: template 'vicuna' is not built in", "vicuna_v1", ".jinja file"],
    ),
    "template file": (
        config(models={"m": {"source": "some/model", "template": "nowhere.jinja"}}),
        ["models.m: template 'nowhere.jinja' cannot be read", "give a readable .jinja file"],
    ),
    "image mode": (
        config(models={"m": {"source": "some/model", "image_mode": "padded"}}),
        ["models.m.image_mode 'padded'", "did you mean 'pad'"],
    ),
    "unknown method": (config(methods={"lofy": {}}), ["unknown method 'lofy'", "'lofi'", "add its `reducer`"]),
    "unknown reducer": (
        config(methods={"mine": {"reducer": "divprun"}}),
        ["unknown reducer of methods.mine 'divprun'", "did you mean 'divprune'"],
    ),
    "full": (config(methods={"full": {}}), ["methods.full", "reserved", "always run"]),
    "floor": (config(methods={"floor": {"reducer": "lofi"}}), ["methods.floor", "reserved"]),
    "full renamed": (config(methods={"mine": {"reducer": "full"}}), ["methods.mine", "reserved"]),
    "weights": (
        config(methods={"x": {"reducer": "lofi", "weights": "int3"}}),
        ["methods.x.weights is int3; give int8, int4 or none"],
    ),
    "weights as a number": (config(methods={"lofi": {"weights": 8}}), ["methods.lofi.weights 8", "int8, int4 or none"]),
    "full, its weights as loaded": (
        config(methods={"mine": {"reducer": "full", "weights": "none"}}),
        ["methods.mine", "reserved", "weights: int8 or int4"],
    ),
    "full, quantised under its own name": (config(methods={"full": {"weights": "int8"}}), ["methods.full", "reserved"]),
    "keeps of quantised full": (
        config(methods={"mine": {"reducer": "full", "weights": "int8", "keeps": [0.5]}}),
        ["methods.mine has keeps", "'full' keeps every token", "remove them"],
    ),
    "unknown parameter": (
        config(methods={"lofi": {"scor": "ridge"}}),
        ["methods.lofi", "'scor'", "did you mean 'score'", "rank"],
    ),
    "parameter value": (config(methods={"lofi": {"score": "best"}}), ["methods.lofi", "'best'", "one of leverage"]),
    "parameter is a list": (config(methods={"lofi": {"score": ["ridge"]}}), ["methods.lofi.score ['ridge']"]),
    "negative ridge": (config(methods={"lofi": {"ridge": -1}}), ["ridge -1", "a number >= 0"]),
    "positions": (config(methods={"lofi": {"positions": "keep"}}), ["positions 'keep'", "reindexed, kept"]),
    "seeds of a fixed method": (config(methods={"lofi": {"seeds": [0, 1]}}), ["methods.lofi has seeds", "random"]),
    "one seed, no list": (config(methods={"random": {"seeds": 3}}), ["methods.random.seeds 3", "a list"]),
    "no seeds": (config(methods={"random": {"seeds": []}}), ["methods.random.seeds []", "at least one"]),
    "equal seeds": (config(methods={"random": {"seeds": [1, 1]}}), ["methods.random.seeds [1, 1]", "different"]),
    "negative seed": (config(methods={"random": {"seeds": [-1]}}), ["methods.random.seeds[1] -1", "at least 0"]),
    "keeps of a method that sets its own count": (
        config(methods={"prumerge": {"keeps": [0.5]}}),
        ["methods.prumerge has keeps", "sets its own count", "remove them"],
    ),
    "keep above one": (config(keeps=[1.2]), ["keep 1.2 is outside (0, 1]"]),
    "keep of zero": (config(keeps=[0]), ["keep 0 is outside (0, 1]"]),
    "keep as text": (config(keeps=["0.5"]), ["keeps[1] '0.5'", "without quotes"]),
    "keep with many digits": (config(keeps=[0.33333]), ["keep 0.33333", "more than four decimals"]),
    "keep nan": (config(keeps=[float("nan")]), ["keep nan is outside (0, 1]"]),
    "no keeps": (config(keeps=[]), ["keeps []", "at least one entry"]),
    "one keep, no list": (config(keeps=0.5), ["keeps 0.5", "a list"]),
    "keep of one": (config(keeps=[0.5, 1.0]), ["keeps has 1.0", "'full' always runs", "remove"]),
    "keep of all": (config(keeps=[1]), ["keeps has 1,", "'full' always runs"]),
    "keep twice": (config(keeps=[0.25, 0.5, 0.25000]), ["keeps has 0.2500 twice", "entries 1 and 3"]),
    "shards": (config(shards=0), ["shards 0", "at least 1"]),
    "stability": (config(stability_images=-1), ["stability_images -1", "0 to leave self-agreement unmeasured"]),
    "cache": (config(cache=3), ["cache 3", "the path of a folder"]),
    "cache without a name": (config(cache=""), ["cache ''", "the path of a folder"]),
    "pack axis": (config(pack=["methods"]), ["pack[1]", "'methods'", "did you mean 'method'"]),
    "pack twice": (config(pack=["keep", "keep"]), ["pack ['keep', 'keep']", "different axes"]),
    "pack is text": (config(pack="keep"), ["pack 'keep'", "a list"]),
    "twin models": (
        config(models={"a": {"source": "x/y"}, "b": {"source": "x/y", "dtype": "float32"}}),
        ["models.b is the same as models.a"],
    ),
    "twin methods": (
        config(methods={"lofi": {}, "other": {"reducer": "lofi", "ridge": 0, "score": "leverage"}}),
        ["methods.other is the same as methods.lofi"],
    ),
}


@pytest.mark.parametrize(("entries", "fragments"), WRONG.values(), ids=WRONG.keys())
def test_wrong_input_is_one_line_that_names_value_rule_and_fix(entries, fragments):
    text = message(entries)
    for fragment in fragments:
        assert fragment in text, text


def test_the_first_mistake_in_the_file_is_told():
    assert "models.m.dtype" in message(config(models={"m": {"dtype": "x"}}, keeps=[], shards=0))


def test_a_long_wrong_value_is_cut():
    assert len(message(config(keeps="x" * 10_000))) < 300


def test_defaults():
    sweep = from_dict(config(models={"digits-llava": None}, datasets={"digits-sqa": None}, methods={"random": None}))
    assert sweep.model("digits-llava").source == "embedded:digits-llava"
    assert sweep.dataset("digits-sqa").limit == 0
    assert sweep.method("random").seeds == (0,)
    assert dict(sweep.method("random").params) == {"positions": "reindexed"}
    assert (sweep.shards, sweep.pack) == (1, ("method", "keep", "seed"))
    assert sweep.stability_images == 32
    assert sweep.cache is None


def test_files_of_self_agreement():
    assert from_dict(config()).stability_files() == ("stability/model=m/dataset=digits-pope.parquet",)
    assert from_dict(config(stability_images=0)).stability_files() == ()


def test_cells_of_an_irregular_grid():
    sweep = from_dict(config(methods={"random": {"seeds": [4, 7]}, "lofi": {}}, keeps=[0.5, 36]))
    reduced = [(cell.method, cell.keep, cell.seed) for cell in sweep.reduced_cells()]
    assert reduced == [
        ("random", "0.5000", 4),
        ("random", "0.5000", 7),
        ("random", "36", 4),
        ("random", "36", 7),
        ("lofi", "0.5000", 0),
        ("lofi", "36", 0),
    ]
    assert [(cell.method, cell.keep, cell.seed) for cell in sweep.reference_cells()] == [
        ("full", KEEP_ALL, 0),
        ("floor", KEEP_ALL, 0),
    ]
    assert sweep.cells() == sweep.reference_cells() + sweep.reduced_cells()


def test_numbers_take_the_type_of_the_default():
    ridges = [
        dict(from_dict(config(methods={"lofi": {"ridge": ridge}})).method("lofi").params)["ridge"]
        for ridge in (1, 1.0, "1e0")
    ]
    assert ridges == [1.0, 1.0, 1.0]
    assert {type(ridge) for ridge in ridges} == {float}


def test_sampled_lofi_has_seeds():
    sweep = from_dict(config(methods={"drawn": {"reducer": "lofi", "score": "sampled", "seeds": [1, 2]}}))
    assert from_dict(sweep.to_dict()).method("drawn").seeds == (1, 2)


def test_lookups_name_the_nearest():
    sweep = from_dict(config())
    assert sweep.method("full").reducer == sweep.method("floor").reducer == "full"
    for lookup, name in ((sweep.model, "mm"), (sweep.dataset, "digits-pop"), (sweep.method, "lof")):
        with pytest.raises(UserError, match="did you mean"):
            lookup(name)


UNEVEN = {"random": {"seeds": [0, 1]}, "lofi": {}}


@pytest.mark.parametrize("pack", [[], ["keep"], ["method", "seed"], ["seed", "keep", "method"]])
def test_pack_that_always_fits(pack):
    sweep = from_dict(config(methods=UNEVEN, keeps=[0.5, 0.25], pack=pack))
    packed = sweep.packed()
    jobs = {
        tuple(getattr(cell, axis) for axis in ("method", "keep", "seed") if axis not in pack)
        for cell in sweep.reduced_cells()
    }
    assert len(packed) * len(jobs) == len(sweep.reduced_cells())
    assert all(set(values) == set(pack) for values in packed)


@pytest.mark.parametrize("pack", [["seed"], ["method"], ["method", "keep"], ["keep", "seed"]])
def test_pack_that_needs_equal_seeds(pack):
    text = message(config(methods=UNEVEN, pack=pack))
    assert f"pack [{', '.join(pack)}] does not fit" in text
    assert "has not" in text
    assert "pack: [] or pack: [method, keep, seed]" in text
    assert from_dict(config(methods={"random": {}, "lofi": {}}, pack=pack)).packed()


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,8}", fullmatch=True)
MODELS = st.fixed_dictionaries(
    {"source": st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=20)},
    optional={
        "revision": st.none() | st.text(st.characters(codec="ascii"), min_size=1, max_size=8),
        "dtype": st.sampled_from(["float32", "bfloat16", "float16"]),
        "device": st.sampled_from(["auto", "cpu", "cuda", "cuda:1", "map"]),
        "min_pixels": st.none() | st.integers(1, 1000),
        "max_pixels": st.none() | st.integers(1000, 2000),
        "attention": st.sampled_from(["sdpa", "eager"]),
        "batch_images": st.integers(1, 512),
    },
)
SEEDS = st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=3, unique=True)
METHOD_ENTRIES = st.one_of(
    st.fixed_dictionaries({"reducer": st.sampled_from(["grid_1d", "pool", "divprune"])}),
    st.fixed_dictionaries({"reducer": st.just("random")}, optional={"seeds": SEEDS}),
    st.fixed_dictionaries(
        {"reducer": st.just("lofi")},
        optional={
            "score": st.sampled_from(["leverage", "ridge", "energy", "residual"]),
            "rank": st.sampled_from(["fixed:8", "energy:0.5", "budget", "erank"]),
            "ridge": st.floats(0, 1e6, allow_nan=False) | st.integers(0, 99),
            "positions": st.sampled_from(["reindexed", "kept"]),
        },
    ),
)
KEEPS = st.integers(1, 9999).map(lambda k: k / 10_000) | st.integers(2, 5000)
CONFIGS = st.fixed_dictionaries(
    {
        "models": st.dictionaries(NAMES, MODELS, min_size=1, max_size=3),
        "datasets": st.dictionaries(
            st.sampled_from(dataset_names()),
            st.fixed_dictionaries({}, optional={"limit": st.integers(0, 99)}),
            min_size=1,
        ),
        "methods": st.dictionaries(
            NAMES.filter(lambda n: n not in ("full", "floor")), METHOD_ENTRIES, min_size=1, max_size=3
        ),
        "keeps": st.lists(KEEPS, min_size=1, max_size=4),
    },
    optional={
        "shards": st.integers(1, 4),
        "stability_images": st.integers(0, 9),
        "cache": st.sampled_from([None, "shared", "~/cells"]),
        "pack": st.sampled_from([[], ["keep"], ["method", "seed"]]),
    },
)


@given(CONFIGS)
def test_a_valid_config_round_trips_and_an_invalid_one_is_one_line(entries):
    sweep, error = attempt(entries)
    if error:  # twins and equal keeps may be drawn
        assert "\n" not in error
        assert "same as" in error or "twice" in error
        return
    again = from_dict(sweep.to_dict())
    assert again == sweep
    assert again.to_json() == sweep.to_json()
    assert len(set(sweep.cells())) == len(sweep.cells())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(["models", "datasets", "methods", "keeps", "shards", "pack", "else"]), JSON)
def test_nonsense_is_a_user_error_or_fine(key, value):
    _, error = attempt(config(**{key: value}))
    assert "\n" not in error


@pytest.mark.parametrize(
    "path", [ROOT / "config.yaml", *sorted((ROOT / "workflow" / "sweeps").glob("*.yaml"))], ids=lambda path: path.stem
)
def test_a_shipped_sweep_can_run(path):
    sweep = load(path)
    assert sweep.reduced_cells()
    check_models(sweep)


def test_a_shipped_sweep_has_every_reducer_that_needs_no_text_tower():
    everything = load(ROOT / "workflow" / "sweeps" / "reducers.yaml")
    towered = {name for name in METHODS if "tower" in METHODS[name].needs}
    assert {method.reducer for method in everything.methods} == set(METHODS) - {"full"} - towered


FILES = {
    "duplicate key": ("a.yaml", "keeps: [0.5]\nshards: 1\nkeeps: [0.25]\n", ["line 3", "'keeps'", "first in line 1"]),
    "nested duplicate": ("a.yaml", "methods:\n  lofi: {}\n  lofi: {}\n", ["line 3", "'lofi'", "first in line 2"]),
    "duplicate in JSON": ("a.json", '{"keeps": [1], "keeps": [2]}', ["'keeps'", "given twice"]),
    "bad YAML": ("a.yaml", "keeps: [0.5\nshards: 1\n", ["line 2", "not valid YAML", "brackets"]),
    "tab": ("a.yaml", "keeps:\n\t- 0.5\n", ["line 2", "not valid YAML"]),
    "bad JSON": ("a.json", '{"keeps": }', ["line 1", "not valid JSON"]),
    "empty": ("a.yaml", "# nothing\n", ["is empty", "models, datasets"]),
    "a list": ("a.yaml", "- models\n", ["holds list", "mapping"]),
    "control character": ("a.yaml", "keeps: \x01\n", ["not valid YAML"]),
    "a Python object": ("a.yaml", "keeps: !!python/object/apply:os.getcwd []\n", ["line 1", "not valid YAML"]),
    "wrong value": ("a.yaml", "models: {}\ndatasets: {}\nmethods: {}\nkeeps: []\n", ["models {} is not allowed"]),
}


@pytest.mark.parametrize(("name", "text", "fragments"), FILES.values(), ids=FILES.keys())
def test_wrong_files(tmp_path, name, text, fragments):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load(path)
    for fragment in [str(path), *fragments]:
        assert fragment in str(caught.value), caught.value
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match=r"no\.yaml cannot be read: No such file"):
        load(tmp_path / "no.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"keeps: \xe9")
    with pytest.raises(UserError, match=r"latin\.yaml is not UTF-8 text \(byte 7\)"):
        load(tmp_path / "latin.yaml")


def test_merge_keys_are_no_duplicates(tmp_path):
    path = tmp_path / "merged.yaml"
    path.write_text(
        "models: {m: &m {source: x/y, dtype: float16}, n: {<<: *m, dtype: bfloat16}}\n"
        "datasets: {digits-pope: }\nmethods: {lofi: }\nkeeps: [0.5]\n"
    )
    assert load(path).model("n").dtype == "bfloat16"


def test_json_round_trip_through_a_file(tmp_path):
    sweep = load(ROOT / "config.yaml")
    (tmp_path / "sweep.json").write_text(sweep.to_json())
    assert load(tmp_path / "sweep.json") == sweep


def test_overrides_are_typed():
    assert read_overrides(["keeps=[0.25, 36]", "models={m: {batch_images: 4}}", "shards=", "a=b=c"]) == {
        "keeps": [0.25, 36],
        "models": {"m": {"batch_images": 4}},
        "shards": None,
        "a": "b=c",
    }
    with pytest.raises(UserError, match="--config keeps: line 1: not valid YAML"):
        read_overrides(["keeps=[0.25"])


CLIP = Facts(
    family=FAMILIES["llava"],
    encoder=ENCODERS["clip_vision_model"],
    grid=(12, 12),
    n_visual=144,
    encoder_width=1024,
    encoder_depth=24,
    feature_layer=-2,
    depth=32,
)
SIGLIP = replace(CLIP, encoder=ENCODERS["siglip_vision_model"], grid=(27, 27), n_visual=729)
QWEN = ENCODERS["qwen2_vl_vision"]
DYNAMIC = replace(CLIP, family=FAMILIES["qwen2_vl"], encoder=QWEN, grid=None, n_visual=None)
TILES = replace(
    CLIP,
    family=FAMILIES["internvl"],
    encoder=ENCODERS["internvl_vision"],
    grid=(16, 16),
    n_visual=None,
    feature_layer=-1,
)
KEEP_CLS = {"v": {"reducer": "visionzip", "cls": "keep"}}
TOWERED = {"m": {"source": "some/model", "text_tower": "some/clip"}}

FEASIBLE = {
    "count above N": (CLIP, config(keeps=[200]), ["keep 200", "144", "models.m", "at most 143"]),
    "count of N": (CLIP, config(keeps=[144]), ["keep 144", "at most 143"]),
    "no CLS": (SIGLIP, config(methods=KEEP_CLS), ["methods.v needs a CLS token", "models.m", "remove"]),
    "no CLS, dynamic": (DYNAMIC, config(methods=KEEP_CLS), ["methods.v needs a CLS token"]),
    "no grid of one size": (
        DYNAMIC,
        config(methods={"grid_2d": {}}),
        ["methods.grid_2d needs a grid of one size", "models.m, qwen2_vl"],
    ),
    "no rectangle in a tile": (
        TILES,
        config(methods={"pool": {}}, keeps=[0.09]),
        ["23 tokens fill no rectangle of a 16"],
    ),
    "no rectangle with one more": (TILES, config(methods={"pool": {}}, keeps=[0.11]), ["29 tokens fill no rectangle"]),
    "out of reach whatever the image": (
        TILES,
        config(methods={"fastv": {}}, keeps=[0.05]),
        ["methods.fastv cannot keep 0.0500 of models.m", "keeps 0.0626 to 1.0000"],
    ),
    "a tower for another encoder": (
        SIGLIP,
        config(models=TOWERED),
        ["models.m: text_tower 'some/clip' is given to a model whose vision encoder comes from no CLIP model"],
    ),
    "no text tower": (CLIP, config(methods={"trim": {}}), ["methods.trim needs the CLIP text model", "set text_tower"]),
    "another tower": (
        replace(CLIP, encoder_width=768),
        config(models=TOWERED),
        ["models.m: text_tower 'some/clip'", "of width 1024", "this model's has 768"],
    ),
    "no square": (
        replace(CLIP, grid=(9, 16)),
        config(methods={"feather": {"budget": "tokens"}}),
        ["methods.feather needs one square grid", "models.m"],
    ),
    "no blocks": (
        replace(CLIP, encoder=QWEN),
        config(methods={"tome_vit": {}}),
        ["methods.tome_vit needs a vision encoder that is built like CLIP's"],
    ),
    "too few blocks": (
        replace(CLIP, encoder_depth=4),
        config(methods={"merge": {"reducer": "tome_vit"}}, keeps=[0.125, 0.0625]),
        ["methods.merge cannot keep 0.0625 of models.m", "3 encoder blocks", "9 of 144", "from 18 to 144"],
    ),
    "too early for its stages": (
        CLIP,
        config(methods={"fastv": {}}, keeps=[0.5, 0.0625]),
        ["methods.fastv cannot keep 0.0625", "layer mean of 9 of 144", "9.9 to 144.0 (keeps 0.0691 to 1.0000)"],
    ),
    "no count after the last prune": (
        CLIP,
        config(methods={"vtw": {"budget": "tokens"}}),
        ["methods.vtw", "use budget: layer_mean"],
    ),
    "too few layers": (
        replace(CLIP, depth=3),
        config(methods={"pyramiddrop": {"budget": "tokens"}}),
        ["methods.pyramiddrop", "before decoder layer 3", "has 3 layers, 0 to 2"],
    ),
    "no rectangle": (CLIP, config(methods={"g": {"reducer": "grid_2d"}}, keeps=[13]), ["methods.g", "13", "models.m"]),
    "no pool": (CLIP, config(methods={"pool": {}}, keeps=[0.5, 13]), ["methods.pool", "13", "rectangle"]),
}


@pytest.mark.parametrize(("facts", "entries", "fragments"), FEASIBLE.values(), ids=FEASIBLE.keys())
def test_what_a_model_cannot_do_is_refused(monkeypatch, facts, entries, fragments):
    monkeypatch.setattr(feasible, "read_facts", lambda source, revision: facts)
    monkeypatch.setattr(feasible, "tower_width", lambda source: 1024)
    with pytest.raises(UserError) as caught:
        check_models(from_dict(entries))
    for fragment in fragments:
        assert fragment in str(caught.value), caught.value
    assert "\n" not in str(caught.value)


def test_what_a_model_can_do_passes(monkeypatch):
    everything = {
        **{name: {"budget": "tokens"} if "budget" in known_params(name) else {} for name in METHODS if name != "full"},
        "fastv_mean": {"reducer": "fastv", "keeps": [0.069, 0.99]},
        "merges": {"reducer": "tome_vit", "keeps": [2]},
        "vtw": {"keeps": [0.5]},
        **KEEP_CLS,
    }
    monkeypatch.setattr(feasible, "tower_width", lambda source: 1024)
    monkeypatch.setattr(feasible, "read_facts", lambda source, revision: CLIP)
    check_models(from_dict(config(models=TOWERED, methods=everything, keeps=[0.5, 0.25, 0.125, 0.0625, 143 - 11])))
    del everything["v"]
    for facts in (replace(CLIP, encoder=replace(CLIP.encoder, cls=0)), replace(CLIP, depth=None)):
        monkeypatch.setattr(feasible, "read_facts", lambda source, revision, facts=facts: facts)
        check_models(from_dict(config(models=TOWERED, methods=everything)))
    for facts in (None, DYNAMIC):
        monkeypatch.setattr(feasible, "read_facts", lambda source, revision, facts=facts: facts)
        check_models(from_dict(config(methods={"divprune": {}, "lofi": {}, "grid_1d": {}}, keeps=[13, 100_000])))
    monkeypatch.setattr(feasible, "read_facts", lambda source, revision: TILES)
    check_models(from_dict(config(methods={"pool": {}, "fastv": {}, "vtw": {}}, keeps=[0.5, 0.25, 0.125])))


@pytest.mark.parametrize(
    ("entries", "layer"),
    [
        ({}, -2),
        ({"vision_feature_layer": -1}, -1),
        ({"vision_feature_layer": 23}, -2),
        ({"vision_feature_layer": [3]}, None),
    ],
)
def test_the_feature_layer_counts_from_the_end(tmp_path, entries, layer):
    vision = {"model_type": "clip_vision_model", "num_hidden_layers": 24}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava", "vision_config": vision, **entries}))
    facts = read_facts(str(tmp_path), None)
    assert (facts.encoder_depth, facts.feature_layer) == (24, layer)


def test_a_missing_folder_names_the_model():
    with pytest.raises(UserError, match=r"models\.m: model source './nowhere'"):
        check_models(from_dict(config(models={"m": {"source": "./nowhere"}})))


def test_reading_a_config_imports_nothing_heavy():
    code = (
        "import sys, pathlib, lofi.config as c; s = c.load(pathlib.Path('config.yaml')); s.cells();"
        "print([m for m in ('torch', 'pandas', 'transformers', 'datasets', 'pyarrow', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
