"""k-means against scikit-learn from the same seeds."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans

from from_scratch.k_means import Config, lloyd, plus_plus, run, squared_distances
from trainloop import LabError


def blobs(n: int = 300, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 3)) + rng.integers(0, 3, (n, 1)) * 4.0


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_distances_against_scipy(offset):
    X, centroids = blobs() + offset, blobs(7, seed=1) + offset
    expected = cdist(X, centroids, "sqeuclidean")
    found = squared_distances(X, centroids)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 if offset else 1e-12)
    assert (squared_distances(X, X) >= 0).all()


@pytest.mark.parametrize("k", [1, 3, 8])
def test_lloyd_against_sklearn(k):
    X = blobs()
    seeds = plus_plus(X, k, np.random.default_rng(0))
    found = lloyd(X, seeds)
    theirs = KMeans(k, init=seeds, n_init=1, tol=0).fit(X)
    np.testing.assert_array_equal(found.labels, theirs.labels_)
    np.testing.assert_allclose(found.centroids, theirs.cluster_centers_, rtol=0, atol=1e-12)
    assert found.inertias[-1] == pytest.approx(theirs.inertia_, rel=1e-12)
    assert (np.diff(found.inertias) <= 1e-9).all(), "no step raises the objective"


def test_empty_clusters_against_sklearn():
    """Two seeds so far off that no point is theirs."""
    X = blobs()
    seeds = np.vstack([X[:3], [[1e3, 0, 0], [0, 1e3, 0]]])
    with pytest.warns(UserWarning, match="was empty"):
        found = lloyd(X, seeds)
    theirs = KMeans(5, init=seeds, n_init=1, tol=0).fit(X)
    assert found.inertias[-1] == pytest.approx(theirs.inertia_, rel=1e-12)
    assert len(np.unique(found.labels)) == 5
    assert (np.diff(found.inertias) <= 0).all()


@pytest.mark.filterwarnings("ignore:cluster")
def test_refilling_a_cluster_does_not_empty_another():
    """The farthest point is alone in its cluster and has to stay there."""
    X = np.array([[0.0], [1.0], [2.0], [100.0]])
    found = lloyd(X, np.array([[0.5], [150.0], [1e6]]))
    assert len(np.unique(found.labels)) == 3
    assert found.inertias[-1] == pytest.approx(0.5)


def test_the_refilled_clusters_means_are_right():
    X = np.array([[0.0], [1.0], [2.0], [10.0]])
    with pytest.warns(UserWarning):
        found = lloyd(X, np.array([[1.0], [1e6]]), most=1)
    np.testing.assert_array_equal(found.centroids, [[1.0], [10.0]])


def test_as_many_clusters_as_points():
    X = blobs(6)
    assert lloyd(X, plus_plus(X, 6, np.random.default_rng(0))).inertias[-1] < 1e-20


def test_seeds_are_drawn_by_squared_distance():
    """Points 0, 1, 3: the odds of each pair of seeds are known."""
    X, rng = np.array([[0.0], [1.0], [3.0]]), np.random.default_rng(0)
    pairs = [tuple(sorted(plus_plus(X, 2, rng).ravel())) for _ in range(2500)]
    odds = {
        (0, 1): (1 / 10 + 1 / 5) / 3,
        (0, 3): (9 / 10 + 9 / 13) / 3,
        (1, 3): (4 / 5 + 4 / 13) / 3,
    }
    for pair, chance in odds.items():
        assert pairs.count(pair) / 2500 == pytest.approx(chance, abs=0.03)


def test_seeds_differ_even_among_copies():
    X = np.repeat(np.arange(5.0)[:, None], 200, axis=0) + 1e5 / 3
    for seed in range(20):
        assert len(np.unique(plus_plus(X, 5, np.random.default_rng(seed)))) == 5
    with pytest.raises(LabError, match="6 clusters need as many different rows; X has 5"):
        plus_plus(X, 6, np.random.default_rng(0))


def test_bad_input():
    X = blobs(20)
    with pytest.raises(LabError, match="20 rows cannot fill 21"):
        lloyd(X, np.zeros((21, 3)))
    with pytest.warns(UserWarning, match="still changed after 1"):
        found = lloyd(X, X[:4], most=1)
    assert found.inertias[-1] == squared_distances(X, found.centroids).min(1).sum()
    X[0, 0] = np.nan
    with pytest.raises(LabError, match="NaN"):
        lloyd(X, np.zeros((2, 3)))
    with pytest.raises(LabError, match="NaN"):
        plus_plus(X, 2, np.random.default_rng(0))
    for options in ({"clusters": 0}, {"starts": 0}, {"seed": -1}):
        with pytest.raises(LabError, match="--"):
            Config(**options)


@pytest.mark.parametrize("clusters", [10, 3, 13])
def test_the_lesson(clusters):
    pictures = {}
    config = Config(clusters=clusters, starts=3)
    figures = run(config, pictures.__setitem__)
    assert set(pictures) == {"centroids"}
    assert figures["max_difference_to_sklearn"] < 1e-9
    assert figures["inertia"] <= figures["worst_inertia"]
    assert figures["test_accuracy"] > {3: 0.25, 10: 0.6, 13: 0.6}[clusters]
    if clusters == 3:
        assert run(config, pictures.__setitem__) == figures
