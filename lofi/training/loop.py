"""The optimisation loop of every stage: resumable from plain-tensor checkpoints, the same whether killed or not."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Schedule:
    """How long a stage trains and how fast: linear warm-up, constant rate, linear decay to a hundredth."""

    steps: int
    rate: float
    batch: int = 8  # pictures a step
    warmup: int = 100
    decay: int = 0  # how many of the last steps decay
    weight_decay: float = 0.01
    save_every: int = 200
    report_every: int = 200

    def rate_at(self, step: int) -> float:
        """The learning rate of a step."""
        rise = min(1.0, (step + 1) / max(1, self.warmup))
        fall = min(1.0, (self.steps - step) / max(1, self.decay)) if self.decay else 1.0
        return self.rate * rise * max(fall, 0.01)


def save_tensors(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain values whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(path.suffix + ".part")
    torch.save(content, temporary)
    os.replace(temporary, path)


def load_tensors(path: Path) -> dict[str, Any]:
    """Read what `save_tensors` wrote; never unpickles code."""
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return content


def fit(
    network: nn.Module,
    loss_of: Callable[[int], Tensor],
    *,
    schedule: Schedule,
    checkpoint: Path,
    report: Callable[[], dict[str, float]] | None = None,
    stop_after: int | None = None,
) -> int:
    """Train `network` in place up to `schedule.steps`, going on from `checkpoint` if there is one.

    loss_of: the loss of a step; it must depend on the step number and the weights only, so that a resumed run
    repeats an uninterrupted one. stop_after: stop early at this step, as a kill would. Returns the steps done.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, betas=(0.9, 0.98), weight_decay=schedule.weight_decay, fused=True)
    done = _resume(checkpoint, network, optimiser)
    end = schedule.steps if stop_after is None else min(schedule.steps, stop_after)
    bar = tqdm(range(done, end), initial=done, total=schedule.steps, desc=checkpoint.stem, mininterval=5)
    for step in bar:
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate_at(step)
        optimiser.zero_grad(set_to_none=True)
        loss = loss_of(step)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        done = step + 1
        if done % 20 == 0:
            bar.set_postfix(loss=f"{loss.item():.3f}")
        if report is not None and (done % schedule.report_every == 0 or done == end):
            text = " ".join(f"{name}={value:.3f}" for name, value in report().items())
            log.info("%s step %d loss %.3f %s", checkpoint.stem, done, loss.item(), text)
        if done % schedule.save_every == 0 or done == schedule.steps:
            save_tensors(
                checkpoint, {"step": done, "weights": network.state_dict(), "optimiser": optimiser.state_dict()}
            )
    return done


def _resume(checkpoint: Path, network: nn.Module, optimiser: torch.optim.Optimizer) -> int:
    if not checkpoint.exists():
        return 0
    state = load_tensors(checkpoint)
    network.load_state_dict(state["weights"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])


def generator_of(*numbers: int) -> torch.Generator:
    """A generator that depends on these numbers only (seed, stage, step)."""
    state = 0x9E3779B9
    for number in numbers:
        state = (state * 6364136223846793005 + number + 1442695040888963407) % 2**63
    return torch.Generator().manual_seed(state)
