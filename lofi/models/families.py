"""What lofi must know of a model family: where its parts are. Nothing else in lofi names a family.

Every path is relative to the core (`model.model`), every entry was checked against transformers 5.23.
To add a family, describe it here and add its tiny configuration to the tests.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lofi.errors import UserError

TESTED_TRANSFORMERS = "5.23"


@dataclass(frozen=True)
class Family:
    """Where the parts of one family are."""

    model_type: str
    tower: str  # the vision encoder
    encoder_layers: str  # its list of layers, each with the two projections below
    query_proj: str
    key_proj: str
    projector: str  # the module whose input reducers see as `hidden`, whose output the LLM reads
    language: str  # the decoder, which holds `layers` and the two modules below
    final_norm: str = "norm"
    rotary: str = "rotary_emb"
    attention: str = "self_attn"  # of a decoder layer, and the norm before it
    attention_norm: str = "input_layernorm"
    positions: Literal["1d", "mrope"] = "1d"
    causal_visual: bool = True  # a visual token never sees the question, so its prefix can be shared


FAMILIES: dict[str, Family] = {
    "llava": Family(
        model_type="llava",
        tower="vision_tower",
        encoder_layers="vision_tower.encoder.layers",
        query_proj="self_attn.q_proj",
        key_proj="self_attn.k_proj",
        projector="multi_modal_projector",
        language="language_model",
    ),
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
