"""A random LLaVA with the proportions of LLaVA-1.5-7B, small enough for a CPU, and images with questions to ask it.

576 visual tokens behind 35 tokens of text, questions of 25 tokens, a decoder 1,024 wide, an encoder whose pass over an
image costs about a tenth of a whole prompt's pass through the decoder.
"""

import hashlib
import io
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava.processing_llava import LlavaProcessor

from lofi.data.docs import Doc
from lofi.engine.columns import Constants
from lofi.engine.photo import Photo
from lofi.engine.session import Session
from lofi.models.adapter import Adapter
from lofi.models.families import get_family

sys.path.append(str(Path(__file__).parent.parent))  # the tokenizer is that of the tests' tiny models

from tests.families import processors

SIDE, PATCH = 336, 14
WIDTH, DEPTH = 1024, 8
BEFORE, ASKED = 35, 25  # tokens of text before the image, and behind it
WORDS = ["Is", "there", "a", "red", "number", "in", "the", "image", "to", "the", "left", "of", "it"]


def made_processor() -> LlavaProcessor:
    """Words as tokens; a system text that fills the prompt up to BEFORE tokens."""
    system = " ".join(WORDS[i % len(WORDS)] for i in range(BEFORE - 3))  # <s> USER :
    template = (
        system + "{% for message in messages %} USER: <image>{% for part in message['content'] %}"
        "{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %} ASSISTANT:"
    )
    return LlavaProcessor(
        image_processor=CLIPImageProcessorPil(
            size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}, **processors.SETTINGS
        ),
        tokenizer=processors.build_tokenizer("llava"),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    )


def made_model(
    depth: int = DEPTH, *, width: int = WIDTH, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> Adapter:
    """The model with weights from a seed."""
    processor = made_processor()
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=512,
            intermediate_size=2048,
            num_hidden_layers=max(2, round(0.4 * depth)),
            num_attention_heads=8,
            image_size=SIDE,
            patch_size=PATCH,
        ),
        text_config=LlamaConfig(
            vocab_size=32_000,
            hidden_size=width,
            intermediate_size=width * 43 // 16,
            num_hidden_layers=depth,
            num_attention_heads=16 * width // WIDTH,
            num_key_value_heads=16 * width // WIDTH,
            max_position_embeddings=4096,
            tie_word_embeddings=False,
        ),
        image_token_index=processor.tokenizer.image_token_id,
        image_seq_length=(SIDE // PATCH) ** 2,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = LlavaForConditionalGeneration(config).eval().requires_grad_(False).to(dtype)
    model.generation_config.do_sample = False
    return Adapter(model, processor, get_family(config.to_dict(), "made"))


def made_session(adapter: Adapter, batch_images: int) -> Session:
    """The model at work on questions whose answers are options."""
    names = ("run_id", "model", "model_revision", "dataset", "split", "dataset_revision", "prompt_style")
    names += ("template_hash", "image_mode", "dtype", "weights", "attn_impl", "device")
    return Session(adapter, Constants(dict.fromkeys(names, "made"), len(adapter.layers), batch_images))


def made_photos(images: int, questions: int) -> list[Photo]:
    """Noise in blocks, so that neighbouring patches differ; every question has ASKED tokens."""
    return [_photo(number, questions) for number in range(images)]


def _photo(number: int, questions: int) -> Photo:
    draw = np.random.default_rng(number)
    blocks = draw.integers(0, 256, (12, 12, 3), dtype=np.uint8)
    pixels = np.kron(blocks, np.ones((SIDE // 12, SIDE // 12, 1), dtype=np.uint8))
    file = io.BytesIO()
    Image.fromarray(pixels + draw.integers(0, 9, pixels.shape, dtype=np.uint8)).save(file, "PNG")
    content = file.getvalue()
    key = hashlib.sha256(content).hexdigest()
    return Photo(key, content, tuple(_doc(key, number, j) for j in range(questions)))


def _doc(image_hash: str, image: int, number: int) -> Doc:
    draw = np.random.default_rng((image, number))
    prompt = " ".join(draw.choice(WORDS, ASKED - 3)) + "?"  # and ASSISTANT :
    name = f"{image}-{number}"
    return Doc(
        sample_id=name,
        group_id=name,
        figure_id=None,
        cluster_id=str(image),
        image_hash=image_hash,
        image_hashes=(image_hash,),
        doc_hash=name,
        category=None,
        l2_category=None,
        question=prompt,
        options=("yes", "no"),
        option_labels=("yes", "no"),
        target="yes",
        targets=("yes",),
        task_type="yesno",
        prompt=prompt,
        prompt_hash=name,
        split="made",
        max_new_tokens=16,
    )


def first_questions(photos: Sequence[Photo], count: int) -> list[Photo]:
    """The same photos with their first questions only."""
    return [replace(photo, docs=photo.docs[:count]) for photo in photos]
