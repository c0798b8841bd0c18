"""The losses against torch, torchvision and the papers' equations written out point by point."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision import ops

from detection.assignment import Assignment, centre_assignment, hard, task_aligned_assignment
from detection.loss import (
    BOX_LOSSES,
    CLASS_LOSSES,
    binary_cross_entropy,
    centerness,
    detection_loss,
    focal,
    quality_focal,
    varifocal,
)
from detection.model import Predictions, grid_points

SEEDS = range(4)
each_class_loss = pytest.mark.parametrize("class_loss", CLASS_LOSSES)
each_box_loss = pytest.mark.parametrize("box_loss", BOX_LOSSES)


def scene(
    seed: int, batch: int = 3, objects: int = 5, classes: int = 3, size: int = 48
) -> tuple[Predictions, Tensor, Tensor, Tensor]:
    """Random predictions at all points of two levels, and padded boxes, labels and ignore.

    Objects are between 1 pixel and the image in size; about a fifth are ignored, a fifth are
    padding. In double.
    """
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, dtype=torch.float64, generator=generator)

    cpu = torch.device("cpu")
    points = torch.cat([grid_points(size // s, size // s, s, cpu) for s in (8, 16)]).double()
    strides = torch.tensor([8.0] * (size // 8) ** 2 + [16.0] * (size // 16) ** 2).double()
    sides = (1.6 + 2 * rand(batch, len(points), 4)) * strides[:, None]
    predicted = torch.cat([points - sides[..., :2], points + sides[..., 2:]], -1)
    logits = 3 * torch.randn(batch, len(points), classes, generator=generator).double()

    half = torch.exp(math.log(0.5) + math.log(size) * rand(batch, objects, 2))
    centre = size * rand(batch, objects, 2)
    boxes = torch.cat([centre - half, centre + half], -1).clamp(0, size)
    labels = torch.randint(0, classes, (batch, objects), generator=generator)
    labels[rand(batch, objects) < 0.2] = -1
    boxes[labels < 0] = 0
    ignore = (rand(batch, objects) < 0.2) & (labels >= 0)
    return Predictions(logits, predicted, points, strides), boxes, labels, ignore


def leaves(predictions: Predictions) -> Predictions:
    """The same predictions, collecting gradients."""
    return Predictions(
        predictions.logits.clone().requires_grad_(),
        predictions.boxes.clone().requires_grad_(),
        predictions.points,
        predictions.strides,
        None if predictions.centerness is None else predictions.centerness.clone().requires_grad_(),
    )


def with_centerness(predictions: Predictions) -> Predictions:
    """The same predictions, with a random centerness (logits)."""
    shape, generator = predictions.logits.shape[:2], torch.Generator().manual_seed(9)
    return predictions._replace(centerness=2 * torch.randn(shape, generator=generator).double())


# --- classification ----------------------------------------------------------------------------

LOGITS = torch.linspace(-6, 6, 25).double()
HARD = (torch.arange(25) % 3 == 0).double()
SOFT = (torch.arange(25) * 7 % 25 / 24).double()  # 0..1, in another order


def gradient(loss, logits: Tensor, target: Tensor) -> Tensor:
    logits = logits.clone().requires_grad_()
    return torch.autograd.grad(loss(logits, target).sum(), logits)[0]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (focal, ops.sigmoid_focal_loss),
        (
            lambda logits, target: focal(logits, target, alpha=0.4, gamma=1.5),
            lambda logits, target: ops.sigmoid_focal_loss(logits, target, alpha=0.4, gamma=1.5),
        ),
        (
            quality_focal,  # for hard targets it is the focal loss without alpha
            lambda logits, target: ops.sigmoid_focal_loss(logits, target, alpha=-1, gamma=2),
        ),
        (
            lambda logits, target: quality_focal(logits, target, beta=0),
            lambda logits, target: F.binary_cross_entropy_with_logits(
                logits, target, reduction="none"
            ),
        ),
    ],
)
def test_with_hard_targets_it_is_torchvisions_focal_loss(ours, theirs):
    torch.testing.assert_close(ours(LOGITS, HARD), theirs(LOGITS, HARD))
    torch.testing.assert_close(gradient(ours, LOGITS, HARD), gradient(theirs, LOGITS, HARD))


def test_binary_cross_entropy_is_torchs_bit_for_bit():
    """The default training is to stay what it was."""
    for target in (HARD, SOFT):
        theirs = F.binary_cross_entropy_with_logits(LOGITS, target, reduction="none")
        assert torch.equal(binary_cross_entropy(LOGITS, target), theirs)


def test_soft_targets_by_the_equations():
    for logit, q in zip(LOGITS.tolist(), SOFT.tolist(), strict=True):
        p = 1 / (1 + math.exp(-logit))
        entropy = -(q * math.log(p) + (1 - q) * math.log(1 - p))
        one = torch.tensor([logit]).double(), torch.tensor([q]).double()
        assert quality_focal(*one).item() == pytest.approx(abs(q - p) ** 2 * entropy)
        expected = q * entropy if q > 0 else -0.75 * p**2 * math.log(1 - p)
        assert varifocal(*one).item() == pytest.approx(expected)


@each_class_loss
@pytest.mark.parametrize("target", [HARD, SOFT], ids=["hard", "soft"])
def test_class_gradient_against_differences(class_loss, target):
    logits = LOGITS.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: CLASS_LOSSES[class_loss](x, target), logits)


@each_class_loss
def test_large_logits_give_finite_losses_and_gradients(class_loss):
    logits = torch.tensor([-100.0, -50.0, 0.0, 50.0, 100.0]).repeat(3)
    target = torch.tensor([0.0, 0.3, 1.0]).repeat_interleave(5)
    loss = CLASS_LOSSES[class_loss](logits, target)
    assert loss.isfinite().all() and (loss >= 0).all()
    assert gradient(CLASS_LOSSES[class_loss], logits, target).isfinite().all()
    certain_and_wrong = loss[[3, 11]]  # 50 against 0, -50 against 1
    assert (certain_and_wrong > 10).all()
    certain_and_right = loss[[1, 13]]
    assert (certain_and_right < 1e-6).all()


@pytest.mark.parametrize("class_loss", ["bce", "quality-focal", "varifocal"])
def test_the_best_answer_is_the_target(class_loss):
    """So that the quality is what these three teach the scores to be."""
    target = torch.linspace(0.1, 0.9, 9).double()
    flat = gradient(CLASS_LOSSES[class_loss], target.logit(), target)
    torch.testing.assert_close(flat, torch.zeros(9).double(), rtol=0, atol=1e-12)
    assert (gradient(CLASS_LOSSES[class_loss], target.logit() - 0.1, target) < 0).all()
    assert (gradient(CLASS_LOSSES[class_loss], target.logit() + 0.1, target) > 0).all()


# --- centerness --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        ([4.0, 2.0], 1.0),  # the centre of the box
        ([2.0, 2.0], math.sqrt(2 / 6)),
        ([2.0, 1.0], math.sqrt(2 / 6 * 1 / 3)),
        ([6.0, 3.0], math.sqrt(2 / 6 * 1 / 3)),
        ([8.0, 2.0], 0.0),  # on the edge
        ([9.0, 2.0], 0.0),  # beyond
        ([9.0, 9.0], 0.0),  # beyond both ways: no product of two negatives
    ],
)
def test_centerness_by_hand(point, expected):
    box = torch.tensor([[0.0, 0.0, 8.0, 4.0]])
    assert centerness(torch.tensor([point]), box).item() == pytest.approx(expected)


def test_centerness_of_boxes_without_area_is_finite():
    points = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    boxes = torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, -1.0, 0.0, 1.0]])
    assert centerness(points, boxes).tolist() == [0.0, 0.0]


# --- of a batch --------------------------------------------------------------------------------

THEIR_BOX_LOSSES = {
    "iou": lambda a, b: 1 - ops.box_iou(a, b)[0, 0],
    "giou": lambda a, b: ops.generalized_box_iou_loss(a, b, reduction="sum"),
    "diou": lambda a, b: ops.distance_box_iou_loss(a, b, reduction="sum"),
    "ciou": lambda a, b: ops.complete_box_iou_loss(a, b, reduction="sum"),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("class_loss", "box_loss"),
    [("bce", "giou"), ("quality-focal", "iou"), ("varifocal", "diou"), ("focal", "ciou")],
)
@pytest.mark.parametrize("change", [lambda predictions: predictions, with_centerness])
def test_losses_written_out(seed, class_loss, box_loss, change):
    predictions, boxes, labels, ignore = scene(seed)
    predictions = change(predictions)
    found = task_aligned_assignment(predictions, boxes, labels, ignore)
    found = hard(found) if class_loss == "focal" else found
    classification = box = centre = 0.0
    for image, a in torch.cartesian_prod(*map(torch.arange, found.target.shape)).tolist():
        m, quality = int(found.target[image, a]), found.quality[image, a]
        wanted = torch.zeros(3).double()
        if m >= 0:
            wanted[labels[image, m]] = quality
            (x, y), (x1, y1, x2, y2) = predictions.points[a].tolist(), boxes[image, m].tolist()
            weight = quality
            if predictions.centerness is not None:
                weight = torch.tensor(0.0).double()  # of points beyond the box
                if x1 < x < x2 and y1 < y < y2:
                    left, top, right, bottom = x - x1, y - y1, x2 - x, y2 - y
                    weight += math.sqrt(
                        min(left, right) / max(left, right) * min(top, bottom) / max(top, bottom)
                    )
                centre += F.binary_cross_entropy_with_logits(
                    predictions.centerness[image, a], weight
                )
            pair = predictions.boxes[image, a][None], boxes[image, m][None]
            box += weight * THEIR_BOX_LOSSES[box_loss](*pair)
        if not found.ignored[image, a]:
            classification += CLASS_LOSSES[class_loss](predictions.logits[image, a], wanted).sum()
    ours = detection_loss(
        predictions,
        found,
        boxes,
        labels,
        class_loss=class_loss,
        box_loss=box_loss,
        box_weight=3.0,
    )
    torch.testing.assert_close(ours.classification, classification)
    # They add 1e-7 where we clamp at it.
    torch.testing.assert_close(ours.box, 3 * box, rtol=1e-6, atol=0)
    torch.testing.assert_close(ours.centerness, torch.as_tensor(centre).double())


def test_without_centerness_its_loss_is_0():
    predictions, boxes, labels, ignore = scene(0)
    found = task_aligned_assignment(predictions, boxes, labels, ignore)
    loss = detection_loss(predictions, found, boxes, labels).centerness
    assert loss.shape == () and loss == 0


def test_centerness_is_learnt_at_positive_points_only():
    predictions, boxes, labels, ignore = scene(0)
    predictions = leaves(with_centerness(predictions))
    found = centre_assignment(predictions, boxes, labels, ignore)
    sum(detection_loss(predictions, found, boxes, labels)).backward()
    positive = found.target >= 0
    assert positive.any()
    assert torch.equal(predictions.centerness.grad != 0, positive)


@pytest.mark.parametrize("seed", SEEDS)
def test_losses_of_a_batch_are_the_sums_of_its_images(seed):
    """What makes it the same to train on a batch in parts, once the sum is divided."""
    predictions, boxes, labels, ignore = scene(seed)
    predictions = with_centerness(predictions)
    found = task_aligned_assignment(predictions, boxes, labels, ignore)
    parts = [
        detection_loss(
            predictions._replace(
                logits=predictions.logits[i : i + 1],
                boxes=predictions.boxes[i : i + 1],
                centerness=predictions.centerness[i : i + 1],
            ),
            Assignment(*(part[i : i + 1] for part in found)),
            boxes[i : i + 1],
            labels[i : i + 1],
        )
        for i in range(3)
    ]
    whole = detection_loss(predictions, found, boxes, labels)
    for ours, images in zip(whole, zip(*parts, strict=True), strict=True):
        torch.testing.assert_close(ours, sum(images))


@pytest.mark.parametrize(("class_loss", "box_loss"), [("bce", "giou"), ("varifocal", "diou")])
def test_gradient_of_a_batch_against_differences(class_loss, box_loss):
    """Not of CIoU, whose alpha counts as a constant; tests/test_boxes.py has its gradient."""
    predictions, boxes, labels, ignore = scene(1, batch=2, objects=3, classes=2, size=32)
    assignment = task_aligned_assignment(predictions, boxes, labels, ignore)
    assert assignment.ignored.any() and (assignment.target >= 0).any()

    def loss(logits: Tensor, predicted: Tensor, central: Tensor) -> tuple[Tensor, ...]:
        changed = predictions._replace(logits=logits, boxes=predicted, centerness=central)
        return tuple(
            detection_loss(
                changed, assignment, boxes, labels, class_loss=class_loss, box_loss=box_loss
            )
        )

    predictions = leaves(with_centerness(predictions))
    given = predictions.logits, predictions.boxes, predictions.centerness
    assert torch.autograd.gradcheck(loss, given)


@pytest.mark.parametrize("rows_of_padding", [0, 5])
def test_no_objects_at_all(rows_of_padding):
    predictions, *_ = scene(0)
    predictions = leaves(with_centerness(predictions))
    boxes = torch.zeros(3, rows_of_padding, 4).double()
    nobody = torch.full((3, rows_of_padding), -1)
    found = task_aligned_assignment(predictions, boxes, nobody, nobody == 0)
    losses = detection_loss(predictions, found, boxes, nobody)
    assert losses.classification.isfinite() and losses.box == losses.centerness == 0
    sum(losses).backward()
    torch.testing.assert_close(predictions.logits.grad, predictions.logits.detach().sigmoid())
    assert not predictions.boxes.grad.any() and not predictions.centerness.grad.any()


@each_class_loss
@pytest.mark.parametrize("seed", SEEDS)
def test_ignored_objects_are_neither_learnt_nor_punished(seed, class_loss):
    predictions, boxes, labels, _ = scene(seed)
    predictions, labels = leaves(predictions), labels.clamp(min=0)
    ignore = torch.tensor([True, False, True, False, False]).expand(3, -1)
    boxes[:, 0] = torch.tensor([5.0, 3.0, 45.0, 30.0])
    found = task_aligned_assignment(predictions, boxes, labels, ignore)
    assert not ignore.gather(1, found.target.clamp(min=0))[found.target >= 0].any()
    sum(detection_loss(predictions, found, boxes, labels, class_loss=class_loss)).backward()
    punished = predictions.logits.grad.ne(0).any(-1)
    x, y = predictions.points.unbind(-1)
    inside = (x > 5) & (x < 45) & (y > 3) & (y < 30)
    positive = found.target >= 0
    assert not punished[inside & ~positive].any()
    assert (inside & ~positive).any() and (inside & positive).any()
    assert punished[positive].all()
    assert torch.equal(punished, ~found.ignored)


@each_box_loss
def test_boxes_without_area_give_finite_losses_and_gradients(box_loss):
    predictions, boxes, labels, ignore = scene(0)
    predictions.boxes[:, ::2, 2:] = predictions.boxes[:, ::2, :2]  # points
    predictions.boxes[:, 1::4, 2] = predictions.boxes[:, 1::4, 0]  # lines
    labels, ignore = labels.clamp(min=0), ignore & False
    boxes[:, 0] = torch.tensor([20.0, 20.0, 20.0, 20.0])
    boxes[:, 1] = torch.tensor([10.0, 20.0, 30.0, 20.0])
    predictions.boxes[:, 0] = boxes[:, 0]  # both without area, at one place
    found = task_aligned_assignment(predictions, boxes, labels, ignore)
    predictions = with_centerness(predictions)
    # Whatever the assignment says: let each point answer for each object in turn.
    for target in range(5):
        forced = found._replace(
            target=torch.full_like(found.target, target), quality=torch.ones_like(found.quality)
        )
        for assignment in (found, forced):
            for dtype in (torch.float64, torch.float32):
                wanted = leaves(Predictions(*(part.to(dtype) for part in predictions)))
                assignment = assignment._replace(quality=assignment.quality.to(dtype))
                losses = detection_loss(
                    wanted, assignment, boxes.to(dtype), labels, box_loss=box_loss
                )
                sum(losses).backward()
                everything = (*losses, wanted.logits.grad, wanted.boxes.grad)
                assert all(part.isfinite().all() for part in everything)


def test_loss_by_hand():
    """Logit 0 against quality 1/2, a box that half overlaps; then a background point."""
    predictions = Predictions(
        logits=torch.tensor([[[0.0], [math.log(3)]]]),
        boxes=torch.tensor([[[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 9.0, 9.0]]]),
        points=torch.tensor([[3.0, 2.0], [4.0, 4.0]]),
        strides=torch.tensor([8.0, 8.0]),
    )
    assignment = Assignment(
        target=torch.tensor([[0, -1]]),
        quality=torch.tensor([[0.5, 0.0]]),
        ignored=torch.tensor([[False, False]]),
    )
    boxes, labels = torch.tensor([[[2.0, 0.0, 6.0, 4.0]]]), torch.tensor([[0]])
    losses = detection_loss(predictions, assignment, boxes, labels)
    assert losses.classification.item() == pytest.approx(math.log(2) + math.log(4))
    assert losses.box.item() == pytest.approx(2 * 0.5 * (1 - 1 / 3))  # GIoU 8/24

    def classification(name: str) -> float:
        return detection_loss(
            predictions, assignment, boxes, labels, class_loss=name
        ).classification.item()

    # |1/2 - 1/2|^2 = 0 and |0 - 3/4|^2; then 1/2 and 3/4 (3/4)^2
    assert classification("quality-focal") == pytest.approx(9 / 16 * math.log(4))
    assert classification("varifocal") == pytest.approx(math.log(2) / 2 + 27 / 64 * math.log(4))
    # 1 pixel from the left, 3 from the right, in the middle of top and bottom
    central = predictions._replace(centerness=torch.tensor([[0.0, 5.0]]))
    losses = detection_loss(central, assignment, boxes, labels)
    assert losses.box.item() == pytest.approx(2 * math.sqrt(1 / 3) * (1 - 1 / 3))
    assert losses.centerness.item() == pytest.approx(math.log(2))


@pytest.mark.parametrize(
    ("seed", "class_loss", "golden"),
    [
        (0, "bce", (587.0124019762802, 1.8386720197093125)),
        (0, "quality-focal", (460.5698830389131, 1.8386720197093125)),
        (1, "bce", (491.2753169887973, 1.3064654725800011)),
        (1, "quality-focal", (371.4093129090138, 1.3064654725800011)),
    ],
)
def test_golden(seed, class_loss, golden):
    """Values of the day the tests above passed; a change of them must be meant."""
    predictions, boxes, labels, ignore = scene(seed)
    found = task_aligned_assignment(predictions, boxes, labels, ignore)
    losses = detection_loss(predictions, found, boxes, labels, class_loss=class_loss)
    assert [losses.classification.item(), losses.box.item()] == pytest.approx(golden)
