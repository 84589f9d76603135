"""How many tokens each part of an image gets: whole shares of one count, no part beyond its room."""

from collections.abc import Sequence

from torch import Tensor

from lofi.methods.context import best_first


def floors(weights: Tensor, total: int, rooms: Sequence[int]) -> list[int]:
    """For each of p weights (p,) that sum to at most 1 its share of `total`, cut to a whole number and to the room.

    The product is taken in float32, as the published rules take it: with more digits a share such as 70 / 288 of
    288 falls below 70.
    """
    shares = (weights.float() * total).long().tolist()
    return [min(int(share), room) for share, room in zip(shares, rooms, strict=True)]


def fill_up(counts: Sequence[int], rooms: Sequence[int], ranking: Sequence[int], total: int) -> list[int]:
    """The counts, raised until they sum to `total`: one token for each part in the order of `ranking`, round by round.

    Parts without room are passed over.
    """
    if total > sum(rooms):
        raise ValueError(f"{total} tokens do not fit into parts that hold {sum(rooms)}")
    filled, left = list(counts), total - sum(counts)
    while left > 0:
        for part in [part for part in ranking if filled[part] < rooms[part]][:left]:
            filled[part] += 1
            left -= 1
    return filled


def allot(weights: Tensor, total: int, rooms: Sequence[int]) -> list[int]:
    """`total` tokens for p parts by weight (p,): whole shares, then what cutting left, to the largest weight first."""
    ranking = best_first(weights).tolist()
    return fill_up(floors(weights, total, rooms), rooms, ranking, total)
