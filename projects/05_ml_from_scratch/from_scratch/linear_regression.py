"""Linear regression: least squares three ways, every ridge from one SVD, ridge as a classifier.

Model: y = Xβ + β₀ + noise, X (n, d). Centring X and y finds β₀, so it is never penalised.

Least squares minimises ‖y − Xβ‖²; the gradient is zero where XᵀXβ = Xᵀy (normal equations).
    Cholesky  XᵀX = LLᵀ, two triangular solves: cheapest. Its error grows with κ(XᵀX) = κ(X)².
    QR        X = QR, Rβ = Qᵀy: twice the work, and XᵀX with its squared κ is never formed.
    Descent   β ← β − η Xᵀ(Xβ − y), η = 1/λ_max(XᵀX): the error shrinks by 1 − 1/κ(X)² a step.
With rank(X) < d infinitely many β fit equally well, and the one of least norm is β = X⁺y.

Ridge minimises ‖y − Xβ‖² + λ‖β‖². With X = U diag(s) Vᵀ it is β(λ) = V diag(s / (s² + λ)) Uᵀy:
one SVD serves every λ, directions with s² ≪ λ are shut off, and X may have any rank.

Classifier: y is +1 for a class and −1 for the others, one regression each; the greatest wins.

Sources: Hastie, Tibshirani, Friedman, "The Elements of Statistical Learning", 2nd ed. 2009, eqs.
3.6 (normal equations), 3.41-3.47 (ridge), secs. 4.2 (classes) and 7.10 (cross-validation);
Golub, Van Loan, "Matrix Computations", 4th ed. 2013, sec. 5.3 (errors of Cholesky and QR).
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.figure import Figure
from scipy.linalg import solve_triangular

from trainloop import check, load_images

EPS = np.finfo(float).eps


@dataclass(frozen=True, kw_only=True)
class Config:
    """Solve least squares and ridge on made-up data, then tell digits apart by ridge."""

    seed: int = 0
    """Draws the made-up data and the folds."""
    data: Literal["mnist", "fashion-mnist", "digits"] = "mnist"
    """What the classifier learns; a sixth of its training images chooses λ."""
    folds: int = 5
    """Folds of the cross-validation that chooses λ of the regression."""

    def __post_init__(self) -> None:
        check(self.seed >= 0, f"--seed must not be negative, not {self.seed}")
        check(2 <= self.folds <= 60, f"--folds must be 2 to 60 (the rows), not {self.folds}")


# --- least squares -------------------------------------------------------------------------------


class Linear(NamedTuple):
    """Predicts X @ coefficients + intercept; `*k` is nothing, or the number of targets."""

    coefficients: Float[np.ndarray, "d *k"]
    intercept: Float[np.ndarray, "*k"] | float

    def predict(self, X: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n *k"]:
        return X @ self.coefficients + self.intercept


def fit(solve: Callable, X: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n *k"]) -> Linear:
    """The model whose coefficients are `solve(X, y)` of the centred data.

    Raises:
        LabError: X or y holds NaN or an infinite value.
    """
    check(bool(np.isfinite(X).all() and np.isfinite(y).all()), "X or y holds NaN: drop those rows")
    coefficients = solve(X - X.mean(0), y - y.mean(0))
    return Linear(coefficients, y.mean(0) - X.mean(0) @ coefficients)


def normal_equations(
    X: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n *k"]
) -> Float[np.ndarray, "d *k"]:
    """Least squares by Cholesky; warns and turns to `qr` where XᵀX is singular in float64."""
    gram = X.T @ X
    eigenvalues = np.linalg.eigvalsh(gram)  # ascending
    if eigenvalues[0] <= max(X.shape) * EPS * eigenvalues[-1]:  # from κ(X) = 1e7 on: κ² is 1e14
        warnings.warn("XᵀX is singular in float64; QR of X itself takes over", stacklevel=2)
        return qr(X, y)
    L = np.linalg.cholesky(gram)
    return solve_triangular(L.T, solve_triangular(L, X.T @ y, lower=True))


def qr(X: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n *k"]) -> Float[np.ndarray, "d *k"]:
    """Least squares by X = QR; turns to `minimum_norm` where X has not full column rank."""
    Q, R = np.linalg.qr(X)  # (n, d), (d, d)
    s = np.linalg.svd(R, compute_uv=False)  # those of X
    if len(s) < X.shape[1] or s[-1] <= max(X.shape) * EPS * s[0]:
        return minimum_norm(X, y)
    return solve_triangular(R, Q.T @ y)


def minimum_norm(
    X: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n *k"]
) -> Float[np.ndarray, "d *k"]:
    """X⁺y by SVD, of all least-squares solutions the shortest; warns if there are others."""
    U, s, Vt = np.linalg.svd(X, full_matrices=False)
    kept = s > max(X.shape) * EPS * s[0]
    if kept.sum() < X.shape[1]:
        rank = f"X has rank {kept.sum()}, not {X.shape[1]}"
        warnings.warn(f"{rank}: of many equal fits this is the one of least norm", stacklevel=2)
    return Vt[kept].T @ ((U[:, kept].T @ y).T / s[kept]).T


def gradient_descent(
    X: Float[np.ndarray, "n d"],
    y: Float[np.ndarray, "n *k"],
    tolerance: float | int = 1e-12,
    most: int = 1_000_000,
) -> tuple[Float[np.ndarray, "d *k"], int]:
    """Least squares by descent, and its steps; ends when ‖gradient‖ ≤ tolerance · ‖Xᵀy‖.

    From β = 0 no step ever leaves the rows' span, so that rank-deficient X needs no care: the
    limit is the minimum-norm solution. Warns when `most` steps were not enough.
    """
    gram, moment = X.T @ X, X.T @ y
    steepest = np.linalg.eigvalsh(gram)[-1]
    beta = np.zeros_like(moment)
    for step in range(most):
        gradient = gram @ beta - moment
        if np.linalg.norm(gradient) <= tolerance * np.linalg.norm(moment):
            return beta, step
        beta = beta - gradient / steepest
    warnings.warn(f"descent has not converged in {most} steps: X is ill-conditioned", stacklevel=2)
    return beta, most


# --- ridge ---------------------------------------------------------------------------------------


def ridge_path(
    X: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n *k"], lambdas: Float[np.ndarray, " L"]
) -> Float[np.ndarray, "L d *k"]:
    """The ridge solution at every λ > 0, from one SVD (ESL eq. 3.47).

    Raises:
        LabError: a λ is not positive; without a penalty use `qr`.
    """
    check(bool((lambdas > 0).all()), "every λ must be positive; use qr for λ = 0")
    U, s, Vt = np.linalg.svd(X, full_matrices=False)
    shrunk = s / (s**2 + lambdas[:, None])  # (L, r)
    return np.einsum("rd,Lr,r...->Ld...", Vt, shrunk, U.T @ y)


def cross_validate(
    X: Float[np.ndarray, "n d"],
    y: Float[np.ndarray, " n"],
    lambdas: Float[np.ndarray, " L"],
    folds: list[Int[np.ndarray, " _"]],
) -> Float[np.ndarray, "folds L"]:
    """Mean squared error on each fold of the ridge fitted to the others; `folds` are row indices.

    Centring happens inside: the mean of all rows would already know the fold that is left out.
    """
    errors = []
    for fold in folds:
        rest = np.setdiff1d(np.arange(len(X)), fold)
        mean, offset = X[rest].mean(0), y[rest].mean()
        path = ridge_path(X[rest] - mean, y[rest] - offset, lambdas)  # (L, d)
        predicted = (X[fold] - mean) @ path.T + offset  # (fold, L)
        errors.append(((predicted - y[fold, None]) ** 2).mean(0))
    return np.array(errors)


def ridge_classifiers(
    images: UInt8[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    lambdas: Float[np.ndarray, " L"],
) -> list[Linear]:
    """For each λ ten regressions of ±1 on the pixels, scaled to 0..1 (ESL sec. 4.2).

    V and s² come as eigenvectors and eigenvalues of XᵀX: added up over blocks of rows it needs no
    copy of 60,000 images in float64, and λ ≫ ε s₀² makes its squared condition number harmless.
    Pixels that never change need no care either: s = 0 there, and so is β.

    Raises:
        LabError: a λ is not positive.
    """
    check(bool((lambdas > 0).all()), "every λ must be positive")
    targets = 2.0 * np.eye(labels.max() + 1)[labels] - 1.0  # (n, 10)
    mean, offset = images.mean(0) / 255, targets.mean(0)
    gram, moment = 0.0, 0.0
    for start in range(0, len(images), 5000):
        X = images[start : start + 5000] / 255 - mean
        gram = gram + X.T @ X
        moment = moment + X.T @ (targets[start : start + 5000] - offset)
    s2, V = np.linalg.eigh(gram)
    path = [V @ ((V.T @ moment) / (s2[:, None] + lam)) for lam in lambdas]  # each (d, 10)
    return [Linear(beta, offset - mean @ beta) for beta in path]


def accuracy(
    model: Linear, images: UInt8[np.ndarray, "n d"], labels: Int[np.ndarray, " n"]
) -> float:
    """Share of the images whose greatest output is that of their label."""
    return float((model.predict(images / 255).argmax(1) == labels).mean())


# --- the lesson ----------------------------------------------------------------------------------


def run(config: Config, picture: Callable[[str, Figure], None]) -> dict[str, float]:
    """Regression on made-up data, then the classifier. Figures:

    solver_difference: greatest difference of β between QR, Cholesky and descent.
    descent_steps: steps that descent took.
    ols_test_mse, ridge_test_mse: mean squared error on 10,000 new rows (the noise alone: 4).
    ridge_lambda, classifier_lambda: what cross-validation and validation chose.
    ridge_validation_accuracy, ridge_test_accuracy: shares of right answers; test is read once.
    max_difference_to_sklearn: over the coefficients of least squares, ridge and classifier.
    """
    rng = np.random.default_rng(config.seed)
    X, y = correlated_data(60, rng)
    ols, cholesky = fit(qr, X, y), fit(normal_equations, X, y)
    descent, steps = gradient_descent(X - X.mean(0), y - y.mean())
    lambdas = np.logspace(-2, 4, 61)
    folds = np.array_split(rng.permutation(len(X)), config.folds)
    errors = cross_validate(X, y, lambdas, folds)
    chosen = int(errors.mean(0).argmin())
    path = ridge_path(X - X.mean(0), y - y.mean(), lambdas)
    ridge = fit(lambda *_: path[chosen], X, y)
    fresh, truth = correlated_data(10_000, rng)
    picture("ridge_path", draw_path(lambdas, path, errors))

    images, labels = load_pixels(config.data, "train")
    cut = len(images) - len(images) // 6
    candidates = np.logspace(0, 5, 11)
    models = ridge_classifiers(images[:cut], labels[:cut], candidates)
    validation = [accuracy(model, images[cut:], labels[cut:]) for model in models]
    best = int(np.argmax(validation))
    picture("ridge_weights", draw_weights(models[best]))

    from sklearn.linear_model import LinearRegression, Ridge, RidgeClassifier  # takes a second

    few = slice(3000)  # rows for the comparison: on all of them scikit-learn alone takes 5 s
    theirs = RidgeClassifier(alpha=candidates[best]).fit(images[few] / 255, labels[few]).coef_.T
    ours = ridge_classifiers(images[few], labels[few], candidates[best:][:1])[0].coefficients
    differences = (
        ols.coefficients - LinearRegression().fit(X, y).coef_,
        ridge.coefficients - Ridge(alpha=lambdas[chosen]).fit(X, y).coef_,
        ours - theirs,
    )
    solvers = (cholesky.coefficients, descent)
    return {
        "solver_difference": max(float(np.abs(ols.coefficients - b).max()) for b in solvers),
        "descent_steps": float(steps),
        "ols_test_mse": float(((ols.predict(fresh) - truth) ** 2).mean()),
        "ridge_test_mse": float(((ridge.predict(fresh) - truth) ** 2).mean()),
        "ridge_lambda": float(lambdas[chosen]),
        "classifier_lambda": float(candidates[best]),
        "ridge_validation_accuracy": validation[best],
        "ridge_test_accuracy": accuracy(models[best], *load_pixels(config.data, "test")),
        "max_difference_to_sklearn": max(float(np.abs(d).max()) for d in differences),
    }


def correlated_data(
    n: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "n 10"], Float[np.ndarray, " n"]]:
    """Ten columns, neighbours correlated by 0.9, which makes least squares wobble; noise σ = 2."""
    beta = np.array([3, 1.5, 0, 0, 2, 0, 0, 0, 0, 0])  # Tibshirani (1996), with two more zeros
    column = np.arange(10)
    covariance = 0.9 ** np.abs(column[:, None] - column)
    X = rng.standard_normal((n, 10)) @ np.linalg.cholesky(covariance).T
    return X, X @ beta + 3 + 2 * rng.standard_normal(n)


def load_pixels(data: str, split: str) -> tuple[UInt8[np.ndarray, "n d"], Int[np.ndarray, " n"]]:
    """The images of a split as rows, and their labels."""
    images, labels = load_images(data, split)
    return images.flatten(1).numpy(), labels.numpy()


def draw_path(
    lambdas: Float[np.ndarray, " L"],
    path: Float[np.ndarray, "L d"],
    errors: Float[np.ndarray, "folds L"],
) -> Figure:
    """Coefficients against λ, and beneath them the error of cross-validation with its spread."""
    figure = Figure(figsize=(7, 6), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    mean, spread = errors.mean(0), errors.std(0, ddof=1) / np.sqrt(len(errors))
    for row, coefficients in enumerate(path.T):
        above.semilogx(lambdas, coefficients, label=f"β{row}", lw=2.2 if row in (0, 1, 4) else 1)
    below.fill_between(lambdas, mean - spread, mean + spread, alpha=0.25, label="± standard error")
    below.semilogx(lambdas, mean, label=f"mean over {len(errors)} folds")
    for axis in (above, below):
        axis.axvline(lambdas[mean.argmin()], color="black", ls=":", label="least error")
        axis.legend(ncols=2, fontsize=8)
    above.set(ylabel="coefficient", title="Ridge: the true coefficients 0, 1, 4 are 3, 1.5, 2")
    below.set(xlabel="λ", ylabel="mean squared error")
    return figure


def draw_weights(model: Linear) -> Figure:
    """Each class's weights as an image: red pixels speak for it, blue ones against it."""
    side = int(len(model.coefficients) ** 0.5)
    figure = Figure(figsize=(9, 4), layout="constrained")
    most = np.quantile(np.abs(model.coefficients), 0.995)  # the very few beyond it saturate
    for label, axis in enumerate(figure.subplots(2, 5).flat):
        weights = model.coefficients[:, label].reshape(side, side)
        shown = axis.imshow(weights, cmap="RdBu_r", vmin=-most, vmax=most)
        axis.set(title=str(label), xticks=[], yticks=[])
    figure.colorbar(shown, ax=figure.axes, label="weight of the pixel")
    return figure


if __name__ == "__main__":
    from from_scratch.lesson import main

    main("linear_regression")
