"""The shared engine against the loops of today's harnesses, on a random LLaVA with the proportions of LLaVA-1.5-7B.

Ten methods at four keeps. The naive loops ask one question about one image at a time, or batches of them: processor,
encoder, selection and the model's own forward for every sample of every cell.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from item import Item, Target, item_of, ratios, seconds
from made_model import ASKED, BEFORE, made_model, made_photos, made_session
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from lofi.cell import FULL, KEEP_ALL, Cell, kept_count
from lofi.data.images import open_image
from lofi.engine.photo import Photo
from lofi.engine.plain import run_plain
from lofi.engine.plans import Plan
from lofi.engine.run import FullRun, Rows, joined, run_images
from lofi.engine.session import Session, tapped_layers
from lofi.methods.context import Selection
from lofi.methods.registry import check_params
from lofi.methods.select import select
from lofi.models.adapter import Adapter
from lofi.models.conversation import chat_inputs
from lofi.models.hooked import PruneBeforeDecoder, context_of
from lofi.models.prompts import Prompts
from lofi.plan import flops
from lofi.plan.shape import shape_of
from lofi.sweep import MethodSpec

METHODS = (
    "random", "fastervlm", "vispruner", "hiprune", "holov", "scope", "visionzip", "prumerge_fixed", "divprune", "lofi",
)  # fmt: skip
KEEPS = ("0.5000", "0.2500", "0.1250", "0.0625")
ROUNDS = 3
BATCH = 4  # samples of the batched loop
USUAL_DEPTH = 24  # of decoders as wide as the made one, which has fewer layers to be fast
TOLERANCE = 1e-4  # of log-probabilities, engine against plain


def spec(name: str) -> MethodSpec:
    return MethodSpec(name, name, tuple(sorted(check_params(name, {}).items())))


def plan(method: str, keep: str) -> Plan:
    return Plan(Cell("made", "made", method, keep), spec(method), method)


PLANS = [plan(method, keep) for method in METHODS for keep in KEEPS]


@dataclass(frozen=True)
class Setting:
    """The model, the images with their questions, and what the full model made of them."""

    session: Session
    photos: Sequence[Photo]
    full: FullRun

    @property
    def samples(self) -> int:
        return len(PLANS) * sum(len(photo.docs) for photo in self.photos)

    def shared(self) -> Rows:
        """Every cell through the engine."""
        parts = list(run_images(self.session, self.photos, PLANS, self.full))
        return {each.cell: [rows[each.cell] for rows, _ in parts] for each in PLANS}  # type: ignore[misc]

    def one_by_one(self, number: int) -> list[torch.Tensor]:
        """One sample of every cell, as the plain path runs it: logits (v,) each."""
        photo = self.photos[number % len(self.photos)]
        doc = photo.docs[number % len(photo.docs)]
        return [
            run_plain(
                self.session, open_image(photo.content or b""), photo.key, doc.prompt, each.cell, each.method, 0
            ).logits
            for each in PLANS
        ]

    def batched(self) -> None:
        """BATCH samples of every cell, each batch in one forward."""
        asked = [(photo, doc) for photo in self.photos for doc in photo.docs][:BATCH]
        for each in PLANS:
            forward(self.session, each, asked)


@torch.inference_mode()
def forward(session: Session, each: Plan, asked: Sequence[tuple[Photo, object]]) -> torch.Tensor:
    """Samples of one cell through processor and model, pruned by a hook in front of the decoder."""
    adapter = session.adapter
    prompts = [([open_image(photo.content or b"")], doc.prompt) for photo, doc in asked]  # type: ignore[attr-defined]
    inputs = chat_inputs(adapter.processor, prompts).to(adapter.device, adapter.dtype)
    params = dict(each.method.params)

    def choose(prompts: Prompts, number: int) -> Selection:
        context = context_of(prompts, number, asked[number][0].key)
        count = kept_count(each.cell.keep, len(context))
        return select(each.method.reducer, context, [count], seed=0, params=params)[0]

    layers = tapped_layers(adapter, [each.method])
    with PruneBeforeDecoder(adapter, choose, positions=str(params["positions"]), layers=layers):
        found: torch.Tensor = adapter.model(**inputs, logits_to_keep=1).logits[:, -1].float()
    return found


@cache
def setting(images: int, questions: int) -> Setting:
    session = made_session(shared_model(), images)
    photos = made_photos(images, questions)
    runs = [run for _, run in run_images(session, photos, [plan(FULL, KEEP_ALL)], None)]
    return Setting(session, photos, joined(runs))


@cache
def shared_model() -> object:
    return made_model()


@dataclass(frozen=True)
class Measured:
    """Seconds a sample, round by round."""

    shared: list[float]
    sample: list[float]
    batch: list[float]

    def ratio(self, slow: list[float]) -> list[float]:
        return [a / b for a, b in zip(slow, self.shared, strict=True)]


@cache
def measured(images: int, questions: int) -> Measured:
    """The engine and both loops in turns."""
    here = setting(images, questions)
    check_equal(here)
    found = Measured([], [], [])
    for number in range(ROUNDS):
        found.shared.append(seconds(here.shared) / here.samples)
        found.sample.append(seconds(lambda number=number: here.one_by_one(number)) / len(PLANS))
        found.batch.append(seconds(here.batched) / (len(PLANS) * min(BATCH, here.samples // len(PLANS))))
    return found


def check_equal(here: Setting) -> None:
    """Refuse to time an engine that says something else than the plain path."""
    rows = here.shared()
    name = here.photos[0].docs[0].sample_id
    for each, logits in zip(PLANS, here.one_by_one(0), strict=True):
        row = next(row for part in rows[each.cell] for row in part.to_pylist() if row["sample_id"] == name)
        plain = logits.double().log_softmax(-1)[torch.tensor(row["topk_token_ids"])].numpy()
        if (worst := np.abs(plain - np.array(row["topk_logprobs"])).max()) > TOLERANCE:
            raise SystemExit(f"{each.cell}: log-probabilities differ from the plain path by {worst:.1e}")


def ideal(here: Setting) -> float:
    """Operations of the loops over those that the answers need: what sharing alone allows."""
    shape = shape_of(here.session.adapter.config)
    encode = flops.encode(shape.encoder, shape.projector, shape.views(336, 336))
    alone = [
        flops.prefill(shape.decoder, [kept_count(keep, 576)] * shape.decoder.depth, BEFORE + ASKED) for keep in KEEPS
    ]
    logits = flops.logits(shape.decoder, 1)
    return here.samples * (sum(alone) / len(KEEPS) + encode + logits) / minimum(here)


def _against(name: str, images: int, questions: int, loop: str, target: float) -> Item:
    found = measured(images, questions)
    slow = found.sample if loop == "sample" else found.batch
    naive = "one sample at a time" if loop == "sample" else f"batches of {BATCH} samples"
    reference = f"{naive} through the model's own forward; sharing alone allows {ideal(setting(images, questions)):.1f}"
    return item_of(name, found.ratio(slow), reference, target=Target(target))


def engine_q18_vs_sample() -> Item:
    """18 questions an image, ten methods at four keeps: the engine against a forward for each sample."""
    return _against("engine_q18_vs_sample", 1, 18, "sample", 6.0)


def engine_q18_vs_batch() -> Item:
    """The same against batches."""
    return _against("engine_q18_vs_batch", 1, 18, "batch", 4.8)


def engine_q1_vs_sample() -> Item:
    """One question an image: the engine against a forward for each sample."""
    return _against("engine_q1_vs_sample", 4, 1, "sample", 1.3)


def engine_q1_vs_batch() -> Item:
    """The same against batches."""
    return _against("engine_q1_vs_batch", 4, 1, "batch", 1.1)


def engine_flops_over_minimum() -> Item:
    """Operations that the engine executes for 18 questions an image, over those that the answers need."""
    here = setting(1, 18)
    executed = counted(here.shared)
    value = executed / minimum(here)
    reference = f"{executed / 1e12:.2f} TFLOP executed, spectra and selections included"
    return item_of("engine_flops_over_minimum", [value], reference, target=Target(1.15, at_most=True))


def engine_matmul_share() -> Item:
    """The engine's operations a second, over those of bare matrix products of the decoder's own shapes."""
    here = setting(1, 18)
    executed, shares = counted(here.shared), []
    for _ in range(ROUNDS):
        rate = product_rate(KEEPS)
        shares.append(executed / seconds(here.shared) / rate)
    reference = f"torch.mm of the decoder's shapes: {rate / 1e9:.0f} GFLOP/s"
    return item_of("engine_matmul_share", shares, reference, target=Target(0.6))


def counted(work: Callable[[], object]) -> int:
    """Operations of all products, those of the CPU's fused attention included, which PyTorch does not count itself."""

    def fused(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: object, **__: object) -> int:
        return int(sdpa_flop_count(query, key, value))

    mapping = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: fused}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        work()
    return int(counter.get_total_flops())


