"""The assignment against a slow one in plain Python, the losses against torch and torchvision."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision import ops

from detection.loss import Assignment, detection_loss, task_aligned_assignment
from detection.model import Predictions, grid_points

SEEDS = range(4)


def scene(
    seed: int, batch: int = 3, objects: int = 5, classes: int = 3, size: int = 48
) -> tuple[Predictions, Tensor, Tensor, Tensor]:
    """Random predictions at all points of two levels, and padded boxes, labels and ignore.

    In double, so that no two alignments are equal by rounding; every predicted box reaches beyond
    1.6 strides around its point, so that no candidate's IoU is 0. Objects are between 1 pixel and
    the image in size; about a fifth are ignored, a fifth are padding.
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


def rows(predictions: Predictions, part: slice) -> Predictions:
    """Some images of a batch."""
    return predictions._replace(logits=predictions.logits[part], boxes=predictions.boxes[part])


def assert_same(a: Assignment, b: Assignment) -> None:
    assert torch.equal(a.target, b.target) and torch.equal(a.ignored, b.ignored)
    torch.testing.assert_close(a.quality, b.quality)


# --- assignment --------------------------------------------------------------------------------


def slow_assignment(predictions, boxes, labels, ignore, top, alpha, beta, reach) -> Assignment:
    """Object by object and point by point, as the docstring tells it."""
    target = torch.full(predictions.logits.shape[:2], -1)
    quality = torch.zeros(target.shape, dtype=torch.float64)
    ignored = torch.zeros(target.shape, dtype=torch.bool)
    points = list(zip(predictions.points.tolist(), predictions.strides.tolist(), strict=True))
    for image in range(len(boxes)):
        iou = ops.box_iou(boxes[image], predictions.boxes[image]).tolist()
        probability = predictions.logits[image].sigmoid().tolist()
        claims: dict[int, list[tuple[float, float, int]]] = {}  # by point: (IoU, t, object)
        regions = []
        for m, (x1, y1, x2, y2) in enumerate(boxes[image].tolist()):
            label = int(labels[image, m])
            if label < 0:
                continue
            if ignore[image, m]:
                regions.append((x1, y1, x2, y2))
                continue
            aligned = []
            for a, ((x, y), stride) in enumerate(points):
                away = max(abs(x - (x1 + x2) / 2), abs(y - (y1 + y2) / 2))
                if (x1 < x < x2 and y1 < y < y2) or away < reach * stride:
                    u = iou[m][a]
                    aligned.append((probability[a][label] ** alpha * u**beta, u, a))
            for t, u, a in sorted(aligned, reverse=True)[:top]:
                claims.setdefault(a, []).append((u, t, m))
        winners = {a: max(claim) for a, claim in claims.items()}
        for a, (_, t, m) in winners.items():
            best_t = max(t for _, t, other in winners.values() if other == m)
            best_u = max(u for u, _, other in winners.values() if other == m)
            target[image, a] = m
            quality[image, a] = t / best_t * best_u
        for a, ((x, y), _) in enumerate(points):
            inside = any(x1 < x < x2 and y1 < y < y2 for x1, y1, x2, y2 in regions)
            ignored[image, a] = inside and a not in winners
    return Assignment(target, quality, ignored)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "options",
    [
        {"top": 8, "alpha": 0.5, "beta": 6.0, "reach": 1.5},
        {"top": 3, "alpha": 1.0, "beta": 2.0, "reach": 0.8},
        {"top": 500, "alpha": 0.5, "beta": 6.0, "reach": 1.5},  # more than there are points
    ],
)
def test_assignment_is_the_slow_one(seed, options):
    inputs = scene(seed)
    assert_same(task_aligned_assignment(*inputs, **options), slow_assignment(*inputs, **options))


