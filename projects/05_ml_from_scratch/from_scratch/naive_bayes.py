"""Gaussian naive Bayes: every pixel its own bell curve, given the class.

Bayes            P(k | x) ∝ P(k) p(x | k).
Naive            given the class the features are independent: p(x | k) = Π_j N(x_j; μ_kj, σ²_kj).
                 They are not, so that evidence is counted over and over: the probabilities are far
                 too sure, while the order of the classes is often right.
Fit              P(k), μ_kj, σ²_kj are shares, means and variances: one pass, nothing to optimise.
Smoothing        a pixel that is always 0 in a class has σ² = 0, and one speck of ink there would
                 veto the class. So s · max_j Var(x_j) is added to every variance. scikit-learn's
                 default s = 1e-9 only prevents the division by zero; the right s is a matter of
                 validation, and here it decides over the accuracy.

Source: Hastie, Tibshirani, Friedman, "The Elements of Statistical Learning", 2nd ed. 2009, sec.
6.6.3; on why it works: Hand, Yu, "Idiot's Bayes - Not So Stupid After All?", Int. Stat. Rev. 2001.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from trainloop import check, load_images

VALIDATION = 300  # the last ones of the 1,500 training digits


@dataclass(frozen=True, kw_only=True)
class Config:
    """Fit a bell curve to every pixel of every class of digits."""

    seed: int = 0
    """Draws the digits that the model makes up for the picture; the fit draws nothing."""
    candidates: int = 19
    """Smoothings tried on validation, from 1e-9 to 1 by equal factors."""

    def __post_init__(self) -> None:
        check(self.seed >= 0, f"--seed must not be negative, not {self.seed}")
        check(self.candidates >= 2, f"--candidates must be at least 2, not {self.candidates}")


class NaiveBayes(NamedTuple):
    """log P(k), and mean and (smoothed) variance of each feature in each class."""

    log_prior: Float[np.ndarray, " K"]
    means: Float[np.ndarray, "K d"]
    variances: Float[np.ndarray, "K d"]

    def joint_log_prob(self, X: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n K"]:
        """log P(k) + log p(x | k). The squares are multiplied out: no (n, K, d) array."""
        # Measured from the middle of the means, since the squares' terms cancel each other.
        middle = self.means.mean(0)
        x, m, precision = X - middle, self.means - middle, 1 / self.variances
        square = x**2 @ precision.T - 2 * x @ (m * precision).T + (m**2 * precision).sum(1)
        log_norm = np.log(2 * np.pi * self.variances).sum(1)
        return self.log_prior - 0.5 * (log_norm + square)

    def log_prob(self, X: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n K"]:
        """log P(k | x), by log-sum-exp: p(x | k) itself is around exp(-1000)."""
        joint = self.joint_log_prob(X)
        most = joint.max(1, keepdims=True)
        return joint - most - np.log(np.exp(joint - most).sum(1, keepdims=True))


def fit(
    X: Float[np.ndarray, "n d"],
    y: Int[np.ndarray, " n"],
    classes: int,
    smoothing: float | int = 1e-9,
) -> NaiveBayes:
    """Shares, means and variances; `smoothing` as a share of the greatest variance of a feature.

    Raises:
        LabError: NaN in X, labels outside 0..classes − 1, a class without rows, or a variance that
            is zero after smoothing (no feature varies, or smoothing is 0).
    """
    check(bool(np.isfinite(X).all()), "X holds NaN: drop those rows or fill them")
    check(bool(((y >= 0) & (y < classes)).all()), f"labels must be 0 to {classes - 1}")
    counts = np.bincount(y, minlength=classes)
    empty = np.flatnonzero(counts == 0).tolist()
    check(not empty, f"no rows of class {empty}: number the classes that occur from 0 on")
    means = np.stack([X[y == k].mean(0) for k in range(classes)])
    variances = np.stack([X[y == k].var(0) for k in range(classes)])
    variances += smoothing * X.var(0).max()
    check(
        bool((variances > 0).all()),
        "a feature is constant within a class: no bell curve; smooth more, or drop it",
    )
    return NaiveBayes(np.log(counts / len(y)), means, variances)


def run(config: Config, picture: Callable[[str, Figure], None]) -> dict[str, float]:
    """Choose the smoothing on validation, then read the test digits once. Figures:

    smoothing: the best on validation, the greatest of equal ones.
    validation_accuracy, test_accuracy: shares of right answers with it.
    unsmoothed_validation_accuracy: with scikit-learn's default, 1e-9.
    test_confidence: mean probability of the class it names; far from test_accuracy is too sure.
    max_difference_to_sklearn: over the log-probabilities of the test digits.
    """
    X, y = load_digits("train")
    cut = len(X) - VALIDATION
    smoothings = np.logspace(0, -9, config.candidates)
    scores = []
    for smoothing in smoothings:
        model = fit(X[:cut], y[:cut], 10, smoothing)
        scores.append(float((model.joint_log_prob(X[cut:]).argmax(1) == y[cut:]).mean()))
    best = int(np.argmax(scores))
    model = fit(X, y, 10, smoothings[best])
    picture("model", draw_model(model, np.random.default_rng(config.seed)))

    from sklearn.naive_bayes import GaussianNB  # takes a second

    X_test, y_test = load_digits("test")
    log_prob = model.log_prob(X_test)
    theirs = GaussianNB(var_smoothing=smoothings[best]).fit(X, y).predict_log_proba(X_test)
    return {
        "smoothing": float(smoothings[best]),
        "validation_accuracy": scores[best],
        "unsmoothed_validation_accuracy": scores[-1],
        "test_accuracy": float((log_prob.argmax(1) == y_test).mean()),
        "test_confidence": float(np.exp(log_prob.max(1)).mean()),
        "max_difference_to_sklearn": float(np.abs(log_prob - theirs).max()),
    }


def load_digits(split: str) -> tuple[Float[np.ndarray, "n 64"], Int[np.ndarray, " n"]]:
    """scikit-learn's digits as rows of pixels in 0..1, and their labels."""
    images, labels = load_images("digits", split)
    return images.flatten(1).numpy() / 255, labels.numpy()


def draw_model(model: NaiveBayes, rng: np.random.Generator) -> Figure:
    """Means, deviations, and digits drawn from the model, each pixel for itself: strokes break."""
    deviations = np.sqrt(model.variances)
    drawn = [model.means + deviations * rng.standard_normal(model.means.shape) for _ in range(2)]
    rows = {"mean": model.means, "deviation": 2 * deviations, "drawn": drawn[0], "drawn ": drawn[1]}
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    for line, (title, images) in zip(figure.subplots(4, 10), rows.items(), strict=True):
        for label, axis in enumerate(line):
            axis.imshow(images[label].reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(title, rotation=0, ha="right", va="center")
    figure.suptitle("What naive Bayes knows of each digit, and what it takes for one", fontsize=11)
    return figure


if __name__ == "__main__":
    from from_scratch.lesson import main

    main("naive_bayes")
