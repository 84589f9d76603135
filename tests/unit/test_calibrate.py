"""What is fitted to a model and its images: budgets are met, every shard agrees, and a loop by hand gives the same."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lofi.data.images import open_image
from lofi.engine import parts
from lofi.engine.calibrate import calibrate, counts_to_last
from lofi.engine.job import Job
from lofi.engine.session import Fit, Session
from lofi.errors import UserError
from lofi.methods import fitprune, lofi_adaptive
from lofi.methods.registry import check_params
from lofi.methods.select import select
from lofi.models.adapter import Adapter
from lofi.models.encoded import Encoded
from lofi.models.load import load_model
from lofi.models.opened import Opened

from .engine_setup import make_job, make_sweep, opened

NAME, IMAGES, N, DEPTH = "digits-pope", 3, 144, 5
KEEPS = [9, 20]  # below the width of 32: the span of more tokens leaves no error outside
FITTED = {
    "lofi_adaptive": {"keeps": [0.25]},
    "fitprune": {"keeps": [0.5]},
    "fitprune_tokens": {"reducer": "fitprune", "budget": "tokens", "keeps": [0.25]},
    "vtw_search": {"eta": 0.01},
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def make(results: Path, tiny_model: Path, digits: Path) -> Callable[..., Job]:
    """A job over these methods; all jobs share one prepared dataset."""

    def job(methods: dict[str, Any], shard: int = 0, **changes: Any) -> Job:
        datasets = {NAME: {"source": str(digits / NAME), "limit": IMAGES}}
        sweep = make_sweep(tiny_model, digits, **({"datasets": datasets, "methods": methods, "keeps": KEEPS} | changes))
        return make_job(results, sweep, NAME, shard)

    return job


@pytest.fixture(scope="module")
def session(make: Callable[..., Job]) -> Session:
    return parts.open_session(make({"lofi": {}}))


def fits(session: Session, job: Job) -> dict[str, Fit]:
    return {method.name: fit for method, fit in calibrate(session, job, job.cells()).items()}


@pytest.fixture(scope="module")
def fitted(session: Session, make: Callable[..., Job]) -> dict[str, Fit]:
    return fits(session, make(FITTED))


def hooks(model: torch.nn.Module) -> list[int]:
    """How many hooks every module has."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs", "_backward_hooks")
    return [len(getattr(module, kind)) for module in model.modules() for kind in kinds]


# ---- targets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", ["mass", "spectral"])
@torch.inference_mode()
def test_the_mean_count_over_the_calibrated_images_is_as_near_as_a_target_can_bring_it(
    session: Session, make: Callable[..., Job], measure: str
) -> None:
    job = make({"lofi_adaptive": {"measure": measure}})
    (fit,) = calibrate(session, job, job.cells()).values()
    targets: Any = fit.params["targets"]
    assert sorted(targets) == KEEPS
    photos = job.first_photos(64)
    (batch,) = session.open(session.load(photos), [])
    contexts = [batch.context(row, sees_text=False) for row in range(len(photos))]
    params = {**check_params("lofi_adaptive", {"measure": measure}), "targets": targets}
    curves = [lofi_adaptive.rank_tokens(context.projected, measure, "energy:0.9").progress for context in contexts]
    levels = torch.cat(curves).unique()
    reached = torch.stack([torch.searchsorted(curve, levels).clamp_max(N - 1) + 1 for curve in curves]).sum(0)
    for k in targets:
        kept = [select("lofi_adaptive", context, [k], seed=0, params=params)[0].count for context in contexts]
        assert abs(sum(kept) - IMAGES * k) == int((reached - IMAGES * k).abs().min())
        assert sum(kept) / IMAGES == pytest.approx(k, abs=0.5)


def stages_open(photos: Sequence[Any]) -> list[Any]:
    return [(photo, open_image(photo.content)) for photo in photos]


