"""Operations a second: from stored timings where a model has run before, else assumed."""

from collections.abc import Iterable
from dataclasses import dataclass

from lofi.methods.registry import get_reducer
from lofi.plan.asked import PICTURE
from lofi.plan.flops import Views, encode
from lofi.plan.shape import Shape
from lofi.plan.timings import Timing
from lofi.plan.work import Load, Work, stands_alone
from lofi.sweep import Sweep

TERA = 1e12
GPU = "A100"
PEAK = {"bfloat16": 312.0, "float16": 312.0, "float32": 19.5}  # TFLOP/s of that GPU
USED = 0.3  # of the peak
# The demo's 12 jobs of `reference` and `evaluate` took 1.52 times the seconds that their samples store.
UNTIMED = 0.5


@dataclass(frozen=True)
class Rates:
    """Operations a second of each stage whose time is stored."""

    vision: float
    prefill: float
    decode: float
    basis: str  # in words

    def seconds(self, work: Work) -> float:
        """What work takes, with the share that no stored timing covers."""
        timed = work.vision / self.vision + work.prefill / self.prefill + work.decode / self.decode
        return timed * (1 + UNTIMED)


def assumed(dtype: str) -> Rates:
    """A share of what one GPU can do at most in this type."""
    rate = USED * PEAK[dtype] * TERA
    return Rates(rate, rate, rate, f"{USED:.0%} of the {PEAK[dtype]:g} TFLOP/s of an {GPU} in {dtype} (assumed)")


def given(tflops: float) -> Rates:
    """What the user says."""
    rate = tflops * TERA
    return Rates(rate, rate, rate, f"{tflops:g} TFLOP/s (--tflops)")


def measured(sweep: Sweep, shape: Shape, timings: Iterable[Timing], device: str) -> Rates | None:
    """What stored cells of a model took; None where none of them tells.

    Decoding goes at the rate of prefill where nothing was generated yet.
    """
    known = {method.name: method for method in (*sweep.methods, sweep.method("full"), sweep.method("floor"))}
    done, spent = Work(), Work()
    for timing in timings:
        if timing.method not in known:
            continue
        scale = timing.visual / max(1.0, sum(timing.layers) / len(timing.layers))
        visual = [scale * count for count in timing.layers]
        method = known[timing.method]
        alone, inside = stands_alone(method), get_reducer(method.reducer).acts == "llm"
        load = Load(timing.images, timing.answers, alone, inside, visual, timing.text, timing.drawn)
        done += load.work(shape.decoder)
        spent += Work(0.0, timing.prefill_s, timing.decode_s if timing.drawn else 0.0)
        if timing.is_reference:
            done += Work(vision=timing.images * encode(shape.encoder, shape.projector, _views(shape, timing.n)))
            spent += Work(vision=timing.vision_s)
    if not spent.vision or not spent.prefill:
        return None
    rate = done.prefill / spent.prefill
    decode = done.decode / spent.decode if spent.decode else rate
    basis = f"stored timings on {device}, {_tflops(rate)} TFLOP/s in prefill"
    return Rates(done.vision / spent.vision, rate, decode, basis)


def _tflops(rate: float) -> str:
    return f"{rate / TERA:.2g}"


def _views(shape: Shape, n: int) -> Views:
    """What a picture became, of which only the tokens are stored."""
    return shape.views(*PICTURE) if shape.side else Views(1, n * shape.merge**2, n, n)
