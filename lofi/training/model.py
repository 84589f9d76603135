"""The architecture, tokenizer and processor of `digits-llava`: a LLaVA of about two million parameters."""

import re
from itertools import chain

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from lofi.data.digits.questions import DIGITS, LETTER_SUFFIX, LETTERS, SHORT_SUFFIX
from lofi.data.digits.scenes import COLOUR_NAMES, GRID, PATCH, SIDE

MEAN = (0.5, 0.5, 0.5)
STD = (0.5, 0.5, 0.5)
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<image>")
PIECE = r"\n|[A-Za-z]+|[0-9]|[^\sA-Za-z0-9]"  # a word, one digit, one newline or one other sign
CAPTION_PROMPT = "Describe the image."
TEXTS = (
    "USER: ASSISTANT:\n Yes No yes no or and none",
    "Is there a in the image? What color is the? Which number is? How many numbers are in the image?",
    "Is the on to left right above below of an it this that these there",
    "Please answer yes or no. Context: Options Question The answer is E F G H",
    CAPTION_PROMPT,
    SHORT_SUFFIX,
    LETTER_SUFFIX,
)
# The template of the LLaVA-1.5 checkpoints on the hub: image, newline, text, no system sentence.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'][0]['text'] + ' ' }}"
    "{% else %}{{ message['role'].upper() + ': ' }}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}{{ part['text'] + ' ' }}{% endfor %}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


def vocabulary() -> list[str]:
    """Every token: the special ones, digits, letters, colours, then the words of all prompts."""
    words = chain.from_iterable(re.findall(PIECE, text) for text in TEXTS)
    return list(dict.fromkeys([*SPECIAL, *DIGITS, *LETTERS, *COLOUR_NAMES, *words]))


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer that starts every text with <s>, as Llama's does."""
    tokens = {token: index for index, token in enumerate(vocabulary())}
    tokenizer = Tokenizer(models.WordLevel(tokens, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PIECE), behavior="removed", invert=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", tokens["<s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=["<image>"],
        padding_side="left",
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
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
        tokenizer=build_tokenizer(),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
        image_token="<image>",
    )


def build_config(*, width: int = 128, layers: int = 6, vision_width: int = 96, vision_layers: int = 4) -> LlavaConfig:
    """The architecture; tests build smaller ones."""
    tokens = vocabulary()
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


def build_model(config: LlavaConfig | None = None) -> LlavaForConditionalGeneration:
    """An untrained model; weights come from torch's global generator, which the caller seeds."""
    model = LlavaForConditionalGeneration(config or build_config())
    model.generation_config.do_sample = False
    return model
