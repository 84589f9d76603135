"""One adapter drives every family through its own modules: encode, embed, run the decoder, read logits."""

from collections.abc import Collection
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from lofi.errors import UserError
from lofi.models.encoded import Encoded
from lofi.models.families import ENCODERS, TESTED_TRANSFORMERS, Encoder, Family, encoder_type
from lofi.models.opened import Opened
from lofi.models.packed_attention import PACKED
from lofi.models.packing import Packed
from lofi.models.pictures import Opening
from lofi.models.placement import device_of
from lofi.models.swapped import attending_by
from lofi.models.taps import EncoderTap


class Adapter:
    """A loaded model with its processor, seen through its family's description."""

    def __init__(self, model: nn.Module, processor: Any, family: Family) -> None:
        self.model = model
        self.processor = processor
        self.family = family
        self.core: nn.Module = model.model  # type: ignore[assignment]
        self.config: Any = model.config
        vision: Any = model.config.vision_config  # type: ignore[union-attr]
        self.encoder: Encoder = ENCODERS[encoder_type(family, vision.to_dict(), type(model).__name__)]
        self.projector = self.part(family.projector)
        self.encoder_layers = list(self.part(f"{family.tower}.{self.encoder.layers}").children())
        self.language = self.part(family.language)
        self.layers = list(self.part(f"{family.language}.layers").children())

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
        """Where the inputs go, and all that the model's parts hand over, wherever those compute."""
        return device_of(self.model.get_input_embeddings())  # type: ignore[operator]

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
    def feature_layer(self) -> int:
        """The encoder layer, from the end, whose output the projector reads."""
        # of the hidden states, whose first are the embeddings; families without such a choice read the last
        layer = getattr(self.config, "vision_feature_layer", -1)
        if not isinstance(layer, int):
            raise UserError(
                f"{type(self.model).__name__} reads the encoder layers {list(layer)} side by side; lofi drives models "
                "that read one"
            )
        return layer if layer < 0 else layer - 1 - len(self.encoder_layers)

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """Tokens that end an answer."""
        stop: Any = self.model.generation_config.eos_token_id  # type: ignore[union-attr]
        stop = self.processor.tokenizer.eos_token_id if stop is None else stop
        return tuple(stop) if isinstance(stop, list) else (int(stop),)

    @cached_property
    def opening(self) -> Opening:
        """How the processor opens images for this model."""
        return Opening(self.processor, self.device)

    def chat(self, text: str) -> str:
        """The whole prompt of one question about one image, by the model's own chat template."""
        content = [{"type": "image"}, {"type": "text", "text": text}]
        turn = [{"role": "user", "content": content}]
        return str(self.processor.apply_chat_template(turn, add_generation_prompt=True, tokenize=False))

    def text_ids(self, text: str) -> Tensor:
        """(t,) token ids of a text alone, outside any template."""
        ids: list[int] = self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        return torch.tensor(ids, dtype=torch.long, device=self.device)

    @torch.inference_mode()
    def encode(self, opened: Opened, layers: Collection[int] = ()) -> Encoded:
        """Run encoder and projector once; keep queries and keys of the encoder `layers` asked for."""
        ids = opened.before.expand(len(opened), -1)
        with EncoderTap(self, layers) as tap:
            seen = self.core.get_image_features(**opened.pixels, return_dict=True)  # type: ignore[operator]
            images = tap.read(ids, self.placeholders(ids))
        size, order = images.geometries[0].size, images.geometries[0].order
        lines = _by_image(seen.pooler_output, size).to(self.device)
        levels = getattr(seen, "deepstack_features", None) or ()
        deep = tuple(_by_image(level, size).to(self.device) for level in levels)
        return Encoded(images, lines, lines[:, order.to(lines.device)], deep, tuple(range(len(images))))

    def placeholders(self, ids: Tensor) -> Tensor:
        """(b, s) bool: where the tokens of images stand in prompts."""
        found: Tensor = ids == self.config.image_token_id
        return found

    def project(self, rows: Tensor) -> Tensor:
        """(r, dh) rows as the projector reads them to (r, d) rows that the LLM reads."""
        # `forward`, not a call: hooks on the projector look at whole images, and one of them may be asking for this
        projected: Tensor = self.projector.forward(rows.reshape(-1, self._patch_width(rows))).to(rows.device)
        if self.family.after_projector is None:
            return projected
        path, _, name = self.family.after_projector.rpartition(".")
        weight: Tensor = getattr(self.part(path), name)
        return projected @ weight.to(rows.device)

    def _patch_width(self, rows: Tensor) -> int:
        """What the projector reads at a time: a token of several patches comes as so many rows, if `groups` says so."""
        return rows.shape[1] // (
            self.config.vision_config.spatial_merge_size**2 if self.family.groups == "merged" else 1
        )

    def embed(self, ids: Tensor) -> Tensor:
        """(…) token ids to (…, d) input embeddings."""
        embedding: nn.Module = self.model.get_input_embeddings()  # type: ignore[operator]
        return embedding(ids)  # type: ignore[no-any-return]

    def decode(self, embeds: Tensor, positions: Tensor, mask: Tensor, cache: Any = None, **more: Any) -> Tensor:
        """(b, s, d) embeddings to (b, s, d) normed hidden states, under an explicit mask.

        positions: (b, s), or (3, b, s); mask: (b, 1, s, keys), true where a token may attend; more: what the decoder's
        layers are told beside that.
        """
        if self.family.positions == "mrope" and positions.ndim == 2:
            positions = positions.expand(3, -1, -1)
        output = self.language(
            inputs_embeds=embeds,
            position_ids=positions,
            attention_mask=self._masks(mask),
            past_key_values=cache,
            use_cache=cache is not None,
            **more,
        )
        return output.last_hidden_state.to(embeds.device)  # type: ignore[no-any-return]

    def decode_packed(
        self, embeds: Tensor, positions: Tensor, packed: Packed, mask: Tensor, cache: Any = None, **deep: Any
    ) -> Tensor:
        """The same of packed rows, whose questions do not meet; mask: (b, 1, p, keys), of the prefix alone."""
        with attending_by(self.language.config, PACKED):
            return self.decode(embeds, positions, mask, cache, packed=packed, **deep)

    @property
    def splits(self) -> bool:
        """Whether `decode_packed` is there, and worth it: on GPUs one fused kernel under a mask stays the way."""
        return self.attention == "sdpa" and self.device.type == "cpu"

    def _masks(self, mask: Tensor) -> Any:
        """The mask as the decoder takes it: one for each kind of layer, where there are several."""
        native = self.native_mask(mask)
        if not self.family.rotary_by_layer:
            return native
        self.check_window(mask.shape[-1])
        config: Any = self.language.config
        return dict.fromkeys(set(config.layer_types), native)

    def check_window(self, columns: int) -> None:
        """Refuse a prompt with its answer of so many columns where some layers do not see all of them."""
        config: Any = self.language.config
        if self.family.rotary_by_layer and columns >= config.sliding_window:
            raise UserError(
                f"a prompt of {columns} tokens does not fit into the window of {config.sliding_window} of "
                "the decoder's sliding layers, which lofi does not cut; use shorter questions"
            )

    def native_mask(self, mask: Tensor) -> Tensor:
        """A boolean mask as the attention implementation wants it."""
        if self.attention == "sdpa":
            return mask
        floor = torch.finfo(self.dtype).min
        return torch.zeros(mask.shape, dtype=self.dtype, device=mask.device).masked_fill(~mask, floor)

    def causal_mask(self, real: Tensor) -> Tensor:
        """The mask (b, 1, s, s) of prompts of which `real` (b, s) is no padding; padding sees itself alone."""
        order = torch.arange(real.shape[1], device=real.device)
        seen = (order[:, None] >= order) & real[:, None, :] & real[:, :, None]
        return self.native_mask((seen | torch.eye(len(order), dtype=torch.bool, device=real.device))[:, None])

    def policy(self, positions: str) -> str:
        """The position policy that is run: where positions are rows and columns, every token keeps its own."""
        return "kept" if self.family.positions == "mrope" else positions

    def rotary(self, layer: int, hidden: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cos and sin (b, s, w) of positions (b, s) at a decoder layer, by the decoder's own embedding."""
        embedding = self.language.get_submodule(self.family.rotary)
        kind = getattr(self.layers[layer].get_submodule(self.family.attention), "layer_type", None)
        by_layer = {"layer_type": kind} if self.family.rotary_by_layer else {}
        cos, sin = embedding(hidden, position_ids=positions, **by_layer)
        return cos.to(hidden.device), sin.to(hidden.device)

    def logits(self, hidden: Tensor) -> Tensor:
        """(…, d) normed hidden states to (…, v) float32 logits, by the model's own head."""
        head: nn.Module = self.model.get_output_embeddings()  # type: ignore[operator]
        return head(hidden).to(hidden.device).float()  # type: ignore[no-any-return]


def _by_image(features: Any, size: int) -> Tensor:
    """(b, size, d) features of all images, however the model hands them over."""
    flat = features.flatten(0, -2) if isinstance(features, Tensor) else torch.cat(list(features))
    return flat.reshape(-1, size, flat.shape[-1])
