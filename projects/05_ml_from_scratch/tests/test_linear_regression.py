"""Least squares, ridge and the ridge classifier against scikit-learn."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, Ridge, RidgeClassifier, RidgeCV

from from_scratch.linear_regression import (
    Config,
    accuracy,
    cross_validate,
    fit,
    gradient_descent,
    load_pixels,
    minimum_norm,
    normal_equations,
    qr,
    ridge_classifiers,
    ridge_path,
    run,
)
from trainloop import LabError


def made_up(n: int = 40, d: int = 5, targets: tuple[int, ...] = (), seed: int = 0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) * rng.uniform(0.5, 3, d) + rng.uniform(-5, 5, d)
    return X, rng.standard_normal((n, *targets)) + 7


def conditioned(kappa: float, seed: int = 1, n: int = 50, d: int = 6) -> np.ndarray:
    """A matrix with singular values from 1 down to 1/kappa."""
    rng = np.random.default_rng(seed)
    U = np.linalg.qr(rng.standard_normal((n, d)))[0]
    V = np.linalg.qr(rng.standard_normal((d, d)))[0]
    return U * np.geomspace(1, 1 / kappa, d) @ V.T


@pytest.mark.parametrize("targets", [(), (3,)])
@pytest.mark.parametrize("solve", [normal_equations, qr, minimum_norm])
def test_solvers_against_sklearn(solve, targets):
    X, y = made_up(targets=targets)
    model, theirs = fit(solve, X, y), LinearRegression().fit(X, y)
    np.testing.assert_allclose(model.coefficients, theirs.coef_.T, rtol=0, atol=1e-11)
    np.testing.assert_allclose(model.intercept, theirs.intercept_, rtol=0, atol=1e-10)
    np.testing.assert_allclose(model.predict(X), theirs.predict(X), rtol=0, atol=1e-10)


def test_descent_agrees_and_ends_where_it_should():
    X, y = made_up()
    X, y = X - X.mean(0), y - y.mean()
    beta, steps = gradient_descent(X, y)
    np.testing.assert_allclose(beta, qr(X, y), rtol=0, atol=1e-10)
    assert steps == gradient_descent(X * 100, y)[1], "the step follows the data's scale"
    with pytest.warns(UserWarning, match="not converged in 5 steps"):
        assert gradient_descent(X, y, most=5)[1] == 5


def test_normal_equations_square_the_condition_number():
    X = conditioned(1e6)
    truth = np.ones(6)
    errors = [np.abs(solve(X, X @ truth) - truth).max() for solve in (normal_equations, qr)]
    assert errors[0] > 1e3 * errors[1]
    assert errors[1] < 1e-8


@pytest.mark.parametrize("seed", range(10))
def test_normal_equations_say_when_they_give_up(seed):
    """Rounding makes XᵀX's least eigenvalue a tiny number of either sign."""
    X = conditioned(1e9, seed)
    with pytest.warns(UserWarning, match="singular in float64"):
        beta = normal_equations(X, X @ np.ones(6))
    np.testing.assert_allclose(beta, np.ones(6), atol=1e-5)


DEFICIENT = {
    "twin columns": lambda X: np.column_stack([X, X[:, 0]]),
    "a constant column": lambda X: np.column_stack([X, np.full(len(X), 3.0)]),
    "a sum of others": lambda X: np.column_stack([X, X[:, 0] + X[:, 1]]),
    "fewer rows than columns": lambda X: X[:3],
    "constant columns only": lambda X: np.ones_like(X),
}


@pytest.mark.filterwarnings("ignore:XᵀX is singular")
@pytest.mark.parametrize("solve", [normal_equations, qr])
@pytest.mark.parametrize("name", DEFICIENT)
def test_rank_deficient_says_so_and_is_the_shortest(name, solve):
    X, y = made_up()
    X = DEFICIENT[name](X)
    y = y[: len(X)]
    with pytest.warns(UserWarning, match=r"X has rank \d, not \d: .* least norm"):
        model = fit(solve, X, y)
    Xc, yc = X - X.mean(0), y - y.mean()
    expected = np.linalg.lstsq(Xc, yc, rcond=1e-12)[0]
    np.testing.assert_allclose(model.coefficients, expected, rtol=0, atol=1e-10)
    by_descent, _ = gradient_descent(Xc, yc)
    np.testing.assert_allclose(by_descent, expected, rtol=0, atol=1e-8)


