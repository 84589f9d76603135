"""The prompts of a batch of images: what stands up to the last image token, and their questions as padded ids."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


@dataclass(frozen=True)
class Prefix:
    """What the prompts of all images of a batch begin with."""

    ids: Tensor  # (p,) long, image tokens included
    positions: Tensor  # (p,) or (3, p) long
    placeholders: Tensor  # (size,) long: the columns of the image's tokens
    visual: Tensor  # (n,) long: those of its visual tokens, tile after tile


@dataclass(frozen=True)
class Questions:
    """The prompts of b images, at most q each."""

    before: Prefix
    after: Tensor  # (b, q, t) long, right padded: behind the image
    lengths: Tensor  # (b, q) long, 0 where an image has fewer questions
    spare: int = 0  # columns behind each row that nobody reads


def gather_questions(before: Prefix, prompts: Sequence[Sequence[Sequence[int]]], device: torch.device) -> Questions:
    """The token ids behind each of b images, question by question, as padded tensors."""
    most = max(len(row) for row in prompts)
    flat = [torch.tensor(row[j] if j < len(row) else ()).long() for row in prompts for j in range(most)]
    lengths = torch.tensor([len(ids) for ids in flat]).reshape(len(prompts), most)
    after = pad_sequence(flat, batch_first=True).reshape(len(prompts), most, -1)
    return Questions(before, after.to(device), lengths.to(device))
