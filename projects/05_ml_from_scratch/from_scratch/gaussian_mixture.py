"""A mixture of Gaussians by expectation-maximisation (EM).

Model            p(x) = Σ_k π_k N(x; μ_k, Σ_k): k-means with soft labels and elliptic clusters.
E-step           responsibilities r_ik = π_k N(x_i; μ_k, Σ_k) / Σ_l π_l N(x_i; μ_l, Σ_l), in logs:
                 log Σ exp(a) = m + log Σ exp(a − m), m = max a. A density far out underflows.
M-step           N_k = Σ_i r_ik,  π_k = N_k / n,  μ_k = Σ_i r_ik x_i / N_k,
                 Σ_k = Σ_i r_ik (x_i − μ_k)(x_i − μ_k)ᵀ / N_k.
Density          ΣL = LLᵀ, Lz = x − μ: log N = −½ (d log 2π + ‖z‖²) − Σ_j log L_jj. No inverse.
Never falls      each step raises a lower bound that touches the log-likelihood at the old values.
Floor            a component that shrinks onto one point has likelihood ∞. So the eigenvalues of
                 Σ_k are raised to at least a floor. Of all Σ with eigenvalues above the floor this
                 one is the best, so that EM still never falls; scikit-learn adds a constant to the
                 diagonal instead (reg_covar), with which it can.
Local maximum    EM finds the nearest one; hence several starts.

Sources: Dempster, Laird, Rubin, "Maximum Likelihood from Incomplete Data via the EM Algorithm",
J. R. Stat. Soc. B 39(1), 1977; Bishop, "Pattern Recognition and Machine Learning", 2006, sec. 9.2.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from trainloop import check


@dataclass(frozen=True, kw_only=True)
class Config:
    """Find three elliptic clouds that overlap, from 600 unlabelled points."""

    seed: int = 0
    """Draws the points and the starts."""
    components: int = 3
    """Gaussians in the mixture."""
    starts: int = 5
    """Starts from random points; the one with the greatest likelihood is kept."""
    floor: float = 1e-4
    """Least variance of a component in any direction, as a share of the data's own."""

    def __post_init__(self) -> None:
        check(self.seed >= 0, f"--seed must not be negative, not {self.seed}")
        check(1 <= self.components <= 50, f"--components must be 1 to 50, not {self.components}")
        check(self.starts >= 1, f"--starts must be at least 1, not {self.starts}")
        check(0 < self.floor < 1, f"--floor must be between 0 and 1, not {self.floor}")


