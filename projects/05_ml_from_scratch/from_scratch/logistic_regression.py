"""Multinomial logistic regression by Newton's method (iteratively reweighted least squares).

Model        P(y = k | x) = softmax(Wᵀx + b)_k. With a column of ones in X, b is W's last row.
Loss         f(W) = −Σ_i log p_i[y_i] + λ/2 ‖W without b‖², convex; λ = 1/C in scikit-learn.
Gradient     Xᵀ(P − Y) + λW, Y one-hot.
Hessian      block (j, k) is Xᵀ diag(p_j (δ_jk − p_k)) X + δ_jk λI: a weighted least-squares problem
             whose weights change at each step, hence the method's second name.
Newton       W ← W − t H⁻¹g, t halved until f falls enough (Armijo): near the end the number of
             right digits doubles at each step. Plain Newton (t = 1) can diverge.
Flat         adding one number to all of b changes no probability: H is singular along it, g has
             nothing in it, and the pseudo-inverse leaves it alone.
Separable    λ = 0 and every training row right: W, 2W, 3W, ... are ever more likely, and there is
             no maximum to find. The fit stops there and says so; any λ > 0 has one minimum.

Source: Hastie, Tibshirani, Friedman, "The Elements of Statistical Learning", 2nd ed. 2009, sec.
4.4.1; Boyd, Vandenberghe, "Convex Optimization", 2004, sec. 9.5 (damped Newton).
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
    """Tell 8x8 digits apart by ten linear functions."""

    seed: int = 0
    """Not used: the loss is convex, and the fit starts from zero."""
    ridge: float = 1.0
    """λ, the penalty's factor; 0 shows what happens when the classes are separable."""
    steps: int = 50
    """Newton steps at most; it takes about ten."""

    def __post_init__(self) -> None:
        check(self.seed >= 0, f"--seed must not be negative, not {self.seed}")
        check(0 <= self.ridge < np.inf, f"--ridge must not be negative, not {self.ridge}")
        check(self.steps >= 1, f"--steps must be at least 1, not {self.steps}")


