"""PCA against scikit-learn; maps keep neighbours together."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from fashion_mnist.maps import pca, place, tsne


@pytest.fixture
def clusters() -> tuple[np.ndarray, np.ndarray]:
    """150 points about three centres in 12 dimensions."""
    random = np.random.default_rng(0)
    labels = np.arange(150) % 3
    return (10 * random.normal(size=(3, 12))[labels] + random.normal(size=(150, 12))), labels


@pytest.mark.parametrize("dimensions", [2, 3, 7])
def test_pca_is_scikit_learns_up_to_the_sign(clusters, dimensions):
    ours, theirs = pca(clusters[0], dimensions), PCA(dimensions).fit_transform(clusters[0])
    assert np.abs(ours) == pytest.approx(np.abs(theirs), abs=1e-8)
    assert np.abs((ours * theirs).sum(0)) == pytest.approx((theirs**2).sum(0))


def test_pca_is_not_mirrored_by_the_order_of_images(clusters):
    order = np.random.default_rng(1).permutation(150)
    assert pca(clusters[0][order], 3) == pytest.approx(pca(clusters[0], 3)[order], abs=1e-8)


def test_the_largest_weight_of_each_axis_is_positive(clusters):
    for x in (clusters[0], -clusters[0], clusters[0][:, ::-1]):
        centred = x - x.mean(0)
        axes = np.linalg.lstsq(centred, pca(x, 5))[0]  # (12, 5)
        assert (axes[np.abs(axes).argmax(0), np.arange(5)] > 0).all()


def test_dimensions_that_are_not_there_are_zero():
    flat = np.random.default_rng(0).normal(size=(20, 2))
    found = pca(flat, 3)
    assert found.shape == (20, 3)
    assert (found[:, 2] == 0).all()
    assert np.isfinite(pca(np.ones((5, 4)), 2)).all()


@pytest.mark.parametrize("dimensions", [2, 3])
def test_tsne_keeps_clusters_together(clusters, dimensions):
    x, labels = clusters
    places = tsne(x, dimensions, seed=0)
    assert places.shape == (150, dimensions)
    apart = np.linalg.norm(places[:, None] - places[None], axis=2) + 1e9 * np.eye(150)
    assert (labels[apart.argmin(1)] == labels).mean() > 0.95


def test_places_are_float32_and_finite_for_equal_embeddings():
    for how in ("pca", "tsne"):
        found = place(np.ones((100, 5), np.float32), 2, how, 0)
        assert found.dtype == np.float32
        assert np.isfinite(found).all()