def test_assignment_by_hand():
    """An object that fills a 16 x 16 image; p = 1/4 everywhere, so p^alpha is 1/2."""
    whole, right, wrong = [0.0, 0.0, 16.0, 16.0], [8.0, 0.0, 16.0, 16.0], [0.0, 0.0, 16.0, 4.0]
    predictions = Predictions(
        logits=torch.full((1, 5, 1), -math.log(3)),
        boxes=torch.tensor([[whole, right, wrong, wrong, right]]),
        points=torch.tensor([[4.0, 4.0], [12.0, 4.0], [4.0, 12.0], [12.0, 12.0], [8.0, 8.0]]),
        strides=torch.tensor([8.0, 8.0, 8.0, 8.0, 16.0]),
    )
    boxes, labels = torch.tensor([[whole]]), torch.tensor([[0]])
    ignore = torch.tensor([[False]])
    found = task_aligned_assignment(predictions, boxes, labels, ignore, top=3)
    assert found.target.tolist() == [[0, 0, -1, -1, 0]]
    # t = 1/2 and 1/2 / 2^6; scaled so that the largest is the largest IoU, 1
    assert found.quality[0].tolist() == pytest.approx([1.0, 1 / 64, 0, 0, 1 / 64])


@pytest.mark.parametrize("seed", SEEDS)
def test_each_object_gets_the_points_that_no_other_took(seed):
    predictions, boxes, labels, ignore = scene(seed, objects=8)
    found = task_aligned_assignment(predictions, boxes, labels, ignore)
    iou = torch.stack(
        [ops.box_iou(a, b) for a, b in zip(boxes, predictions.boxes, strict=True)]
    )  # (B, M, A)
    assert (found.quality >= 0).all() and (found.quality <= 1).all()
    assert (found.quality[found.target < 0] == 0).all()
    for image, m in ((labels >= 0) & ~ignore).nonzero().tolist():
        mine = found.target[image] == m
        if mine.any():
            largest = found.quality[image, mine].max()
            torch.testing.assert_close(largest, iou[image, m, mine].max())
        alone = task_aligned_assignment(
            rows(predictions, slice(image, image + 1)),
            *(part[image : image + 1, m : m + 1] for part in (boxes, labels, ignore)),
        )
        wanted = alone.target[0] == 0
        assert 1 <= wanted.sum() <= 8
        assert torch.equal(mine, wanted & mine)
        lost = found.target[image, wanted & ~mine]
        assert (lost >= 0).all()  # each went to another object


@pytest.mark.parametrize("seed", SEEDS)
def test_a_batch_is_assigned_as_its_images_one_by_one(seed):
    predictions, *objects = scene(seed)
    together = task_aligned_assignment(predictions, *objects)
    for i in range(3):
        part = slice(i, i + 1)
        alone = task_aligned_assignment(rows(predictions, part), *(o[part] for o in objects))
        assert_same(alone, Assignment(*(t[part] for t in together)))


@pytest.mark.parametrize("seed", SEEDS)
def test_padding_changes_nothing(seed):
    predictions, boxes, labels, ignore = scene(seed)
    junk = torch.tensor([4.0, 4.0, 40.0, 40.0]).double().expand(3, 6, 4)
    padded = task_aligned_assignment(
        predictions,
        torch.cat([boxes, junk], 1),
        F.pad(labels, (0, 6), value=-1),
        F.pad(ignore, (0, 6), value=True),
    )
    assert_same(padded, task_aligned_assignment(predictions, boxes, labels, ignore))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_order_of_objects_does_not_matter(seed):
    predictions, *objects = scene(seed)
    found = task_aligned_assignment(predictions, *objects)
    order = torch.tensor([3, 0, 4, 1, 2])
    permuted = task_aligned_assignment(predictions, *(part[:, order] for part in objects))
    back = torch.where(permuted.target >= 0, order[permuted.target], -1)
    assert_same(permuted._replace(target=back), found)


def test_objects_smaller_than_a_cell_have_points():
    """2 x 2 pixels on the corner of four cells: no point is inside."""
    predictions, *_ = scene(0, batch=1)
    boxes = torch.tensor([[[15.0, 15.0, 17.0, 17.0]]]).double()
    labels, ignore = torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.bool)
    found = task_aligned_assignment(predictions, boxes, labels, ignore)
    distance = (predictions.points - 16).abs().amax(-1)[found.target[0] == 0]
    assert len(distance) == 8 and distance.max() < 1.5 * 16
    # With a reach of 0 there is nothing.
    nothing = task_aligned_assignment(predictions, boxes, labels, ignore, reach=0.0)
    assert (nothing.target == -1).all()


