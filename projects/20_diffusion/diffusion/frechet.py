"""The Frechet distance between two sets of features, each taken for a Gaussian."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from trainloop import check


class Moments(NamedTuple):
    """What the distance knows of a set of features."""

    mean: Float64[Tensor, " D"]
    covariance: Float64[Tensor, "D D"]
    count: int  # of the features they were taken from


def mean_and_covariance(features: Float[Tensor, "N D"]) -> Moments:
    """Mean and unbiased covariance in double precision, on the CPU.

    Raises:
        LabError: fewer than two features, or some are NaN or infinite.
    """
    check(len(features) >= 2, f"a covariance needs at least 2 images, not {len(features)}")
    check(
        bool(features.isfinite().all()),
        "features hold NaN or infinity, as their images must have: has the training diverged?",
    )
    x = features.detach().cpu().double()
    mean = x.mean(0)
    centred = x - mean
    return Moments(mean, centred.T @ centred / (len(x) - 1), len(x))


def frechet_distance(
    a: Float[Tensor, "N D"] | Moments,
    b: Float[Tensor, "M D"] | Moments,
) -> float:
    """||mean_a - mean_b||^2 + tr(A + B - 2 (A B)^1/2) of the two covariances A and B.

    Dowson & Landau 1982, eq. 4; on a classifier's features it is the FID of Heusel 2017, eq. 6.
    It is a squared distance (of Wasserstein, order 2), at least 0, and in the square of the
    features' unit. Estimated from samples it is too large, in the mean by about tr(A) / N and more
    for the covariance: compare figures of one sample count only.

    tr (A B)^1/2 is the sum of the singular values of A^1/2 B^1/2, whose squares are the eigenvalues
    of A B. So no root of a matrix without symmetry is needed, and covariances of less than full
    rank (features that are always 0, fewer samples than features) are nothing special; the root of
    each eigenvalue of A B instead would turn a rounding error of 1e-16 into one of 1e-8.

    Raises:
        LabError: as of `mean_and_covariance`.
        ValueError: the features differ in length.
    """
    a, b = (one if isinstance(one, Moments) else mean_and_covariance(one) for one in (a, b))
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"features of {len(a.mean)} and of {len(b.mean)} numbers do not compare")
    roots = symmetric_root(a.covariance) @ symmetric_root(b.covariance)
    traces = a.covariance.trace() + b.covariance.trace() - 2 * torch.linalg.svdvals(roots).sum()
    return max(0.0, ((a.mean - b.mean).square().sum() + traces).item())


def symmetric_root(covariance: Float64[Tensor, "D D"]) -> Float64[Tensor, "D D"]:
    """The symmetric S with S S = covariance; eigenvalues that rounding made negative count as 0."""
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T
