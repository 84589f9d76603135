"""The optimisation loop of every stage: resumable from safetensors checkpoints, the same whether killed or not."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from lofi.errors import UserError
from lofi.store import replacing

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


def save_checkpoint(path: Path, step: int, network: nn.Module, optimiser: Optimizer) -> None:
    """Write all that training goes on from, whole or not at all: tensors, and the number of steps done."""
    tensors = {f"weights.{name}": tensor for name, tensor in network.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": tensor for name, tensor in state.items()}
    # copies, because safetensors refuses weights that share their memory, such as those of tied embeddings
    copies = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    with replacing(path) as temporary:
        save_file(copies, temporary, metadata={"step": str(step)})


def load_checkpoint(path: Path, network: nn.Module, optimiser: Optimizer) -> int:
    """Put a network and its optimiser back where `save_checkpoint` found them; returns the steps done then."""
    try:
        with safe_open(path, framework="pt") as file:
            step = int(file.metadata()["step"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- it is no mapping
        state: dict[int, dict[str, Tensor]] = {}
        for name in sorted(name for name in tensors if name.startswith("optimiser.")):
            _, index, field = name.split(".")
            state.setdefault(int(index), {})[field] = tensors.pop(name)
        network.load_state_dict({name.removeprefix("weights."): tensor for name, tensor in tensors.items()})
        # what is no tensor, such as the betas, comes from the schedule and not from the file
        optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    except (SafetensorError, OSError, TypeError, KeyError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"checkpoint {path} cannot be read ({reason}); remove it to train this stage again") from None
    return step


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
    done = load_checkpoint(checkpoint, network, optimiser) if checkpoint.exists() else 0
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
            save_checkpoint(checkpoint, done, network, optimiser)
    return done


def generator_of(*numbers: int) -> torch.Generator:
    """A generator that depends on these numbers only (seed, stage, step)."""
    state = 0x9E3779B9
    for number in numbers:
        state = (state * 6364136223846793005 + number + 1442695040888963407) % 2**63
    return torch.Generator().manual_seed(state)