def test_every_shard_has_the_same_fits(session: Session, make: Callable[..., Job], fitted: dict[str, Fit]) -> None:
    for shard in (0, 2):
        assert fits(session, make(FITTED, shard, shards=3)) == fitted


def test_two_fits_are_equal_and_leave_no_hook_behind(
    session: Session, make: Callable[..., Job], fitted: dict[str, Fit]
) -> None:
    before, kernel = hooks(session.adapter.model), session.adapter.attention
    assert fits(session, make(FITTED)) == fitted
    assert hooks(session.adapter.model) == before
    assert session.adapter.attention == kernel


# ---- counts --------------------------------------------------------------------------------------------------------


def test_fitted_counts_start_at_all_and_never_rise(fitted: dict[str, Fit]) -> None:
    for name in ("fitprune", "fitprune_tokens", "vtw_search"):
        for counts in fitted[name].counts.values():
            assert len(counts) == DEPTH
            assert counts[0] == N
            assert all(a >= b for a, b in pairwise(counts))
    (mean,) = fitted["fitprune"].counts.values()
    assert abs(sum(mean) / DEPTH - 72) < 0.5
    (last,) = fitted["fitprune_tokens"].counts.values()
    assert last[-1] == 36
    (found,) = fitted["vtw_search"].counts.values()
    assert set(found) == {N, 0}


@pytest.mark.slow
def test_every_reachable_last_count_and_mean_is_met(session: Session, make: Callable[..., Job]) -> None:
    job = make({"fitprune": {"budget": "tokens", "keeps": list(range(2, N, 5))}})
    (fit,) = calibrate(session, job, job.cells()).values()
    for keep, counts in fit.counts.items():
        assert counts[-1] == int(keep)
        assert counts[0] == N
        assert all(a >= b for a, b in pairwise(counts))
    job = make({"fitprune": {"keeps": list(range(35, N, 5))}})
    (fit,) = calibrate(session, job, job.cells()).values()
    for keep, counts in fit.counts.items():
        assert sum(counts) == DEPTH * int(keep)


def test_a_mean_out_of_reach_is_refused_with_the_range(session: Session, make: Callable[..., Job]) -> None:
    job = make({"fitprune": {"keeps": [15]}})
    message = r"^methods\.fitprune cannot keep 15: a layer mean of 15 tokens .*, (\d+\.\d) to 144\.0; change keeps.*$"
    with pytest.raises(UserError, match=message) as refusal:
        calibrate(session, job, job.cells())
    least = float(str(refusal.value).partition(" to 144.0")[0].rpartition(" ")[2])
    nearest = math.ceil(least + 0.05)
    job = make({"fitprune": {"keeps": [nearest]}})
    (fit,) = calibrate(session, job, job.cells()).values()
    assert sum(fit.counts[str(nearest)]) == nearest * DEPTH
    job = make({"fitprune": {"keeps": [nearest - 2]}})
    with pytest.raises(UserError, match="cannot keep"):
        calibrate(session, job, job.cells())


def test_a_last_count_that_no_rate_reaches_is_refused_or_met() -> None:
    def counts_at(alpha: float) -> list[float]:
        return [100.0, 100.0 - 40.0 * alpha, 100.0 - 40.0 * alpha - (30.0 if alpha >= 0.5 else 0.0)]

    with pytest.raises(UserError, match=r"goes down to 30 tokens after the last prune, not to 29"):
        counts_to_last(counts_at, 29)
    for k in (30, 31, 49, 55, 60, 79, 80, 99):
        counts = counts_to_last(counts_at, k)
        assert counts[-1] == k
        assert counts == sorted(counts, reverse=True)


def test_a_last_count_is_met_where_more_deletion_leaves_more() -> None:
    """Deleting changes what later layers attend to, so counts need not fall with the rate."""

    def counts_at(alpha: float) -> list[float]:
        wave = 9.0 * math.sin(40 * alpha)
        return [90.0, 90.0 - 50.0 * alpha, min(90.0 - 50.0 * alpha, 80.0 - 60.0 * alpha + wave)]

    for k in range(30, 80):
        counts = counts_to_last(counts_at, k)
        assert counts[-1] == k
        assert counts == sorted(counts, reverse=True)


