"""The architectures of the ten families, small enough to run in milliseconds and odd enough to show mistakes."""

from typing import Any

from transformers import (
    CLIPVisionConfig,
    Gemma3Config,
    Gemma3TextConfig,
    Idefics3Config,
    InternVLConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaNextConfig,
    LlavaOnevisionConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2Config,
    Qwen2VLConfig,
    Qwen3VLConfig,
    SiglipVisionConfig,
    SmolVLMConfig,
)

WIDTH = 64
HEAD = 16  # 4 heads of 16
PATCH = 4
SIDE = {
    "llava": 24,
    "llava_next": 12,
    "llava_onevision": 12,
    "internvl": 24,
    "smolvlm": 24,
    "idefics3": 24,
    "gemma3": 40,
}
PINPOINTS = [[12, 24], [24, 12], [24, 24], [12, 36], [36, 12]]  # rows x columns of pixels, in tiles of 12
ASPECT = "anyres_max_3"  # four tiles of OneVision are interpolated down, three are not


def text_settings(tokenizer: PreTrainedTokenizerFast, layers: int = 4) -> dict[str, Any]:
    """What all decoders have in common."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 96,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


def vision_settings(name: str, layers: int = 4) -> dict[str, Any]:
    """What the encoders with a fixed image size have in common."""
    return {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "image_size": SIDE[name],
        "patch_size": PATCH,
    }


def llava(tokenizer: PreTrainedTokenizerFast) -> LlavaConfig:
    """CLIP with a CLS token that the projector never sees, 36 tokens, Llama."""
    return LlavaConfig(
        vision_config=CLIPVisionConfig(**vision_settings("llava")),
        text_config=LlamaConfig(**text_settings(tokenizer, 6), tie_word_embeddings=False),
        image_token_index=tokenizer.image_token_id,
        image_seq_length=36,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )


def llava_next(tokenizer: PreTrainedTokenizerFast) -> LlavaNextConfig:
    """CLIP on tiles of 3 x 3 tokens, Mistral."""
    return LlavaNextConfig(
        vision_config=CLIPVisionConfig(**vision_settings("llava_next")),
        text_config=MistralConfig(**text_settings(tokenizer), sliding_window=None, tie_word_embeddings=False),
        image_token_index=tokenizer.image_token_id,
        image_grid_pinpoints=PINPOINTS,
        image_seq_length=9,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )


def llava_onevision(tokenizer: PreTrainedTokenizerFast) -> LlavaOnevisionConfig:
    """SigLIP (no CLS) on tiles of 3 x 3 tokens, Qwen2."""
    return LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**vision_settings("llava_onevision"), vision_use_head=False),
        text_config=Qwen2Config(**text_settings(tokenizer), tie_word_embeddings=False),
        image_token_index=tokenizer.image_token_id,
        video_token_index=tokenizer.video_token_id,
        image_grid_pinpoints=PINPOINTS,
        vision_aspect_ratio=ASPECT,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )


def qwen_tokens(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """The special tokens that Qwen's configurations name."""
    return {
        "image_token_id": tokenizer.image_token_id,
        "video_token_id": tokenizer.video_token_id,
        "vision_start_token_id": tokenizer.vision_bos_token_id,
        "vision_end_token_id": tokenizer.vision_eos_token_id,
        "tie_word_embeddings": False,
    }


