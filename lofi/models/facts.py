"""What a model's files tell without loading it: its folder, family, grid and fingerprint. No torch here."""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any

from lofi.errors import UserError, unknown
from lofi.models.families import ENCODERS, Encoder, Family, encoder_type, get_family

EMBEDDED = "embedded:"
ASSETS = Path(__file__).parent.parent / "assets"
_BLOCK = 1 << 20
# What comes of looking for a number in a config that has something else there, or nothing.
UNREADABLE = (AttributeError, LookupError, TypeError, ValueError, ArithmeticError, OSError, StopIteration)
# Configs on the hub leave out what equals transformers' default; LLaVA-1.5 leaves out the depth of its decoder.
DEFAULT_DEPTH = {
    "llama": 32,
    "mistral": 32,
    "qwen2": 32,
    "qwen2_vl_text": 80,
    "qwen2_5_vl_text": 80,
    "qwen3_vl_text": 32,
    "gemma3_text": 26,
}
DEFAULT_VISION = {
    "clip_vision_model": {"image_size": 224, "patch_size": 32, "hidden_size": 768, "num_hidden_layers": 12},
    "siglip_vision_model": {"image_size": 224, "patch_size": 16, "hidden_size": 768, "num_hidden_layers": 12},
    "internvl_vision": {"image_size": 448, "patch_size": 14, "hidden_size": 1024, "num_hidden_layers": 24},
    "idefics3_vision": {"image_size": 224, "patch_size": 32, "hidden_size": 1152, "num_hidden_layers": 12},
    "smolvlm_vision": {"image_size": 224, "patch_size": 32, "hidden_size": 1152, "num_hidden_layers": 12},
    "qwen2_vl_vision": {"embed_dim": 1280, "depth": 32},
    "qwen2_5_vl_vision": {"hidden_size": 3584, "depth": 32},
    "qwen3_vl_vision": {"hidden_size": 1152, "depth": 27},
}
DEFAULT_MERGING = {"mm_tokens_per_image": 256, "downsample_ratio": 0.5, "scale_factor": 2}

# By `Family.groups`: how many tokens stand along a side of so many patches. Those that are not here follow the image.
SIDES: dict[str, Callable[[Mapping[str, Any], int], int]] = {
    "one_to_one": lambda _config, patches: patches,
    "pooled": lambda config, _patches: isqrt(config["mm_tokens_per_image"]),
    "shuffled": lambda config, patches: int(patches * config["downsample_ratio"]),
    "connected": lambda config, patches: patches // int(config["scale_factor"]),
}


@dataclass(frozen=True)
class Facts:
    """One model, as far as its config.json tells."""

    family: Family
    encoder: Encoder
    grid: tuple[int, int] | None  # of an image, or of each of its tiles; None where it follows the image
    n_visual: int | None  # of an image; None where it follows the image
    encoder_width: int
    encoder_depth: int
    feature_layer: int | None  # the encoder layer, from the end, whose output the projector reads
    depth: int | None  # layers of the decoder


def read_object(path: Path) -> dict[str, Any]:
    """One of the JSON files of a checkpoint."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON ({error}); copy the checkpoint again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds {type(content).__name__}, not an object; copy the checkpoint again")
    return content


def model_folder(source: str, revision: str | None) -> Path | None:
    """The local folder of a model, or None for a hub model that is not in the local cache yet."""
    if source.startswith(EMBEDDED):
        name = source.removeprefix(EMBEDDED)
        shipped = sorted(path.parent.name for path in ASSETS.glob("*/config.json"))
        if name not in shipped:
            raise unknown("embedded model", name, shipped)
        return ASSETS / name
    try:
        folder = Path(source).expanduser()
        if (folder / "config.json").is_file():
            return folder
        if folder.is_dir() or source.startswith((".", "/", "~")) or source.count("/") != 1:
            raise ValueError(f"{folder} is no folder with a config.json")
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(source, "config.json", revision=revision)
    except (OSError, ValueError, RuntimeError):  # a name that is none, of a file, of a user or for the hub
        raise UserError(
            f"model source {source!r} is no folder with a config.json; give such a folder, a hub id like "
            f"'llava-hf/llava-1.5-7b-hf', or '{EMBEDDED}<name>'"
        ) from None
    return Path(cached).parent if isinstance(cached, str) else None


def local_folder(source: str, revision: str | None) -> Path:
    """The folder of a model that is wholly on this machine, or an error that says how it gets there."""
    folder = model_folder(source, revision)
    if folder is None:
        raise UserError(f"model {source!r} is not on this machine; run `lofi prepare --model` where there is a network")
    if missing := missing_weights(folder):
        raise UserError(
            f"model {source!r} is on this machine without {missing[0]}, and lofi loads weights from safetensors only; "
            "for a model of the hub run `lofi prepare --model` where there is a network"
        )
    return folder


def missing_weights(folder: Path) -> list[str]:
    """The weight files that a model's folder should have and has not; a download may have been killed."""
    index = folder / "model.safetensors.index.json"
    files = read_object(index).get("weight_map") if index.is_file() else {"weight": "model.safetensors"}
    if not isinstance(files, dict) or not all(isinstance(name, str) for name in files.values()):
        raise UserError(
            f"{index} has no weight_map, which says in which file each weight is; copy the checkpoint again"
        )
    named = set(files.values())
    return sorted(name for name in named if not (folder / name).is_file())


