"""Confusion and figures of each class against scikit-learn; suspects that were put there."""

import numpy as np
import pytest
import torch
from sklearn import metrics

from fashion_mnist.metrics import confusion_matrix, per_class
from fashion_mnist.suspects import find_suspects


@pytest.fixture
def answers() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    labels = torch.randint(10, (400,))
    return labels, torch.where(torch.rand(400) < 0.7, labels, torch.randint(10, (400,)))


def test_against_scikit_learn(answers):
    labels, predicted = answers
    matrix = confusion_matrix(labels, predicted)
    assert np.array_equal(matrix, metrics.confusion_matrix(labels, predicted))
    expected = metrics.precision_recall_fscore_support(labels, predicted)
    for ours, theirs in zip(per_class(matrix), expected, strict=False):
        assert ours.numpy() == pytest.approx(theirs)


def test_a_class_that_is_never_called_and_one_that_is_not_there():
    labels, predicted = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 0, 2])
    found = per_class(confusion_matrix(labels, predicted, 4))
    assert found.precision.tolist() == pytest.approx([2 / 3, 0, 0, 0])
    assert found.recall.tolist() == [1, 0, 0, 0]
    assert found.f1.tolist() == pytest.approx([0.8, 0, 0, 0])


def test_rows_are_true_classes():
    matrix = confusion_matrix(torch.tensor([3]), torch.tensor([7]))
    assert matrix[3, 7] == 1
    assert matrix.sum() == 1


# --- suspects ------------------------------------------------------------------------------------


def test_swapped_labels_are_found():
    """A model that is nearly always right; 31 of 1,000 labels are not."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.arange(1000) % 10
    logits = torch.randn(1000, 10, generator=generator)
    logits[torch.arange(1000), truth] += 7
    given = truth.clone()
    given[::33] = (given[::33] + 3) % 10
    swapped = (given != truth).nonzero()[:, 0].tolist()
    found = find_suspects(logits.softmax(1), given)
    first = found.indices[: len(swapped)].tolist()
    assert len(set(first) & set(swapped)) > 0.85 * len(swapped)
    assert (found.margin.diff() <= 0).all(), "the clearest first"
    hits = [k for k, index in enumerate(found.indices.tolist()) if index in swapped]
    right = (found.likely[hits] == truth[found.indices[hits]]).double().mean()
    assert right > 0.95, "and what they are in truth"


def test_the_confident_joint_by_hand():
    """Northcutt 2021, eq. 1; t_0 = (.9 + .6 + .3) / 3 = .6, t_1 = (.8 + .4) / 2 = .6."""
    p = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.2, 0.8], [0.6, 0.4]]).double()
    found = find_suspects(p, torch.tensor([0, 0, 0, 1, 1]))
    assert found.joint.tolist() == [[2, 1], [1, 1]]
    assert found.indices.tolist() == [2, 4]
    assert found.likely.tolist() == [1, 0]
    assert found.margin.tolist() == pytest.approx([0.4, 0.2])


def test_images_that_are_like_no_class_are_not_counted():
    p = torch.tensor([[0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.4, 0.35, 0.25]])
    found = find_suspects(p, torch.tensor([0, 1, 1]))
    assert found.joint.sum() == 2
    assert len(found.indices) == 0


def test_a_class_without_labels_suspects_nobody():
    found = find_suspects(torch.eye(3)[[0, 1, 2]], torch.tensor([0, 1, 1]))
    assert 2 not in found.likely.tolist()
