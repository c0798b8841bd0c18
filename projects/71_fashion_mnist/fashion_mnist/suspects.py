"""Which labels may be wrong? Confident learning (Northcutt 2021)."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor


class Suspects(NamedTuple):
    """Images whose label another class contradicts, the clearest first."""

    indices: Int64[Tensor, " S"]
    likely: Int64[Tensor, " S"]
    """The class that they are counted in instead."""
    margin: Float[Tensor, " S"]
    """p(likely) - p(label), larger is clearer."""
    joint: Int64[Tensor, "K K"]
    """The confident joint: counts by given label (row) and likely class (column)."""


def find_suspects(probabilities: Float[Tensor, "N K"], labels: Int64[Tensor, " N"]) -> Suspects:
    """Off-diagonal entries of the confident joint, ranked by margin.

    t_j is the mean p(j) of the images labelled j. An image counts as class j if p(j) >= t_j, as the
    most probable such j where there are several, and as nothing where there is none (eq. 1). The
    method supposes that the model has not learned from these very labels.

    Args:
        probabilities: out of sample.
    """
    classes = probabilities.shape[1]
    probabilities = probabilities.double()
    own = probabilities.gather(1, labels[:, None])[:, 0]
    counts = torch.bincount(labels, minlength=classes)
    threshold = torch.bincount(labels, own, minlength=classes) / counts.clamp(min=1)
    threshold[counts == 0] = torch.inf  # no image is labelled so: nothing to judge it by
    above = torch.where(probabilities >= threshold, probabilities, -torch.inf)
    best, likely = above.max(1)
    counted = best > -torch.inf
    pairs = labels[counted] * classes + likely[counted]
    joint = torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    off = (counted & (likely != labels)).nonzero()[:, 0]
    margin = best[off] - own[off]
    order = margin.argsort(descending=True, stable=True)
    return Suspects(off[order], likely[off][order], margin[order], joint)