def check_pixel_limits(source: str, folder: Path, names: Collection[str]) -> None:
    """Refuse min_pixels or max_pixels, as `names` has them, for a processor that has no use for them."""
    if names and not _follows_size(folder):
        raise UserError(
            f"model {source!r} has {' and '.join(names)}, but its processor brings images to fixed sizes, whatever "
            "theirs; remove them"
        )


def _follows_size(folder: Path) -> bool:
    """Whether the processor lets an image keep its size between a least and a most number of pixels."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (folder / name).is_file():
            config = read_object(folder / name)
            config = _mapping(config.get("image_processor")) or config
            # two edges, which are numbers of pixels: Qwen's processors, and those that come from them
            size = _mapping(config.get("size"))
            return {"min_pixels", "max_pixels"} <= config.keys() or {"shortest_edge", "longest_edge"} <= size.keys()
    return False


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def read_facts(source: str, revision: str | None) -> Facts | None:
    """Facts of the model, or None where its files are not on this machine yet."""
    folder = model_folder(source, revision)
    if folder is None:
        return None
    config = read_object(folder / "config.json")
    try:
        return facts_of(config, source)
    except UNREADABLE as error:
        raise UserError(
            f"model {source!r} has a config.json that lofi cannot read ({type(error).__name__}: {error}); give it as "
            "the checkpoint's authors publish it"
        ) from None


def facts_of(config: Mapping[str, Any], source: str) -> Facts:
    """Facts of a model's configuration, whether it leaves out defaults or not."""
    family, given = get_family(config, source), config.get("vision_config", {})
    kind = encoder_type(family, given, source)
    vision, text = {**DEFAULT_VISION[kind], **given}, config.get("text_config", {})
    grid, depth = _grid(family, {**DEFAULT_MERGING, **config}, vision), _either(vision, "depth", "num_hidden_layers")
    # older checkpoints have the decoder's numbers beside the encoder's configuration
    layers = text.get("num_hidden_layers", config.get("num_hidden_layers"))
    return Facts(
        family=family,
        encoder=ENCODERS[kind],
        grid=grid,
        n_visual=None if grid is None or family.free_size else grid[0] * grid[1],
        encoder_width=_either(vision, "embed_dim", "hidden_size"),
        encoder_depth=depth,
        feature_layer=_feature_layer(config.get("vision_feature_layer", family.feature_layer), depth),
        depth=DEFAULT_DEPTH.get(str(text.get("model_type"))) if layers is None else layers,
    )


def tower_width(source: str) -> int | None:
    """The width of the vision encoder of a CLIP model, or None where its files are not on this machine yet."""
    folder = model_folder(source, None)
    if folder is None:
        return None
    config = read_object(folder / "config.json")
    if config.get("model_type") != "clip":
        raise UserError(f"text_tower {source!r} has the architecture {config.get('model_type')!r}; give a CLIP model")
    try:
        return int(config["vision_config"]["hidden_size"])
    except UNREADABLE:
        raise UserError(f"text_tower {source!r} has no hidden_size of its vision_config; give a CLIP model") from None


def fingerprint(source: str, revision: str | None) -> str:
    """The revision that cell keys carry: the hub commit, or a hash over the folder's every byte."""
    folder = local_folder(source, revision)
    if folder.parent.name == "snapshots":  # the hub cache names the folder by its commit
        return folder.name
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.suffix in {".json", ".safetensors", ".jinja"}):
        digest.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()[:40]


def _grid(family: Family, config: Mapping[str, Any], vision: Mapping[str, Any]) -> tuple[int, int] | None:
    """Rows and columns of the tokens of an image or a tile, where all have the same."""
    if family.groups not in SIDES or not family.whole_tiles:
        return None
    pixels, patch = _two(vision["image_size"]), _two(vision["patch_size"])
    rows, columns = (SIDES[family.groups](config, pixels[i] // patch[i]) for i in range(2))
    return rows, columns


def _either(entries: Mapping[str, Any], *names: str) -> int:
    """The number that goes by one of the names, the first of which counts."""
    return next(int(entries[name]) for name in names if name in entries)


def _two(size: Any) -> tuple[int, int]:
    """Height and width of what may be given as one number."""
    height, width = size if isinstance(size, list | tuple) else (size, size)
    return height, width


def _feature_layer(layer: object, depth: int | None) -> int | None:
    """A layer of the hidden states, whose first are the embeddings, as one of `depth` encoder layers from the end."""
    if not isinstance(layer, int):
        return None  # several layers side by side
    if layer < 0:
        return layer
    return None if depth is None else layer - 1 - depth
