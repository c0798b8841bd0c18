"""EM against scikit-learn, densities against scipy, and the promise that it never falls."""

import warnings

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from from_scratch.gaussian_mixture import (
    Config,
    Mixture,
    em,
    em_step,
    log_sum_exp,
    raise_to_floor,
    run,
    sample,
    start_from,
    true_mixture,
)
from trainloop import LabError


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def random_mixture(rng: np.random.Generator, K: int = 3, d: int = 4) -> Mixture:
    A = rng.standard_normal((K, d, d))
    return Mixture(rng.dirichlet(np.ones(K)), rng.standard_normal((K, d)), A @ A.swapaxes(1, 2))


def test_density_against_scipy(rng):
    mixture, X = random_mixture(rng), rng.standard_normal((30, 4))
    expected = [
        np.log(weight) + multivariate_normal(mean, covariance).logpdf(X)
        for weight, mean, covariance in zip(*mixture, strict=True)
    ]
    np.testing.assert_allclose(mixture.log_joint(X), np.stack(expected, 1), rtol=1e-8)
    total = logsumexp(expected, axis=0)
    np.testing.assert_allclose(mixture.log_likelihood(X), total, rtol=1e-8)


def test_log_sum_exp_far_out():
    a = np.array([[-1e4, -1e4 + 1], [1e4, 0.0], [-np.inf, 3.0]])
    np.testing.assert_allclose(log_sum_exp(a), logsumexp(a, axis=1), rtol=1e-14)


