"""What lofi must know of a model family: where its parts are. Nothing else in lofi names a family.

Every path is relative to the core (`model.model`), every entry was checked against transformers 5.23.
To add a family, describe it here and add its tiny configuration to the tests. No torch here: reading a config must
not import it, so functions are named and imported when a model is loaded.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from lofi.errors import UserError

TESTED_TRANSFORMERS = "5.23"


@dataclass(frozen=True)
class Encoder:
    """One kind of vision encoder, by the model_type of its configuration."""

    layers: str  # its list of layers, below the tower
    attention: str  # below a layer
    cls: int = 0  # tokens before the patches
    blocks: bool = False  # layers are built like CLIP's, so that tokens can merge inside
    tower: bool = False  # it is the visual half of a CLIP model, whose other half reads text into the same space


CLIP = Encoder(layers="encoder.layers", attention="self_attn", cls=1, blocks=True, tower=True)
SIGLIP = Encoder(layers="encoder.layers", attention="self_attn", blocks=True)
QWEN = Encoder(layers="blocks", attention="attn")

ENCODERS: dict[str, Encoder] = {
    "clip_vision_model": CLIP,
    "siglip_vision_model": SIGLIP,
    "internvl_vision": Encoder(layers="encoder.layer", attention="attention", cls=1),
    "idefics3_vision": SIGLIP,
    "smolvlm_vision": SIGLIP,
    "qwen2_vl_vision": QWEN,
    "qwen2_5_vl_vision": QWEN,
    "qwen3_vl_vision": QWEN,
}


@dataclass(frozen=True)
class Family:
    """Where the parts of one family are."""

    model_type: str
    tower: str  # the vision encoder
    projector: str  # the module whose input reducers see as `hidden`, whose output the LLM reads
    images: str  # how its visual tokens are laid out: a function of lofi.models.geometry
    groups: str = "one_to_one"  # which patches make a token: a function of lofi.models.geometry
    encoder: str | None = None  # the kind it is built with, a key of ENCODERS; None: only its configuration says
    feature_layer: int = -1  # whose output the projector reads, from the end, where the configuration says nothing
    language: str = "language_model"  # the decoder, which holds `layers` and the two modules below
    final_norm: str = "norm"
    rotary: str = "rotary_emb"
    attention: str = "self_attn"  # of a decoder layer, and the norm before it
    attention_norm: str = "input_layernorm"
    mlp: str = "mlp"  # of a decoder layer
    positions: Literal["1d", "mrope"] = "1d"
    both_ways: bool = False  # visual tokens of one image see each other both ways
    rotary_by_layer: bool = False  # layers of several kinds, each with a rotary embedding and a mask of its own
    deepstack: bool = False  # the decoder adds more features to visual tokens after its first layers
    after_projector: str | None = None  # a matrix below the core that follows the projector
    reads_patches: bool = False  # the projector reads the patches of a token one below the other
    free_size: bool = False  # the number of tokens follows the size of the image
    whole_tiles: bool = True  # every token of a tile is read; else its borders are cut off behind the projector

    @property
    def patchwise(self) -> bool:
        """Whether every token is one patch."""
        return self.groups == "one_to_one"

    def function(self, name: Literal["images", "groups"]) -> Any:
        """The function that the field names."""
        return getattr(import_module("lofi.models.geometry"), getattr(self, name))


def _qwen(model_type: str, **more: Any) -> Family:
    return Family(
        model_type,
        tower="visual",
        projector="visual.merger",
        images="merged_squares",
        groups="merged",
        encoder=f"{model_type}_vision",
        positions="mrope",
        reads_patches=True,
        free_size=True,
        **more,
    )


def _idefics(model_type: str) -> Family:
    return Family(
        model_type,
        tower="vision_model",
        projector="connector.modality_projection",
        images="marked_tiles",
        groups="connected",
        encoder=f"{model_type}_vision",
        language="text_model",
        free_size=True,
    )


def _llava(model_type: str, images: str, **more: Any) -> Family:
    return Family(model_type, tower="vision_tower", projector="multi_modal_projector", images=images, **more)


FAMILIES: dict[str, Family] = {
    family.model_type: family
    for family in (
        _llava("llava", "single_tiles", feature_layer=-2),
        _llava("llava_next", "packed_tiles", feature_layer=-2, free_size=True, whole_tiles=False),
        _llava("llava_onevision", "packed_tiles", free_size=True, whole_tiles=False),
        _qwen("qwen2_vl"),
        _qwen("qwen2_5_vl"),
        _qwen("qwen3_vl", deepstack=True),
        _llava("internvl", "runs_of_tiles", groups="shuffled", encoder="internvl_vision", free_size=True),
        _idefics("smolvlm"),
        _idefics("idefics3"),
        Family(
            "gemma3",
            tower="vision_tower",
            projector="multi_modal_projector.mm_soft_emb_norm",
            after_projector="multi_modal_projector.mm_input_projection_weight",
            images="single_tiles",
            groups="pooled",
            encoder="siglip_vision_model",
            both_ways=True,
            rotary_by_layer=True,
        ),
    )
}


def get_family(config: Mapping[str, Any], source: str) -> Family:
    """The family of a model's config.json, or an error that lists those lofi can drive."""
    model_type = str(config.get("model_type"))
    if model_type not in FAMILIES:
        raise UserError(
            f"model {source!r} has the architecture {model_type!r}, which lofi cannot drive; "
            f"supported: {', '.join(sorted(FAMILIES))}"
        )
    return FAMILIES[model_type]


def encoder_type(family: Family, vision: Mapping[str, Any], source: str) -> str:
    """The kind of a model's vision encoder, a key of ENCODERS, from the vision part of its configuration."""
    model_type = str(vision.get("model_type"))
    if model_type not in ENCODERS and family.encoder is not None:
        return family.encoder  # checkpoints of such families leave it out, or name the family in its place
    if model_type not in ENCODERS:
        raise UserError(
            f"model {source!r} has the vision encoder {model_type!r}, which lofi cannot drive; "
            f"supported: {', '.join(sorted(ENCODERS))}"
        )
    return model_type
