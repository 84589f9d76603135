"""Every registered reducer on every family: it runs and keeps the exact count, or is refused as docs/families.md says."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText, CLIPConfig, CLIPModel

import lofi
from lofi.cell import OWN_COUNT
from lofi.config import check_models, from_dict
from lofi.errors import UserError
from lofi.methods.context import TextTower
from lofi.methods.fitprune_table import TABLE_TOKENS
from lofi.methods.registry import METHODS, known_params
from lofi.methods.schedule import PAPER_DEPTH, Depth, Fitted, Searched
from lofi.models.catalogue import configuration, refusals
from lofi.models.clip_text import ClipTextTower
from lofi.models.facts import facts_of
from lofi.models.families import FAMILIES
from lofi.reduction import Trace
from tests.families import configs
from tests.families.tiny import FAMILY_NAMES, inputs, pictures, tiny

REFUSED = {(each.method, family): each for each in refusals() for family in each.families if not each.params}
WITH_PARAMS = [(each, family) for each in refusals() for family in each.families if each.params]
FITTED = [name for name in METHODS if isinstance(METHODS[name].schedule, Fitted | Searched)]
RUNS = [
    (name, family)
    for family in FAMILY_NAMES
    for name in METHODS
    if (name, family) not in REFUSED and name not in FITTED
]
SHARE = {"square": 0.5, "tall": 0.3}  # of the visual tokens of that picture
# Visual tokens of both pictures: several tiles of 9 where the family has them. LLaVA-NeXT and OneVision cut borders
# off; OneVision also shrinks what is left of the square one.
TOKENS = {
    "llava": (36, 36),
    "llava_next": (45, 33),
    "llava_onevision": (34, 33),
    "qwen2_vl": (25, 28),
    "qwen2_5_vl": (25, 28),
    "qwen3_vl": (25, 28),
    "internvl": (45, 27),
    "smolvlm": (45, 45),
    "idefics3": (45, 45),
    "gemma3": (25, 25),
}


@cache
def model_of(family: str) -> tuple[Any, Any]:
    return tiny(family)


@cache
def prompts(family: str, shape: str) -> Any:
    """A prompt about a square or a tall picture."""
    picture = pictures()[0 if shape == "square" else 2]
    return inputs(family, model_of(family)[1], [([picture], "how many dogs are there?")])


@cache
def tower() -> TextTower:
    """A CLIP model of the width of the tiny encoders, which reads the words of the tiny LLaVA."""
    tokenizer = model_of("llava")[1].tokenizer
    part = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={**part, "vocab_size": len(tokenizer), "max_position_embeddings": 77, "eos_token_id": 2},
        vision_config={**part, "image_size": 24, "patch_size": 4},
        projection_dim=16,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ClipTextTower(CLIPModel(config).eval().requires_grad_(False), tokenizer)


def given(name: str, family: str) -> dict[str, Any]:
    """What the caller of `lofi.reduce` has to give for that method, and a budget that all stages can meet."""
    reducer, options = METHODS[name], {}
    if reducer.sees_text:
        options["processor"] = model_of(family)[1]
    if "tower" in reducer.needs:
        options["tower"] = tower()
    if "budget" in known_params(name) and not isinstance(reducer.schedule, Depth):
        options["budget"] = "tokens"
    return options


def run(name: str, family: str, shape: str, keep: float | int | str) -> tuple[Trace, torch.Tensor]:
    """What was kept of one prompt, and the logits of its last token."""
    model = model_of(family)[0]
    with torch.no_grad(), lofi.reduce(model, name, keep, **given(name, family)) as trace:
        logits = model(**prompts(family, shape)).logits[0, -1]
    return trace, logits


def tokens(family: str, shape: str) -> int:
    """The visual tokens of the prompt."""
    [prompt] = run("full", family, shape, 1.0)[0].prompts
    return prompt.n


def keep_of(name: str, family: str, shape: str) -> float | int | str:
    """What to ask of the method: for rectangles, as many of each tile."""
    if METHODS[name].count == "own":
        return OWN_COUNT
    if METHODS[name].rectangle:
        grid = facts_of(model_of(family)[0].config.to_dict(), family).grid
        assert grid is not None
        return 4 * TOKENS[family][shape == "tall"] // (grid[0] * grid[1])
    return 1.0 if name == "full" else SHARE[shape]


def test_all_families_are_here_with_their_tokens() -> None:
    assert sorted(FAMILY_NAMES) == sorted(FAMILIES)
    assert {family: (tokens(family, "square"), tokens(family, "tall")) for family in FAMILY_NAMES} == TOKENS


@pytest.mark.parametrize("shape", SHARE)
@pytest.mark.parametrize(("name", "family"), RUNS)
def test_it_runs_and_keeps_the_exact_count(name: str, family: str, shape: str) -> None:
    keep = keep_of(name, family, shape)
    trace, logits = run(name, family, shape, keep)
    [prompt] = trace.prompts
    n, depth = prompt.n, len(prompt.per_layer)
    assert bool(torch.isfinite(logits).all())
    asked = round(keep * n) if isinstance(keep, float) else keep
    if isinstance(METHODS[name].schedule, Depth):
        assert abs(sum(prompt.per_layer) / depth - asked) <= n / depth / 2  # a whole number of layers
    elif METHODS[name].count == "own":
        assert 1 <= prompt.per_layer[-1] <= n
    else:
        assert prompt.per_layer[-1] == asked
    if prompt.kept is not None:
        assert sum(map(len, prompt.kept)) == prompt.per_layer[-1]


@pytest.mark.parametrize(("name", "family"), REFUSED)
def test_it_is_refused_as_the_page_says(name: str, family: str) -> None:
    with pytest.raises(UserError) as caught:
        lofi.reduce(
            model_of(family)[0], name, 0.5 if METHODS[name].count != "own" else OWN_COUNT, **given(name, family)
        )
    assert str(caught.value) == f"{name} needs {REFUSED[name, family].reason}"


@pytest.mark.parametrize(("refusal", "family"), WITH_PARAMS, ids=lambda each: getattr(each, "method", each))
def test_so_is_a_parameter_that_needs_more(refusal: Any, family: str) -> None:
    with pytest.raises(UserError) as caught:
        lofi.reduce(model_of(family)[0], refusal.method, 0.5, **refusal.params)
    assert str(caught.value) == f"{refusal.method} needs {refusal.reason}"


@pytest.mark.parametrize("family", [family for family in FAMILY_NAMES if ("visionzip", family) not in REFUSED])
def test_the_parameter_runs_where_nothing_stands_against_it(family: str) -> None:
    if any(family == each for _, each in WITH_PARAMS):
        return
    model = model_of(family)[0]
    with torch.no_grad(), lofi.reduce(model, "visionzip", 0.5, cls="keep") as trace:
        model(**prompts(family, "tall"))
    assert trace.per_layer[-1] == round(0.5 * trace.prompts[-1].n)


def complaint(config: dict[str, Any]) -> str:
    """What `lofi check` says of a sweep; empty where nothing."""
    try:
        check_models(from_dict(config))
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_a_sweep_is_refused_from_the_files_alone_as_the_page_says(family: str, tmp_path: Path) -> None:
    model_of(family)[0].config.save_pretrained(tmp_path)
    towers = {"text_tower": "some/clip"} if ("trim", family) not in REFUSED else {}
    for name in METHODS.keys() - {"full"}:
        method: dict[str, Any] = {"budget": "tokens"} if "budget" in given(name, family) else {}
        if METHODS[name].rectangle:
            method["keeps"] = [12]
        found = complaint(
            {
                "models": {"m": {"source": str(tmp_path), **towers}},
                "datasets": {"digits-pope": {}},
                "methods": {name: method},
                "keeps": [0.5],
            }
        )
        refusal = REFUSED.get((name, family))
        needs = f"methods.{name} needs {refusal.reason} (models.m, {family}); or remove the method" if refusal else ""
        assert found.startswith(needs)
        assert bool(found) == bool(refusal), found


@pytest.mark.parametrize("name", FITTED)
@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_methods_that_fit_their_schedule_are_for_sweeps(name: str, family: str) -> None:
    keep = OWN_COUNT if METHODS[name].count == "own" else 0.5
    with pytest.raises(UserError, match=f"{name} fits its schedule to a model and a dataset, which a sweep does"):
        lofi.reduce(model_of(family)[0], name, keep)


def test_the_authors_table_of_fitprune_serves_models_of_their_shape() -> None:
    config = configs.llava(model_of("llava")[1].tokenizer)
    config.text_config.num_hidden_layers, config.vision_config.image_size = PAPER_DEPTH, 24 * configs.PATCH
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32).eval()
        pixels = torch.randn(2, 3, 24 * configs.PATCH, 24 * configs.PATCH)
    image = [config.image_token_id] * TABLE_TOKENS
    with torch.no_grad(), lofi.reduce(model, "fitprune", 0.5) as trace:
        model(input_ids=torch.tensor([[7, *image, 8, 9]]), pixel_values=pixels[:1])
        with pytest.raises(UserError, match="fitprune fits its schedule"):
            model(input_ids=torch.tensor([[7, *image, *image, 8, 9]]), pixel_values=pixels)
    assert trace.per_layer[0] == TABLE_TOKENS
    assert sum(trace.per_layer) / PAPER_DEPTH == pytest.approx(TABLE_TOKENS / 2, abs=1)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_the_tiny_model_and_the_librarys_default_are_refused_alike(family: str) -> None:
    tiny_facts, usual = facts_of(model_of(family)[0].config.to_dict(), family), facts_of(configuration(family), family)
    assert tiny_facts.encoder is usual.encoder
    assert (tiny_facts.grid is None, tiny_facts.n_visual is None) == (usual.grid is None, usual.n_visual is None)


@pytest.mark.parametrize("family", ["llava", "gemma3"])
def test_several_images_form_no_square(family: str) -> None:
    model, processor = model_of(family)
    two = inputs(family, processor, [(list(pictures()[:2]), "how many dogs are there?")])
    with (
        torch.no_grad(),
        lofi.reduce(model, "feather", 0.5, budget="tokens"),
        pytest.raises(UserError, match="this prompt has several images; ask about one at a time"),
    ):
        model(**two)
