"""The tree against scikit-learn's, the search for splits against one that tries them all."""

import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier

from from_scratch.decision_tree import (
    Config,
    best_split,
    grow,
    impurity_difference,
    leaves,
    predict,
    run,
    two_moons,
)
from trainloop import LabError


def noisy(n: int = 200, d: int = 4, classes: int = 3, seed: int = 0):
    """Values that float32 holds too, since scikit-learn's trees round to it."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)).astype(np.float32).astype(float)
    y = (X[:, 0] + X[:, 1] * X[:, 2] + 0.5 * rng.standard_normal(n) > 0).astype(int)
    y[rng.uniform(size=n) < 0.2] = classes - 1
    return X, y


def slow_split(X: np.ndarray, y: np.ndarray, min_leaf: int) -> float:
    """The least impurity, by trying every threshold of every feature."""

    def gini(labels: np.ndarray) -> float:
        return len(labels) - (np.bincount(labels) ** 2).sum() / len(labels)

    found = np.inf
    for column in X.T:
        for value in np.unique(column)[:-1]:
            left = column <= value
            if min(left.sum(), (~left).sum()) >= min_leaf:
                found = min(found, gini(y[left]) + gini(y[~left]))
    return found


@pytest.mark.parametrize("min_leaf", [1, 5, 10])
@pytest.mark.parametrize("values", [3, 1000])
def test_best_split_against_a_slow_one(values, min_leaf):
    """With three values per feature there are ties and few thresholds."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        X, y = rng.integers(0, values, (21, 3)).astype(float), rng.integers(0, 4, 21)
        split = best_split(X, y, 4, min_leaf)
        expected = slow_split(X, y, min_leaf)
        if split is None:
            assert expected == np.inf
            continue
        left = X[:, split.feature] <= split.threshold
        assert min(left.sum(), (~left).sum()) >= min_leaf
        assert split.impurity == pytest.approx(expected, abs=1e-9)
        sides = [np.eye(4)[y[side]].sum(0) for side in (left, ~left)]
        assert split.impurity == pytest.approx(sum(s.sum() - (s**2).sum() / s.sum() for s in sides))


@pytest.mark.parametrize("min_leaf", [1, 7])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_predictions_against_sklearn(depth, min_leaf):
    """Shallow: in tiny nodes many splits are equal, and scikit-learn draws one of them."""
    X, y = noisy(400)
    X_new, _ = noisy(300, seed=1)
    theirs = DecisionTreeClassifier(max_depth=depth, min_samples_leaf=min_leaf, random_state=0)
    tree = grow(X, y, 3, depth, min_leaf)
    np.testing.assert_array_equal(predict(tree, X_new), theirs.fit(X, y).predict(X_new))
    assert leaves(tree) == theirs.get_n_leaves()


@pytest.mark.parametrize("min_leaf", [1, 4])
def test_every_split_of_sklearns_full_tree(min_leaf):
    X, y = noisy()
    theirs = DecisionTreeClassifier(min_samples_leaf=min_leaf, random_state=0).fit(X, y)
    assert impurity_difference(theirs, X, y, min_leaf) < 1e-12


def test_without_limits_it_learns_by_heart():
    X, y = noisy()
    np.testing.assert_array_equal(predict(grow(X, y, 3, 100), X), y)


def test_a_deep_tree_holds_the_shallow_ones():
    X, y = noisy()
    X_new, _ = noisy(seed=1)
    deep = grow(X, y, 3, 100)
    for depth in range(8):
        expected = predict(grow(X, y, 3, depth), X_new)
        np.testing.assert_array_equal(predict(deep, X_new, depth), expected)
    assert (predict(deep, X_new, 0) == np.bincount(y).argmax()).all()


def test_order_of_rows_and_scale_of_features_do_not_matter():
    X, y = noisy()
    X_new, _ = noisy(seed=1)
    expected = predict(grow(X, y, 3, 6), X_new)
    mixed = np.random.default_rng(2).permutation(len(X))
    np.testing.assert_array_equal(predict(grow(X[mixed], y[mixed], 3, 6), X_new), expected)
    np.testing.assert_array_equal(predict(grow(8 * X, y, 3, 6), 8 * X_new), expected)


def test_of_equal_splits_the_first_feature_wins():
    """A mirrored feature offers the same splits, summed up in the other order."""
    for seed in range(20):
        X, y = noisy(50, d=3, seed=seed)
        assert best_split(np.column_stack([X, -X]), y, 3).feature < 3


def test_two_useless_questions_solve_xor():
    X = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    y = np.array([0, 1, 1, 0])
    tree = grow(X, y, 2, 2)
    np.testing.assert_array_equal(predict(tree, X), y)
    assert leaves(tree) == 4


def test_nothing_to_ask():
    X, y = np.ones((5, 2)), np.array([1, 1, 0, 2, 2])
    assert grow(np.eye(5), np.ones(5, int), 3, 10).split is None, "pure"
    tree = grow(X, y, 3, 10)
    assert tree.split is None
    np.testing.assert_array_equal(tree.counts, [1, 2, 2])
    np.testing.assert_array_equal(predict(tree, X), 1)  # of equal classes the first
    assert grow(*noisy(), 3, 0).split is None
    X, y = noisy()
    assert grow(X, y, 3, 10, min_leaf=101).split is None, "200 rows cannot give 101 to each side"
    assert predict(tree, np.zeros((0, 2))).shape == (0,)


def test_neighbouring_floats_are_told_apart():
    """Their middle rounds to one of them, to the upper one for some; nor may huge ones overflow."""
    low = np.nextafter(1.0, 2)
    for pair in ((1.0, low), (low, np.nextafter(low, 2)), (-1.7e308, 1.7e308), (1.6e308, 1.7e308)):
        X = np.array(pair)[:, None]
        np.testing.assert_array_equal(predict(grow(X, np.array([0, 1]), 2, 1), X), [0, 1])


def test_bad_input():
    X, y = noisy()
    with pytest.raises(LabError, match="at least one row"):
        grow(X[:0], y[:0], 3, 2)
    for wrong in (y - 1, y + 1):
        with pytest.raises(LabError, match="labels must be 0 to 2"):
            grow(X, wrong, 3, 2)
    tree = grow(X, y, 3, 2)
    X[1, 1] = np.nan
    with pytest.raises(LabError, match="NaN"):
        grow(X, y, 3, 2)
    with pytest.raises(LabError, match="NaN"):
        predict(tree, X)
    for options in ({"max_depth": 0}, {"max_depth": 501}, {"min_leaf": 0}, {"seed": -1}):
        with pytest.raises(LabError, match="--"):
            Config(**options)


def test_moons_are_balanced_and_reproducible():
    X, y = two_moons(100, np.random.default_rng(0))
    assert X.shape == (100, 2)
    assert y.sum() == 50
    np.testing.assert_array_equal(X, two_moons(100, np.random.default_rng(0))[0])


def test_the_lesson():
    pictures = {}
    figures = run(Config(max_depth=12), pictures.__setitem__)
    assert set(pictures) == {"moons"}
    assert figures["sklearn_impurity_difference"] < 1e-12
    assert figures["test_accuracy"] > 0.7
    assert abs(figures["test_accuracy"] - figures["sklearn_test_accuracy"]) < 0.05
    assert figures["validation_accuracy"] < figures["train_accuracy"]
    assert run(Config(max_depth=3), pictures.__setitem__)["leaves"] <= 8
