"""Random draws depend on the image and the seed, and on nothing else."""

import torch

from lofi.methods.random import uniforms
from lofi.methods.select import VisualContext, select


def image(key: int, n: int = 30) -> VisualContext:
    return VisualContext(torch.zeros(n, 2), torch.zeros(n, 2), (1, n), image_key=key)


def kept(key: int, seed: int, k: int = 12) -> list[int]:
    [selection] = select("random", image(key), [k], seed=seed, params={})
    return list(selection.kept.tolist())


def test_the_order_of_images_does_not_matter() -> None:
    forth = [kept(key, 0) for key in (1, 2, 2**63 - 1)]
    torch.manual_seed(99)
    back = [kept(key, 0) for key in (2**63 - 1, 2, 1)]
    assert forth == back[::-1]


def test_images_and_seeds_differ() -> None:
    draws = [kept(key, seed) for key in (1, 2) for seed in (0, 1, 2)]
    assert len({tuple(draw) for draw in draws}) == len(draws)


def test_the_draw_is_the_same_on_every_machine() -> None:
    assert kept(5, 0, k=6) == [8, 14, 16, 18, 25, 28]


def test_every_token_is_kept_equally_often() -> None:
    totals = torch.zeros(30)
    for key in range(2000):
        totals[kept(key, 3, k=10)] += 1
    assert bool(((totals / 2000 - 1 / 3).abs() < 0.05).all())


def test_streams_are_independent_and_inside_the_unit_interval() -> None:
    one, two = (uniforms(4, 5000, seed=0, stream=stream, device=torch.device("cpu")) for stream in (0, 1))
    assert abs(float(torch.corrcoef(torch.stack([one, two]))[0, 1])) < 0.05
    for draw in (one, two):
        assert float(draw.min()) > 0
        assert float(draw.max()) < 1
        assert abs(float(draw.mean()) - 0.5) < 0.02
