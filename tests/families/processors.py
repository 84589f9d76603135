"""The families' own processors around small image sizes, a word-level tokenizer and chat templates in the hub's manner."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import transformers
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from lofi.models.processor import still_images
from tests.families.configs import ASPECT, PATCH, PINPOINTS, SIDE

SETTINGS = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}
PIECE = r"\n|[A-Za-z]+|[0-9]|[^\sA-Za-z0-9]"  # a word, one digit, one newline or one other sign
# of the templates, then of questions and answers; a list of its own, since every word moves all the weights
TEXTS = (
    "USER: ASSISTANT:\n user assistant model system User Assistant You are a helpful assistant. [INST] [/INST] ! ,",
    "0 1 2 3 4 5 6 7 8 9 A B C D E F G H red green blue yellow Yes No yes no or and none",
    "Is there a in the image? What color is the? Which number is? How many numbers are in the image?",
    "Is the on to left right above below of an it this that these there",
    "Please answer yes or no. Context: Options Question The answer is. Describe the image.",
    "Answer the question using a single word or phrase. Answer with the option's letter from the given choices directly.",
)
TILES = tuple(f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5))


@dataclass(frozen=True)
class Words:
    """What a family's tokenizer has beyond words: the special tokens, the named ones by their attribute."""

    eos: str
    pad: str
    bos: str | None = None  # put before every text by the tokenizer
    named: dict[str, str] = field(default_factory=dict)
    others: tuple[str, ...] = ()


QWEN = Words(
    eos="<|im_end|>",
    pad="<|endoftext|>",
    named={
        "image_token": "<|image_pad|>",
        "video_token": "<|video_pad|>",
        "vision_bos_token": "<|vision_start|>",
        "vision_eos_token": "<|vision_end|>",
    },
    others=("<|im_start|>",),
)
LLAMA = Words(eos="</s>", pad="<pad>", bos="<s>", named={"image_token": "<image>"})
WORDS = {
    "llava": LLAMA,
    "llava_next": LLAMA,
    "llava_onevision": Words(
        eos="<|im_end|>",
        pad="<|endoftext|>",
        named={"image_token": "<image>", "video_token": "<video>"},
        others=("<|im_start|>",),
    ),
    "qwen2_vl": QWEN,
    "qwen2_5_vl": QWEN,
    "qwen3_vl": QWEN,
    "internvl": Words(
        eos="<|im_end|>",
        pad="<|endoftext|>",
        named={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
        others=("<|im_start|>",),
    ),
    "smolvlm": Words(
        eos="<end_of_utterance>",
        pad="<|im_end|>",
        named={
            "image_token": "<image>",
            "fake_image_token": "<fake_token_around_image>",
            "end_of_utterance_token": "<end_of_utterance>",
            "global_image_token": "<global-img>",
        },
        others=("<|im_start|>", *TILES),
    ),
    "idefics3": Words(
        eos="<end_of_utterance>",
        pad="<|end_of_text|>",
        bos="<|begin_of_text|>",
        named={"image_token": "<image>"},
        others=("<fake_token_around_image>", "<end_of_utterance>", "<global-img>", *TILES),
    ),
    "gemma3": Words(
        eos="<end_of_turn>",
        pad="<pad>",
        bos="<bos>",
        named={
            "image_token": "<image_soft_token>",
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
        },
        others=("<start_of_turn>",),
    ),
}


def parts(image: str, text: str) -> str:
    """Template lines that write a message's content in its own order."""
    return (
        "{% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}" + image + "{% elif part['type'] == 'text' %}" + text + "{% endif %}"
        "{% endfor %}"
    )


def images_first(image: str, text: str) -> str:
    """Template lines that write all images of a message, then its texts."""
    return (
        "{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}" + image + "{% endfor %}"
        "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}" + text + "{% endfor %}"
    )


TEXT = "{{ part['text'] }}"
QWEN3_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    + parts("<|vision_start|><|image_pad|><|vision_end|>", TEXT)
    + "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN2_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    + QWEN3_TEMPLATE
)
SMOL_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}:{% else %}: {% endif %}"
    + parts("<image>", TEXT)
    + "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
TEMPLATES = {
    "llava": "{% for message in messages %}{{ message['role'] | upper }}: "
    + images_first("<image>\n", TEXT + " ")
    + "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}",
    "llava_next": "{% for message in messages %}{% if message['role'] == 'user' %}[INST] "
    + images_first("<image>\n", TEXT)
    + " [/INST]{% else %} {{ message['content'][0]['text'] }}</s>{% endif %}{% endfor %}",
    "llava_onevision": "{% for message in messages %}<|im_start|>{{ message['role'] }} "
    + images_first("<image>", "{{ '\n' + part['text'] }}")
    + "<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "qwen2_vl": QWEN2_TEMPLATE,
    "qwen2_5_vl": QWEN2_TEMPLATE,
    "qwen3_vl": QWEN3_TEMPLATE,
    "internvl": "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    + images_first("<IMG_CONTEXT>\n", TEXT)
    + "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "smolvlm": "<|im_start|>" + SMOL_TEMPLATE,
    "idefics3": "<|begin_of_text|>" + SMOL_TEMPLATE,
    "gemma3": "{{ bos_token }}{% for message in messages %}"
    "<start_of_turn>{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n"
    + parts("<start_of_image>", "{{ part['text'] | trim }}")
    + "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
}


