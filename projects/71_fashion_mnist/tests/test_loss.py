"""Targets and the loss, against torch's."""

import pytest
import torch
from torch.nn import functional as F

from fashion_mnist.loss import cross_entropy, mixed, smoothed


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_smoothed_cross_entropy_is_torchs(smoothing):
    torch.manual_seed(0)
    logits, labels = 3 * torch.randn(40, 10), torch.randint(10, (40,))
    ours = cross_entropy(logits, smoothed(labels, smoothing))
    assert torch.allclose(ours, F.cross_entropy(logits, labels, label_smoothing=smoothing))


def test_gradient():
    torch.manual_seed(0)
    logits = torch.randn(4, 10, dtype=torch.float64, requires_grad=True)
    targets = torch.rand(4, 10, dtype=torch.float64).softmax(1)
    assert torch.autograd.gradcheck(lambda z: cross_entropy(z, targets), logits)


def test_targets_sum_to_one():
    labels = torch.arange(10)
    assert torch.allclose(smoothed(labels, 0.2).sum(1), torch.ones(10))
    assert smoothed(labels, 0.2)[3, 3] == pytest.approx(0.82)
    assert smoothed(labels, 0.2)[3, 4] == pytest.approx(0.02)


def test_mixup_blends_images_and_targets_alike():
    """An image that holds its own number in each pixel tells from its value who was mixed."""
    torch.manual_seed(3)
    count = 10
    numbers = torch.arange(count, dtype=torch.float32)
    images = numbers[:, None, None, None].expand(count, 1, 28, 28)
    targets = torch.eye(count)
    x, y = mixed(images, targets, 1.0)
    assert torch.allclose(y.sum(1), torch.ones(count))
    assert torch.allclose(y @ numbers, x[:, 0, 0, 0], atol=1e-5)
    weights = y.diagonal()[(y.diagonal() < 1)]
    assert len(weights) >= count - 2
    assert torch.allclose(weights, weights[0].expand_as(weights)), "one weight a batch"
    assert 0 < weights[0] < 1


@pytest.mark.parametrize(("alpha", "variance"), [(0.2, 0.1786), (1.0, 0.0833), (8.0, 0.0147)])
def test_mixups_weight_is_beta_distributed(alpha, variance):
    """Beta(a, a) has the mean 1/2 and the variance 1 / (8 a + 4)."""
    torch.manual_seed(0)
    images, targets = torch.zeros(2, 1, 2, 2), torch.eye(2, 10)
    drawn = []
    while len(drawn) < 400:
        _, y = mixed(images, targets, alpha)
        if y[0, 1] > 0:  # the two were swapped
            drawn.append(float(y[0, 0]))
    weights = torch.tensor(drawn)
    assert weights.mean() == pytest.approx(0.5, abs=0.04)
    assert weights.var() == pytest.approx(variance, rel=0.2)
