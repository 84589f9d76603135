"""Shuffles of cells that leave a question's nuisances where they are: what a p value compares with."""

from collections.abc import Iterator

import numpy as np

from lofi.stats.resample import BLOCK_VALUES, Integers


def of_methods(groups: Integers, methods: Integers, draws: int, rng: np.random.Generator) -> Iterator[Integers]:
    """Positions with whole methods exchanged, the same exchange in every group: blocks of (draws, n).

    groups, methods: (n,), each method at most once in a group. A group that lacks a method exchanges those it has, in
    the same random order. What is peculiar to a method in all groups counts once this way, not once for each group.
    """
    by_group = np.lexsort((methods, groups))
    names, place = np.unique(methods, return_inverse=True)
    for size in _sizes(len(groups), draws):
        keys = rng.random((size, len(names)))[:, place[by_group]]
        yield _placed(by_group, np.argsort(groups[by_group] + keys, axis=1))


def of_clusters(groups: Integers, clusters: Integers, draws: int, rng: np.random.Generator) -> Iterator[Integers]:
    """Positions shuffled inside clusters, and clusters of one size exchanged inside groups: blocks of (draws, n).

    groups, clusters: (n,), each cluster inside one group. Cells of a cluster that share something still share it
    after the shuffle.
    """
    names, place, size_of = np.unique(clusters, return_inverse=True, return_counts=True)
    group_of = np.zeros(len(names), dtype=np.int64)
    group_of[place] = groups
    pools = np.unique(np.stack([group_of, size_of]), axis=1, return_inverse=True)[1].ravel()
    by_cluster = np.lexsort((place, pools[place]))
    for size in _sizes(len(groups), draws):
        # clusters in random order inside their pools, then cells in random order inside each cluster
        rank = np.argsort(np.argsort(pools + rng.random((size, len(names))), axis=1), axis=1)
        keys = rank[:, place[by_cluster]] + rng.random((size, len(groups)))
        yield _placed(by_cluster, np.argsort(keys, axis=1))


def _sizes(n: int, draws: int) -> Iterator[int]:
    """How many draws are held at once."""
    block = max(1, BLOCK_VALUES // n)
    for start in range(0, draws, block):
        yield min(block, draws - start)


def _placed(order: Integers, shuffled: Integers) -> Integers:
    """Say for every position which one takes its place; shuffled: (draws, n) places in `order`."""
    moved = np.empty_like(shuffled)
    moved[:, order] = order[shuffled]
    return moved
