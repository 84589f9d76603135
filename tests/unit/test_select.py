"""What `select` refuses and what it finds wrong; and small cases of reducers that can be checked by eye."""

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lofi.errors import UserError
from lofi.methods import full
from lofi.methods.context import Selection
from lofi.methods.divprune import max_min_order
from lofi.methods.select import VisualContext, select

from ..golden.vectors import StoredAttention


def image(tokens: Tensor, grid: tuple[int, int], attention: StoredAttention | None = None) -> VisualContext:
    return VisualContext(tokens, tokens, grid, image_key=1, attention=attention)


def plain() -> VisualContext:
    return image(torch.randn(24, 16, generator=torch.Generator().manual_seed(0)), (4, 6))


def test_the_full_function_itself_keeps_all_or_refuses() -> None:
    [selection] = full.full(plain(), [24], seed=0)
    assert selection.kept.tolist() == list(range(24))
    with pytest.raises(UserError, match="keeps all 24 tokens, not 7"):
        select("full", plain(), [7], seed=0, params={})


def test_fastervlm_keeps_the_most_attended_and_the_lower_index_on_ties() -> None:
    attention = StoredAttention(cls_rows={-2: torch.tensor([0.0, 3.0, 1.0, 3.0, 2.0, 2.0])})
    selections = select("fastervlm", image(torch.ones(6, 2), (2, 3), attention), [1, 2, 3, 5], seed=0, params={})
    assert [selection.kept.tolist() for selection in selections] == [[1], [1, 3], [1, 3, 4], [1, 2, 3, 4, 5]]


def test_divprune_is_the_greedy_rule_and_never_repeats() -> None:
    angles = torch.tensor([0.0, 5.0, 10.0, 90.0, 94.0, 180.0]).deg2rad()
    tokens = torch.stack([angles.cos(), angles.sin()], dim=1) * torch.arange(1, 7)[:, None]
    # 180 has the farthest neighbour; 0 is then farthest; 90 is farthest from both.
    assert max_min_order(tokens, 3).tolist() == [5, 0, 3]
    assert sorted(max_min_order(torch.ones(9, 4), 9).tolist()) == list(range(9))


@pytest.mark.parametrize("name", ["divprune", "fastervlm", "lofi"])
def test_ties_keep_the_lower_index(name: str) -> None:
    """Twelve orthogonal tokens, each four times: all scores are equal, in every method."""
    context = image(torch.eye(12).repeat(4, 1), (6, 8), StoredAttention(cls_rows={-2: torch.ones(48)}))
    params = {"rank": "fixed:12"} if name == "lofi" else {}
    selections = select(name, context, [3, 12], seed=0, params=params)
    assert [selection.kept.tolist() for selection in selections] == [[0, 1, 2], list(range(12))]


def test_counts_grids_and_inputs_that_cannot_be_are_refused() -> None:
    for k in (0, 25, -1):
        with pytest.raises(UserError, match=f"cannot keep {k} of 24"):
            select("random", plain(), [k], seed=0, params={})
    with pytest.raises(UserError, match="5 x 5 does not hold the 24 tokens"):
        select("pool", image(torch.ones(24, 3), (5, 5)), [4], seed=0, params={})
    with pytest.raises(ValueError, match="no attention"):
        select("fastervlm", plain(), [6], seed=0, params={})


FAULTS: dict[str, Callable[[Tensor], list[Selection]]] = {
    "gave 2 selections for 1": lambda tokens: [Selection(torch.arange(3))] * 2,
    "int32": lambda tokens: [Selection(torch.arange(3, dtype=torch.int32))],
    "gave 2 rows": lambda tokens: [Selection(torch.arange(2))],
    "at 2 places": lambda tokens: [Selection(torch.arange(3), tokens[:3], torch.arange(2))],
    "not strictly ascending": lambda tokens: [Selection(torch.tensor([0, 2, 2]))],
    "gave the index 24": lambda tokens: [Selection(torch.tensor([0, 2, 24]))],
    "gave the index -1": lambda tokens: [Selection(torch.tensor([-1, 2, 4]))],
    "gave the index 30": lambda tokens: [Selection(torch.arange(2), tokens[:3], torch.tensor([0, 1, 30]))],
    "embeddings of shape": lambda tokens: [Selection(torch.arange(3), tokens[:3, :4])],
    "NaN or infinity": lambda tokens: [Selection(torch.arange(3), tokens[:3] / 0.0)],
}


@pytest.mark.parametrize("message", FAULTS)
def test_a_wrong_selection_is_an_error_that_names_the_method(message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lofi.methods.random.random", lambda context, ks, seed: FAULTS[message](context.projected))
    with pytest.raises(RuntimeError, match="'random'") as error:
        select("random", plain(), [3], seed=0, params={})
    assert message in str(error.value)


def test_reading_the_registry_does_not_import_torch() -> None:
    code = "import sys, lofi.methods.registry, lofi.methods.rectangle; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
