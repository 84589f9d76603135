"""Density peaks where the authors' numbers do not reach: copies, one cluster, as many clusters as tokens."""

import pytest
import torch

from lofi.methods.clusters import cluster_means, density_peaks


def test_two_far_groups_are_two_clusters() -> None:
    tokens = torch.randn(11, 8, generator=torch.Generator().manual_seed(0))
    tokens[6:] += 40.0
    near, far = tokens[:6], tokens[6:]
    # Two tokens that are each other's nearest have one density: without noise, neither would be the denser.
    centres, labels = density_peaks(tokens, 2, torch.linspace(0, 1, 11))
    assert labels[centres].tolist() == [0, 1]
    assert len(set(labels[:6].tolist())) == len(set(labels[6:].tolist())) == 1
    means = cluster_means(tokens, labels, 2)
    torch.testing.assert_close(means[labels[0]], near.sum(0) / (6 + 1e-6))
    torch.testing.assert_close(means[labels[6]], far.sum(0) / (5 + 1e-6))


def test_the_noise_decides_between_equal_densities() -> None:
    tokens = torch.eye(4)
    for first in range(4):
        noise = torch.zeros(4)
        noise[first] = 1.0
        assert density_peaks(tokens, 1, noise)[0].tolist() == [first]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_copies_fill_the_first_cluster_and_every_cluster_has_its_centre(count: int) -> None:
    centres, labels = density_peaks(torch.ones(5, 3), count, torch.zeros(5))
    assert centres.tolist() == list(range(count))
    assert labels.tolist() == list(range(count)) + [0] * (5 - count)


def test_nan_is_an_error() -> None:
    tokens = torch.ones(4, 3)
    tokens[2, 1] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        density_peaks(tokens, 2, torch.zeros(4))
