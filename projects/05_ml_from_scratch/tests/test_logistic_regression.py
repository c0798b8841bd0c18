"""Newton's method against scikit-learn, its derivatives against torch's."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax as scipy_log_softmax
from sklearn.linear_model import LogisticRegression

from from_scratch.logistic_regression import Config, fit, hessian, log_softmax, run, with_ones
from trainloop import LabError


def clouds(classes: int, n: int = 150, d: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Classes that overlap, the first one more frequent."""
    rng = np.random.default_rng(seed)
    y = np.maximum(rng.integers(-1, classes, n), 0)
    return rng.standard_normal((n, d)) + rng.standard_normal((classes, d))[y], y


@pytest.mark.parametrize("ridge", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("classes", [3, 5])
def test_multinomial_against_sklearn(classes, ridge):
    X, y = clouds(classes)
    model = fit(X, y, classes, ridge)
    theirs = LogisticRegression(C=1 / ridge, solver="newton-cg", tol=1e-12).fit(X, y)
    np.testing.assert_allclose(model.W[:-1], theirs.coef_.T, rtol=0, atol=1e-6)
    centred = theirs.intercept_ - theirs.intercept_.mean()
    np.testing.assert_allclose(model.W[-1], centred, rtol=0, atol=1e-6)
    log_prob = model.log_prob(X)
    np.testing.assert_allclose(log_prob, theirs.predict_log_proba(X), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(log_prob.argmax(1), theirs.predict(X))


def test_two_classes_against_sklearn():
    """scikit-learn's binary form has one vector w = w1 - w0, hence half our penalty."""
    X, y = clouds(2)
    model = fit(X, y, 2, ridge=2.0)
    theirs = LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-12).fit(X, y)
    np.testing.assert_allclose(model.W[:, 0], -model.W[:, 1], rtol=0, atol=1e-10)
    np.testing.assert_allclose((model.W[:, 1] - model.W[:, 0])[:-1], theirs.coef_[0], atol=1e-7)
    np.testing.assert_allclose(model.log_prob(X), theirs.predict_log_proba(X), rtol=0, atol=1e-7)


def test_without_a_ridge_against_sklearn():
    X, y = clouds(3)
    theirs = LogisticRegression(C=np.inf, solver="newton-cg", tol=1e-12).fit(X, y)
    found = fit(X, y, 3, ridge=0).log_prob(X)
    np.testing.assert_allclose(found, theirs.predict_log_proba(X), rtol=0, atol=1e-5)


def test_derivatives_against_torch():
    X, y = clouds(3, n=20)
    X1, penalty = torch.tensor(with_ones(X)), np.array([0.7, 0.7, 0.7, 0.7, 0.0])
    W = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def loss(W):
        fitted = torch.nn.functional.cross_entropy(X1 @ W.T, torch.tensor(y), reduction="sum")
        return fitted + 0.5 * (torch.tensor(penalty) * W**2).sum()

    expected = torch.autograd.functional.hessian(loss, W).reshape(15, 15)
    P = np.exp(log_softmax(X1.numpy() @ W.numpy().T))
    np.testing.assert_allclose(hessian(X1.numpy(), P, penalty), expected, rtol=0, atol=1e-10)
    start = fit(X, y, 3, ridge=0.7)
    zero = torch.zeros(3, 5, dtype=torch.float64, requires_grad=True)
    value = loss(zero)
    value.backward()
    assert start.losses[0] == pytest.approx(value.item(), rel=1e-12)
    assert start.gradients[0] == pytest.approx(zero.grad.norm().item(), rel=1e-12)
    assert start.losses[-1] == pytest.approx(loss(torch.tensor(start.W.T)).item(), rel=1e-12)


def test_log_softmax_far_out():
    logits = np.array([[1e4, 0.0, -1e4], [-1e5, -1e5, -1e5], [0.0, 1.0, 2.0]])
    expected = scipy_log_softmax(logits, axis=1)
    np.testing.assert_allclose(log_softmax(logits), expected, rtol=0, atol=1e-12)


def test_convergence_is_quadratic_and_the_loss_never_rises():
    X, y = clouds(4)
    model = fit(X, y, 4, ridge=0.1)
    assert (np.diff(model.losses) <= 1e-9).all()
    before, middle, last = model.gradients[-3:]
    assert last < 1e-3 * middle < 1e-5 * before


def test_damping_saves_a_fit_on_which_plain_newton_diverges():
    """Heavy-tailed features and rare classes: with t = 1 the loss is 7e13 after twelve steps."""
    rng = np.random.default_rng(463)
    X = rng.standard_cauchy((60, 2)) * rng.choice([1, 10])
    y = rng.choice(3, 60, p=[0.9, 0.06, 0.04])
    y[:3] = range(3)
    model = fit(X, y, 3, ridge=1e-2)
    assert (np.diff(model.losses) <= 1e-9).all()
    assert model.gradients[-1] < 1e-6
    assert len(model.losses) < 20


def test_separable_classes():
    X, y = np.array([[-2.0], [-1.0], [1.0], [2.0]]), np.array([0, 0, 1, 1])
    with pytest.warns(UserWarning, match="separable"):
        model = fit(X, y, 2, ridge=0)
    assert np.isfinite(model.W).all()
    np.testing.assert_array_equal(model.log_prob(X).argmax(1), y)
    assert fit(X, y, 2, ridge=1e-3).gradients[-1] < 1e-8, "with a ridge there is a minimum"


def test_touching_classes_are_not_called_separable():
    """0 and 1 share a point, so that no weights get every row right; yet b still grows for ever."""
    X, y = np.array([[-1.0], [0.0], [0.0], [1.0]]), np.array([0, 0, 1, 1])
    with pytest.warns(UserWarning, match="not converged after 5"):
        fit(X, y, 2, ridge=0, steps=5)


@pytest.mark.parametrize("ridge", [0.0, 1.0])
def test_constant_columns_change_nothing(ridge):
    X, y = clouds(3)
    wide = np.column_stack([X, np.zeros(len(X)), np.full(len(X), 2.0)])
    found, expected = fit(wide, y, 3, ridge), fit(X, y, 3, ridge)
    np.testing.assert_allclose(found.log_prob(wide), expected.log_prob(X), rtol=0, atol=1e-7)


def test_bad_input():
    X, y = clouds(3)
    for wrong in (y - 1, y + 1):
        with pytest.raises(LabError, match="labels must be 0 to 2"):
            fit(X, wrong, 3)
    X[0, 0] = np.nan
    with pytest.raises(LabError, match="NaN"):
        fit(X, y, 3)
    for options in ({"ridge": -1.0}, {"ridge": np.inf}, {"steps": 0}, {"seed": -1}):
        with pytest.raises(LabError, match="--"):
            Config(**options)


def test_the_lesson():
    pictures = {}
    figures = run(Config(), pictures.__setitem__)
    assert set(pictures) == {"weights"}
    assert figures["max_difference_to_sklearn"] < 1e-6
    assert figures["newton_steps"] <= 10
    assert figures["test_accuracy"] > 0.9
    with pytest.warns(UserWarning, match="separable"):
        figures = run(Config(ridge=0.0), pictures.__setitem__)
    assert figures["train_accuracy"] == 1
    assert "max_difference_to_sklearn" not in figures
