"""Clusters by density peaks: centres are dense tokens far from any denser one, and every token joins the nearest."""

import torch
from torch import Tensor

from lofi.methods.context import best_first

JITTER = 1e-6  # how much noise the density carries, so that equal densities have an order


def density_peaks(tokens: Tensor, count: int, noise: Tensor) -> tuple[Tensor, Tensor]:
    """The centres (c,), best first, and which of them each token (t,) joins, of t tokens (t, d) with noise (t,).

    Distances are Euclidean over sqrt(d), in float32, and taken without the matrix product that would round them:
    copies are at distance 0. The density is exp(-mean of the c smallest squared distances, the one to itself
    included). A token scores its density times the distance to the nearest denser token, or the largest distance
    of all where none is denser. NaN and infinity are errors.
    """
    states = tokens.float()
    distance = torch.cdist(states, states, compute_mode="donot_use_mm_for_euclid_dist") / states.shape[1] ** 0.5
    nearest = distance.topk(count, dim=1, largest=False).values
    density = (-nearest.square().mean(1)).exp() + JITTER * noise.float()
    denser = density[None, :] > density[:, None]
    separation = distance.where(denser, distance.max()).amin(1)
    centres = best_first(density * separation)[:count]
    labels = distance[centres].argmin(0)  # the first of equal ones, as torch documents
    labels[centres] = torch.arange(count, device=tokens.device)
    return centres, labels


def cluster_means(tokens: Tensor, labels: Tensor, count: int) -> Tensor:
    """(c, d) float32 sum of each cluster's tokens over its size + 1e-6."""
    # A product with the memberships, because scattered sums have no fixed order on a GPU.
    members = (labels == torch.arange(count, device=labels.device)[:, None]).float()
    return members / (members.sum(1, keepdim=True) + 1e-6) @ tokens.float()
