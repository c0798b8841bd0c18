"""k-means: Lloyd's two steps, seeded by k-means++.

Objective        J = Σ_i min_k ‖x_i − c_k‖², the inertia.
Lloyd            1 label every point by its nearest centroid; 2 move every centroid to the mean of
                 its points. Neither step can raise J and there are finitely many labelings, so it
                 ends, in a local minimum: hence several starts.
k-means++        the first centroid is a random point, each next one is x with probability
                 D(x)² / Σ D², D the distance to the nearest centroid so far. In expectation J is
                 then within 8 (ln k + 2) of the best possible, before the first step.
Distances        ‖x − c‖² = ‖x‖² − 2 x·c + ‖c‖²: one matrix product instead of an (n, k, d) array.
Empty clusters   a centroid that no point is nearest to moves onto the point that is farthest from
                 its own centroid, and takes it: J falls by just that distance.

Sources: Lloyd, "Least Squares Quantization in PCM", IEEE Trans. Inf. Theory 28(2), 1982;
Arthur, Vassilvitskii, "k-means++: The Advantages of Careful Seeding", SODA 2007.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from trainloop import check, load_images


@dataclass(frozen=True, kw_only=True)
class Config:
    """Cluster 1,500 digits of 8x8 pixels without looking at their labels."""

    seed: int = 0
    """Draws the seeds of k-means++."""
    clusters: int = 10
    """Number of centroids, k."""
    starts: int = 10
    """Seedings; the one that ends with the least inertia is kept."""

    def __post_init__(self) -> None:
        check(self.seed >= 0, f"--seed must not be negative, not {self.seed}")
        check(1 <= self.clusters <= 1000, f"--clusters must be 1 to 1000, not {self.clusters}")
        check(self.starts >= 1, f"--starts must be at least 1, not {self.starts}")


class Clustering(NamedTuple):
    """Where `lloyd` ended; `inertias` holds J before each move of the centroids, and the last."""

    centroids: Float[np.ndarray, "k d"]
    labels: Int[np.ndarray, " n"]
    inertias: list[float]


def squared_distances(
    X: Float[np.ndarray, "n d"], centroids: Float[np.ndarray, "k d"]
) -> Float[np.ndarray, "n k"]:
    """‖x − c‖² of all pairs. Rounding can push a zero below zero: it is put back."""
    middle = centroids.mean(0)  # distances are the same from anywhere, their rounding is not
    X, centroids = X - middle, centroids - middle
    square = (X**2).sum(1)[:, None] - 2 * X @ centroids.T + (centroids**2).sum(1)
    return np.maximum(square, 0.0)


def plus_plus(
    X: Float[np.ndarray, "n d"], k: int, rng: np.random.Generator
) -> Float[np.ndarray, "k d"]:
    """k rows of X as seeds (Arthur & Vassilvitskii 2007, algorithm 1b).

    Raises:
        LabError: NaN in X, or fewer than k different rows.
    """
    check(bool(np.isfinite(X).all()), "X holds NaN: drop those rows or fill them")
    different = len(np.unique(X, axis=0))
    check(1 <= k <= different, f"{k} clusters need as many different rows; X has {different}")
    seeds = X[rng.integers(len(X))][None]
    nearest = ((X - seeds) ** 2).sum(1)  # D²; by differences, so that copies of a seed get 0
    while len(seeds) < k:
        new = X[rng.choice(len(X), p=nearest / nearest.sum())]
        seeds = np.vstack([seeds, new])
        nearest = np.minimum(nearest, ((X - new) ** 2).sum(1))
    return seeds


def lloyd(
    X: Float[np.ndarray, "n d"], centroids: Float[np.ndarray, "k d"], most: int = 300
) -> Clustering:
    """Label and move until no label changes; warns about empty clusters, and after `most` moves.

    Raises:
        LabError: NaN in X or the centroids, or fewer rows than centroids.
    """
    finite = np.isfinite(X).all() and np.isfinite(centroids).all()
    check(bool(finite), "X or the centroids hold NaN: drop those rows or fill them")
    k = len(centroids)
    check(len(X) >= k, f"{len(X)} rows cannot fill {k} clusters; ask for fewer")
    previous, inertias = None, []
    for _ in range(most):
        square = squared_distances(X, centroids)
        labels, nearest = square.argmin(1), square.min(1)
        inertias.append(float(nearest.sum()))
        if previous is not None and (labels == previous).all():
            return Clustering(centroids, labels, inertias)
        previous = labels.copy()
        counts = np.bincount(labels, minlength=k)
        for empty in np.flatnonzero(counts == 0):
            # A point that is alone would leave its own cluster empty.
            farthest = np.where(counts[labels] > 1, nearest, -1.0).argmax()
            warnings.warn(f"cluster {empty} was empty: it takes row {farthest}", stacklevel=2)
            counts[labels[farthest]] -= 1
            labels[farthest], nearest[farthest], counts[empty] = empty, 0.0, 1
        centroids = (np.eye(k)[labels].T @ X) / counts[:, None]  # (k, n) @ (n, d)
    warnings.warn(f"labels still changed after {most} moves", stacklevel=2)
    square = squared_distances(X, centroids)
    return Clustering(centroids, square.argmin(1), [*inertias, float(square.min(1).sum())])


def run(config: Config, picture: Callable[[str, Figure], None]) -> dict[str, float]:
    """Cluster the training digits; name each cluster by its majority. Figures:

    inertia, worst_inertia: J of the best and of the worst start, pixels in 0..1.
    random_inertia: the best of as many starts from rows drawn uniformly, for comparison.
    moves: moves of the centroids in the best start.
    test_accuracy: share of test digits whose nearest centroid has the name of their class.
    max_difference_to_sklearn: between the centroids, both started from the same seeds.
    """
    rng = np.random.default_rng(config.seed)
    X, y = load_digits("train")
    seeds = [plus_plus(X, config.clusters, rng) for _ in range(config.starts)]
    found = [lloyd(X, seed) for seed in seeds]
    best = int(np.argmin([clustering.inertias[-1] for clustering in found]))
    centroids, labels, inertias = found[best]
    uniform = [rng.choice(len(X), config.clusters, replace=False) for _ in range(config.starts)]
    counts = np.eye(config.clusters)[labels].T @ np.eye(10)[y]  # (k, 10): cluster, digit
    names = counts.argmax(1)
    picture("centroids", draw_centroids(centroids, counts))

    from sklearn.cluster import KMeans  # takes a second

    theirs = KMeans(config.clusters, init=seeds[best], n_init=1, tol=0).fit(X)
    X_test, y_test = load_digits("test")
    nearest = squared_distances(X_test, centroids).argmin(1)
    return {
        "inertia": inertias[-1],
        "worst_inertia": max(clustering.inertias[-1] for clustering in found),
        "random_inertia": min(lloyd(X, X[rows]).inertias[-1] for rows in uniform),
        "moves": float(len(inertias) - 1),
        "test_accuracy": float((names[nearest] == y_test).mean()),
        "max_difference_to_sklearn": float(np.abs(centroids - theirs.cluster_centers_).max()),
    }


def load_digits(split: str) -> tuple[Float[np.ndarray, "n 64"], Int[np.ndarray, " n"]]:
    """scikit-learn's digits as rows of pixels in 0..1, and their labels."""
    images, labels = load_images("digits", split)
    return images.flatten(1).numpy() / 255, labels.numpy()


def draw_centroids(
    centroids: Float[np.ndarray, "k d"], counts: Float[np.ndarray, "k classes"]
) -> Figure:
    """The centroids as images, in the order of the digits that prevail among their points."""
    columns = min(len(centroids), 10)
    rows = -(-len(centroids) // columns)
    figure = Figure(figsize=(1.15 * columns + 0.5, 1.7 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for axis, cluster in zip(axes, np.argsort(counts.argmax(1), kind="stable"), strict=False):
        count = counts[cluster]
        axis.imshow(centroids[cluster].reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        axis.set_title(f"{count.max() / count.sum():.0%} are {count.argmax()}", fontsize=9)
    for axis in figure.axes:
        axis.axis("off")
    figure.suptitle("Centroids, found without labels", fontsize=11)
    return figure


if __name__ == "__main__":
    from from_scratch.lesson import main

    main("k_means")
