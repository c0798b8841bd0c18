"""Principal component analysis by one singular value decomposition.

Goal             the k-dimensional plane that keeps most of the variance, which is the one that
                 loses least: min over orthonormal W (k, d) of Σ_i ‖(x_i − μ) − WᵀW (x_i − μ)‖².
Solution         X − μ = U diag(s) Vᵀ, singular values descending: W = the first k rows of Vᵀ
                 (Eckart & Young 1936).
Variance         along axis j it is s_j² / (n − 1), an eigenvalue of the covariance matrix. Taking
                 the SVD of X instead of the eigenvalues of XᵀX keeps the small ones accurate.
Code and back    z = W (x − μ),  x̂ = μ + Wᵀ z;  Σ_i ‖x_i − x̂_i‖² = Σ_{j > k} s_j².
Signs            are arbitrary (U and V may flip together); here each axis' largest entry is > 0.

Sources: Pearson, "On Lines and Planes of Closest Fit", Phil. Mag. 2(11), 1901;
Bishop, "Pattern Recognition and Machine Learning", 2006, sec. 12.1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from trainloop import check, load_images


@dataclass(frozen=True, kw_only=True)
class Config:
    """Describe 8x8 digits by fewer numbers than their 64 pixels."""

    seed: int = 0
    """Picks the test digits in the picture; PCA itself draws nothing."""
    components: int = 10
    """Axes kept, for the figures and one row of the picture."""

    def __post_init__(self) -> None:
        check(self.seed >= 0, f"--seed must not be negative, not {self.seed}")
        check(1 <= self.components <= 64, f"--components must be 1 to 64, not {self.components}")


class Pca(NamedTuple):
    """The plane through `mean` along the orthonormal rows of `axes`.

    `variances` are those along the axes, descending, units of X squared; `ratios` are their shares
    of the total variance, that of dropped axes included.
    """

    mean: Float[np.ndarray, " d"]
    axes: Float[np.ndarray, "k d"]
    variances: Float[np.ndarray, " k"]
    ratios: Float[np.ndarray, " k"]

    def encode(self, X: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n k"]:
        """Coordinates along the axes."""
        return (X - self.mean) @ self.axes.T

    def decode(self, Z: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n d"]:
        """The points of the plane with these coordinates."""
        return Z @ self.axes + self.mean

    def keep(self, k: int) -> "Pca":
        """The first k axes only; the best plane of each size holds the smaller ones."""
        return Pca(self.mean, self.axes[:k], self.variances[:k], self.ratios[:k])


def fit(X: Float[np.ndarray, "n d"], k: int | None = None) -> Pca:
    """The k main axes of X, by default all min(n, d). Constant columns do no harm.

    Raises:
        LabError: NaN in X, fewer than two rows, k out of range, or all rows equal.
    """
    check(bool(np.isfinite(X).all()), "X holds NaN: drop those rows or fill them")
    check(len(X) >= 2, "one row has no variance; PCA needs at least two")
    k = min(X.shape) if k is None else k
    check(1 <= k <= min(X.shape), f"k must be 1 to {min(X.shape)} for X of {X.shape}, not {k}")
    check(bool(np.ptp(X, axis=0).any()), "all rows of X are equal: there is no variance to explain")
    mean = X.mean(0)
    _, s, Vt = np.linalg.svd(X - mean, full_matrices=False)
    largest = np.abs(Vt).argmax(1)
    Vt = Vt * np.sign(Vt[np.arange(len(Vt)), largest])[:, None]
    variances = s**2 / (len(X) - 1)
    return Pca(mean, Vt[:k], variances[:k], variances[:k] / variances.sum())


def run(config: Config, picture: Callable[[str, Figure], None]) -> dict[str, float]:
    """Fit the training digits, rebuild test digits. Figures:

    explained_variance: share of the training variance along the kept axes.
    components_for_90_percent: axes whose shares add up to at least 0.9.
    test_error, train_error: mean squared error of a rebuilt pixel, pixels in 0..1.
    max_difference_to_sklearn: over the kept axes and the shares of variance.
    """
    X, X_test = load_digits("train"), load_digits("test")
    everything = fit(X)
    pca = everything.keep(config.components)
    rng = np.random.default_rng(config.seed)
    shown = X_test[rng.choice(len(X_test), 12, replace=False)]
    picture("reconstruction", draw_reconstruction(everything, shown, config.components))

    from sklearn.decomposition import PCA  # takes a second

    theirs = PCA(config.components, svd_solver="full").fit(X)
    flip = np.sign((theirs.components_ * pca.axes).sum(1))[:, None]
    differences = (
        theirs.components_ * flip - pca.axes,
        theirs.explained_variance_ratio_ - pca.ratios,
    )
    return {
        "explained_variance": float(pca.ratios.sum()),
        "components_for_90_percent": float((everything.ratios.cumsum() < 0.9).sum() + 1),
        "test_error": float(((pca.decode(pca.encode(X_test)) - X_test) ** 2).mean()),
        "train_error": float(((pca.decode(pca.encode(X)) - X) ** 2).mean()),
        "max_difference_to_sklearn": max(float(np.abs(d).max()) for d in differences),
    }


def load_digits(split: str) -> Float[np.ndarray, "n 64"]:
    """scikit-learn's digits as rows of pixels in 0..1."""
    images, _ = load_images("digits", split)
    return images.flatten(1).numpy() / 255


def draw_reconstruction(pca: Pca, X: Float[np.ndarray, "n 64"], components: int) -> Figure:
    """The main axes, and below them digits rebuilt from ever more of the axes."""
    kept = sorted({1, 2, 5, components, 20, 40})
    rows = {"axes": pca.axes[: len(X)], "originals": X}
    for k in kept:
        some = pca.keep(k)
        rows[f"{k} ({some.ratios.sum():.0%})"] = some.decode(some.encode(X))
    figure = Figure(figsize=(0.8 * len(X) + 1.2, 0.82 * len(rows) + 0.4), layout="constrained")
    axes = figure.subplots(len(rows), len(X))
    for line, (title, images) in zip(axes, rows.items(), strict=True):
        for axis, image in zip(line, images, strict=True):
            colours = {"cmap": "gray_r", "vmin": 0, "vmax": 1}
            if title == "axes":
                colours = {"cmap": "RdBu_r", "vmin": -0.4, "vmax": 0.4}
            axis.imshow(image.reshape(8, 8), **colours)
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=9)
    figure.suptitle("Test digits rebuilt from so many axes (share of variance)", fontsize=11)
    return figure


if __name__ == "__main__":
    from from_scratch.lesson import main

    main("pca")
