"""A classification tree (CART): ask the question that leaves the purest halves, and repeat.

Impurity         Gini, G = 1 − Σ_k p_k², p_k the share of class k in a node: the chance that two
                 draws from the node differ. 0 when pure.
Split            "feature j ≤ t?", t midway between neighbouring values, such that least becomes
                 n_left G_left + n_right G_right = n − Σ_k left_k² / n_left − Σ_k right_k² / n_right
Search           sort each feature once; cumulative one-hot sums of the sorted labels are the left
                 counts of every threshold, the rest are the right counts. No loop over thresholds.
Stopping         depth, rows in a leaf, purity, or no question left to ask (equal rows). A useless
                 split is still made: two useless ones can be a perfect pair (XOR).
Depth            the choice is greedy: a deep tree holds the shallower ones, cut off at their depth.
Overfitting      a tree without limits learns the training set by heart: every box ends pure.

Source: Breiman, Friedman, Olshen, Stone, "Classification and Regression Trees", 1984, chs. 2, 4.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Optional

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from trainloop import check, load_images


@dataclass(frozen=True, kw_only=True)
class Config:
    """Grow trees on digits and on two moons."""

    seed: int = 0
    """Draws the two moons; the tree itself draws nothing."""
    max_depth: int = 20
    """Questions in a row at most; the depth used is chosen on validation, from 1 to this."""
    min_leaf: int = 1
    """Rows that each answer of a question must keep."""

    def __post_init__(self) -> None:
        check(self.seed >= 0, f"--seed must not be negative, not {self.seed}")
        check(1 <= self.max_depth <= 500, f"--max-depth must be 1 to 500, not {self.max_depth}")
        check(self.min_leaf >= 1, f"--min-leaf must be at least 1, not {self.min_leaf}")


class Split(NamedTuple):
    """X[:, feature] <= threshold goes left; `impurity` is n_left G_left + n_right G_right."""

    feature: int
    threshold: float
    impurity: float


class Node(NamedTuple):
    """`counts` are the training rows of each class; a leaf has no split."""

    counts: Int[np.ndarray, " K"]
    split: Split | None = None
    left: Optional["Node"] = None
    right: Optional["Node"] = None


def best_split(
    X: Float[np.ndarray, "n d"], y: Int[np.ndarray, " n"], classes: int, min_leaf: int = 1
) -> Split | None:
    """The split of least impurity, of equal ones the first feature's; None if none is allowed.

    A constant feature has no threshold. Costs n · d · classes numbers of memory.
    """
    n = len(X)
    order = X.argsort(axis=0, kind="stable")
    values = np.take_along_axis(X, order, axis=0)  # (n, d)
    left = np.eye(classes)[y[order]].cumsum(axis=0)  # (n, d, K): of the first i + 1 rows
    right = left[-1] - left
    n_left = np.arange(1, n + 1)[:, None]
    n_right = np.maximum(n - n_left, 1)  # the last row is no split, and is ruled out below
    impurity = n - (left**2).sum(2) / n_left - (right**2).sum(2) / n_right  # (n, d)
    allowed = (n_left >= min_leaf) & (n - n_left >= min_leaf)
    allowed = allowed & np.vstack([values[1:] > values[:-1], np.zeros((1, X.shape[1]), bool)])
    if not allowed.any():
        return None
    # By feature, then threshold; less rounding noise, lest it decide between equal splits.
    scores = np.where(allowed, impurity.round(9), np.inf).T  # (d, n)
    feature, at = np.unravel_index(scores.argmin(), scores.shape)
    low, high = values[at, feature], values[at + 1, feature]
    middle = low / 2 + high / 2  # (low + high) / 2 could overflow
    threshold = middle if low <= middle < high else low  # neighbouring floats have no middle
    return Split(int(feature), float(threshold), float(impurity[at, feature]))


def grow(
    X: Float[np.ndarray, "n d"],
    y: Int[np.ndarray, " n"],
    classes: int,
    max_depth: int,
    min_leaf: int = 1,
) -> Node:
    """The tree, greedily.

    Raises:
        LabError: no rows, NaN in X, or a label outside 0..classes − 1.
    """
    check(len(X) > 0, "a tree needs at least one row")
    check(bool(np.isfinite(X).all()), "X holds NaN: it is neither left nor right; fill it first")
    check(bool(((y >= 0) & (y < classes)).all()), f"labels must be 0 to {classes - 1}")
    counts = np.bincount(y, minlength=classes)
    pure = counts.max() == len(y)
    split = None if pure or max_depth == 0 else best_split(X, y, classes, min_leaf)
    if split is None:
        return Node(counts)
    left = X[:, split.feature] <= split.threshold
    children = [grow(X[side], y[side], classes, max_depth - 1, min_leaf) for side in (left, ~left)]
    return Node(counts, split, *children)


def predict(
    tree: Node, X: Float[np.ndarray, "n d"], max_depth: int | None = None
) -> Int[np.ndarray, " n"]:
    """The majority of the leaf that each row falls into, of equal classes the first.

    With `max_depth` the answer of the tree that would have been grown to that depth.

    Raises:
        LabError: NaN in X.
    """
    check(bool(np.isfinite(X).all()), "X holds NaN: it is neither left nor right; fill it first")
    if tree.split is None or max_depth == 0:
        return np.full(len(X), tree.counts.argmax())
    deeper = None if max_depth is None else max_depth - 1
    left = X[:, tree.split.feature] <= tree.split.threshold
    found = np.empty(len(X), int)
    found[left] = predict(tree.left, X[left], deeper)
    found[~left] = predict(tree.right, X[~left], deeper)
    return found


def leaves(tree: Node) -> int:
    """Number of leaves."""
    return 1 if tree.split is None else leaves(tree.left) + leaves(tree.right)


def run(config: Config, picture: Callable[[str, Figure], None]) -> dict[str, float]:
    """Choose the depth on validation, read the test digits once, draw the moons. Figures:

    depth, leaves: of the tree of digits.
    train_accuracy, validation_accuracy, test_accuracy: shares of right answers.
    sklearn_impurity_difference: greatest difference between the impurity of scikit-learn's split
        and of ours, on the rows of each node of scikit-learn's tree; as a share of the rows.
    sklearn_test_accuracy: of its tree of the same depth (equal splits are broken at random there).
    """
    X, y = load_digits("train")
    cut = 1200
    deepest = grow(X[:cut], y[:cut], 10, config.max_depth, config.min_leaf)
    found = [
        float((predict(deepest, X[cut:], depth) == y[cut:]).mean())
        for depth in range(1, config.max_depth + 1)
    ]
    depth = int(np.argmax(found)) + 1
    tree = grow(X, y, 10, depth, config.min_leaf)

    from sklearn.tree import DecisionTreeClassifier  # takes a second

    theirs = DecisionTreeClassifier(
        max_depth=depth, min_samples_leaf=config.min_leaf, random_state=config.seed
    ).fit(X, y)
    X_test, y_test = load_digits("test")
    picture("moons", draw_moons(np.random.default_rng(config.seed)))
    return {
        "depth": float(depth),
        "leaves": float(leaves(tree)),
        "train_accuracy": float((predict(tree, X) == y).mean()),
        "validation_accuracy": max(found),
        "test_accuracy": float((predict(tree, X_test) == y_test).mean()),
        "sklearn_impurity_difference": impurity_difference(theirs, X, y, config.min_leaf),
        "sklearn_test_accuracy": float((theirs.predict(X_test) == y_test).mean()),
    }


def impurity_difference(
    theirs, X: Float[np.ndarray, "n d"], y: Int[np.ndarray, " n"], min_leaf: int
) -> float:
    """Our best split against theirs, on the rows that reach each inner node of their tree.

    Whole trees cannot be compared: splits of equal impurity abound, and lead to other trees.
    """
    tree, classes = theirs.tree_, int(y.max()) + 1
    reached = theirs.decision_path(X).toarray().astype(bool)  # (n, nodes)
    worst = 0.0
    for node in np.flatnonzero(tree.children_left >= 0):
        sides = tree.children_left[node], tree.children_right[node]
        expected = sum(tree.impurity[side] * tree.n_node_samples[side] for side in sides)
        rows = reached[:, node]
        ours = best_split(X[rows], y[rows], classes, min_leaf)
        worst = max(worst, abs(ours.impurity - expected) / rows.sum())
    return float(worst)


def load_digits(split: str) -> tuple[Float[np.ndarray, "n 64"], Int[np.ndarray, " n"]]:
    """scikit-learn's digits as rows of pixels, 0..255, and their labels."""
    images, labels = load_images("digits", split)
    return images.flatten(1).numpy().astype(float), labels.numpy()


