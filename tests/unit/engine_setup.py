"""A prepared dataset and a sweep over it, for tests of the engine."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lofi.config import from_dict
from lofi.data.prepare import prepare
from lofi.data.registry import get_card
from lofi.engine.job import Job, open_job
from lofi.methods.registry import METHODS as REDUCERS
from lofi.models.adapter import Adapter
from lofi.models.opened import Opened, open_picture, together
from lofi.sweep import Sweep

# Every reducer that the tiny model can run; those inside the LLM to a count, which any keep can ask for.
METHODS: dict[str, Any] = {
    **{
        name: {"budget": "tokens"} if reducer.schedule and reducer.count != "own" else {}
        for name, reducer in REDUCERS.items()
        if name not in ("full", "vtw") and "tower" not in reducer.needs
    },
    "random": {"seeds": [0, 1]},
    "fitprune": {"keeps": [0.6]},
    "vtw": {"keeps": [0.4]},
    "vtw_search": {"eta": 0.01},
    "tome_vit": {"keeps": [0.5]},
    "pyramiddrop_mean": {"reducer": "pyramiddrop", "keeps": [0.6]},
    "lofi_kept": {"reducer": "lofi", "positions": "kept"},
    "lofi_residual": {"reducer": "lofi", "score": "residual"},
    "fastv_reindexed": {"reducer": "fastv", "positions": "reindexed", "budget": "tokens"},
    "sparsevlm_kept": {"reducer": "sparsevlm", "positions": "kept", "budget": "tokens"},
    "pyramiddrop_kept": {"reducer": "pyramiddrop", "positions": "kept", "budget": "tokens"},
    "holov_kept": {"reducer": "holov", "positions": "kept"},
    "visionzip_kept": {"reducer": "visionzip", "positions": "kept"},
}


def random_image(seed: int) -> Image.Image:
    """Noise of the size that the tiny model reads."""
    pixels = np.random.default_rng(seed).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def opened(adapter: Adapter, images: Sequence[Image.Image]) -> Opened:
    """Images of one size in front of some question."""
    return together([open_picture(adapter, image, "What is in the image?") for image in images])


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
        prepare(get_card(spec.card_name), folder, limit=spec.limit, prompt_style=spec.prompt_style, source=spec.source)
    return open_job(results, sweep, model, dataset, shard)