def test_qr_of_fewer_rows_than_columns():
    X, y = made_up(3)
    with pytest.warns(UserWarning, match="rank 3, not 5"):
        np.testing.assert_allclose(qr(X, y), np.linalg.pinv(X) @ y, rtol=0, atol=1e-12)


@pytest.mark.parametrize("targets", [(), (3,)])
@pytest.mark.parametrize("n", [4, 40])
def test_ridge_path_against_sklearn(n, targets):
    X, y = made_up(n, targets=targets)
    lambdas = np.logspace(-3, 6, 7)
    path = ridge_path(X - X.mean(0), y - y.mean(0), lambdas)
    assert path.shape == (7, 5, *targets)
    for lam, beta in zip(lambdas, path, strict=True):
        theirs = Ridge(alpha=lam).fit(X, y).coef_.T
        np.testing.assert_allclose(beta, theirs, rtol=0, atol=1e-10)
    lengths = np.linalg.norm(path.reshape(7, -1), axis=1)
    assert (np.diff(lengths) < 0).all(), "a greater λ shrinks more"


def test_cross_validation_against_sklearn():
    X, y = made_up(n=43, seed=3)
    y = y + X @ [1.0, 0.5, 0, 0, 0]
    rng = np.random.default_rng(0)
    folds = np.array_split(rng.permutation(43), 5)
    lambdas = np.logspace(-2, 4, 25)
    errors = cross_validate(X, y, lambdas, folds)
    assert errors.shape == (5, 25)
    splits = [(np.setdiff1d(np.arange(43), fold), fold) for fold in folds]
    for column in (0, 12, 24):
        for row, (rest, fold) in enumerate(splits):
            theirs = Ridge(alpha=lambdas[column]).fit(X[rest], y[rest])
            expected = ((theirs.predict(X[fold]) - y[fold]) ** 2).mean()
            assert errors[row, column] == pytest.approx(expected, rel=1e-10)
    chosen = RidgeCV(lambdas, cv=splits, scoring="neg_mean_squared_error").fit(X, y).alpha_
    assert lambdas[errors.mean(0).argmin()] == chosen


def test_classifier_against_sklearn():
    """On digits, three of whose pixels never change; in more than one block of rows."""
    images, labels = load_pixels("digits", "train")
    images, labels = np.tile(images, (4, 1)), np.tile(labels, 4)  # 6,000 rows, blocks of 5,000
    lambdas = np.array([1.0, 100.0])
    for lam, model in zip(lambdas, ridge_classifiers(images, labels, lambdas), strict=True):
        theirs = RidgeClassifier(alpha=lam).fit(images / 255, labels)
        np.testing.assert_allclose(model.coefficients, theirs.coef_.T, rtol=0, atol=1e-9)
        np.testing.assert_allclose(model.intercept, theirs.intercept_, rtol=0, atol=1e-9)
        expected = theirs.score(images / 255, labels)
        assert accuracy(model, images, labels) == pytest.approx(expected, abs=1e-12)


def test_bad_input():
    X, y = made_up()
    X[3, 2] = np.nan
    with pytest.raises(LabError, match="NaN"):
        fit(qr, X, y)
    X, y = made_up()
    y[0] = np.inf
    with pytest.raises(LabError, match="NaN"):
        fit(qr, X, y)
    for lam in (0.0, -1.0):
        with pytest.raises(LabError, match="positive"):
            ridge_path(X, X[:, 0], np.array([lam, 1.0]))
        with pytest.raises(LabError, match="positive"):
            ridge_classifiers(np.zeros((4, 2), np.uint8), np.array([0, 1, 0, 1]), np.array([lam]))
    for options in ({"folds": 1}, {"folds": 61}, {"seed": -1}):
        with pytest.raises(LabError, match="--"):
            Config(**options)


def test_the_lesson_on_digits():
    pictures = {}
    config = Config(data="digits")
    figures = run(config, pictures.__setitem__)
    assert set(pictures) == {"ridge_path", "ridge_weights"}
    assert figures["solver_difference"] < 1e-8
    assert figures["max_difference_to_sklearn"] < 1e-9
    assert 4 < figures["ridge_test_mse"] < figures["ols_test_mse"], "4 is the noise"
    assert figures["ridge_test_accuracy"] > 0.85
    assert run(config, pictures.__setitem__) == figures, "the same seed, the same figures"
    assert run(Config(data="digits", seed=1), pictures.__setitem__) != figures
