"""Which classes are taken for which."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def confusion_matrix(
    labels: Int64[Tensor, " N"], predicted: Int64[Tensor, " N"], classes: int = 10
) -> Int64[Tensor, "K K"]:
    """Counts; rows are true classes, columns predicted ones."""
    pairs = torch.bincount(labels * classes + predicted, minlength=classes**2)
    return pairs.reshape(classes, classes)


class PerClass(NamedTuple):
    """Figures of each class."""

    precision: Float[Tensor, " K"]
    """Of those called so, the share that are; 0 where none was."""
    recall: Float[Tensor, " K"]
    """Of those that are, the share called so; 0 where there are none."""
    f1: Float[Tensor, " K"]
    """The harmonic mean of both."""


def per_class(matrix: Int64[Tensor, "K K"]) -> PerClass:
    """Precision, recall and F1 from a confusion matrix."""
    right = matrix.diagonal().double()
    called, are = matrix.sum(0), matrix.sum(1)
    return PerClass(
        right / called.clamp(min=1),
        right / are.clamp(min=1),
        2 * right / (called + are).clamp(min=1),
    )
