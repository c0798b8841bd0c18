"""Nearest neighbours against scikit-learn and a sort of all distances."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.neighbors import KNeighborsClassifier

from from_scratch.k_nearest import Config, neighbours, run, votes_for_every_k
from trainloop import LabError


@pytest.fixture
def points() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 4))  # numpy's partition sorts what is small
    return X, rng.integers(0, 3, 2000), rng.standard_normal((50, 4))


@pytest.mark.parametrize("offset", [0.0, 1e8])
@pytest.mark.parametrize("block", [1, 7, 50, 1000])
def test_neighbours_against_a_full_sort(points, block, offset):
    X, _, queries = points
    expected = cdist(queries, X).argsort(axis=1)
    for most in (1, 9, 200):
        found = neighbours(queries + offset, X + offset, most, block)
        assert (found == expected[:, :most]).mean() > (0.99 if offset else 0.9999)


def test_predictions_for_every_k_against_sklearn(points):
    X, y, queries = points
    predicted = votes_for_every_k(y[neighbours(queries, X, 30)], 3)
    for k in range(1, 31):
        theirs = KNeighborsClassifier(k, algorithm="brute").fit(X, y).predict(queries)
        np.testing.assert_array_equal(predicted[:, k - 1], theirs)


def test_of_equal_votes_the_smallest_label_wins():
    labels = np.array([[2, 1, 1, 2, 0, 0]])
    np.testing.assert_array_equal(votes_for_every_k(labels, 3), [[2, 1, 1, 1, 1, 0]])


def test_a_training_point_is_its_own_neighbour(points):
    X, _, _ = points
    np.testing.assert_array_equal(neighbours(X, X, 1)[:, 0], np.arange(2000))


def test_constant_features_change_nothing(points):
    X, _, queries = points
    wide = [np.column_stack([a, np.full(len(a), 3.0)]) for a in (queries, X)]
    np.testing.assert_array_equal(neighbours(*wide, 5), neighbours(queries, X, 5))


def test_bad_input(points):
    X, _, queries = points
    for most in (0, 2001):
        with pytest.raises(LabError, match=f"1 to 2000 neighbours can be had, not {most}"):
            neighbours(queries, X, most)
    queries[3, 1] = np.nan
    with pytest.raises(LabError, match="NaN"):
        neighbours(queries, X, 3)
    with pytest.raises(LabError, match="NaN"):
        neighbours(X, queries, 3)
    for options in ({"most": 4}, {"block": 0}, {"seed": -1}):
        with pytest.raises(LabError, match="--"):
            Config(**options)


def test_the_lesson():
    pictures = {}
    figures = run(Config(), pictures.__setitem__)
    assert set(pictures) == {"mistakes"}
    assert figures["sklearn_agreement"] == 1
    assert figures["validation_accuracy"] > 0.98
    assert figures["test_accuracy"] > 0.94
    assert run(Config(block=17), pictures.__setitem__) == figures
