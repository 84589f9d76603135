"""`digits-qwen`: the architecture of Qwen2.5-VL; window attention, 2 x 2 merger, positions on three axes."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.vision_utils import get_vision_window_index

from lofi.data.digits.scenes import GRID, PATCH, SIDE
from lofi.models.processor import still_images
from lofi.training.student import Sight, Student, Widths
from lofi.training.words import Dialect, build_tokenizer, vocabulary

MERGE = 2  # 2 x 2 patches of the tower become one visual token, which is one patch of the scenes
FRAMES = 2  # the tower reads a still picture as two equal frames
SMALL = PATCH // MERGE
WINDOW = 4 * PATCH  # 4 x 4 visual tokens
SPREAD = 0.06  # of fresh weights: at the usual 0.02 attention starts flat in matrices this small
MEAN = (0.5, 0.5, 0.5)
STD = (0.5, 0.5, 0.5)
DIALECT = Dialect(
    special=(
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        "<|vision_start|>",
        "<|vision_end|>",
        "<|image_pad|>",
        "<|video_pad|>",
    ),
    roles="system user assistant\n",
    opening="<|im_start|>user\n<|vision_start|>",
    image="<|image_pad|>",
    closing="<|vision_end|>",
    reply="<|im_end|>\n<|im_start|>assistant\n",
    end="<|im_end|>",
    padding="<|endoftext|>",
    unknown="<|endoftext|>",
    # The template of the Qwen2.5-VL checkpoints on the hub, without their system sentence.
    template=(
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
        "{% if message['content'] is string %}{{ message['content'] }}"
        "{% else %}{% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}{{ '<|vision_start|><|image_pad|><|vision_end|>' }}"
        "{% elif 'text' in part %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
        "{{ '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
)


def _image_processor() -> Qwen2VLImageProcessorPil:
    return Qwen2VLImageProcessorPil(
        size={"shortest_edge": SIDE * SIDE, "longest_edge": SIDE * SIDE},
        patch_size=SMALL,
        temporal_patch_size=FRAMES,
        merge_size=MERGE,
        image_mean=list(MEAN),
        image_std=list(STD),
    )


def build_processor() -> Any:
    """Image processor and tokenizer together; an image of 96 x 96 becomes 144 `<|image_pad|>` tokens."""
    processor = still_images(Qwen2_5_VLProcessor)
    return processor(_image_processor(), build_tokenizer(DIALECT), chat_template=DIALECT.template)


def save_processor(out: Path) -> None:
    """Write the parts one by one, as on the hub: a processor without its video part cannot be saved as one."""
    _image_processor().save_pretrained(out)
    tokenizer = build_tokenizer(DIALECT)
    tokenizer.chat_template = DIALECT.template
    tokenizer.save_pretrained(out)


def build_config(
    *, width: int = 128, layers: int = 6, vision_width: int = 64, vision_layers: int = 4
) -> Qwen2_5_VLConfig:
    """The architecture; tests build smaller ones. Every second layer of the tower sees the whole picture."""
    ids = {token: index for index, token in enumerate(vocabulary(DIALECT))}
    vision = {
        "depth": vision_layers,
        "hidden_size": vision_width,
        "intermediate_size": 5 * vision_width // 2,
        "num_heads": 4,
        "patch_size": SMALL,
        "temporal_patch_size": FRAMES,
        "spatial_merge_size": MERGE,
        "window_size": WINDOW,
        "fullatt_block_indexes": list(range(1, vision_layers, 2)),
        "out_hidden_size": width,
        "initializer_range": SPREAD,
    }
    return Qwen2_5_VLConfig(
        vision_config=vision,
        text_config=_text_config(width, layers, ids),
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=False,
        pad_token_id=ids[DIALECT.padding],
        eos_token_id=ids[DIALECT.end],
    )


def _text_config(width: int, layers: int, ids: dict[str, int]) -> dict[str, Any]:
    pairs = width // 4 // 2  # rotated pairs of a head, dealt to time, row and column
    along = 3 * pairs // 8
    return {
        "vocab_size": len(ids),
        "hidden_size": width,
        "intermediate_size": 344 * width // 128,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": [pairs - 2 * along, along, along],
        },
        "initializer_range": SPREAD,
        "pad_token_id": ids[DIALECT.padding],
        "bos_token_id": None,
        "eos_token_id": ids[DIALECT.end],
        "tie_word_embeddings": False,
    }


def build_model(config: Qwen2_5_VLConfig) -> Qwen2_5_VLForConditionalGeneration:
    """An untrained model; weights come from torch's global generator, which the caller seeds."""
    model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config.do_sample = False
    return model


