"""Tiny random models of the ten families, with processors and pictures to ask them about.

What follows was read off these models while they ran (transformers 5.23). Paths are relative to the core, `model.model`;
n visual tokens of one picture, t tiles, p patches of a tile, dv and d the widths of encoder and decoder.

Parts

    family           encoder layers                projections           projector              decoder
    llava            vision_tower.encoder.layers   self_attn.{q,k}_proj  multi_modal_projector  language_model
    llava_next       vision_tower.encoder.layers   self_attn.{q,k}_proj  multi_modal_projector  language_model
    llava_onevision  vision_tower.encoder.layers   self_attn.{q,k}_proj  multi_modal_projector  language_model
    qwen2_vl         visual.blocks                 attn.qkv              visual.merger          language_model
    qwen2_5_vl       visual.blocks                 attn.qkv              visual.merger          language_model
    qwen3_vl         visual.blocks                 attn.qkv              visual.merger          language_model
    internvl         vision_tower.encoder.layer    attention.{q,k}_proj  multi_modal_projector  language_model
    smolvlm          vision_model.encoder.layers   self_attn.{q,k}_proj  connector              text_model
    idefics3         vision_model.encoder.layers   self_attn.{q,k}_proj  connector              text_model
    gemma3           vision_tower.encoder.layers   self_attn.{q,k}_proj  multi_modal_projector  language_model

`config.image_token_id` works for all; config.json calls it `image_token_index` for the three LLaVA and for gemma3.
A CLS token comes first in CLIP (llava, llava_next) and InternVL; the projector never sees it. The others have none.
`qkv` is (dv -> 3 dv), rows ordered query, key, value, then head; rotation follows outside the module.

What the projector reads and writes

    llava            (b, p, dv) output of the last layer but one, without CLS -> (b, p, d)
    llava_next       (all t, p, dv) likewise -> (all t, p, d)
    llava_onevision  (all t, p, dv) output of the last layer, not normed -> (all t, p, d)
    qwen*            (all patches, dv) of all pictures, 4 rows running are one token -> (all tokens, d)
    internvl         (all t, p / 4, 4 dv) last layer without CLS, after the pixel shuffle -> (all t, p / 4, d)
    smolvlm idefics3 (all t, p, dv) normed; shuffles inside -> (all t, p / 4, d)
    gemma3           (b, p, dv) normed; averages 2 x 2 patches inside -> (b, n, d)

Between projector and decoder

    llava_next       the first tile, then the rows of the tiles put together, without padding rows and columns, a newline
                     vector after every row
    llava_onevision  the same, then rows and columns interpolated where there are too many; no tiles and one newline
                     vector at the end where a prompt has several pictures
    qwen2_5_vl       the encoder runs in the order of its windows from first layer to merger output; the output of the
                     merger is put back into raster order, `last_hidden_state` is not
    qwen3_vl         `deepstack_merger_list` gives one more (tokens, d) for each level
    internvl         tiles by rows, the whole picture last (none for a single tile); all tokens of a picture run on
    smolvlm idefics3 tiles by rows, the whole picture last; tags between the tiles and newlines between their rows are text
    gemma3, llava    nothing

`get_image_features(..., return_dict=True).pooler_output`

    llava llava_next llava_onevision   list, one (n, d) a picture
    qwen*                              tuple, one (n, d) a picture; qwen3_vl: `deepstack_features`, a list of such tuples
    internvl                           (all t, p / 4, d); how many tiles a picture has is told by the image processor only
    smolvlm idefics3                   list, one (n, d) a prompt, over all its pictures
    gemma3                             (pictures, n, d)

What the decoder is called with, always by keyword, `inputs_embeds` (b, s, d)

    attention_mask   (b, s) in prefill and (b, past + 1) in a step; `generate` passes None where nothing is padded.
                     gemma3: a dict {"full_attention", "sliding_attention"} of bool (b, 1, s, s), also without padding;
                     in a step bool (b, 1, 1, past + 1), each None where nothing is padded
    position_ids     None in a plain forward (then 0, 1, ... through the padding), (b, s) and (b, 1) from `generate`.
                     qwen*: (3, b, s) in a plain forward, (4, b, s) and (4, b, 1) from `generate`, text positions first
    qwen3_vl         visual_pos_masks bool (b, s) and deepstack_visual_embeds, a list of (visual tokens of the batch, d);
                     both None in a step
    others           past_key_values, use_cache; qwen*: input_ids None; internvl: image_sizes None; gemma3: return_dict
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from transformers import AutoModelForImageTextToText

from tests.families import configs, processors

FAMILY_NAMES = tuple(configs.CONFIGS)
GAIN = 1.4  # of every matrix
SHARP = 2.0  # of the matrices that make queries and keys, so that attention looks somewhere


def tiny(name: str) -> tuple[Any, Any]:
    """A model of that family and its processor; the weights are the same in every process."""
    processor = processors.processor(name)
    config = configs.config(name, processor.tokenizer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(FAMILY_NAMES.index(name))
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
        spread(model)
    model.generation_config.do_sample = False
    return model.eval().requires_grad_(False), processor


@torch.no_grad()
def spread(model: nn.Module) -> None:
    """Draw the weights anew: at the usual scale so small a model has flat attention and flat logits."""
    for path, module in model.named_modules():
        for name, weight in module.named_parameters(recurse=False):
            if isinstance(module, nn.Embedding):
                # a family that scales its embeddings up would drown the pictures
                nn.init.normal_(weight, std=1 / float(getattr(module, "scalar_embed_scale", 1.0)))
            elif name in ("class_embedding", "cls_token", "image_newline", "position_embeddings"):
                nn.init.normal_(weight)
            elif name == "mm_input_projection_weight":  # the one matrix stored inputs first
                nn.init.normal_(weight, std=GAIN * weight.shape[0] ** -0.5)
            elif weight.dim() > 1:
                gain = SHARP if path.endswith(("q_proj", "k_proj", "qkv")) else GAIN
                nn.init.normal_(weight, std=gain * weight[0].numel() ** -0.5)
            elif path.endswith("post_feedforward_layernorm"):
                weight += 2  # else a tied head answers with the token that it was asked with
            elif path.endswith(("q_norm", "k_norm")):
                weight += 0.8  # these undo what the matrices before them do for sharpness
            else:
                weight += 0.1 * torch.randn_like(weight)


def save(name: str, folder: Path) -> None:
    """Write model and processor as the checkpoints of the hub are laid out."""
    model, processor = tiny(name)
    model.save_pretrained(folder)
    processors.save(name, processor, folder)


@cache
def pictures() -> tuple[Image.Image, Image.Image, Image.Image]:
    """A square, a wide and a tall picture: coarse coloured blocks under fine noise."""
    draw = np.random.default_rng(0)
    return tuple(picture(draw, width, height) for width, height in ((40, 40), (66, 24), (30, 54)))  # type: ignore[return-value]


def picture(draw: np.random.Generator, width: int, height: int) -> Image.Image:
    """Blocks of six pixels, so that neighbouring patches differ."""
    blocks = draw.integers(0, 256, (-(-height // 6), -(-width // 6), 3))
    pixels = np.kron(blocks, np.ones((6, 6, 1)))[:height, :width] + draw.normal(0, 12, (height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8), "RGB")


def inputs(name: str, processor: Any, pairs: Sequence[tuple[Sequence[Image.Image], str]]) -> Any:
    """Prompts as the model wants them: (pictures, question) each, left-padded to one length."""
    turns = [
        [
            {
                "role": "user",
                "content": [*({"type": "image", "image": each} for each in shown), {"type": "text", "text": text}],
            }
        ]
        for shown, text in pairs
    ]
    return processor.apply_chat_template(
        turns,
        tokenize=True,
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True},
    )
