"""Embeddings as places in two or three dimensions: PCA by hand, t-SNE by scikit-learn."""

from typing import Literal

import numpy as np
from jaxtyping import Float


def pca(x: Float[np.ndarray, "N D"], dimensions: int) -> Float[np.ndarray, "N d"]:
    """The first principal components, the most varied first (Pearson 1901).

    Each axis points where its largest weight is positive, so that the map is not mirrored at whim.
    Dimensions that the data lacks are 0.
    """
    centred = x.astype(np.float64) - x.mean(0, dtype=np.float64)
    # Eigenvectors of X'X rather than an SVD of X: D is hundreds, N is thousands.
    _, axes = np.linalg.eigh(centred.T @ centred)  # ascending
    axes = axes[:, ::-1][:, :dimensions]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(0)[None], 0)
    places = centred @ (axes * np.sign(largest))
    return np.pad(places, ((0, 0), (0, dimensions - places.shape[1])))


def tsne(
    x: Float[np.ndarray, "N D"], dimensions: int, seed: int, perplexity: float | int = 30
) -> Float[np.ndarray, "N d"]:
    """t-SNE (van der Maaten 2008), Barnes-Hut, of the first 30 principal components, begun at PCA.

    Distances between far clusters mean little; who is whose neighbour does.
    """
    from sklearn.manifold import TSNE

    x = pca(x, 30)
    spread = x[:, 0].std()
    if spread == 0:  # all the same: nothing to unfold, and the library would divide by 0
        return np.zeros((len(x), dimensions))
    return TSNE(
        dimensions,
        perplexity=min(perplexity, (len(x) - 1) / 3),
        init=(1e-4 / spread * x[:, :dimensions]).astype(np.float32),
        random_state=seed,
    ).fit_transform(x.astype(np.float32))


def place(
    x: Float[np.ndarray, "N D"], dimensions: int, how: Literal["tsne", "pca"], seed: int
) -> Float[np.ndarray, "N d"]:
    """The map of embeddings that an option names, in float32."""
    found = pca(x, dimensions) if how == "pca" else tsne(x, dimensions, seed)
    return found.astype(np.float32)
