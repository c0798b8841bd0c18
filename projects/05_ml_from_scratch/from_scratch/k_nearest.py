"""k nearest neighbours: no training at all, the work is in the distances.

Rule             a point gets the class that most of its k nearest training points have; of equal
                 votes the smallest label wins (as in scikit-learn).
Distances        ‖q − x‖² = ‖q‖² − 2 q·x + ‖x‖², a matrix product; ‖q‖² is the same for all
                 neighbours of q and left out. In blocks of queries, so that memory stays bounded.
Choosing k       small k follows noise, large k blurs the classes. The k nearest are the first k of
                 the K nearest: one sorted list of K gives the votes for every k ≤ K by a sum.
Theory           with endless data the error of k = 1 is at most twice the least possible one.

Source: Cover, Hart, "Nearest Neighbor Pattern Classification", IEEE Trans. Inf. Theory 13(1), 1967.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from trainloop import check, load_images

VALIDATION = 300  # the last ones of the 1,500 training digits


@dataclass(frozen=True, kw_only=True)
class Config:
    """Classify 8x8 digits by those that look most alike."""

    seed: int = 0
    """Picks the mistakes in the picture if there are many; the method itself draws nothing."""
    most: int = 25
    """k is chosen from 1 to this many."""
    block: int = 256
    """Queries whose distances are in memory at once."""

    def __post_init__(self) -> None:
        check(self.seed >= 0, f"--seed must not be negative, not {self.seed}")
        check(5 <= self.most <= 1000, f"--most must be 5 to 1000, not {self.most}")
        check(self.block >= 1, f"--block must be at least 1, not {self.block}")


def neighbours(
    queries: Float[np.ndarray, "q d"],
    X: Float[np.ndarray, "n d"],
    most: int,
    block: int = 256,
) -> Int[np.ndarray, "q most"]:
    """Rows of X nearest to each query, the nearest first. Costs block · n numbers of memory.

    Raises:
        LabError: NaN in either, or `most` not in 1..n.
    """
    finite = np.isfinite(queries).all() and np.isfinite(X).all()
    check(bool(finite), "queries or X hold NaN: no distance; drop those rows or fill them")
    check(1 <= most <= len(X), f"1 to {len(X)} neighbours can be had, not {most}")
    middle = X.mean(0)  # distances are the same from anywhere, their rounding is not
    queries, X = queries - middle, X - middle
    squares = (X**2).sum(1)
    found = np.empty((len(queries), most), int)
    for start in range(0, len(queries), block):
        rows = slice(start, start + block)
        distance = squares - 2 * queries[rows] @ X.T  # (block, n), each row less ‖q‖²
        # Partitioning is linear in n; only the chosen few are then sorted.
        nearest = np.argpartition(distance, most - 1, axis=1)[:, :most]
        order = np.take_along_axis(distance, nearest, 1).argsort(axis=1, kind="stable")
        found[rows] = np.take_along_axis(nearest, order, 1)
    return found


def votes_for_every_k(labels: Int[np.ndarray, "q most"], classes: int) -> Int[np.ndarray, "q most"]:
    """The winner among the first k labels of each row, in column k − 1."""
    votes = np.eye(classes, dtype=int)[labels].cumsum(axis=1)  # (q, most, classes)
    return votes.argmax(2)


def run(config: Config, picture: Callable[[str, Figure], None]) -> dict[str, float]:
    """Choose k on validation, then read the test digits once. Figures:

    k: the best on validation; of equal ones the smallest.
    validation_accuracy, test_accuracy: shares of right answers with that k.
    sklearn_agreement: share of test digits on which scikit-learn's classifier says the same.
    """
    X, y = load_digits("train")
    cut = len(X) - VALIDATION
    nearest = neighbours(X[cut:], X[:cut], config.most, config.block)
    right = votes_for_every_k(y[nearest], 10) == y[cut:, None]
    k = int(right.mean(0).argmax()) + 1

    X_test, y_test = load_digits("test")
    nearest = neighbours(X_test, X, max(k, 5), config.block)  # the validation digits join in
    predicted = votes_for_every_k(y[nearest], 10)[:, k - 1]
    wrong = np.flatnonzero(predicted != y_test)
    rng = np.random.default_rng(config.seed)
    shown = np.sort(rng.permutation(wrong)[:12])
    if len(shown):
        found = (X[nearest[shown, :5]], y[nearest[shown, :5]])
        picture("mistakes", draw_mistakes(X_test[shown], y_test[shown], predicted[shown], *found))

    from sklearn.neighbors import KNeighborsClassifier  # takes a second

    theirs = KNeighborsClassifier(k, algorithm="brute").fit(X, y).predict(X_test)
    return {
        "k": float(k),
        "validation_accuracy": float(right.mean(0).max()),
        "test_accuracy": float((predicted == y_test).mean()),
        "sklearn_agreement": float((predicted == theirs).mean()),
    }


def load_digits(split: str) -> tuple[Float[np.ndarray, "n 64"], Int[np.ndarray, " n"]]:
    """scikit-learn's digits as rows of pixels in 0..1, and their labels."""
    images, labels = load_images("digits", split)
    return images.flatten(1).numpy() / 255, labels.numpy()


def draw_mistakes(
    queries: Float[np.ndarray, "m 64"],
    truth: Int[np.ndarray, " m"],
    predicted: Int[np.ndarray, " m"],
    near: Float[np.ndarray, "m 5 64"],
    near_labels: Int[np.ndarray, "m 5"],
) -> Figure:
    """A column per mistake: the digit, below it its five nearest (label green if right)."""
    count = len(queries)
    figure = Figure(figsize=(0.85 * count + 1.3, 6), layout="constrained")
    axes = figure.subplots(6, count, squeeze=False)
    images = np.concatenate([queries[:, None], near], axis=1)  # (m, 6, 64)
    for row in range(6):
        for column in range(count):
            axis = axes[row, column]
            axis.imshow(images[column, row].reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
            if row == 0:
                axis.set_title(f"{truth[column]} as {predicted[column]}", fontsize=9)
            else:
                label = near_labels[column, row - 1]
                colour = "tab:green" if label == truth[column] else "firebrick"
                axis.set_title(str(label), fontsize=9, color=colour, pad=2)
        axes[row, 0].set_ylabel(
            "test digit" if row == 0 else f"neighbour {row}",
            rotation=0, ha="right", va="center", fontsize=9,
        )  # fmt: skip
    figure.suptitle("Mistakes, and what looks most alike among the training digits", fontsize=11)
    return figure


if __name__ == "__main__":
    from from_scratch.lesson import main

    main("k_nearest")
