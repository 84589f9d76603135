"""What a model's files tell without loading it: its folder, family, grid and fingerprint. No torch here."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lofi.errors import UserError, unknown
from lofi.models.families import get_family

EMBEDDED = "embedded:"
ASSETS = Path(__file__).parent.parent / "assets"
_BLOCK = 1 << 20
# Configs on the hub leave out what equals transformers' default for the decoder, and LLaVA-1.5 leaves out its depth.
DEFAULT_DEPTH = {"llama": 32, "mistral": 32, "qwen2": 32}


@dataclass(frozen=True)
class Facts:
    """One model, as far as its config.json tells."""

    family: str
    grid: tuple[int, int] | None  # None where it depends on the image
    n_visual: int | None
    has_cls: bool
    encoder: str  # model_type of the vision encoder
    encoder_width: int | None
    encoder_depth: int | None
    feature_layer: int | None  # the encoder layer, from the end, whose output the projector reads
    depth: int | None  # layers of the decoder


def model_folder(source: str, revision: str | None) -> Path | None:
    """The local folder of a model, or None for a hub model that is not in the local cache yet."""
    if source.startswith(EMBEDDED):
        name = source.removeprefix(EMBEDDED)
        shipped = sorted(path.parent.name for path in ASSETS.glob("*/config.json"))
        if name not in shipped:
            raise unknown("embedded model", name, shipped)
        return ASSETS / name
    folder = Path(source).expanduser()
    if (folder / "config.json").is_file():
        return folder
    if folder.is_dir() or source.startswith((".", "/", "~")) or source.count("/") != 1:
        raise UserError(
            f"model source {source!r} is no folder with a config.json; give such a folder, a hub id like "
            f"'llava-hf/llava-1.5-7b-hf', or '{EMBEDDED}<name>'"
        )
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(source, "config.json", revision=revision)
    return Path(cached).parent if isinstance(cached, str) else None


def read_facts(source: str, revision: str | None) -> Facts | None:
    """Facts of the model, or None where its files are not on this machine yet."""
    folder = model_folder(source, revision)
    if folder is None:
        return None
    try:
        config = json.loads((folder / "config.json").read_text())
    except ValueError as error:
        raise UserError(f"model {source!r} has a config.json that is no JSON: {error}") from None
    family = get_family(config, source)
    vision, text = config.get("vision_config", {}), config.get("text_config", {})
    grid = _grid(vision)
    return Facts(
        family=family.model_type,
        grid=grid,
        n_visual=grid[0] * grid[1] if grid else None,
        has_cls=vision.get("model_type") == "clip_vision_model",
        encoder=str(vision.get("model_type")),
        encoder_width=vision.get("hidden_size"),
        encoder_depth=vision.get("num_hidden_layers"),
        feature_layer=_feature_layer(config.get("vision_feature_layer", -2), vision.get("num_hidden_layers")),
        depth=text.get("num_hidden_layers", DEFAULT_DEPTH.get(text.get("model_type"))),
    )


def tower_width(source: str) -> int | None:
    """The width of the vision encoder of a CLIP model, or None where its files are not on this machine yet."""
    folder = model_folder(source, None)
    if folder is None:
        return None
    config = json.loads((folder / "config.json").read_text())
    if config.get("model_type") != "clip":
        raise UserError(f"text_tower {source!r} has the architecture {config.get('model_type')!r}; give a CLIP model")
    return int(config["vision_config"]["hidden_size"])


def fingerprint(source: str, revision: str | None) -> str:
    """The revision that cell keys carry: the hub commit, or a hash over the folder's every byte."""
    folder = model_folder(source, revision)
    if folder is None:
        raise UserError(f"model {source!r} is not on this machine; run `lofi prepare --model` where there is a network")
    if folder.parent.name == "snapshots":  # the hub cache names the folder by its commit
        return folder.name
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.suffix in {".json", ".safetensors", ".jinja"}):
        digest.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()[:40]


def _grid(vision: dict[str, Any]) -> tuple[int, int] | None:
    size, patch = vision.get("image_size"), vision.get("patch_size")
    if not isinstance(size, int) or not isinstance(patch, int):
        return None
    return size // patch, size // patch


def _feature_layer(layer: object, depth: int | None) -> int | None:
    """A layer of the hidden states, whose first are the embeddings, as one of `depth` encoder layers from the end."""
    if not isinstance(layer, int):
        return None  # several layers side by side
    if layer < 0:
        return layer
    return None if depth is None else layer - 1 - depth
