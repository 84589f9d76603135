"""Every family over two devices: the same rows as on one."""

from typing import Any

import pytest
import torch

from lofi.cell import FULL, KEEP_ALL, Cell, keep_text
from lofi.engine.columns import Constants
from lofi.engine.plans import Plan
from lofi.engine.run import joined, run_images
from lofi.engine.session import Session
from lofi.models.adapter import Adapter
from lofi.models.families import FAMILIES
from tests.families.reference import SQUARE, WIDE
from tests.families.test_engine import KEEPS, method, photo
from tests.families.tiny import FAMILY_NAMES, tiny
from tests.unit.pretended import Pretend, spread

ONE, TWO = torch.device("cpu:1"), torch.device("cpu:2")
USUAL = ("qwen3_vl", "gemma3", "llava_next")  # features for later layers, two kinds of rotary embedding, packed tiles


def devices_of(adapter: Adapter) -> dict[str, torch.device]:
    """The encoder and the first decoder layer on one device, the projector and the other layers on the other."""
    model, language = adapter.model, f"model.{adapter.family.language}"
    found = {f"{language}.embed_tokens": ONE}
    for name, _ in adapter.core.named_children():
        if name != adapter.family.language:
            found[f"model.{name}"] = TWO if name in ("multi_modal_projector", "connector") else ONE
    for layer in range(len(adapter.layers)):
        found[f"{language}.layers.{layer}"] = ONE if layer == 0 else TWO
    found |= {
        f"{language}.{name}": TWO for name, _ in adapter.language.named_children() if "norm" in name or "rotary" in name
    }
    head, embeddings = (get().weight for get in (model.get_output_embeddings, model.get_input_embeddings))  # type: ignore[operator]
    return {**found, "lm_head": ONE if head is embeddings else TWO}


@torch.inference_mode()
def rows_of(adapter: Adapter) -> dict[Cell, list[dict[str, Any]]]:
    constants = Constants({"model": "m", "dataset": "d"}, len(adapter.layers), batch_size=8)
    session, photos = Session(adapter, constants), [photo(i, image) for i, image in enumerate((SQUARE, WIDE))]
    full = Plan(Cell("m", "d", FULL, KEEP_ALL), method(FULL), "0")
    plans = [Plan(Cell("m", "d", key, keep_text(keep)), method(key), "0") for key, keep in KEEPS.items()]
    ((rows, run),) = run_images(session, photos, [full], None)
    ((others, _),) = run_images(session, photos, plans, joined([run]))
    return {
        cell: [{name: row[name] for name in row if not name.startswith("t_")} for row in table.to_pylist()]
        for cell, table in {**rows, **others}.items()
    }


@pytest.mark.parametrize(
    "name", [name if name in USUAL else pytest.param(name, marks=pytest.mark.slow) for name in FAMILY_NAMES]
)
def test_a_model_over_two_devices_gives_the_same_rows(name: str) -> None:
    expected = rows_of(Adapter(*tiny(name), FAMILIES[name]))
    adapter = Adapter(*tiny(name), FAMILIES[name])
    spread(adapter.model, devices_of(adapter))
    with Pretend() as pretend:
        found = rows_of(adapter)
    assert found == expected
    assert pretend.moved > 100
    assert {row["status"] for rows in found.values() for row in rows} == {"ok"}
