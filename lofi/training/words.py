"""The words of the embedded models: one vocabulary of words and digits, and what each family says around them."""

import re
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import chain

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from lofi.data.digits.questions import DIGITS, LETTER_SUFFIX, LETTERS, SHORT_SUFFIX
from lofi.data.digits.scenes import COLOUR_NAMES

PIECE = r"\n|[A-Za-z]+|[0-9]|[^\sA-Za-z0-9]"  # a word, one digit, one newline or one other sign
CAPTION_PROMPT = "Describe the image."
TEXTS = (
    "Yes No yes no or and none",
    "Is there a in the image? What color is the? Which number is? How many numbers are in the image?",
    "Is the on to left right above below of an it this that these there",
    "Please answer yes or no. Context: Options Question The answer is E F G H",
    CAPTION_PROMPT,
    SHORT_SUFFIX,
    LETTER_SUFFIX,
)


@dataclass(frozen=True)
class Dialect:
    """What the prompts of a family say around picture, question and answer."""

    special: tuple[str, ...]  # every token that is no word
    roles: str  # the words that only the chat template says
    opening: str  # up to the picture
    image: str  # the token that stands for one visual token
    closing: str  # from the picture to the question
    reply: str  # from the question to the answer
    end: str  # what ends an answer
    padding: str
    unknown: str
    template: str  # the chat template that says all this
    start: str | None = None  # what the tokenizer puts before every text


def vocabulary(dialect: Dialect) -> list[str]:
    """Every token: the special ones, digits, letters, colours, then the words of all prompts."""
    words = chain.from_iterable(re.findall(PIECE, text) for text in (dialect.roles, *TEXTS))
    return list(dict.fromkeys([*dialect.special, *DIGITS, *LETTERS, *COLOUR_NAMES, *words]))


def build_tokenizer(dialect: Dialect) -> PreTrainedTokenizerFast:
    """A word-level tokenizer for a family's prompts."""
    tokens = {token: index for index, token in enumerate(vocabulary(dialect))}
    tokenizer = Tokenizer(models.WordLevel(tokens, unk_token=dialect.unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PIECE), behavior="removed", invert=True)
    if dialect.start:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{dialect.start} $A",
            pair=f"{dialect.start} $A $B",
            special_tokens=[(dialect.start, tokens[dialect.start])],
        )
    named = (dialect.padding, dialect.start, dialect.end, dialect.unknown)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=dialect.padding,
        bos_token=dialect.start,
        eos_token=dialect.end,
        unk_token=dialect.unknown,
        additional_special_tokens=[token for token in dialect.special if token not in named],
        padding_side="left",
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
    )


@cache
def token_ids(dialect: Dialect) -> dict[str, int]:
    """Token to id."""
    return dict(_tokenizer(dialect).get_vocab())


@lru_cache(maxsize=200_000)
def encode(dialect: Dialect, text: str) -> tuple[int, ...]:
    """The ids of a text as it stands, with nothing put before it."""
    return tuple(_tokenizer(dialect)(text, add_special_tokens=False)["input_ids"])


@cache
def _tokenizer(dialect: Dialect) -> PreTrainedTokenizerFast:
    return build_tokenizer(dialect)
