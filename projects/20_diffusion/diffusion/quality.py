"""What a distance does not tell: faithful or varied, balanced, obedient, copied; and for points a
two-sample test.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from trainloop import check


class PrecisionRecall(NamedTuple):
    """Shares in 0..1."""

    precision: float  # of the samples that look real
    recall: float  # of the real images that the samples cover


class ClassBalance(NamedTuple):
    """How samples spread over the classes."""

    shares: list[float]  # of the samples, by their most likely class
    entropy: float  # of the shares, in nats: 0 (one class) to log(classes)
    kl_to_uniform: float  # KL(shares || uniform), in nats: log(classes) - entropy


class Neighbours(NamedTuple):
    """The training images nearest to each image."""

    indices: Int64[Tensor, "N k"]
    distances: Float[Tensor, "N k"]  # root mean square over the pixels: of the images' unit


class Copying(NamedTuple):
    """Are samples nearer to the training images than other real images are?"""

    nearer: (
        float  # chance that a sample is nearer than a test image is; 0.5 where nothing is copied
    )
    z: float  # the same in standard deviations of chance: above 3 is copying
    samples: float  # median distance of the samples to their nearest training image
    test: float  # and of the test images


class TwoSamples(NamedTuple):
    """Outcome of the energy test."""

    statistic: float
    p_value: float


# --- of features and labels ----------------------------------------------------------------------


def precision_recall(
    real: Float[Tensor, "N D"], fake: Float[Tensor, "M D"], k: int = 3
) -> PrecisionRecall:
    """Improved precision and recall (Kynkaanniemi 2019, eqs. 1 and 2).

    Each set's manifold is taken for the union of balls around its features, each ball as large as
    the distance to its centre's k-th nearest neighbour in the set. Precision: the share of fakes
    within the real ones' balls; recall the other way round. Both depend on the numbers of images
    (the more, the smaller the balls): give as many of each, and compare only figures of one number.

    Raises:
        LabError: a set has k or fewer images.
    """
    fewest = min(len(real), len(fake))
    check(fewest > k, f"precision and recall with k = {k} need more than {k} images, not {fewest}")
    real, fake = real.double(), fake.double()
    return PrecisionRecall(
        precision=_within(fake, real, _radii(real, k)), recall=_within(real, fake, _radii(fake, k))
    )


def _radii(points: Float[Tensor, "N D"], k: int) -> Float[Tensor, " N"]:
    """Distance of each point to its k-th nearest among the others."""
    found = [
        _distances(part, points).kthvalue(k + 1, dim=1).values  # the nearest is the point itself
        for part in points.split(1000)
    ]
    return torch.cat(found)


def _within(
    points: Float[Tensor, "N D"], centres: Float[Tensor, "M D"], radii: Float[Tensor, " M"]
) -> float:
    """Share of the points that are in at least one ball."""
    inside = [(_distances(part, centres) <= radii).any(1) for part in points.split(1000)]
    return torch.cat(inside).double().mean().item()


def _distances(x: Float[Tensor, "N D"], y: Float[Tensor, "M D"]) -> Float[Tensor, "N M"]:
    """Euclidean; not by a matrix product, which gives equal points a distance of 1e-7 or so."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def class_balance(log_prob: Float[Tensor, "N classes"]) -> ClassBalance:
    """Shares of the classes among the samples, and how far from equal they are.

    A data set need not be balanced itself: MNIST's test images have shares of 0.089 to 0.114.
    """
    classes = log_prob.shape[1]
    shares = log_prob.argmax(1).bincount(minlength=classes).double() / len(log_prob)
    entropy = torch.special.entr(shares).sum().item()  # with 0 log 0 = 0
    return ClassBalance(shares.tolist(), entropy, max(0.0, math.log(classes) - entropy))


def recognised(log_prob: Float[Tensor, "N classes"], labels: Int64[Tensor, " N"]) -> float:
    """Share of the samples whose most likely class is the label that was asked for."""
    return (log_prob.argmax(1) == labels).double().mean().item()


# --- of pixels -----------------------------------------------------------------------------------