def pixels(images: NDArray[np.uint8]) -> Tensor:
    """Pictures (b, 96, 96, 3) as the image processor hands them over: (b, 4 * n, 96), merge block by merge block."""
    scaled = torch.from_numpy(images).float().div_(255)
    normed = scaled.sub_(torch.tensor(MEAN)).div_(torch.tensor(STD))
    blocks = normed.view(len(images), GRID, MERGE, SMALL, GRID, MERGE, SMALL, 3)
    patches = blocks.permute(0, 1, 4, 2, 5, 7, 3, 6)  # (b, row, column, row in block, column in block, channel, y, x)
    frames = patches.unsqueeze(6).expand(-1, -1, -1, -1, -1, -1, FRAMES, -1, -1)
    return frames.reshape(len(images), GRID * GRID * MERGE * MERGE, -1)


def look(tower: nn.Module, values: Tensor) -> Sight:
    """The patches of each visual token side by side, which the merger reads; this tower has no token for the scene."""
    rows = len(values)
    grid = torch.tensor([[1, GRID * MERGE, GRID * MERGE]], device=values.device)
    states = tower(values.flatten(0, 1), grid_thw=grid.expand(rows, -1)).last_hidden_state
    # The tower leaves its visual tokens window by window.
    order, _ = get_vision_window_index(grid, spatial_merge_size=MERGE, window_size=WINDOW, patch_size=SMALL)
    return Sight(patches=states.view(rows, GRID * GRID, -1)[:, order.argsort()], scene=())


def widths(config: Qwen2_5_VLConfig) -> Widths:
    """A visual token is made of 2 x 2 patches."""
    return Widths(patches=MERGE * MERGE * config.vision_config.hidden_size, scene=())


class Merger(nn.Module):
    """The tower's own merger, on visual tokens that stand in raster order."""

    def __init__(self, merger: nn.Module, width: int) -> None:
        super().__init__()
        self.merger = merger
        self.width = width

    def forward(self, patches: Tensor) -> Tensor:
        """The patches of each visual token side by side (b, n, 4 * width) to visual tokens (b, n, d)."""
        merged: Tensor = self.merger(patches.reshape(-1, self.width))
        return merged.view(*patches.shape[:2], -1)


def positions(places: Tensor, before: int, after: int) -> Tensor:
    """Time, row and column (3, b, before + n + after); text counts on all three, and goes on behind the whole grid."""
    rows = len(places)
    text = torch.arange(before + after, device=places.device).expand(3, rows, -1)
    visual = torch.stack([torch.zeros_like(places), places // GRID, places % GRID]) + before
    return torch.cat([text[..., :before], visual, text[..., before:] + GRID], dim=-1)


QWEN = Student(
    name="digits-qwen",
    dialect=DIALECT,
    build_config=build_config,
    build_tower=lambda config: Qwen2_5_VisionTransformerPretrainedModel(config.vision_config),
    build_model=build_model,
    build_processor=build_processor,
    save_processor=save_processor,
    pixels=pixels,
    look=look,
    widths=widths,
    tower_of=lambda model: model.model.visual,
    projector_of=lambda model: Merger(model.model.visual.merger, model.config.vision_config.hidden_size),
    positions=positions,
    portrait=(
        "A Qwen2.5-VL of 1.4 million parameters that answers questions about handwritten digits in colour: vision\n"
        "tower (96 x 96 pixels, 576 patches, 4 layers of width 64, every second one within windows), a merger that\n"
        "makes 144 visual tokens, decoder (6 layers of width 128, positions on three axes), word-level vocabulary."
    ),
)