def minimum(here: Setting) -> float:
    """Encoder and projector once an image; every token that is left once, with the pairs that may attend."""
    shape = shape_of(here.session.adapter.config)
    images, questions = len(here.photos), len(here.photos[0].docs)
    asked = questions * ASKED
    per_token, per_pair = flops.row_costs(shape.decoder)
    total = images * flops.encode(shape.encoder, shape.projector, shape.views(336, 336))
    for keep in KEEPS:
        k = kept_count(keep, 576)
        pairs = k * BEFORE + k * (k + 1) / 2 + asked * (BEFORE + k) + questions * ASKED * (ASKED + 1) / 2
        layer = (k + asked) * per_token + pairs * per_pair
        unread = flops.mlp(shape.decoder, k + asked - questions)  # by the last layer
        answers = flops.logits(shape.decoder, questions)
        total += len(METHODS) * images * (shape.decoder.depth * layer - unread + answers)
    return total


def product_rate(keeps: Sequence[str]) -> float:
    """Operations a second of the seven products of a decoder layer, for the rows of each keep."""
    config = shared_model().config.text_config  # type: ignore[attr-defined]
    d, inner = config.hidden_size, config.intermediate_size
    shapes = [(d, d)] * 4 + [(d, inner)] * 2 + [(inner, d)]
    weights = [torch.randn(b, a).T for a, b in shapes]
    done, spent = 0.0, 0.0
    for keep in keeps:
        rows = kept_count(keep, 576) + 18 * ASKED
        inputs = [torch.randn(rows, a) for a, _ in shapes]
        for _ in range(5):
            start = time.perf_counter()
            for x, weight in zip(inputs, weights, strict=True):
                x @ weight
            spent += time.perf_counter() - start
            done += sum(2 * rows * a * b for a, b in shapes)
    return done / spent


