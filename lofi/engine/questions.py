"""The prompts of a batch of images as padded token ids, split where the image stands."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lofi.models.adapter import Prompt


@dataclass(frozen=True)
class Questions:
    """The prompts of b images, at most q each, split where the image stands."""

    before: Tensor  # (p,) long: the same for all
    after: Tensor  # (b, q, t) long, right padded
    lengths: Tensor  # (b, q) long, 0 where an image has fewer questions


def gather_questions(prompts: Sequence[Sequence[Prompt]], device: torch.device) -> Questions:
    """Token ids of b images' prompts as padded tensors."""
    before = {prompt.before for row in prompts for prompt in row}
    if len(before) != 1:
        raise ValueError("prompts of one batch differ before the image, so they cannot share a prefix")
    most = max(len(row) for row in prompts)
    flat = [torch.tensor(row[j].after if j < len(row) else ()).long() for row in prompts for j in range(most)]
    lengths = torch.tensor([len(ids) for ids in flat]).reshape(len(prompts), most)
    after = pad_sequence(flat, batch_first=True).reshape(len(prompts), most, -1)
    return Questions(torch.tensor(before.pop(), device=device).long(), after.to(device), lengths.to(device))
