"""Box arithmetic and NMS against torchvision, on boxes that touch, nest, vanish and repeat."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import ops

from detection.boxes import (
    area,
    batched_nms,
    complete_iou,
    distance_iou,
    elementwise_iou,
    generalised_iou,
    nms,
    pairwise_iou,
)

# Few different coordinates, so that equal, nested, touching and empty boxes turn up all the time;
# multiples of 1/4, so that float32 holds areas exactly.
coordinates = st.integers(0, 12).map(lambda n: n / 4)
corners = st.tuples(coordinates, coordinates).map(sorted)
box = st.tuples(corners, corners).map(lambda s: [s[0][0], s[1][0], s[0][1], s[1][1]])
boxes = st.lists(box, max_size=14).map(lambda rows: torch.tensor(rows).reshape(-1, 4))
thresholds = st.sampled_from([0.0, 0.25, 0.3001, 0.5, 0.7001, 1.0])  # exact, or met by no ratio
examples = settings(deadline=None, max_examples=50, derandomize=True)


def scores_of(count: int, seed: int) -> torch.Tensor:
    """Scores that differ, in random order."""
    return (torch.randperm(count, generator=torch.Generator().manual_seed(seed)) + 1) / (count + 1)


def random_boxes(*shape: int) -> torch.Tensor:
    """Boxes in double within 10 x 10, all sides at different places."""
    generator = torch.Generator().manual_seed(0)
    corners = 10 * torch.rand(*shape, 2, 2, dtype=torch.float64, generator=generator)
    return corners.sort(-2).values.flatten(-2)  # (low and high, x and y) -> x1 y1 x2 y2


# --- IoU ---------------------------------------------------------------------------------------


@examples
@given(boxes, boxes)
def test_area_and_iou_are_torchvisions(a, b):
    assert torch.equal(area(a), ops.box_area(a))
    theirs = ops.box_iou(a, b).nan_to_num(0)  # 0/0 of two empty boxes
    torch.testing.assert_close(pairwise_iou(a, b), theirs)


def test_pairwise_iou_takes_batches():
    a, b = random_boxes(2, 3, 5)
    one_by_one = torch.stack([ops.box_iou(x, y) for x, y in zip(a, b, strict=True)])
    torch.testing.assert_close(pairwise_iou(a, b), one_by_one)


@examples
@given(boxes, boxes)
def test_elementwise_iou_is_the_diagonal_of_the_pairwise(a, b):
    n = min(len(a), len(b))
    a, b = a[:n], b[:n]
    torch.testing.assert_close(elementwise_iou(a, b), ops.box_iou(a, b).diagonal().nan_to_num(0))


@examples
@given(boxes, boxes)
def test_generalised_iou_is_torchvisions(a, b):
    n = min(len(a), len(b))
    a, b = a[:n], b[:n]
    ours, theirs = generalised_iou(a, b), ops.generalized_box_iou(a, b).diagonal()
    assert ours.isfinite().all() and (ours >= -1).all() and (ours <= 1).all()
    defined = ~theirs.isnan()  # it divides by the union, then by the hull
    torch.testing.assert_close(ours[defined], theirs[defined])
    assert (ours[~defined] <= 0).all()


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([0, 0, 4, 4], [0, 0, 4, 4], 1.0),
        ([0, 0, 4, 4], [1, 1, 3, 3], 4 / 16),  # nested: the hull is the larger one
        ([0, 0, 4, 4], [2, 0, 6, 4], 8 / 24),  # side by side: no empty share
        ([0, 0, 1, 1], [3, 0, 4, 1], -2 / 4),  # apart: half of the hull is empty
        ([0, 0, 1, 1], [1, 1, 2, 2], -2 / 4),  # they share a corner
        ([1, 1, 1, 1], [0, 0, 2, 2], 0.0),  # a point in a box
        ([1, 1, 1, 1], [1, 1, 1, 1], 0.0),  # a point and itself
        ([0, 0, 0, 0], [2, 2, 2, 2], -1.0),  # two points: all of the hull is empty
    ],
)
def test_generalised_iou_by_hand(a, b, expected):
    for left, right in ((a, b), (b, a)):
        giou = generalised_iou(torch.tensor(left).float(), torch.tensor(right).float())
        assert giou.item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([0, 0, 4, 4], [0, 0, 4, 4], 1.0),
        ([0, 0, 4, 4], [1, 1, 3, 3], 4 / 16),  # one centre
        ([0, 0, 4, 4], [2, 0, 6, 4], 8 / 24 - 4 / 52),  # 2 apart; around both 6 x 4
        ([0, 0, 1, 1], [3, 0, 4, 1], -9 / 17),
        ([1, 1, 1, 1], [0, 0, 2, 2], 0.0),  # a point in the middle of a box
        ([1, 1, 1, 1], [1, 1, 1, 1], 0.0),  # a point and itself
        ([0, 0, 0, 0], [2, 2, 2, 2], -1.0),  # two points: the distance is the diagonal
    ],
)
def test_distance_iou_by_hand(a, b, expected):
    """All boxes are squares (a point counts as one), so that CIoU is the same."""
    a, b = torch.tensor(a).float(), torch.tensor(b).float()
    assert distance_iou(a, b).item() == distance_iou(b, a).item() == pytest.approx(expected)
    if area(a) > 0:
        assert complete_iou(a, b).item() == pytest.approx(expected)


def test_complete_iou_by_hand():
    """A lying box, 2 x 1, and a standing one, 1 x 2, on one corner."""
    lying, standing = torch.tensor([0.0, 0.0, 2.0, 1.0]), torch.tensor([0.0, 0.0, 1.0, 2.0])
    v = 4 / math.pi**2 * (math.atan(2) - math.atan(1 / 2)) ** 2
    alpha = v / (1 - 1 / 3 + v)
    expected = 1 / 3 - 0.5 / 8 - alpha * v
    assert complete_iou(lying, standing).item() == pytest.approx(expected)
    assert complete_iou(standing, lying).item() == pytest.approx(expected)


SIMILARITIES = {
    elementwise_iou: lambda a, b: 1 - ops.box_iou(a, b).diagonal(),
    generalised_iou: ops.generalized_box_iou_loss,
    distance_iou: ops.distance_box_iou_loss,
    complete_iou: ops.complete_box_iou_loss,
}
each_similarity = pytest.mark.parametrize("similarity", SIMILARITIES)


@each_similarity
def test_values_and_gradients_are_torchvisions(similarity):
    """In general position: no two sides at one place."""
    a, b = random_boxes(2, 64)
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    assert 10 < (high > low).all(-1).sum() < 54  # pairs that overlap and pairs that do not
    a.requires_grad_()
    ours, theirs = 1 - similarity(a, b), SIMILARITIES[similarity](a, b)
    tolerance = {"rtol": 1e-5, "atol": 1e-6}  # they add 1e-7 where we clamp at it
    torch.testing.assert_close(ours, theirs, **tolerance)
    gradients = [torch.autograd.grad(loss.sum(), a)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients, **tolerance)


@pytest.mark.parametrize("similarity", [elementwise_iou, generalised_iou, distance_iou])
def test_gradient_against_differences(similarity):
    """Not of CIoU: its alpha moves, but counts as a constant."""
    a, b = random_boxes(2, 64)
    assert torch.autograd.gradcheck(similarity, (a.requires_grad_(), b.requires_grad_()))


@each_similarity
@examples
@given(boxes, boxes)
def test_similarities_are_finite_symmetric_and_at_most_the_iou(similarity, a, b):
    n = min(len(a), len(b))
    a, b = a[:n].requires_grad_(), b[:n]
    ours = similarity(a, b)
    torch.testing.assert_close(ours, similarity(b, a))
    assert (ours <= elementwise_iou(a, b) + 1e-6).all()
    assert (ours >= (-2 if similarity is complete_iou else -1)).all()
    torch.testing.assert_close(similarity(a, a), (area(a) > 0).float())
    (gradient,) = torch.autograd.grad(ours.sum(), a)
    assert gradient.isfinite().all()


def test_a_box_within_the_other_is_moved_by_distance_iou_only():
    inner, outer = torch.tensor([1.0, 1.0, 3.0, 3.0]), torch.tensor([0.0, 0.0, 8.0, 8.0])
    for similarity, moves in (
        (elementwise_iou, False),
        (generalised_iou, False),
        (distance_iou, True),
        (complete_iou, True),
    ):
        shift = torch.zeros(2, requires_grad=True)
        similarity(inner + shift.repeat(2), outer).backward()
        assert (shift.grad > 1e-3).all() == moves
        assert moves or (shift.grad.abs() < 1e-6).all()


# --- NMS ---------------------------------------------------------------------------------------


@examples
@given(boxes, st.integers(0, 99), thresholds)
def test_nms_is_torchvisions(boxes, seed, threshold):
    scores = scores_of(len(boxes), seed)
    assert torch.equal(nms(boxes, scores, threshold), ops.nms(boxes, scores, threshold))


def test_nms_is_torchvisions_in_a_crowd():
    boxes, scores = random_boxes(300).float(), scores_of(300, 0)
    for threshold in (0.1, 0.3, 0.5, 0.7):
        kept = nms(boxes, scores, threshold)
        assert torch.equal(kept, ops.nms(boxes, scores, threshold))
        assert len(kept) < 300


@pytest.mark.parametrize(("threshold", "kept"), [(0.5, [1, 0]), (0.4999, [1])])
def test_nms_keeps_what_overlaps_by_just_the_threshold(threshold, kept):
    boxes = torch.tensor([[0.0, 0.0, 3.0, 1.0], [1.0, 0.0, 4.0, 1.0]])  # IoU 2/4
    assert nms(boxes, torch.tensor([0.3, 0.9]), threshold).tolist() == kept


def test_a_box_that_was_dropped_drops_no_other():
    boxes = torch.tensor([[0.0, 0.0, 4.0, 1.0], [1.0, 0.0, 5.0, 1.0], [2.0, 0.0, 6.0, 1.0]])
    scores = torch.tensor([0.9, 0.8, 0.7])  # IoU of neighbours 3/5, of the first and last 2/6
    assert nms(boxes, scores, 0.5).tolist() == [0, 2]


@examples
@given(boxes, st.randoms(use_true_random=False), thresholds)
def test_nms_keeps_the_same_boxes_in_any_order(boxes, random, threshold):
    scores = scores_of(len(boxes), 0)
    order = torch.tensor(random.sample(range(len(boxes)), len(boxes)), dtype=torch.int64)
    shuffled = nms(boxes[order], scores[order], threshold)
    assert torch.equal(order[shuffled], nms(boxes, scores, threshold))


# Groups a few million apart: in float32 their boxes would lose the quarters of a pixel.
groups = st.lists(st.sampled_from([0, 1, 2, 5_000_000]), min_size=14, max_size=14)


@examples
@given(boxes, groups, st.integers(0, 99), thresholds)
def test_batched_nms_is_torchvisions_nms_of_each_group(boxes, groups, seed, threshold):
    scores, groups = scores_of(len(boxes), seed), torch.tensor(groups)[: len(boxes)]
    kept = [torch.empty(0, dtype=torch.int64)]
    for group in groups.unique():
        members = (groups == group).nonzero()[:, 0]
        kept.append(members[ops.nms(boxes[members], scores[members], threshold)])
    kept = torch.cat(kept)
    kept = kept[scores[kept].argsort(descending=True)]
    assert torch.equal(batched_nms(boxes, scores, groups, threshold), kept)
    if not (groups == 5_000_000).any():  # torchvision itself moves groups in float32
        assert torch.equal(ops.batched_nms(boxes, scores, groups, threshold), kept)


def test_no_boxes_at_all():
    boxes, scores, groups = torch.empty(0, 4), torch.empty(0), torch.empty(0, dtype=torch.int64)
    for kept in (nms(boxes, scores, 0.5), batched_nms(boxes, scores, groups, 0.5)):
        assert kept.shape == (0,) and kept.dtype == torch.int64
