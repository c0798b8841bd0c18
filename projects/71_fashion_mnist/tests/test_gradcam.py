"""Grad-CAM where the answer is known: after mean pooling it is Zhou's class activation map."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fashion_mnist.config import Recipe
from fashion_mnist.gradcam import grad_cam, heat
from fashion_mnist.model import Classifier, build


class Mean(nn.Module):
    def forward(self, maps):
        return maps.mean((2, 3))


class Largest(nn.Module):
    def forward(self, maps):
        return maps.amax((2, 3))


@pytest.fixture
def averaging() -> Classifier:
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(1, 6, 5, stride=2), nn.ReLU(), nn.Conv2d(6, 8, 3))
    return Classifier(features, Mean(), 8, 0.0).eval()


def test_after_mean_pooling_it_is_the_class_activation_map(averaging):
    """Zhou 2016, eq. 2: M_c = sum_k w_k^c A_k; Grad-CAM is its positive part over Z places."""
    images, classes = torch.rand(5, 1, 28, 28), torch.tensor([0, 3, 3, 9, 5])
    maps = averaging.maps(images)  # (5, 8, 10, 10)
    cam = torch.einsum("bk,bkhw->bhw", averaging.head.weight[classes], maps)
    expected = F.relu(cam) / maps[0, 0].numel()
    found = grad_cam(averaging, images, classes)
    assert found.shape == (5, 10, 10)
    assert expected.max() > 0
    assert torch.allclose(found, expected, atol=1e-6)


def test_after_max_pooling_each_map_counts_for_one_place(averaging):
    """The gradient lands on the maximum alone, so alpha_k is w_k / Z again (eq. 1's mean)."""
    averaging.pool = Largest()
    images, classes = torch.rand(3, 1, 28, 28), torch.tensor([1, 8, 8])
    maps = averaging.maps(images)
    cam = torch.einsum("bk,bkhw->bhw", averaging.head.weight[classes], maps)
    expected = F.relu(cam) / maps[0, 0].numel()
    assert torch.allclose(grad_cam(averaging, images, classes), expected, atol=1e-6)


def test_the_classes_differ_and_images_do_not_touch_each_other(averaging):
    images = torch.rand(3, 1, 28, 28)
    classes = torch.tensor([1, 2, 4])
    together = grad_cam(averaging, images, classes)
    alone = torch.cat(
        [grad_cam(averaging, images[i : i + 1], classes[i : i + 1]) for i in range(3)]
    )
    assert torch.allclose(together, alone, atol=1e-7)
    assert not torch.allclose(together[0], grad_cam(averaging, images, classes.flip(0))[0])


def test_a_frozen_model_has_one_too():
    torch.manual_seed(0)
    model = build(Recipe(width=4)).eval().requires_grad_(False)
    with torch.no_grad():
        found = grad_cam(model, torch.rand(2, 1, 28, 28), torch.tensor([0, 1]))
    assert found.shape == (2, 7, 7)
    assert (found >= 0).all()


def test_it_looks_where_the_evidence_is(averaging):
    """One map, one bright corner that speaks for class 2."""
    with torch.no_grad():
        averaging.features[2] = nn.Identity()
        averaging.features[0] = nn.Conv2d(1, 8, 1, stride=2, bias=False)
        averaging.features[0].weight.fill_(1)
        averaging.head.weight.zero_()[2].fill_(1)
    images = torch.zeros(1, 1, 28, 28) + averaging.MEAN
    images[..., 20:, :8] = 1.0
    warm = heat(grad_cam(averaging, images, torch.tensor([2])))[0]
    assert warm.max() == pytest.approx(1.0)
    assert warm[22:, :6].mean() > 0.9
    assert warm[:14].max() == 0


def test_nothing_that_speaks_for_it_stays_cold():
    assert torch.equal(heat(torch.zeros(1, 7, 7)), torch.zeros(1, 28, 28))