def two_moons(
    n: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "n 2"], Int[np.ndarray, " n"]]:
    """Two half circles that reach into each other, noise σ = 0.4."""
    y = np.arange(n) % 2
    angle = rng.uniform(0, np.pi, n)
    sign = 1 - 2 * y
    X = np.column_stack([y + sign * np.cos(angle), 0.5 * y + sign * np.sin(angle)])
    return X + 0.4 * rng.standard_normal(X.shape), y


def draw_moons(rng: np.random.Generator) -> Figure:
    """What trees of growing depth make of 300 points, and how they do on 2,000 new ones."""
    X, y = two_moons(300, rng)
    X_new, y_new = two_moons(2000, rng)
    low, high = X.min(0) - 0.3, X.max(0) + 0.3
    across, down = np.meshgrid(*(np.linspace(low[i], high[i], 300) for i in range(2)))
    grid = np.column_stack([across.ravel(), down.ravel()])
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    for axis, depth in zip(figure.subplots(1, 4), (1, 3, 5, 30), strict=True):
        tree = grow(X, y, 2, depth)
        regions = predict(tree, grid).reshape(across.shape)
        axis.contourf(
            across, down, regions, levels=[-0.5, 0.5, 1.5], colors=["C0", "C1"], alpha=0.3
        )
        axis.scatter(*X.T, c=np.array(["C0", "C1"])[y], s=7)
        scores = [float((predict(tree, P) == t).mean()) for P, t in ((X, y), (X_new, y_new))]
        name = f"depth {depth}" if depth < 30 else "no limit"
        axis.set_title(f"{name}: {leaves(tree)} leaves\ntrain {scores[0]:.0%}, new {scores[1]:.0%}")
        axis.set(xticks=[], yticks=[])
    return figure


if __name__ == "__main__":
    from from_scratch.lesson import main

    main("decision_tree")
