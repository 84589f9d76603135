"""CDPruner beyond the authors' data: the rank limit, no question, the instruction, tiles."""

from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor

from lofi.methods.cdpruner import cdpruner, conditional_kernel, greedy_map, relevance
from lofi.methods.context import Question, Selection, Tiles
from lofi.methods.select import VisualContext, select


@dataclass
class Tower:
    """Patches are the hidden states; every text is the first axis."""

    asked: list[str] = field(default_factory=list)

    def patches(self, hidden: Tensor) -> Tensor:
        return hidden

    def segments(self, text: str) -> Tensor:
        self.asked.append(text)
        return torch.eye(1, 6)

    def sentence(self, text: str) -> Tensor:
        raise NotImplementedError


def image(n: int = 24, d: int = 32, seed: int = 0) -> VisualContext:
    generator = torch.Generator().manual_seed(seed)
    hidden, projected = torch.randn(n, 6, generator=generator), torch.randn(n, d, generator=generator)
    question = Question("Is it red?", projected[:2])
    return VisualContext(hidden, projected, (1, n), image_key=1, question=question, tower=Tower())


def run(context: VisualContext, k: int) -> Selection:
    [selection] = select("cdpruner", context, [k], seed=0, params={})
    return selection


def test_each_choice_raises_the_determinant_most() -> None:
    context = image(n=10)
    kernel = conditional_kernel(context.projected, torch.linspace(0.2, 1.0, 10))
    order = greedy_map(kernel, 5).tolist()
    for step in range(5):
        gains = {j: float(kernel[[*order[:step], j]][:, [*order[:step], j]].det()) for j in range(10)}
        others = {j: gain for j, gain in gains.items() if j not in order[:step]}
        assert max(others, key=others.__getitem__) == order[step]


def test_beyond_the_rank_the_most_relevant_tokens_follow() -> None:
    generator = torch.Generator().manual_seed(1)
    context = replace(image(), projected=torch.randn(24, 4, generator=generator))
    relevant = relevance(-context.hidden[:, :1])  # any order: what counts is that the fill follows it
    order = greedy_map(conditional_kernel(context.projected, relevant), 24)
    assert len(order) == 4
    twins = replace(context, projected=context.projected[:3].repeat(8, 1), tower=None)
    assert run(twins, 3).kept.tolist() == [0, 1, 2]
    assert run(twins, 5).kept.tolist() == [0, 1, 2, 3, 4]
    assert run(twins, 5).trace == {"conditional": 0.0, "picked": 3.0}
    similar = torch.nn.functional.normalize(context.hidden, dim=1)[:, 0]
    filled = set(run(context, 7).kept.tolist()) - set(run(context, 4).kept.tolist())
    rest = [int(i) for i in similar.argsort() if int(i) not in run(context, 4).kept.tolist()]
    assert filled == set(rest[:3])


@pytest.mark.parametrize("missing", ["tower", "question"])
def test_without_tower_or_question_relevance_plays_no_part(missing: str) -> None:
    context = image()
    plain = replace(context, **{missing: None})
    expected = greedy_map(conditional_kernel(context.projected, torch.ones(24)), 9).sort().values
    assert torch.equal(run(plain, 9).kept, expected)
    assert run(plain, 9).trace["conditional"] == 0.0
    assert not torch.equal(run(context, 9).kept, expected)


def test_the_instruction_is_no_part_of_the_text() -> None:
    tower = Tower()
    text = "Is it red?\nAnswer the question using a single word or phrase."
    run(replace(image(), tower=tower, question=Question(text, torch.zeros(1, 32))), 3)
    assert tower.asked == ["Is it red?"]


def test_equal_relevances_are_one() -> None:
    assert relevance(torch.full((5, 2), 0.3)).tolist() == [1.0] * 5


def test_each_tile_picks_its_equal_part() -> None:
    context = replace(image(n=24), tiles=Tiles(3, (1, 2)))
    for k in (1, 2, 3, 7, 23):
        counts = torch.bincount(run(context, k).kept // 8, minlength=3).tolist()
        assert counts == [k // 3 + (i < k % 3) for i in range(3)]


def test_nan_is_an_error() -> None:
    context = image()
    context.hidden[3, 1] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        cdpruner(context, [4], seed=0)