class Logistic(NamedTuple):
    """Weights (last row: intercepts), and at each step the loss and the gradient's norm."""

    W: Float[np.ndarray, "d+1 K"]
    losses: list[float]
    gradients: list[float]

    def log_prob(self, X: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n K"]:
        """log P(y = k | x)."""
        return log_softmax(with_ones(X) @ self.W)


def with_ones(X: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d+1"]:
    """A column of ones appended, for the intercepts."""
    return np.column_stack([X, np.ones(len(X))])


def log_softmax(logits: Float[np.ndarray, "n K"]) -> Float[np.ndarray, "n K"]:
    """Less the maximum first: exp would overflow from 710 on."""
    shifted = logits - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def hessian(
    X: Float[np.ndarray, "n D"], P: Float[np.ndarray, "n K"], penalty: Float[np.ndarray, " D"]
) -> Float[np.ndarray, "KD KD"]:
    """Second derivatives of the loss, class by class: index k · D + row."""
    D, K = X.shape[1], P.shape[1]
    H = np.zeros((K, D, K, D))
    for j in range(K):
        for k in range(j + 1):
            weight = P[:, j] * ((j == k) - P[:, k])  # (n,)
            H[j, :, k] = H[k, :, j] = (X * weight[:, None]).T @ X
        H[j, :, j] += np.diag(penalty)
    return H.reshape(K * D, K * D)


def fit(
    X: Float[np.ndarray, "n d"],
    y: Int[np.ndarray, " n"],
    classes: int,
    ridge: float | int = 1.0,
    steps: int = 50,
    tolerance: float | int = 1e-9,
) -> Logistic:
    """Damped Newton from W = 0 until the gradient's norm is at most tolerance · n.

    Constant columns do no harm, even without a ridge: they are one more flat direction.
    Warns when classes are separable and ridge is 0, and when `steps` were not enough.

    Raises:
        LabError: NaN in X, or a label outside 0..classes − 1.
    """
    check(bool(np.isfinite(X).all()), "X holds NaN: drop those rows or fill them")
    check(bool(((y >= 0) & (y < classes)).all()), f"labels must be 0 to {classes - 1}")
    X, Y = with_ones(X), np.eye(classes)[y]
    penalty = np.full(X.shape[1], float(ridge))
    penalty[-1] = 0.0  # the intercept only says how frequent a class is

    def loss(W: np.ndarray) -> float:
        fitted = log_softmax(X @ W)[np.arange(len(X)), y].sum()
        return float(0.5 * (penalty[:, None] * W**2).sum() - fitted)

    W = np.zeros((X.shape[1], classes))
    losses, gradients = [loss(W)], []
    for _ in range(steps):
        P = np.exp(log_softmax(X @ W))
        gradient = X.T @ (P - Y) + penalty[:, None] * W
        gradients.append(float(np.linalg.norm(gradient)))
        if gradients[-1] <= tolerance * len(X):
            break
        if ridge == 0 and (P.argmax(1) == y).all():
            warnings.warn(
                f"classes are separable: after {len(losses) - 1} steps every row is right, and "
                "without a ridge the weights would grow for ever; stopped here",
                stacklevel=2,
            )
            break
        inverse = np.linalg.pinv(hessian(X, P, penalty), rcond=1e-12, hermitian=True)
        step = (inverse @ gradient.T.ravel()).reshape(classes, -1).T
        slope = float((gradient * step).sum())
        t, rounding = 1.0, 1e-13 * losses[0]
        while loss(W - t * step) > losses[-1] - 1e-4 * t * slope + rounding:
            t /= 2
        W = W - t * step
        losses.append(loss(W))
    else:
        warnings.warn(f"not converged after {steps} Newton steps; try a larger ridge", stacklevel=2)
    return Logistic(W, losses, gradients)


def run(config: Config, picture: Callable[[str, Figure], None]) -> dict[str, float]:
    """Fit the training digits, read the test digits once. Figures:

    newton_steps: steps until the gradient vanished.
    train_accuracy, test_accuracy: shares of right answers.
    test_nll: mean −log P(true class), nats.
    max_difference_to_sklearn: over the weights and intercepts; absent when the ridge is 0.
    """
    X, y = load_digits("train")
    model = fit(X, y, 10, config.ridge, config.steps)
    picture("weights", draw_weights(model))
    X_test, y_test = load_digits("test")
    log_prob = model.log_prob(X_test)
    figures = {
        "newton_steps": float(len(model.losses) - 1),
        "train_accuracy": float((model.log_prob(X).argmax(1) == y).mean()),
        "test_accuracy": float((log_prob.argmax(1) == y_test).mean()),
        "test_nll": float(-log_prob[np.arange(len(y_test)), y_test].mean()),
    }
    if config.ridge > 0:
        from sklearn.linear_model import LogisticRegression  # takes a second

        theirs = LogisticRegression(C=1 / config.ridge, solver="newton-cg", tol=1e-10).fit(X, y)
        W = np.vstack([theirs.coef_.T, theirs.intercept_ - theirs.intercept_.mean()])
        figures["max_difference_to_sklearn"] = float(np.abs(W - model.W).max())
    return figures


def load_digits(split: str) -> tuple[Float[np.ndarray, "n 64"], Int[np.ndarray, " n"]]:
    """scikit-learn's digits as rows of pixels in 0..1, and their labels."""
    images, labels = load_images("digits", split)
    return images.flatten(1).numpy() / 255, labels.numpy()


def draw_weights(model: Logistic) -> Figure:
    """The weights of each class as an image, and the gradient's norm at each Newton step."""
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(2, 1))
    most = np.abs(model.W[:-1]).max()
    for label, axis in enumerate(left.subplots(2, 5).flat):
        weights = model.W[:-1, label].reshape(8, 8)
        shown = axis.imshow(weights, cmap="RdBu_r", vmin=-most, vmax=most)
        axis.set(title=str(label), xticks=[], yticks=[])
    left.colorbar(shown, ax=left.axes, label="weight of the pixel")
    axis = right.subplots()
    axis.semilogy(model.gradients, "o-")
    axis.set(xlabel="Newton step", ylabel="norm of the gradient", title="Quadratic convergence")
    axis.grid(alpha=0.3)
    return figure


if __name__ == "__main__":
    from from_scratch.lesson import main

    main("logistic_regression")
