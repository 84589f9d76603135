"""A prepared dataset and a sweep over it, for tests of the engine."""

from pathlib import Path
from typing import Any

from lofi.config import from_dict
from lofi.data.prepare import prepare
from lofi.data.registry import get_card
from lofi.engine.job import Job, open_job
from lofi.sweep import Sweep

METHODS: dict[str, Any] = {
    "random": {"seeds": [0, 1]},
    "grid_1d": {},
    "grid_2d": {},
    "pool": {},
    "fastervlm": {},
    "divprune": {},
    "lofi": {},
    "lofi_kept": {"reducer": "lofi", "positions": "kept"},
    "lofi_residual": {"reducer": "lofi", "score": "residual"},
}


def make_sweep(model: Path, digits: Path, **changes: Any) -> Sweep:
    """One model, three datasets, every reducer, two keeps."""
    config: dict[str, Any] = {
        "models": {"tiny": {"source": str(model), "batch_images": 4}},
        "datasets": {name: {"source": str(digits / name)} for name in ("digits-pope", "digits-sqa", "digits-vqa")},
        "methods": METHODS,
        "keeps": [0.25, 9],
    }
    return from_dict({**config, **changes})


def make_job(results: Path, sweep: Sweep, dataset: str, shard: int = 0, model: str = "tiny") -> Job:
    """A job whose dataset is prepared."""
    spec = sweep.dataset(dataset)
    folder = results / "data" / dataset
    if not folder.exists():
        prepare(get_card(dataset), folder, limit=spec.limit, prompt_style=spec.prompt_style, source=spec.source)
    return open_job(results, sweep, model, dataset, shard)