def nearest_neighbours(
    images: Float[Tensor, "N C H W"],
    training_images: Float[Tensor, "M C H W"],
    k: int = 1,
    chunk: int = 10_000,
) -> Neighbours:
    """The k nearest training images, nearest first, by the root mean square of pixel differences.

    |x - y|^2 = |x|^2 - 2 x y + |y|^2, in chunks of training images and by matrix products; the
    distances of the few that are found are computed from the differences, so a copy is exactly 0.

    Raises:
        LabError: there are fewer than k training images.
    """
    check(len(training_images) >= k, f"{len(training_images)} training images have no {k} nearest")
    x = images.flatten(1)
    best = torch.full((len(x), k), math.inf)
    indices = torch.zeros(len(x), k, dtype=torch.long)
    for start in range(0, len(training_images), chunk):
        y = training_images[start : start + chunk].flatten(1)
        squares = torch.addmm(y.square().sum(1), x, y.T, alpha=-2)  # (N, m), less |x|^2
        found = squares.topk(min(k, len(y)), dim=1, largest=False)
        best, order = torch.cat([best, found.values], 1).topk(k, dim=1, largest=False)
        indices = torch.cat([indices, found.indices + start], 1).gather(1, order)
    found = training_images[indices.flatten()].flatten(1).view(len(x), k, -1)
    distances = (x[:, None] - found).square().mean(2).sqrt()  # (N, k)
    distances, order = distances.sort(dim=1, stable=True)  # neighbours by a rounding error
    return Neighbours(indices.gather(1, order), distances)


def copying(samples: Neighbours, test: Neighbours) -> Copying:
    """Compare how near samples and test images are to the training images (Meehan 2020, sec. 3).

    The Mann-Whitney statistic: if a model draws from the data's distribution, its samples are as
    far from the training images as the test images are, `nearer` is 0.5 and z a standard normal
    number. Blurred and simple samples are nearer, too (a smooth image is near to many): look at the
    pairs before you call it copying. Noisy ones are farther.
    """
    ours, theirs = (one.distances[:, 0].double().sort().values for one in (samples, test))
    n, m = len(ours), len(theirs)
    below = torch.searchsorted(theirs, ours)  # test images nearer than each sample
    up_to = torch.searchsorted(theirs, ours, right=True)  # and those as near
    nearer = 1 - (below + up_to).double().mean().item() / (2 * m)
    deviation = math.sqrt((n + m + 1) / (12 * n * m))  # of `nearer`, where there are no ties
    z = (nearer - 0.5) / deviation
    return Copying(nearer, z, ours.median().item(), theirs.median().item())


# --- of points -----------------------------------------------------------------------------------


def energy_test(
    x: Float[Tensor, "N D"], y: Float[Tensor, "M D"], permutations: int = 500, seed: int = 0
) -> TwoSamples:
    """Are two sets of points draws of one distribution? (Szekely & Rizzo 2004)

    The statistic N M / (N + M) (2 E|X - Y| - E|X - X'| - E|Y - Y'|), at least 0, has a limit where
    they are and grows with N where they are not, whatever the difference. With weights w of 1 / N
    for the points of x and -1 / M for those of y, and D the distances of all of them, the bracket
    is -w D w. A permutation shuffles w, so all permutations are one matrix product.

    The p-value is the share of permutations, the observed order among them, whose statistic is as
    large: at most a share alpha of the tests of equal distributions gives p <= alpha. The smallest
    possible one is 1 / (permutations + 1). Memory: 8 (N + M)^2 bytes.

    Raises:
        LabError: a set is empty, or points are NaN or infinite.
    """
    check(len(x) > 0 and len(y) > 0, "the energy test needs points of both kinds")
    points = torch.cat([x, y]).detach().cpu().double()
    check(bool(points.isfinite().all()), "points are NaN or infinite: has the training diverged?")
    n, m = len(x), len(y)
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(permutations + 1, n + m, generator=generator).argsort(1)
    order[0] = torch.arange(n + m)
    of_x = (order < n).double()  # (permutations + 1, n + m)
    weights = of_x / n - (1 - of_x) / m
    energy = -((weights @ _distances(points, points)) * weights).sum(1)
    statistics = n * m / (n + m) * energy
    rounding = 1e-9 * statistics[0].abs()  # the same split in another order must count
    as_large = statistics >= statistics[0] - rounding
    return TwoSamples(statistics[0].item(), as_large.double().mean().item())