# ---- by hand -------------------------------------------------------------------------------------------------------


def decode(adapter: Adapter, embeds: Tensor, leave: Callable[[int, Tensor, int], Tensor], n: int, first: int) -> Tensor:
    """Logits (v,) of an eager loop over the decoder's layers that cuts visual tokens by hand.

    `leave(layer, maps, v)` says which of v visual tokens go on after a layer, from its attention maps (heads, s, s).
    """
    language: Any = adapter.language
    hidden, at = embeds, torch.arange(embeds.shape[1])
    for index, layer in enumerate(adapter.layers):
        s = hidden.shape[1]
        mask = torch.full((s, s), torch.finfo(hidden.dtype).min).triu(1)[None, None]
        rotary = language.rotary_emb(hidden, at[None])
        block: Any = layer
        _, maps = block.self_attn(
            hidden_states=block.input_layernorm(hidden), position_embeddings=rotary, attention_mask=mask
        )
        hidden = block(hidden, attention_mask=mask, position_embeddings=rotary)
        left = leave(index, maps[0], n)
        stays = torch.cat([torch.arange(first), first + left, torch.arange(first + n, s)])
        hidden, at, n = hidden[:, stays], at[stays], len(left)
    return adapter.logits(language.norm(hidden)[0, -1])


def attended(maps: Tensor, first: int, n: int) -> tuple[list[float], list[float]]:
    """Cross and self scores of n visual tokens from maps (heads, s, s): maximum over heads, sums by hand."""
    highest = maps.max(0).values
    visual = range(first, first + n)
    cross = [math.fsum(float(highest[row, j]) for row in range(first + n, len(highest))) for j in visual]
    own = [math.fsum(float(highest[row, j]) for row in visual) / n for j in visual]
    return cross, own


def deletable(scores: list[float], total: float, alpha: float) -> set[int]:
    """The longest run of lowest scores without which the others keep 1 - alpha of the total; never all."""
    lowest = sorted(range(len(scores)), key=lambda j: scores[j])
    gone = max(
        (i for i in range(len(scores)) if math.fsum(scores[j] for j in lowest[i:]) >= (1 - alpha) * total), default=0
    )
    return set(lowest[:gone])


@pytest.fixture(scope="module")
def one(session: Session, tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, digits: Path) -> Any:
    """A job with one image, its eager model and the embeddings (1, s, d) of its first question, n tokens from `first`."""
    datasets = {NAME: {"source": str(digits / NAME), "limit": 1}}
    methods = {"fitprune": {"keeps": [60, 110]}, "vtw_search": {"eta": 0.02}}
    sweep = make_sweep(tiny_model, digits, datasets=datasets, methods=methods)
    job = make_job(tmp_path_factory.mktemp("one"), sweep, NAME)
    adapter = load_model(str(tiny_model), dtype="float32", device="cpu", attention="eager")
    ((photo, image),) = stages_open(job.first_photos(9))
    inputs = adapter.processor(images=image, text=adapter.chat(photo.docs[0].prompt), return_tensors="pt")
    visual = inputs["input_ids"] == adapter.config.image_token_id
    with torch.inference_mode():
        embeds = adapter.embed(inputs["input_ids"]).clone()
        embeds[visual] = adapter.encode(opened(adapter, [image])).projected[0]
    return job, adapter, embeds, int(visual[0].nonzero()[0])


