"""Does 80% mean 80%? Scores of probabilities, and the temperature that mends them (Guo 2017)."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

BINS = 15


def scores(
    logits: Float[Tensor, "N 10"], labels: Int64[Tensor, " N"], temperature: float = 1.0
) -> dict[str, float]:
    """accuracy: share of right answers; nll: mean -log p(label), nats; brier: mean squared distance
    of probabilities and onehot label, 0 (best) to 2; ece: see `reliability`.
    """
    log_prob = (logits.double() / temperature).log_softmax(1)
    onehot = F.one_hot(labels, logits.shape[1])
    return {
        "accuracy": (logits.argmax(1) == labels).double().mean().item(),
        "nll": F.nll_loss(log_prob, labels).item(),
        "brier": (log_prob.exp() - onehot).square().sum(1).mean().item(),
        "ece": reliability(log_prob.exp(), labels).ece,
    }


class Reliability(NamedTuple):
    """Predictions in bins of confidence, which is the probability of the predicted class."""

    edges: Float[Tensor, "bins1"]
    count: Int64[Tensor, " bins"]
    confidence: Float[Tensor, " bins"]
    """Mean in each bin; 0 where it is empty."""
    accuracy: Float[Tensor, " bins"]
    """Likewise."""

    @property
    def ece(self) -> float:
        """Expected calibration error, sum_b n_b / N |acc_b - conf_b| (Guo 2017, eq. 3)."""
        gaps = (self.accuracy - self.confidence).abs()
        return ((self.count * gaps).sum() / self.count.sum()).item()


def reliability(
    probabilities: Float[Tensor, "N 10"], labels: Int64[Tensor, " N"], bins: int = BINS
) -> Reliability:
    """Equally wide bins (0, 1/b], (1/b, 2/b], ... of confidence."""
    confidence, predicted = probabilities.double().max(1)
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    which = torch.bucketize(confidence, edges[1:-1].contiguous())
    count = torch.bincount(which, minlength=bins)
    at_least_one = count.clamp(min=1)
    right = (predicted == labels).double()
    return Reliability(
        edges,
        count,
        torch.bincount(which, confidence, minlength=bins) / at_least_one,
        torch.bincount(which, right, minlength=bins) / at_least_one,
    )


def fit_temperature(logits: Float[Tensor, "N 10"], labels: Int64[Tensor, " N"]) -> float:
    """The temperature T that makes the mean of -log softmax(z / T)[label] least.

    In b = 1 / T that is convex, for log-sum-exp of b z is: with z_i's mean and variance under the
    probabilities p = softmax(b z),

        d/db   = E_p[z] - z_label,    d2/db2 = Var_p[z]

    so the slope has one root, which Newton's steps find. A step that leaves the bracket of the root
    gives way to a bisection: where every image is told right the slope never reaches 0.

    Returns:
        T, held to [0.01, 100].
    """
    z = logits.double()
    of_label = z.gather(1, labels[:, None])[:, 0]
    b, low, high = 1.0, 0.01, 100.0
    for _ in range(100):
        p = (b * z).softmax(1)
        mean = (p * z).sum(1)
        slope = (mean - of_label).mean().item()
        curvature = ((p * z.square()).sum(1) - mean.square()).mean().item()
        low, high = (low, b) if slope > 0 else (b, high)
        newton = b - slope / curvature if curvature > 0 else high
        following = newton if low < newton < high else math.sqrt(low * high)
        if math.isclose(b, following, rel_tol=1e-10):
            break
        b = following
    return 1 / b