def build_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """A word-level tokenizer with the family's special tokens."""
    words = WORDS[name]
    special = [words.pad, "<unk>", *([words.bos] if words.bos else []), words.eos, *words.named.values(), *words.others]
    tokens = list(dict.fromkeys([*special, *re.findall(PIECE, " ".join(TEXTS))]))
    index = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordLevel(index, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PIECE), behavior="removed", invert=True)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in dict.fromkeys(special)])
    if words.bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{words.bos} $A", special_tokens=[(words.bos, index[words.bos])]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=words.pad,
        bos_token=words.bos,
        eos_token=words.eos,
        unk_token="<unk>",
        extra_special_tokens=words.named,
        padding_side="left",
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )


def square(name: str) -> dict[str, int]:
    """The size of the pictures that the family's encoder reads."""
    return {"height": SIDE[name], "width": SIDE[name]}


def qwen_images() -> Qwen2VLImageProcessorPil:
    """Sides in steps of 8 pixels, at most 30 tokens a picture."""
    size = {"shortest_edge": 8 * 8 * 9, "longest_edge": 8 * 8 * 30}
    return Qwen2VLImageProcessorPil(size=size, patch_size=PATCH, merge_size=2, temporal_patch_size=2, **SETTINGS)


def split_images(kind: Callable[..., Any], name: str) -> Any:
    """The longer side at 48 pixels, cut into tiles of 24, and the whole picture as the last tile."""
    return kind(
        size={"longest_edge": 48}, max_image_size={"longest_edge": SIDE[name]}, do_image_splitting=True, **SETTINGS
    )


IMAGES: dict[str, Callable[[], Any]] = {
    "llava": lambda: CLIPImageProcessorPil(
        size={"shortest_edge": SIDE["llava"]}, crop_size=square("llava"), **SETTINGS
    ),
    "llava_next": lambda: LlavaNextImageProcessorPil(
        size={"shortest_edge": SIDE["llava_next"]},
        crop_size=square("llava_next"),
        image_grid_pinpoints=PINPOINTS,
        **SETTINGS,
    ),
    "llava_onevision": lambda: LlavaOnevisionImageProcessorPil(
        size=square("llava_onevision"), image_grid_pinpoints=PINPOINTS, **SETTINGS
    ),
    "qwen2_vl": qwen_images,
    "qwen2_5_vl": qwen_images,
    "qwen3_vl": qwen_images,
    "internvl": lambda: GotOcr2ImageProcessorPil(
        size=square("internvl"), crop_to_patches=True, min_patches=1, max_patches=4, **SETTINGS
    ),
    "smolvlm": lambda: split_images(SmolVLMImageProcessorPil, "smolvlm"),
    "idefics3": lambda: split_images(Idefics3ImageProcessorPil, "idefics3"),
    "gemma3": lambda: Gemma3ImageProcessorPil(size=square("gemma3"), **SETTINGS),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "llava": {"patch_size": PATCH, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1},
    "llava_next": {"patch_size": PATCH, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1},
    "llava_onevision": {
        "num_image_tokens": 9,
        "vision_feature_select_strategy": "full",
        "vision_aspect_ratio": ASPECT,
        "video_processor": None,
    },
    "qwen2_vl": {"video_processor": None},
    "qwen2_5_vl": {"video_processor": None},
    "qwen3_vl": {"video_processor": None},
    "internvl": {"image_seq_length": 9, "video_processor": None},
    "smolvlm": {"image_seq_len": 9, "video_processor": None},
    "idefics3": {"image_seq_len": 9},
    "gemma3": {"image_seq_length": 25},
}


def processor(name: str) -> Any:
    """The family's processor, for still images."""
    kind = still_images(getattr(transformers, PROCESSOR_MAPPING_NAMES[name]))
    return kind(
        image_processor=IMAGES[name](),
        tokenizer=build_tokenizer(name),
        chat_template=TEMPLATES[name],
        **OPTIONS[name],
    )


def save(name: str, processor: Any, folder: Path) -> None:
    """One file for each part, as the hub has them; a processor without its video part cannot be saved whole."""
    processor.image_processor.save_pretrained(folder)
    processor.tokenizer.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(TEMPLATES[name])
    own = {key: value for key, value in OPTIONS[name].items() if value is not None}
    (folder / "processor_config.json").write_text(json.dumps({"processor_class": PROCESSOR_MAPPING_NAMES[name], **own}))