@torch.inference_mode()
def test_fitprune_fits_what_a_loop_with_full_maps_fits(session: Session, one: Any) -> None:
    job, adapter, embeds, first = one
    everything = torch.arange(N)
    totals: list[tuple[float, float]] = []

    def look(_layer: int, maps: Tensor, n: int) -> Tensor:
        cross, own = attended(maps, first, n)
        totals.append((math.fsum(cross), math.fsum(own)))
        return everything

    decode(adapter, embeds, look, N, first)
    tried = []

    def counts_at(alpha: float) -> list[int]:
        counts = [N]

        def delete(layer: int, maps: Tensor, n: int) -> Tensor:
            if layer == DEPTH - 1:
                return everything[:n]
            cross, own = attended(maps, first, n)
            gone = deletable(cross, totals[layer][0], alpha) & deletable(own, totals[layer][1], alpha)
            counts.append(n - len(gone))
            return torch.tensor(sorted(set(range(n)) - gone))

        decode(adapter, embeds, delete, N, first)
        tried.append(alpha)
        return counts

    cells = job.cells("fitprune")
    (fit,) = calibrate(session, job, cells).values()
    assert counts_at(0.0) == [N] * DEPTH
    for keep, counts in fit.counts.items():
        assert counts == fitprune.fit(counts_at, float(keep))
    assert len(set(tried)) > 8


@torch.inference_mode()
def test_vtw_searches_what_a_loop_by_hand_finds(session: Session, one: Any) -> None:
    job, adapter, embeds, first = one
    everything = torch.arange(N)
    full = decode(adapter, embeds, lambda _layer, _maps, n: everything[:n], N, first).double().log_softmax(-1)
    found = DEPTH
    for withdrawn in reversed(range(1, DEPTH)):

        def leave(layer: int, _maps: Tensor, n: int, before: int = withdrawn) -> Tensor:
            return everything[:0] if layer == before - 1 else everything[:n]

        logp = decode(adapter, embeds, leave, N, first).double().log_softmax(-1)
        if float((logp.exp() * (logp - full)).sum()) <= 0.02:
            found = withdrawn
    (fit,) = calibrate(session, job, job.cells("vtw_search")).values()
    assert found < DEPTH
    assert list(fit.counts.values()) == [[N] * found + [0] * (DEPTH - found)]


# ---- images without numbers ----------------------------------------------------------------------------------------


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[bytes]]:
    """Images (by their pixels) whose features come out as NaN."""
    bad: set[bytes] = set()
    encode = Adapter.encode

    def with_nan(self: Adapter, seen: Opened, layers: Any = ()) -> Encoded:
        values = seen.pixels["pixel_values"].clone()
        for row in values:
            if row.numpy().tobytes() in bad:
                row.fill_(torch.nan)
        return encode(self, replace(seen, pixels={"pixel_values": values}), layers)

    monkeypatch.setattr(Adapter, "encode", with_nan)
    return bad


def test_images_without_numbers_are_left_out_of_the_fit(
    session: Session, make: Callable[..., Job], poisoned: set[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make(FITTED)
    photos = job.first_photos(64)
    with monkeypatch.context() as without:
        without.setattr(Job, "first_photos", lambda self, count: [*photos[:2], *photos[3:]][:count])
        expected = fits(session, job)
    ((_, image),) = stages_open([photos[2]])
    poisoned.add(opened(session.adapter, [image]).pixels["pixel_values"][0].numpy().tobytes())
    found = fits(session, job)
    assert found["lofi_adaptive"].params["targets"] == pytest.approx(expected["lofi_adaptive"].params["targets"])
    for name in ("fitprune", "fitprune_tokens", "vtw_search"):
        assert found[name].counts == expected[name].counts


@pytest.mark.parametrize("name", ["lofi_adaptive", "fitprune", "vtw_search"])
def test_without_any_image_to_fit_to_the_method_is_refused(
    session: Session, make: Callable[..., Job], poisoned: set[bytes], name: str
) -> None:
    job = make({name: FITTED[name]})
    for _, image in stages_open(job.first_photos(64)):
        poisoned.add(opened(session.adapter, [image]).pixels["pixel_values"][0].numpy().tobytes())
    with pytest.raises(UserError, match=rf"methods\.{name} has nothing to be calibrated on: none of the first"):
        calibrate(session, job, job.cells())