def lofi_share_of_prefill() -> Item:
    """LoFi's whole selection at one keep, over the prefill of a prompt with all its visual tokens."""
    return share_of_prefill("lofi_share_of_prefill", made_model(USUAL_DEPTH), Target(0.03, at_most=True))


def share_of_prefill(name: str, adapter: Adapter, target: Target) -> Item:
    """The same of a made model."""
    session = made_session(adapter, 1)
    (batch,) = session.open(list(session.load(made_photos(1, 1))), [spec("lofi")])
    context, params = batch.context(0, sees_text=False), dict(spec("lofi").params)
    width = adapter.config.text_config.hidden_size
    embeds = torch.randn(1, BEFORE + 576 + ASKED, width, device=adapter.device, dtype=adapter.dtype)

    @torch.inference_mode()
    def prefill() -> None:
        adapter.language(inputs_embeds=embeds, use_cache=False)
        wait()

    def chosen() -> None:
        select("lofi", context, [144], seed=0, params=params)
        wait()

    depth = len(adapter.layers)
    reference = f"the forward of a decoder of {depth} layers, {width} wide, over one prompt with all 576 tokens"
    return item_of(name, ratios(chosen, prefill, 2 * ROUNDS + 1), reference, target=target)


def wait() -> None:
    """Until a GPU has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