def rope(*sections: int, **more: Any) -> dict[str, Any]:
    """Rotary settings: how many frequencies of time, row and column."""
    return {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": list(sections), **more}


def qwen_vision(**more: Any) -> dict[str, Any]:
    """What Qwen's encoders have in common: any size in steps of 8 pixels, 2 x 2 patches a token."""
    return {"depth": 4, "num_heads": 4, "patch_size": PATCH, "spatial_merge_size": 2, "temporal_patch_size": 2, **more}


def qwen2_vl(tokenizer: PreTrainedTokenizerFast) -> Qwen2VLConfig:
    """Full attention in the encoder, three-axis positions."""
    return Qwen2VLConfig(
        vision_config=qwen_vision(embed_dim=32, hidden_size=WIDTH, mlp_ratio=2),
        text_config={**text_settings(tokenizer), "rope_parameters": rope(2, 3, 3)},
        **qwen_tokens(tokenizer),
    )


def qwen2_5_vl(tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLConfig:
    """Windows of 2 x 2 tokens in layers 0 and 2, full attention in 1 and 3."""
    vision = qwen_vision(
        hidden_size=32, out_hidden_size=WIDTH, intermediate_size=64, window_size=16, fullatt_block_indexes=[1, 3]
    )
    return Qwen2_5_VLConfig(
        vision_config=vision,
        text_config={**text_settings(tokenizer), "rope_parameters": rope(2, 3, 3)},
        **qwen_tokens(tokenizer),
    )


def qwen3_vl(tokenizer: PreTrainedTokenizerFast) -> Qwen3VLConfig:
    """Features of encoder layers 0, 1 and 2 join the decoder after its layers 0, 1 and 2."""
    vision = qwen_vision(
        hidden_size=32,
        out_hidden_size=WIDTH,
        intermediate_size=64,
        num_position_embeddings=36,
        deepstack_visual_indexes=[0, 1, 2],
    )
    text = {**text_settings(tokenizer, 6), "head_dim": HEAD, "rope_parameters": rope(4, 2, 2, mrope_interleaved=True)}
    return Qwen3VLConfig(vision_config=vision, text_config=text, **qwen_tokens(tokenizer))


def internvl(tokenizer: PreTrainedTokenizerFast) -> InternVLConfig:
    """Tiles of 6 x 6 patches and a CLS, shuffled to 3 x 3 tokens, Qwen2."""
    return InternVLConfig(
        vision_config={**vision_settings("internvl"), "attention_bias": True, "layer_scale_init_value": 0.5},
        text_config=Qwen2Config(**text_settings(tokenizer), tie_word_embeddings=False),
        image_token_id=tokenizer.context_image_token_id,
        image_seq_length=9,
        downsample_ratio=0.5,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
    )


def smolvlm(tokenizer: PreTrainedTokenizerFast) -> SmolVLMConfig:
    """Tiles of 6 x 6 patches, shuffled to 9 tokens, Llama."""
    return SmolVLMConfig(
        vision_config=vision_settings("smolvlm"),
        text_config=LlamaConfig(**text_settings(tokenizer), tie_word_embeddings=False),
        image_token_id=tokenizer.image_token_id,
        scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
    )


def idefics3(tokenizer: PreTrainedTokenizerFast) -> Idefics3Config:
    """As SmolVLM."""
    return Idefics3Config(
        vision_config=vision_settings("idefics3"),
        text_config=LlamaConfig(**text_settings(tokenizer), tie_word_embeddings=False),
        image_token_id=tokenizer.image_token_id,
        scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
    )


def gemma3(tokenizer: PreTrainedTokenizerFast) -> Gemma3Config:
    """SigLIP with 10 x 10 patches pooled to 25 tokens; windows longer than the prompts, one full layer, tied head."""
    text = Gemma3TextConfig(
        **text_settings(tokenizer),
        head_dim=HEAD,
        query_pre_attn_scalar=HEAD,
        sliding_window=512,
        layer_types=["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
    )
    return Gemma3Config(
        vision_config=SiglipVisionConfig(**vision_settings("gemma3"), vision_use_head=False),
        text_config=text,
        mm_tokens_per_image=25,
        image_token_index=tokenizer.image_token_id,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
    )


CONFIGS = {
    "llava": llava,
    "llava_next": llava_next,
    "llava_onevision": llava_onevision,
    "qwen2_vl": qwen2_vl,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_vl": qwen3_vl,
    "internvl": internvl,
    "smolvlm": smolvlm,
    "idefics3": idefics3,
    "gemma3": gemma3,
}


def config(name: str, tokenizer: PreTrainedTokenizerFast) -> PreTrainedConfig:
    """The family's configuration, around the token ids of its tokenizer."""
    return CONFIGS[name](tokenizer)