class Mixture(NamedTuple):
    """Weights (sum 1), means and covariances of the components."""

    weights: Float[np.ndarray, " K"]
    means: Float[np.ndarray, "K d"]
    covariances: Float[np.ndarray, "K d d"]

    def log_joint(self, X: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n K"]:
        """log π_k + log N(x; μ_k, Σ_k)."""
        L = np.linalg.cholesky(self.covariances)
        differences = (X[None] - self.means[:, None]).swapaxes(1, 2)  # (K, d, n)
        z = np.linalg.solve(L, differences)
        log_det = np.log(np.diagonal(L, axis1=1, axis2=2)).sum(1)  # half of Σ's
        constant = -0.5 * X.shape[1] * np.log(2 * np.pi)
        with np.errstate(divide="ignore"):  # a component that died has weight 0: log gives -inf
            log_weights = np.log(self.weights)
        return log_weights + (constant - log_det[:, None] - 0.5 * (z**2).sum(1)).T

    def log_likelihood(self, X: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        """log p(x) of each point, nats."""
        return log_sum_exp(self.log_joint(X))


def log_sum_exp(a: Float[np.ndarray, "n K"]) -> Float[np.ndarray, " n"]:
    """log Σ_k exp(a_k) without overflow or underflow."""
    most = a.max(1)
    return most + np.log(np.exp(a - most[:, None]).sum(1))


def start_from(
    X: Float[np.ndarray, "n d"], K: int, rng: np.random.Generator, floor: float | int
) -> Mixture:
    """Means on K random rows, equal weights, and the covariance of all the data for each.

    Raises:
        LabError: NaN in X, fewer rows than components, or data that do not vary.
    """
    check(bool(np.isfinite(X).all()), "X holds NaN: drop those rows or fill them")
    check(1 <= K <= len(X), f"{K} components need as many rows; X has {len(X)}")
    centred = X - X.mean(0)
    covariance = raise_to_floor(centred.T @ centred / len(X), floor)
    means = X[rng.choice(len(X), K, replace=False)]
    return Mixture(np.full(K, 1 / K), means, np.stack([covariance] * K))


def raise_to_floor(
    covariance: Float[np.ndarray, "*K d d"], floor: float | int
) -> Float[np.ndarray, "*K d d"]:
    """The covariance with no eigenvalue below `floor` (an absolute variance, > 0).

    Raises:
        LabError: the floor is not positive, as when it is a share of data that do not vary.
    """
    check(floor > 0, "the covariance floor is 0: the data do not vary, or --floor is 0")
    values, vectors = np.linalg.eigh(covariance)
    raised = (vectors * np.maximum(values, floor)[..., None, :]) @ vectors.swapaxes(-1, -2)
    return np.where((values < floor).any(-1)[..., None, None], raised, covariance)


def em_step(
    mixture: Mixture, X: Float[np.ndarray, "n d"], floor: float | int
) -> tuple[Mixture, float]:
    """One E- and one M-step; the number is the mean log-likelihood *before* the M-step.

    A component with less than a millionth of a point keeps its shape, and its weight goes to zero.
    """
    log_joint = mixture.log_joint(X)
    log_likelihood = log_sum_exp(log_joint)
    r = np.exp(log_joint - log_likelihood[:, None])  # (n, K)
    N = r.sum(0)
    alive = N > 1e-6
    means, covariances = mixture.means.copy(), mixture.covariances.copy()
    means[alive] = (r.T @ X)[alive] / N[alive, None]
    for k in np.flatnonzero(alive):
        differences = X - means[k]
        covariances[k] = (r[:, k, None] * differences).T @ differences / N[k]
    covariances = raise_to_floor(covariances, floor)
    return Mixture(N / len(X), means, covariances), float(log_likelihood.mean())


def em(
    mixture: Mixture,
    X: Float[np.ndarray, "n d"],
    floor: float | int,
    tolerance: float | int = 1e-7,
    most: int = 500,
) -> tuple[Mixture, list[float]]:
    """Steps until one gains at most `tolerance`; with the mean log-likelihood before each step.

    Warns about components that died, those that are held by the floor, and after `most` steps.
    """
    history = []
    for _ in range(most):
        mixture, value = em_step(mixture, X, floor)
        history.append(value)
        if len(history) > 1 and history[-1] - history[-2] <= tolerance:
            break
    else:
        warnings.warn(f"EM still gains after {most} steps", stacklevel=2)
    dead = np.flatnonzero(mixture.weights * len(X) < 1e-6).tolist()
    if dead:
        warnings.warn(f"components {dead} died: no point is theirs; ask for fewer", stacklevel=2)
    thin = np.linalg.eigvalsh(mixture.covariances)[:, 0] <= floor * (1 + 1e-9)
    if thin.any():
        which = np.flatnonzero(thin).tolist()
        warnings.warn(f"components {which} are as thin as the floor allows", stacklevel=2)
    return mixture, history


def run(config: Config, picture: Callable[[str, Figure], None]) -> dict[str, float]:
    """Fit, compare with the mixture that the points were drawn from. Figures:

    log_likelihood, test_log_likelihood: mean per point of the 600, and of 5,000 new ones; nats.
    true_test_log_likelihood: of the mixture they came from, which nothing can beat on average.
    steps: EM steps of the best start.
    greatest_fall: of the log-likelihood in any step of any start; 0 but for rounding.
    max_difference_to_sklearn: over weights, means, covariances after as many steps of
        scikit-learn's from the same start; absent where the floor held a component.
    """
    rng = np.random.default_rng(config.seed)
    truth = true_mixture()
    X, X_test = sample(truth, 600, rng), sample(truth, 5000, rng)
    floor = config.floor * float(X.var(0).max())
    starts = [start_from(X, config.components, rng, floor) for _ in range(config.starts)]
    found = [em(start, X, floor) for start in starts]
    best = int(np.argmax([history[-1] for _, history in found]))
    mixture, history = found[best]
    picture("steps", draw_steps(X, starts[best], history, floor))

    falls = [0.0 - np.diff(history).min(initial=0.0) for _, history in found]
    return {
        "log_likelihood": float(mixture.log_likelihood(X).mean()),
        "test_log_likelihood": float(mixture.log_likelihood(X_test).mean()),
        "true_test_log_likelihood": float(truth.log_likelihood(X_test).mean()),
        "steps": float(len(history)),
        "greatest_fall": float(max(falls)),
        **compare_to_sklearn(starts[best], mixture, X, len(history), floor),
    }


def compare_to_sklearn(
    start: Mixture, mixture: Mixture, X: Float[np.ndarray, "n d"], steps: int, floor: float | int
) -> dict[str, float]:
    """The greatest difference after the same number of steps, where it can be told."""
    if np.linalg.eigvalsh(mixture.covariances).min() <= floor * (1 + 1e-9):
        return {}
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture  # takes a second

    theirs = GaussianMixture(
        len(start.weights), tol=0, reg_covar=0, max_iter=steps, weights_init=start.weights,
        means_init=start.means, precisions_init=np.linalg.inv(start.covariances),
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # tol = 0: it is to take every step
        theirs.fit(X)
    pairs = zip(mixture, (theirs.weights_, theirs.means_, theirs.covariances_), strict=True)
    return {"max_difference_to_sklearn": max(float(np.abs(a - b).max()) for a, b in pairs)}


def true_mixture() -> Mixture:
    """Three elliptic clouds in the plane; two cross each other."""
    means = np.array([[0.0, 0.0], [0.5, 0.5], [4.0, -1.0]])
    covariances = np.array(
        [[[3.0, 2.6], [2.6, 3.0]], [[2.0, -1.7], [-1.7, 2.0]], [[0.4, 0], [0, 1.5]]]
    )
    return Mixture(np.array([0.4, 0.3, 0.3]), means, covariances)


def sample(mixture: Mixture, n: int, rng: np.random.Generator) -> Float[np.ndarray, "n d"]:
    """n points of the mixture."""
    component = rng.choice(len(mixture.weights), n, p=mixture.weights)
    z = rng.standard_normal((n, mixture.means.shape[1], 1))
    L = np.linalg.cholesky(mixture.covariances)
    return mixture.means[component] + (L[component] @ z)[..., 0]


def draw_steps(
    X: Float[np.ndarray, "n 2"], mixture: Mixture, history: list[float], floor: float | int
) -> Figure:
    """The start, two moments on the way and the end; and how the log-likelihood rose."""
    moments = sorted({0, min(5, len(history)), len(history) // 3, len(history)})
    figure = Figure(figsize=(2.7 * len(moments) + 2.7, 3.3), layout="constrained")
    axes = figure.subplots(1, len(moments) + 1)
    low, high = X.min(0) - 0.5, X.max(0) + 0.5
    for step in range(len(history) + 1):
        if step in moments:
            axis = axes[moments.index(step)]
            log_joint = mixture.log_joint(X)
            r = np.exp(log_joint - log_sum_exp(log_joint)[:, None])
            axis.scatter(*X.T, c=[f"C{k}" for k in r.argmax(1)], s=3, alpha=0.5)
            for k, (mean, covariance) in enumerate(zip(*mixture[1:], strict=True)):
                values, vectors = np.linalg.eigh(covariance)
                angle = np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1]))
                for sigmas in (1, 2):  # full axes: twice the deviation, on either side
                    width, height = 2 * sigmas * np.sqrt(values[::-1])
                    ellipse = Ellipse(
                        mean, width, height, angle=angle, fill=False, ec=f"C{k}", lw=2
                    )
                    axis.add_patch(ellipse)
            axis.set(title=f"after {step} steps" if step else "start", xticks=[], yticks=[])
            axis.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
        mixture, _ = em_step(mixture, X, floor)
    axes[-1].plot(range(len(history)), history)
    axes[-1].set(xlabel="step", title="mean log-likelihood (nats)")
    axes[-1].grid(alpha=0.3)
    return figure


if __name__ == "__main__":
    from from_scratch.lesson import main

    main("gaussian_mixture")
