"""The shared engine against the plain path, in every family: images of several sizes in one shard."""

from io import BytesIO
from typing import Any

import pytest
import torch
from PIL.Image import Image

from lofi.cell import FULL, KEEP_ALL, Cell, keep_text
from lofi.data.docs import Doc
from lofi.engine.columns import Constants
from lofi.engine.photo import Photo
from lofi.engine.plain import run_plain
from lofi.engine.plans import Plan
from lofi.engine.run import joined, run_images
from lofi.engine.session import Session
from lofi.methods.registry import METHODS, check_params
from lofi.models.adapter import Adapter
from lofi.models.families import FAMILIES
from lofi.sweep import MethodSpec
from tests.families.reference import SQUARE, TALL, WIDE, family
from tests.families.tiny import FAMILY_NAMES

SHOWN = (SQUARE, WIDE, TALL, SQUARE.transpose(0), WIDE.transpose(0))
KEEPS: dict[str, Any] = {
    "fastervlm": 0.5,
    "divprune": 0.25,
    "visionzip": 0.5,
    "cdpruner": 0.25,
    "lofi": 0.25,
    "fastv": 0.75,
    "sparsevlm": 0.75,
}
STEPS = 5


def photo(number: int, image: Image) -> Photo:
    """One picture with a question that has options and one that is answered freely."""
    written = BytesIO()
    image.save(written, "PNG")
    name = f"{number:016x}"
    asked = (
        ("Is there a red 7 in the image? Please answer yes or no.", ("yes", "no")),
        ("How many numbers are in the image?", ()),
    )
    docs = tuple(doc(f"{name}-{i}", name, prompt, labels) for i, (prompt, labels) in enumerate(asked))
    return Photo(name, written.getvalue(), docs[: 1 + (number != 1)])


def doc(sample: str, image: str, prompt: str, labels: tuple[str, ...]) -> Doc:
    return Doc(
        sample_id=sample,
        group_id=image,
        figure_id=None,
        cluster_id=image,
        image_hash=image,
        image_hashes=(image,),
        doc_hash=sample,
        category=None,
        l2_category=None,
        question=prompt,
        options=labels,
        option_labels=labels,
        target="yes",
        targets=("yes",) * 10,
        task_type="yesno" if labels else "open",
        prompt=prompt,
        prompt_hash=prompt,
        split="test",
        max_new_tokens=STEPS,
    )


def method(name: str) -> MethodSpec:
    return MethodSpec(name, name, tuple(sorted(check_params(name, {}).items())))


@pytest.mark.parametrize("name", FAMILY_NAMES)
@torch.inference_mode()
def test_every_sample_equals_the_plain_path(name: str) -> None:
    adapter = Adapter(*family(name), FAMILIES[name])
    constants = Constants({"model": name, "dataset": "d"}, len(adapter.layers), batch_size=8)
    session, photos = Session(adapter, constants), [photo(i, image) for i, image in enumerate(SHOWN)]
    full = Plan(Cell(name, "d", FULL, KEEP_ALL), method(FULL), "0")
    keeps = KEEPS if FAMILIES[name].free_size else {**KEEPS, "pool": 9}
    plans = [Plan(Cell(name, "d", key, keep_text(keep)), method(key), "0") for key, keep in keeps.items()]
    ((rows, run),) = run_images(session, photos, [full], None)
    whole = joined([run])
    ((others, _),) = run_images(session, photos, plans, whole)
    for plan in (full, *plans):
        found = {row["sample_id"]: row for row in {**rows, **others}[plan.cell].to_pylist()}
        assert len(found) == sum(len(each.docs) for each in photos)
        for each, image in zip(photos, SHOWN, strict=True):
            for asked in each.docs:
                same_as_plain(session, image, each.key, asked, plan, found[asked.sample_id])
    counts = {row["n_visual_full"] for row in rows[full.cell].to_pylist()}
    assert (len(counts) > 1) == FAMILIES[name].free_size, "images of several sizes are in the shard"


def same_as_plain(session: Session, image: Image, key: int, asked: Doc, plan: Plan, row: dict[str, Any]) -> None:
    """Logits at the first answer position, the kept tokens and the answer."""
    steps = 0 if asked.option_labels else STEPS
    plain = run_plain(session, image, key, asked.prompt, plan.cell, plan.method, steps)
    assert row["status"] == "ok", row["error"]
    logp = plain.logits.double().log_softmax(-1)
    assert row["topk_logprobs"] == pytest.approx([float(logp[i]) for i in row["topk_token_ids"]], abs=1e-4)
    assert row["logsumexp"] == pytest.approx(float(plain.logits.double().logsumexp(-1)), abs=1e-4)
    assert row["n_visual_kept"] == len(plain.kept)
    if not METHODS[plan.method.reducer].merges:
        assert row["kept_indices"] == plain.kept.sort().values.tolist()
    if steps:
        assert row["prediction"] == plain.answer
