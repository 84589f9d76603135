"""`digits-llava`: CLIP tower, two-layer projector, Llama; about two million parameters."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from lofi.data.digits.scenes import GRID, PATCH, SIDE
from lofi.training.student import Sight, Student, Widths
from lofi.training.words import Dialect, build_tokenizer, vocabulary

MEAN = (0.5, 0.5, 0.5)
STD = (0.5, 0.5, 0.5)
DIALECT = Dialect(
    special=("<pad>", "<s>", "</s>", "<unk>", "<image>"),
    roles="USER: ASSISTANT:\n",
    opening="<s>USER: ",
    image="<image>",
    closing="\n",
    reply=" ASSISTANT:",
    end="</s>",
    padding="<pad>",
    unknown="<unk>",
    start="<s>",
    # The template of the LLaVA-1.5 checkpoints on the hub: image, newline, text, no system sentence.
    template=(
        "{% for message in messages %}"
        "{% if message['role'] == 'system' %}{{ message['content'][0]['text'] + ' ' }}"
        "{% else %}{{ message['role'].upper() + ': ' }}"
        "{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
        "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}"
        "{{ part['text'] + ' ' }}{% endfor %}"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
    ),
)


def build_processor() -> LlavaProcessor:
    """Image processor and tokenizer together; an image becomes 144 `<image>` tokens."""
    images = CLIPImageProcessorPil(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_mean=list(MEAN),
        image_std=list(STD),
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=build_tokenizer(DIALECT),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=DIALECT.template,
        image_token=DIALECT.image,
    )


def save_processor(out: Path) -> None:
    """Write everything that turns pictures and questions into inputs."""
    build_processor().save_pretrained(out)


def build_config(*, width: int = 128, layers: int = 6, vision_width: int = 96, vision_layers: int = 4) -> LlavaConfig:
    """The architecture; tests build smaller ones."""
    tokens = vocabulary(DIALECT)
    vision = CLIPVisionConfig(
        hidden_size=vision_width,
        intermediate_size=4 * vision_width,
        num_hidden_layers=vision_layers,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=PATCH,
    )
    text = LlamaConfig(
        vocab_size=len(tokens),
        hidden_size=width,
        intermediate_size=344 * width // 128,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=1024,
        # Small matrices at the usual 0.02 start with flat attention, and lookups then take for ever to appear.
        initializer_range=0.06,
        pad_token_id=tokens.index("<pad>"),
        bos_token_id=tokens.index("<s>"),
        eos_token_id=tokens.index("</s>"),
        tie_word_embeddings=False,
    )
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokens.index("<image>"),
        image_seq_length=GRID * GRID,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
        pad_token_id=tokens.index("<pad>"),
        bos_token_id=tokens.index("<s>"),
        eos_token_id=tokens.index("</s>"),
    )


def build_model(config: LlavaConfig) -> LlavaForConditionalGeneration:
    """An untrained model; weights come from torch's global generator, which the caller seeds."""
    model = LlavaForConditionalGeneration(config)
    model.generation_config.do_sample = False
    return model


def pixels(images: NDArray[np.uint8]) -> Tensor:
    """Pictures (b, 96, 96, 3) as the image processor hands them over: (b, 3, 96, 96), normalised."""
    scaled = torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255)
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    return scaled.sub_(mean).div_(std).contiguous()


def look(tower: nn.Module, values: Tensor) -> Sight:
    """Hidden state -2, which the projector reads, and the CLS token there and at the end."""
    states = tower(pixel_values=values, output_hidden_states=True).hidden_states
    return Sight(patches=states[-2][:, 1:], scene=(states[-2][:, 0], states[-1][:, 0]))


def widths(config: LlavaConfig) -> Widths:
    """Patches and CLS tokens are as wide as the tower."""
    width = config.vision_config.hidden_size
    return Widths(patches=width, scene=(width, width))


def positions(places: Tensor, before: int, after: int) -> Tensor:
    """Numbers from 0 on, wherever the visual tokens stood: (1, b, before + n + after)."""
    rows, n = places.shape
    return torch.arange(before + n + after, device=places.device).expand(1, rows, -1)


LLAVA = Student(
    name="digits-llava",
    dialect=DIALECT,
    build_config=build_config,
    build_tower=lambda config: CLIPVisionModel(config.vision_config),
    build_model=build_model,
    build_processor=build_processor,
    save_processor=save_processor,
    pixels=pixels,
    look=look,
    widths=widths,
    tower_of=lambda model: model.model.vision_tower,
    projector_of=lambda model: model.model.multi_modal_projector,
    positions=positions,
    portrait=(
        "A LLaVA of 1.7 million parameters that answers questions about handwritten digits in colour: CLIP vision\n"
        "tower (96 x 96 pixels, 144 visual tokens, 4 layers of width 96), two-layer projector, Llama (6 layers of\n"
        "width 128), word-level vocabulary."
    ),
)
