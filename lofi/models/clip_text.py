"""The text half of a CLIP model, for reducers that compare patches with the question in CLIP's own space."""

from typing import Any

import torch
from torch import Tensor, nn

from lofi.errors import UserError
from lofi.models.facts import local_folder, read_object
from lofi.models.placement import device_named


class ClipTextTower:
    """Patches and text in the joint space of the CLIP model that the vision encoder was cut from.

    Only what is needed stays in memory: the text model, both projections and the vision model's last layer norm.
    """

    def __init__(self, model: nn.Module, tokenizer: Any) -> None:
        clip: Any = model
        self._text_model = clip.text_model
        self._text_projection: nn.Linear = clip.text_projection
        self._norm: nn.LayerNorm = clip.vision_model.post_layernorm
        self._visual_projection: nn.Linear = clip.visual_projection
        self._tokenizer = tokenizer
        self.length: int = clip.config.text_config.max_position_embeddings  # 77 in every CLIP of the hub
        self.width: int = clip.config.vision_config.hidden_size

    @torch.inference_mode()
    def patches(self, hidden: Tensor) -> Tensor:
        """(n, dv) states of the patches to their float32 embeddings (n, e)."""
        if hidden.shape[1] != self.width:
            raise UserError(
                f"the text tower belongs to a vision encoder of width {self.width}, and this model's has "
                f"{hidden.shape[1]}; give the CLIP model that this model's vision encoder comes from"
            )
        weight = self._visual_projection.weight
        rows = hidden.to(weight.device, weight.dtype)
        return self._visual_projection(self._norm(rows)).float()  # type: ignore[no-any-return]

    def segments(self, text: str) -> Tensor:
        """(s, e) one float32 embedding for each `length` tokens of the text, the last segment padded with zeros.

        Start and end of text count as tokens. Only the last segment holds the end that CLIP pools at; the others
        are pooled where transformers' rule for texts without one puts it.
        """
        ids: list[int] = self._tokenizer(text, truncation=False, verbose=False)["input_ids"]
        return self._embed([ids[start : start + self.length] for start in range(0, len(ids), self.length)])

    def sentence(self, text: str) -> Tensor:
        """(e,) one float32 embedding of the text, cut so that it has `length` tokens with its start and end."""
        ids: list[int] = self._tokenizer(text, truncation=True, max_length=self.length)["input_ids"]
        return self._embed([ids])[0]

    @torch.inference_mode()
    def _embed(self, segments: list[list[int]]) -> Tensor:
        """(s, e) float32 embeddings of s lists of token ids."""
        device = self._text_projection.weight.device
        ids = torch.zeros(len(segments), self.length, dtype=torch.long, device=device)
        mask = torch.zeros_like(ids)
        for row, segment in enumerate(segments):
            ids[row, : len(segment)] = torch.tensor(segment, device=device)
            mask[row, : len(segment)] = 1
        pooled = self._text_model(input_ids=ids, attention_mask=mask).pooler_output
        return self._text_projection(pooled).float()  # type: ignore[no-any-return]


def load_text_tower(
    source: str,
    revision: str | None = None,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
) -> ClipTextTower:
    """The text tower of a CLIP model: a folder, or a hub id in the local cache; safetensors only.

    dtype `auto` is the checkpoint's own; device `auto` is the first GPU, else the CPU.
    """
    from transformers import AutoTokenizer, CLIPModel

    folder = local_folder(source, revision)
    kind = read_object(folder / "config.json").get("model_type")
    if kind != "clip":
        raise UserError(f"text tower {source!r} is of type {kind!r}; give a whole CLIP model, whose type is 'clip'")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = CLIPModel.from_pretrained(folder, dtype=dtype, use_safetensors=True, local_files_only=True)
    target = device if isinstance(device, torch.device) else device_named(device)
    return ClipTextTower(model.to(target).eval().requires_grad_(False), tokenizer)