@pytest.mark.parametrize("K", [1, 2, 4])
@pytest.mark.parametrize("steps", [1, 2, 25])
def test_steps_against_sklearn(rng, K, steps):
    X = sample(random_mixture(rng, 3, 2), 300, rng)
    mixture = start = start_from(X, K, rng, 1e-9)
    for _ in range(steps):
        mixture, value = em_step(mixture, X, 1e-9)
    theirs = GaussianMixture(
        K, tol=0, reg_covar=0, max_iter=steps, weights_init=start.weights,
        means_init=start.means, precisions_init=np.linalg.inv(start.covariances),
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs.fit(X)
    np.testing.assert_allclose(mixture.weights, theirs.weights_, rtol=0, atol=1e-10)
    np.testing.assert_allclose(mixture.means, theirs.means_, rtol=0, atol=1e-9)
    np.testing.assert_allclose(mixture.covariances, theirs.covariances_, rtol=0, atol=1e-9)
    assert value == pytest.approx(theirs.lower_bound_, rel=1e-10)


@pytest.mark.filterwarnings("ignore:components", "ignore:EM still gains")
@pytest.mark.parametrize("seed", range(12))
def test_it_never_falls_even_on_the_floor(seed):
    """Few points and copies of one, so that components shrink until the floor stops them."""
    rng = np.random.default_rng(seed)
    X = np.vstack([rng.standard_normal((20, 3)), np.ones((6, 3)), np.zeros((5, 3))])
    X[:, 2] = X[:, 0]  # flat: singular covariances from the start
    floor = 10.0 ** rng.uniform(-4, -1)
    mixture, history = em(start_from(X, 4, rng, floor), X, floor, tolerance=-1, most=80)
    assert np.linalg.eigvalsh(mixture.covariances)[:, 0].min() == pytest.approx(floor)
    assert np.diff(history).min() > -1e-10
    assert history[-1] > history[0] + 0.1


def test_floor_is_the_best_covariance_above_it(rng):
    """It maximises the M-step's -log|Σ| - tr(Σ⁻¹S) among Σ with eigenvalues ≥ floor."""
    S = random_mixture(rng, 1, 3).covariances[0] * np.array([1e-3, 1, 1]) ** 0.5
    S = S @ S.T * 1e-2
    floor = 0.01

    def objective(covariance: np.ndarray) -> float:
        return -np.linalg.slogdet(covariance)[1] - np.trace(np.linalg.solve(covariance, S))

    best = raise_to_floor(S, floor)
    values = np.linalg.eigvalsh(best)
    assert values[0] == pytest.approx(floor)
    assert objective(best) > objective(S + floor * np.eye(3)) + 1e-3, "scikit-learn's way"
    for _ in range(500):
        A = 0.1 * rng.standard_normal((3, 3))
        w, V = np.linalg.eigh(best + 0.02 * (A + A.T))
        other = V * np.maximum(w, floor) @ V.T
        assert objective(other) <= objective(best) + 1e-12
    np.testing.assert_array_equal(raise_to_floor(np.eye(3), floor), np.eye(3))


def test_a_component_on_one_point_is_held_by_the_floor():
    X = np.vstack([np.random.default_rng(0).standard_normal((50, 2)), [[9.0, 9.0]]])
    start = Mixture(np.array([0.9, 0.1]), np.array([[0.0, 0], [9, 9]]), np.stack([np.eye(2)] * 2))
    with pytest.warns(UserWarning, match=r"components \[1\] are as thin as the floor"):
        mixture, _ = em(start, X, 1e-3)
    np.testing.assert_allclose(mixture.covariances[1], 1e-3 * np.eye(2), atol=1e-12)


def test_a_component_without_points_dies_quietly():
    X = np.random.default_rng(0).standard_normal((50, 2))
    start = Mixture(np.array([0.5, 0.5]), np.array([[0.0, 0], [1e4, 0]]), np.stack([np.eye(2)] * 2))
    with pytest.warns(UserWarning, match=r"components \[1\] died"):
        mixture, history = em(start, X, 1e-3)
    np.testing.assert_allclose(mixture.weights, [1, 0])
    np.testing.assert_allclose(mixture.means[0], X.mean(0), atol=1e-10)
    assert (np.diff(history) >= -1e-12).all()


def test_it_recovers_the_truth(rng):
    truth = true_mixture()
    X = sample(truth, 20_000, rng)
    found, _ = em(truth, X, 1e-6)
    for ours, expected in zip(found, truth, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=0.12)


def test_sampling(rng):
    mixture = random_mixture(rng, 2, 2)
    X = sample(mixture, 100_000, rng)
    mean = mixture.weights @ mixture.means
    spread = mixture.means - mean
    covariance = np.einsum("k,kij->ij", mixture.weights, mixture.covariances)
    covariance = covariance + (mixture.weights * spread.T) @ spread
    np.testing.assert_allclose(X.mean(0), mean, atol=0.05)
    np.testing.assert_allclose(np.cov(X.T), covariance, atol=0.1)


def test_bad_input(rng):
    X = rng.standard_normal((5, 2))
    with pytest.raises(LabError, match="6 components need as many rows; X has 5"):
        start_from(X, 6, rng, 1e-3)
    with pytest.raises(LabError, match="do not vary"):
        start_from(np.ones((5, 2)), 2, rng, 0.0)
    with pytest.warns(UserWarning, match="still gains after 3"):
        em(start_from(X, 2, rng, 1e-3), X, 1e-3, tolerance=0, most=3)
    X[0, 0] = np.nan
    with pytest.raises(LabError, match="NaN"):
        start_from(X, 2, rng, 1e-3)
    for options in ({"components": 0}, {"starts": 0}, {"floor": 0.0}, {"seed": -1}):
        with pytest.raises(LabError, match="--"):
            Config(**options)


def test_it_ends_when_a_step_gains_next_to_nothing(rng):
    X = sample(true_mixture(), 300, rng)
    _, history = em(start_from(X, 3, rng, 1e-6), X, 1e-6, tolerance=1e-5)
    gains = np.diff(history)
    assert gains[-1] <= 1e-5 < gains[:-1].min()


def test_the_best_start_is_kept():
    one, more = (run(Config(components=5, starts=n), lambda *_: None) for n in (1, 4))
    assert more["log_likelihood"] > one["log_likelihood"] + 1e-4


@pytest.mark.parametrize("components", [1, 3])
def test_the_lesson(components):
    pictures = {}
    figures = run(Config(components=components), pictures.__setitem__)
    assert set(pictures) == {"steps"}
    assert figures["max_difference_to_sklearn"] < 1e-9
    assert figures["greatest_fall"] < 1e-12
    gap = figures["true_test_log_likelihood"] - figures["test_log_likelihood"]
    assert 0 < gap < (0.05 if components == 3 else 1.0)
    assert run(Config(components=components), pictures.__setitem__) == figures
