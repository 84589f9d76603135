"""One adapter drives every family through its own modules: encode, embed, run the decoder, read logits."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from lofi.errors import UserError
from lofi.methods.context import Question, TextTower, VisualContext
from lofi.models.blocks import ClipBlocks
from lofi.models.families import TESTED_TRANSFORMERS, Family
from lofi.models.taps import EncoderTap, TappedAttention


@dataclass(frozen=True)
class Prompt:
    """A question as token ids, split where the image stands."""

    before: tuple[int, ...]
    after: tuple[int, ...]


@dataclass(frozen=True)
class Encoded:
    """b encoded images: all that reducers may look at."""

    hidden: Tensor  # (b, n, dv)
    projected: Tensor  # (b, n, d)
    extra: Tensor  # (b, n_extra, dv)
    entry: Tensor  # (b, n_extra + n, dv) what the encoder's first layer read
    attention: TappedAttention
    adapter: "Adapter"
    index: tuple[int, ...]  # row -> its place among the images that the attention was tapped from

    def context(
        self, row: int, image_key: int, *, question: Question | None = None, tower: TextTower | None = None
    ) -> VisualContext:
        """What a reducer sees of the image in that row."""
        return VisualContext(
            hidden=self.hidden[row],
            projected=self.projected[row],
            grid=self.adapter.grid,
            image_key=image_key,
            attention=self.attention.of(self.index[row]),
            feature_layer=self.adapter.feature_layer,
            extra=self.extra[row] if self.extra.shape[1] else None,
            project=self.adapter.project,
            question=question,
            tower=tower,
            blocks=ClipBlocks(self.entry[row], self.adapter.encoder_layers, self.adapter.feature_layer),
        )

    def changed(self, change: Callable[[Tensor], Tensor]) -> "Encoded":
        """The same with every feature changed."""
        return replace(
            self,
            hidden=change(self.hidden),
            projected=change(self.projected),
            extra=change(self.extra),
            entry=change(self.entry),
            attention=self.attention.changed(change),
        )

    def take(self, rows: Sequence[int]) -> "Encoded":
        """The images in these rows; one may come several times."""
        taken = torch.tensor(rows, device=self.projected.device)
        return replace(
            self,
            hidden=self.hidden[taken],
            projected=self.projected[taken],
            extra=self.extra[taken],
            entry=self.entry[taken],
            index=tuple(self.index[row] for row in rows),
        )


class Adapter:
    """A loaded model with its processor, seen through its family's description."""

    def __init__(self, model: nn.Module, processor: Any, family: Family) -> None:
        self.model = model
        self.processor = processor
        self.family = family
        self.core: nn.Module = model.model  # type: ignore[assignment]
        self.projector = self.part(family.projector)
        self.encoder_layers = list(self.part(family.encoder_layers).children())
        self.language = self.part(family.language)
        self.layers = list(self.part(f"{family.language}.layers").children())
        self.config: Any = model.config

    def part(self, path: str) -> nn.Module:
        """The module at `path` below the core; its absence means another version of transformers."""
        try:
            return self.core.get_submodule(path)
        except AttributeError:
            raise UserError(
                f"{type(self.model).__name__} has no part {path!r}: lofi's description of the family "
                f"{self.family.model_type!r} was checked with transformers {TESTED_TRANSFORMERS}; install that version"
            ) from None

    @cached_property
    def device(self) -> torch.device:
        """Where the inputs go."""
        return next(self.model.parameters()).device

    @cached_property
    def dtype(self) -> torch.dtype:
        """The type the model computes in."""
        return next(self.model.parameters()).dtype

    @cached_property
    def attention(self) -> str:
        """The decoder's attention implementation."""
        config: Any = self.language.config
        return str(config._attn_implementation)

    @cached_property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of visual tokens."""
        vision = self.config.vision_config
        side = vision.image_size // vision.patch_size
        return side, side

    @cached_property
    def feature_layer(self) -> int:
        """The encoder layer, from the end, whose output the projector reads."""
        layer = int(self.config.vision_feature_layer)  # of the hidden states, whose first are the embeddings
        return layer if layer < 0 else layer - 1 - len(self.encoder_layers)

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """Tokens that end an answer."""
        stop: Any = self.model.generation_config.eos_token_id  # type: ignore[union-attr]
        stop = self.processor.tokenizer.eos_token_id if stop is None else stop
        return tuple(stop) if isinstance(stop, list) else (int(stop),)

    def chat(self, text: str) -> str:
        """The whole prompt of one question about one image, by the model's own chat template."""
        content = [{"type": "image"}, {"type": "text", "text": text}]
        turn = [{"role": "user", "content": content}]
        return str(self.processor.apply_chat_template(turn, add_generation_prompt=True, tokenize=False))

    def prompt(self, text: str) -> Prompt:
        """The token ids before and after the image."""
        ids: list[int] = self.processor.tokenizer(self.chat(text))["input_ids"]
        image = self.config.image_token_id
        if ids.count(image) != 1:
            raise UserError(f"the chat template puts {ids.count(image)} images into a prompt; it must put one")
        at = ids.index(image)
        return Prompt(tuple(ids[:at]), tuple(ids[at + 1 :]))

    def text_ids(self, text: str) -> Tensor:
        """(t,) token ids of a text alone, outside any template."""
        ids: list[int] = self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        return torch.tensor(ids, dtype=torch.long, device=self.device)

    def pixels(self, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        """The processor's tensors of RGB images, on the model's device."""
        inputs = self.processor.image_processor(list(images), return_tensors="pt")
        return {name: tensor.to(self.device, self.dtype) for name, tensor in inputs.items()}

    @torch.inference_mode()
    def encode(self, pixels: dict[str, Tensor], layers: Collection[int] = ()) -> Encoded:
        """Run encoder and projector once; keep queries and keys of the encoder `layers` asked for."""
        with EncoderTap(self, layers) as tap:
            features = self.core.get_image_features(**pixels, return_dict=True).pooler_output  # type: ignore[operator]
        return self.encoded(tap, torch.stack(list(features)))

    def encoded(self, tap: EncoderTap, projected: Tensor) -> Encoded:
        """What a tap recorded, with the (b, n, d) features that came out of the projector."""
        return Encoded(
            hidden=tap.hidden(),
            projected=projected,
            extra=tap.extra(),
            entry=tap.entry(),
            attention=tap.attention(),
            adapter=self,
            index=tuple(range(len(projected))),
        )

    def project(self, rows: Tensor) -> Tensor:
        """(r, dv) encoder outputs to (r, d) rows that the LLM reads."""
        # `forward`, not a call: hooks on the projector look at whole images, and one of them may be asking for this
        projected: Tensor = self.projector.forward(rows)
        return projected

    def embed(self, ids: Tensor) -> Tensor:
        """(…) token ids to (…, d) input embeddings."""
        embedding: nn.Module = self.model.get_input_embeddings()  # type: ignore[operator]
        return embedding(ids)  # type: ignore[no-any-return]

    def decode(self, embeds: Tensor, positions: Tensor, mask: Tensor, cache: Any = None) -> Tensor:
        """(b, s, d) embeddings to (b, s, d) normed hidden states, under an explicit mask.

        positions: (b, s); mask: (b, 1, s, keys), true where a token may attend.
        """
        output = self.language(
            inputs_embeds=embeds,
            position_ids=positions,
            attention_mask=self.native_mask(mask),
            past_key_values=cache,
            use_cache=cache is not None,
        )
        return output.last_hidden_state  # type: ignore[no-any-return]

    def native_mask(self, mask: Tensor) -> Tensor:
        """A boolean mask as the attention implementation wants it."""
        if self.attention == "sdpa":
            return mask
        floor = torch.finfo(self.dtype).min
        return torch.zeros(mask.shape, dtype=self.dtype, device=mask.device).masked_fill(~mask, floor)

    def logits(self, hidden: Tensor) -> Tensor:
        """(…, d) normed hidden states to (…, v) float32 logits, by the model's own head."""
        head: nn.Module = self.model.get_output_embeddings()  # type: ignore[operator]
        return head(hidden).float()  # type: ignore[no-any-return]
