"""What a batch should answer, and how far it is from that."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F


def smoothed(
    labels: Int64[Tensor, " B"], smoothing: float | int, classes: int = 10
) -> Float[Tensor, "B K"]:
    """q = (1 - s) onehot + s / K (Szegedy 2016, section 7)."""
    return (1 - smoothing) * F.one_hot(labels, classes).float() + smoothing / classes


def mixed(
    images: Float[Tensor, "B 1 h w"], targets: Float[Tensor, "B K"], alpha: float | int
) -> tuple[Float[Tensor, "B 1 h w"], Float[Tensor, "B K"]]:
    """MixUp (Zhang 2018, eq. 1): x = l x_i + (1 - l) x_j, y likewise, l ~ Beta(alpha, alpha).

    One l a batch, as in the authors' code; partners by a permutation of the batch. torch's
    generator draws both.
    """
    weight = torch.distributions.Beta(float(alpha), float(alpha)).sample().item()
    partner = torch.randperm(len(images), device=images.device)
    return (
        torch.lerp(images[partner], images, weight),
        torch.lerp(targets[partner], targets, weight),
    )


def cross_entropy(logits: Float[Tensor, "B K"], targets: Float[Tensor, "B K"]) -> Float[Tensor, ""]:
    """The mean over the batch of -sum_k q_k log p_k, in nats; `targets` q sum to 1 in each row."""
    return -(targets * logits.log_softmax(1)).sum(1).mean()