def test_the_quality_of_a_hopeless_object_is_its_iou():
    """t^6 of an IoU of 0.01 is 1e-12: no constant may stand in for it."""
    predictions, *_ = scene(0, batch=1)
    boxes = torch.tensor([[[20.0, 20.0, 20.5, 20.5]]])
    predictions = Predictions(*(part.float() for part in predictions))
    labels, ignore = torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.bool)
    found = task_aligned_assignment(predictions, boxes, labels, ignore)
    best = ops.box_iou(boxes[0], predictions.boxes[0])[0, found.target[0] == 0].max()
    assert 1e-5 < best < 0.01
    torch.testing.assert_close(found.quality.max(), best)


# --- loss --------------------------------------------------------------------------------------

ONE = torch.tensor(1.0).double()


def leaves(predictions: Predictions) -> Predictions:
    """The same predictions, collecting gradients."""
    return predictions._replace(
        logits=predictions.logits.clone().requires_grad_(),
        boxes=predictions.boxes.clone().requires_grad_(),
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_both_losses_written_out(seed):
    predictions, boxes, labels, ignore = scene(seed)
    found = task_aligned_assignment(predictions, boxes, labels, ignore)
    classification = box = 0.0
    for image, a in torch.cartesian_prod(*map(torch.arange, found.target.shape)).tolist():
        m, quality = int(found.target[image, a]), found.quality[image, a]
        wanted = torch.zeros(3).double()
        if m >= 0:
            wanted[labels[image, m]] = quality
            pair = predictions.boxes[image, a][None], boxes[image, m][None]
            box += quality * ops.generalized_box_iou_loss(*pair, reduction="sum")
        if not found.ignored[image, a]:
            classification += F.binary_cross_entropy_with_logits(
                predictions.logits[image, a], wanted, reduction="sum"
            )
    ours = detection_loss(predictions, found, boxes, labels, 7 * ONE, box_weight=3.0)
    torch.testing.assert_close(ours[0], classification / 7)
    torch.testing.assert_close(ours[1], 3 * box / 7)


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_with_hard_labels_it_is_the_focal_loss(gamma):
    predictions, boxes, labels, ignore = scene(0)
    found = task_aligned_assignment(predictions, boxes, labels, ignore & False)
    hard = found._replace(quality=(found.target >= 0).double())
    wanted = torch.zeros_like(predictions.logits)
    image, a = (found.target >= 0).nonzero(as_tuple=True)
    wanted[image, a, labels[image, found.target[image, a]]] = 1.0
    theirs = ops.sigmoid_focal_loss(
        predictions.logits, wanted, alpha=-1, gamma=gamma, reduction="sum"
    )
    ours, _ = detection_loss(predictions, hard, boxes, labels, ONE, gamma=gamma)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_gradient(gamma):
    predictions, boxes, labels, ignore = scene(1, batch=2, objects=3, classes=2, size=32)
    assignment = task_aligned_assignment(predictions, boxes, labels, ignore)
    assert assignment.ignored.any() and (assignment.target >= 0).any()

    def loss(logits: Tensor, predicted: Tensor) -> tuple[Tensor, Tensor]:
        changed = predictions._replace(logits=logits, boxes=predicted)
        return detection_loss(changed, assignment, boxes, labels, ONE, gamma=gamma)

    predictions = leaves(predictions)
    assert torch.autograd.gradcheck(loss, (predictions.logits, predictions.boxes))


def test_no_objects_at_all():
    predictions, boxes, labels, ignore = scene(0)
    predictions, nobody = leaves(predictions), torch.full_like(labels, -1)
    found = task_aligned_assignment(predictions, boxes, nobody, ignore)
    assert (found.target == -1).all() and not found.ignored.any() and not found.quality.any()
    classification, box = detection_loss(predictions, found, boxes, nobody, ONE)
    assert classification.isfinite() and box == 0
    (classification + box).backward()
    torch.testing.assert_close(predictions.logits.grad, predictions.logits.detach().sigmoid())
    assert not predictions.boxes.grad.any()


@pytest.mark.parametrize("seed", SEEDS)
def test_ignored_objects_are_neither_learnt_nor_punished(seed):
    predictions, boxes, labels, _ = scene(seed)
    predictions, labels = leaves(predictions), labels.clamp(min=0)
    ignore = torch.tensor([True, False, True, False, False]).expand(3, -1)
    boxes[:, 0] = torch.tensor([5.0, 3.0, 45.0, 30.0])
    found = task_aligned_assignment(predictions, boxes, labels, ignore)
    assert not ignore.gather(1, found.target.clamp(min=0))[found.target >= 0].any()
    sum(detection_loss(predictions, found, boxes, labels, ONE)).backward()
    punished = predictions.logits.grad.ne(0).any(-1)
    x, y = predictions.points.unbind(-1)
    inside = (x > 5) & (x < 45) & (y > 3) & (y < 30)
    positive = found.target >= 0
    assert not punished[inside & ~positive].any()
    assert (inside & ~positive).any() and (inside & positive).any()
    assert punished[positive].all()
    assert torch.equal(punished, ~found.ignored)


def test_boxes_without_area_give_finite_losses_and_gradients():
    predictions, boxes, labels, ignore = scene(0)
    predictions.boxes[:, ::2, 2:] = predictions.boxes[:, ::2, :2]  # points
    predictions.boxes[:, 1::4, 2] = predictions.boxes[:, 1::4, 0]  # lines
    labels, ignore = labels.clamp(min=0), ignore & False
    boxes[:, 0] = torch.tensor([20.0, 20.0, 20.0, 20.0])
    boxes[:, 1] = torch.tensor([10.0, 20.0, 30.0, 20.0])
    predictions.boxes[:, 0] = boxes[:, 0]  # both without area, at one place
    found = task_aligned_assignment(predictions, boxes, labels, ignore)
    # Whatever the assignment says: let each point answer for each object in turn.
    for target in range(5):
        forced = found._replace(
            target=torch.full_like(found.target, target), quality=torch.ones_like(found.quality)
        )
        for assignment in (found, forced):
            for dtype in (torch.float64, torch.float32):
                wanted = leaves(Predictions(*(part.to(dtype) for part in predictions)))
                assignment = assignment._replace(quality=assignment.quality.to(dtype))
                losses = detection_loss(wanted, assignment, boxes.to(dtype), labels, ONE.to(dtype))
                sum(losses).backward()
                everything = (*losses, wanted.logits.grad, wanted.boxes.grad)
                assert all(part.isfinite().all() for part in everything)


def test_loss_by_hand():
    """Logit 0 against quality 1/2, a box that half overlaps; then a background point."""
    predictions = Predictions(
        logits=torch.tensor([[[0.0], [math.log(3)]]]),
        boxes=torch.tensor([[[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 9.0, 9.0]]]),
        points=torch.tensor([[2.0, 2.0], [4.0, 4.0]]),
        strides=torch.tensor([8.0, 8.0]),
    )
    assignment = Assignment(
        target=torch.tensor([[0, -1]]),
        quality=torch.tensor([[0.5, 0.0]]),
        ignored=torch.tensor([[False, False]]),
    )
    boxes, labels = torch.tensor([[[2.0, 0.0, 6.0, 4.0]]]), torch.tensor([[0]])
    args = predictions, assignment, boxes, labels, torch.tensor(2.0)
    classification, box = detection_loss(*args)
    assert classification.item() == pytest.approx((math.log(2) + math.log(4)) / 2)
    assert box.item() == pytest.approx(2 * 0.5 * (1 - 1 / 3) / 2)  # GIoU 8/24
    # gamma 2: |1/2 - 1/2|^2 = 0 and |0 - 3/4|^2
    focal, _ = detection_loss(*args, gamma=2.0)
    assert focal.item() == pytest.approx(9 / 16 * math.log(4) / 2)


@pytest.mark.parametrize(
    ("seed", "golden"),
    [(0, (481.6066464636863, 1.8386720197093125)), (1, (391.0346543138311, 1.3064654725800011))],
)
def test_golden(seed, golden):
    """Values of the day the tests above passed; a change of them must be meant."""
    predictions, boxes, labels, ignore = scene(seed)
    found = task_aligned_assignment(predictions, boxes, labels, ignore)
    losses = detection_loss(predictions, found, boxes, labels, ONE, gamma=1.5)
    assert [loss.item() for loss in losses] == pytest.approx(golden)
