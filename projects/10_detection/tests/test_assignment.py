"""Each assignment against a slow one in plain Python, and what all of them have to leave alone."""

import math
import statistics

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision import ops

from detection.assignment import (
    ASSIGNMENTS,
    Assignment,
    assign,
    atss_assignment,
    centre_assignment,
    hard,
    simota_assignment,
    task_aligned_assignment,
)
from detection.model import Predictions, grid_points

SEEDS = range(3)
each_seed = pytest.mark.parametrize("seed", SEEDS)
each_assignment = pytest.mark.parametrize("name", ASSIGNMENTS)


def scene(
    seed: int, batch: int = 3, objects: int = 5, classes: int = 3, size: int = 48
) -> tuple[Predictions, Tensor, Tensor, Tensor]:
    """Random predictions at all points of two levels, and padded boxes, labels and ignore.

    In double, so that no two scores are equal by rounding; every predicted box reaches beyond 1.6
    strides around its point, so that no near point's IoU is 0. Objects are between 1 pixel and the
    image in size; about a fifth are ignored, a fifth are padding.
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


def special_scene(seed: int) -> tuple[Predictions, Tensor, Tensor, Tensor]:
    """Whole pixels, so that edges and distances meet limits exactly; in image 1 triplets, two of
    one class; in 2 one object; in 3 nothing; in 4 a large ignored region."""
    predictions, boxes, labels, ignore = scene(seed, batch=5)
    boxes = boxes.round()
    boxes[1, 1:3], labels[1, :3], ignore[1, :3] = boxes[1, 0], torch.tensor([0, 0, 1]), False
    boxes[2, 0], labels[2, 0], ignore[2, 0] = torch.tensor([9.0, 3.0, 30.0, 28.0]), 2, False
    labels[2, 1:] = labels[3] = -1
    boxes[4, 4], labels[4, 4], ignore[4, 4] = torch.tensor([4.0, 4.0, 44.0, 40.0]), 0, True
    return predictions, boxes, labels, ignore


def crowd(seed: int) -> tuple[Predictions, Tensor, Tensor, Tensor]:
    """Objects on top of each other, and at each point a box much like that of one of them."""
    predictions, boxes, labels, ignore = scene(seed)
    generator = torch.Generator().manual_seed(seed)
    growth = 20 * torch.rand(boxes.shape, dtype=torch.float64, generator=generator)
    boxes = torch.tensor([20.0, 20.0, 28.0, 28.0]) + growth * torch.tensor([-1, -1, 1, 1])
    m = torch.randint(0, 5, predictions.logits.shape[:2], generator=generator)
    predicted = boxes.gather(1, m[..., None].expand(-1, -1, 4))
    noise = torch.randn(predicted.shape, dtype=torch.float64, generator=generator)
    return predictions._replace(boxes=predicted + noise), boxes, labels, ignore


def one_object(box: list[float]) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes, labels and ignore of one image with one object, of class 0."""
    return torch.tensor([[box]]).double(), torch.tensor([[0]]), torch.tensor([[False]])


def rows(predictions: Predictions, part: slice) -> Predictions:
    """Some images of a batch."""
    return predictions._replace(logits=predictions.logits[part], boxes=predictions.boxes[part])


def assert_same(a: Assignment, b: Assignment) -> None:
    assert torch.equal(a.target, b.target) and torch.equal(a.ignored, b.ignored)
    torch.testing.assert_close(a.quality, b.quality)


# --- slow references ---------------------------------------------------------------------------
# Each says which points one object wants, as a list of (point, score); `slow` does the rest.


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def inside(box, point) -> bool:
    (x1, y1, x2, y2), (x, y) = box, point
    return x1 < x < x2 and y1 < y < y2


def off_centre(box, point) -> float:
    (x1, y1, x2, y2), (x, y) = box, point
    return max(abs(x - (x1 + x2) / 2), abs(y - (y1 + y2) / 2))


def wants_task_aligned(
    box, label, points, strides, logits, iou, top=8, alpha=0.5, beta=6.0, reach=1.5
):
    aligned = []
    for a, (point, stride) in enumerate(zip(points, strides, strict=True)):
        if inside(box, point) or off_centre(box, point) < reach * stride:
            aligned.append((sigmoid(logits[a][label]) ** alpha * iou[a] ** beta, a))
    return [(a, iou[a]) for _, a in sorted(aligned, reverse=True)[:top]]


def wants_centre(box, label, points, strides, logits, iou, radius=1.5, limit=4.0):
    x1, y1, x2, y2 = box
    wanted = []
    for a, ((x, y), stride) in enumerate(zip(points, strides, strict=True)):
        if inside(box, (x, y)) and off_centre(box, (x, y)) < radius * stride:
            farthest = max(x - x1, y - y1, x2 - x, y2 - y)
            least = 0 if stride == min(strides) else limit * stride / 2
            most = math.inf if stride == max(strides) else limit * stride
            if least < farthest <= most:
                wanted.append((a, -(x2 - x1) * (y2 - y1)))
    return wanted


def wants_atss(box, label, points, strides, logits, iou, top=9, scale=3.0):
    x1, y1, x2, y2 = box
    candidates = []
    for level in sorted(set(strides)):
        distances = []
        for a, (x, y) in enumerate(points):
            if strides[a] == level:
                distances.append((((x1 + x2) / 2 - x) ** 2 + ((y1 + y2) / 2 - y) ** 2, a))
        candidates += [a for _, a in sorted(distances)[:top]]
    overlaps = {}
    for a in candidates:
        (x, y), half = points[a], scale * strides[a] / 2
        anchor = torch.tensor([[x - half, y - half, x + half, y + half]]).double()
        overlap = ops.box_iou(torch.tensor([box]).double(), anchor).nan_to_num(0)
        overlaps[a] = overlap.item()
    threshold = statistics.mean(overlaps.values()) + statistics.stdev(overlaps.values())
    return [(a, u) for a, u in overlaps.items() if u >= threshold and inside(box, points[a])]


def wants_simota(box, label, points, strides, logits, iou, top=10, radius=2.5, weight=3.0):
    costs = {}
    for a, (point, stride) in enumerate(zip(points, strides, strict=True)):
        central = off_centre(box, point) < radius * stride
        if inside(box, point) or central:
            wanted = torch.zeros(len(logits[a])).double()
            wanted[label] = 1
            given = torch.tensor(logits[a]).double()
            cost = F.binary_cross_entropy_with_logits(given, wanted, reduction="sum").item()
            cost -= weight * math.log(iou[a] + 1e-8)
            costs[a] = cost + (0 if inside(box, point) and central else 1e4)
    k = max(1, int(sum(sorted((iou[a] for a in costs), reverse=True)[:top])))
    return [(a, -costs[a]) for a in sorted(costs, key=costs.get)[:k]]


SLOW = {
    "task-aligned": wants_task_aligned,
    "centre": wants_centre,
    "atss": wants_atss,
    "simota": wants_simota,
}


def slow(name, predictions, boxes, labels, ignore, **options) -> Assignment:
    """Image by image, object by object, point by point."""
    target = torch.full(predictions.logits.shape[:2], -1)
    quality = torch.zeros(target.shape, dtype=torch.float64)
    ignored = torch.zeros(target.shape, dtype=torch.bool)
    points, strides = predictions.points.tolist(), predictions.strides.tolist()
    for image in range(len(boxes)):
        iou = ops.box_iou(boxes[image], predictions.boxes[image]).tolist()
        logits = predictions.logits[image].tolist()
        claims: dict[int, list[tuple[float, int]]] = {}  # by point: (score, -object), so that the
        regions = []  # first of two equal objects is the larger
        for m, box in enumerate(boxes[image].tolist()):
            label = int(labels[image, m])
            if label >= 0 and ignore[image, m]:
                regions.append(box)
            elif label >= 0:
                for a, score in SLOW[name](box, label, points, strides, logits, iou[m], **options):
                    claims.setdefault(a, []).append((score, -m))
        for a, claim in claims.items():
            target[image, a] = -max(claim)[1]
        for a in claims:
            m = int(target[image, a])
            if name == "centre":
                quality[image, a] = 1
            elif name == "task-aligned":
                mine = (target[image] == m).nonzero()[:, 0].tolist()
                alpha, beta = options.get("alpha", 0.5), options.get("beta", 6.0)
                label = int(labels[image, m])
                t = {b: sigmoid(logits[b][label]) ** alpha * iou[m][b] ** beta for b in mine}
                quality[image, a] = t[a] / max(t.values()) * max(iou[m][b] for b in mine)
            else:
                quality[image, a] = iou[m][a]
        for a, point in enumerate(points):
            in_region = any(inside(box, point) for box in regions)
            ignored[image, a] = in_region and a not in claims
    return Assignment(target, quality, ignored)


@each_seed
@pytest.mark.parametrize("make", [scene, special_scene, crowd])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("task-aligned", {}),
        ("task-aligned", {"top": 3, "alpha": 1.0, "beta": 2.0, "reach": 0.8}),
        ("task-aligned", {"top": 500}),  # more than there are points
        ("centre", {}),
        ("centre", {"radius": 0.8, "limit": 1.0}),
        ("atss", {}),
        ("atss", {"top": 3, "scale": 4.0}),
        ("atss", {"top": 500, "scale": 2.0}),
        ("simota", {}),
        ("simota", {"top": 3, "radius": 1.2, "weight": 1.0}),
        ("simota", {"top": 500}),
    ],
)
def test_it_is_the_slow_one(name, options, make, seed):
    inputs = make(seed)
    assert_same(ASSIGNMENTS[name](*inputs, **options), slow(name, *inputs, **options))


# --- by hand -----------------------------------------------------------------------------------


def test_task_aligned_by_hand():
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


def positive_points(found: Assignment, predictions: Predictions, m: int = 0) -> set[tuple]:
    """(x, y, stride) of the points of the first image that answer for object m."""
    mine = found.target[0] == m
    points = torch.cat([predictions.points, predictions.strides[:, None]], -1)[mine]
    return {tuple(point) for point in points.int().tolist()}


def test_centre_by_hand():
    """Of 20 pixels: the fine level. Of 44: sides are more than 22 away, some more than 32."""
    predictions, *_ = scene(0, batch=1)
    small = centre_assignment(predictions, *one_object([10.0, 10.0, 30.0, 30.0]))
    fine = {(x, y, 8) for x in (12, 20, 28) for y in (12, 20, 28)}
    assert positive_points(small, predictions) == fine
    assert small.quality.sum() == 9
    # The corner of four cells: the next points are 12 away, not less than 1.5 strides.
    corner = centre_assignment(predictions, *one_object([10.0, 10.0, 38.0, 38.0]))
    fine = {(x, y, 8) for x in (20, 28) for y in (20, 28)}
    assert positive_points(corner, predictions) == fine
    large = centre_assignment(predictions, *one_object([2.0, 2.0, 46.0, 46.0]))
    # Of the same fine points the farthest side is 26 away.
    coarse = {(x, y, 16) for x in (8, 24, 40) for y in (8, 24, 40)} - {(24, 24, 16)}  # it has 22
    assert positive_points(large, predictions) == fine | coarse


def test_a_point_in_two_objects_answers_for_the_smaller_by_centre_sampling():
    predictions, *_ = scene(0, batch=1)
    boxes = torch.tensor([[[8.0, 8.0, 40.0, 40.0], [17.0, 17.0, 31.0, 31.0]]]).double()
    labels, ignore = torch.zeros(1, 2, dtype=torch.int64), torch.zeros(1, 2, dtype=torch.bool)
    found = centre_assignment(predictions, boxes, labels, ignore)
    inner = {(x, y, 8) for x in (20, 28) for y in (20, 28)}
    assert positive_points(found, predictions, 1) == inner
    assert positive_points(found, predictions, 0).isdisjoint(inner)


def test_atss_by_hand():
    """A 32 x 32 object on the centre of a coarse cell: fine anchors, of its size, fit best."""
    predictions, *_ = scene(0, batch=1)
    found = atss_assignment(predictions, *one_object([8.0, 8.0, 40.0, 40.0]))
    # IoU of fine anchors 4 pixels off both ways: 0.62, 4 and 12 off: 0.38; of coarse ones at most
    # 0.25: mean plus deviation is between the first two.
    assert positive_points(found, predictions) == {(x, y, 8) for x in (20, 28) for y in (20, 28)}
    truth = torch.tensor([[8.0, 8.0, 40.0, 40.0]]).double()
    iou = ops.box_iou(truth, predictions.boxes[0])
    torch.testing.assert_close(found.quality, torch.where(found.target == 0, iou, 0.0))


@pytest.mark.parametrize("top", [1, 2, 3, 4, 5])
def test_atss_takes_the_first_of_points_that_are_equally_near(top):
    """Their anchors overlap the object equally, so that all candidates reach the threshold."""
    predictions = Predictions(
        logits=torch.zeros(1, 4, 1),
        boxes=torch.tensor([8.0, 8.0, 24.0, 24.0]).expand(1, 4, 4),
        points=torch.tensor([[12.0, 12.0], [20.0, 12.0], [12.0, 20.0], [20.0, 20.0]]),
        strides=torch.full((4,), 8.0),
    )
    boxes, labels, ignore = one_object([8.0, 8.0, 24.0, 24.0])
    found = atss_assignment(predictions, boxes.float(), labels, ignore, top=top, scale=1.0)
    assert found.target.tolist() == [[0, 0, 0, 0][:top] + [-1, -1, -1, -1][top:]]


@pytest.mark.parametrize(("share", "count"), [(1.0, 10), (0.5, 5), (0.29, 2), (0.01, 1)])
def test_simota_takes_as_many_points_as_the_ten_best_boxes_are_worth(share, count):
    predictions, *_ = scene(0, batch=1)
    boxes, labels, ignore = one_object([4.0, 4.0, 44.0, 44.0])
    predicted = boxes[0, 0].clone()
    predicted[3] = 4 + 40 * share + 1e-6  # a little more, lest the sum be 9.999
    everywhere = predicted.clamp(max=44).expand_as(predictions.boxes)
    found = simota_assignment(predictions._replace(boxes=everywhere), boxes, labels, ignore)
    assert (found.target == 0).sum() == count
    torch.testing.assert_close(found.quality.amax().item(), share, rtol=0, atol=1e-6)


def test_simota_prefers_points_that_are_both_inside_and_central():
    """However bad their boxes: a thin object has few such points, and those it has come first."""
    predictions, *_ = scene(0, batch=1)
    boxes, labels, ignore = one_object([0.0, 18.0, 48.0, 22.0])
    x, y = predictions.points.unbind(-1)
    both = (y > 18) & (y < 22) & ((x - 24).abs() < 2.5 * predictions.strides)
    assert 0 < both.sum() < 10
    perfect = boxes[0].expand(len(x), -1).clone()
    perfect[both, 0] = 47.0  # IoU 1/48
    found = simota_assignment(predictions._replace(boxes=perfect[None]), boxes, labels, ignore)
    assert (found.target[0, both] == 0).all()
    assert (found.target == 0).sum() == 10


# --- what holds for all ------------------------------------------------------------------------


@each_seed
@each_assignment
def test_a_batch_is_assigned_as_its_images_one_by_one(name, seed):
    predictions, *objects = special_scene(seed)
    together = assign(name, predictions, *objects)
    for i in range(5):
        part = slice(i, i + 1)
        alone = assign(name, rows(predictions, part), *(o[part] for o in objects))
        assert_same(alone, Assignment(*(t[part] for t in together)))


@each_seed
@each_assignment
def test_padding_changes_nothing(name, seed):
    predictions, boxes, labels, ignore = scene(seed)
    junk = torch.tensor([4.0, 4.0, 40.0, 40.0]).double().expand(3, 6, 4)
    padded = assign(
        name,
        predictions,
        torch.cat([boxes, junk], 1),
        F.pad(labels, (0, 6), value=-1),
        F.pad(ignore, (0, 6), value=True),
    )
    assert_same(padded, assign(name, predictions, boxes, labels, ignore))


@each_seed
@each_assignment
def test_the_order_of_objects_does_not_matter(name, seed):
    predictions, *objects = scene(seed)
    found = assign(name, predictions, *objects)
    order = torch.tensor([3, 0, 4, 1, 2])
    permuted = assign(name, predictions, *(part[:, order] for part in objects))
    back = torch.where(permuted.target >= 0, order[permuted.target], -1)
    assert_same(permuted._replace(target=back), found)


@pytest.mark.parametrize("rows_of_padding", [0, 1, 4])
@each_assignment
def test_without_objects_all_is_background(name, rows_of_padding):
    predictions, *_ = scene(0)
    boxes = torch.zeros(3, rows_of_padding, 4).double()
    nobody = torch.full((3, rows_of_padding), -1)
    found = assign(name, predictions, boxes, nobody, nobody == 0)
    assert (found.target == -1).all() and not found.quality.any() and not found.ignored.any()
    assert found.quality.shape == found.target.shape == found.ignored.shape == (3, 45)


@each_seed
@each_assignment
def test_only_real_objects_have_points(name, seed):
    predictions, boxes, labels, ignore = special_scene(seed)
    found = assign(name, predictions, boxes, labels, ignore)
    positive = found.target >= 0
    target = found.target.clamp(min=0)
    assert (labels.gather(1, target)[positive] >= 0).all()
    assert not ignore.gather(1, target)[positive].any()
    assert ((found.quality > 0) & (found.quality <= 1))[positive].all()
    assert (found.quality[~positive] == 0).all()
    assert not (found.ignored & positive).any()
    assert positive[2].any() and not positive[3].any()


@each_assignment
def test_no_gradient_passes_through(name):
    predictions, *objects = scene(0)
    predictions = predictions._replace(
        logits=predictions.logits.requires_grad_(), boxes=predictions.boxes.requires_grad_()
    )
    assert not assign(name, predictions, *objects).quality.requires_grad


@each_assignment
def test_objects_without_area_are_no_trouble(name):
    predictions, *_ = scene(0, batch=1)
    for box in ([20.0, 20.0, 20.0, 20.0], [10.0, 20.0, 30.0, 20.0]):
        found = assign(name, predictions, *one_object(box))
        assert found.quality.isfinite().all() and not found.quality.any()


def test_assign_passes_top_where_it_means_something():
    inputs = special_scene(0)
    for name in ("task-aligned", "atss", "simota"):
        assert_same(assign(name, *inputs, top=1), ASSIGNMENTS[name](*inputs, top=1))
        few, many = assign(name, *inputs, top=1), assign(name, *inputs)
        assert not torch.equal(few.target, many.target)
    assert_same(assign("centre", *inputs, top=1), assign("centre", *inputs))


def test_hard_asks_for_all_of_every_positive():
    found = assign("simota", *scene(0))
    assert 0 < found.quality[found.target >= 0].min() < 0.9
    certain = hard(found)
    assert torch.equal(certain.quality, (found.target >= 0).double())
    assert torch.equal(certain.target, found.target)
    assert torch.equal(certain.ignored, found.ignored)


# --- task-aligned only -------------------------------------------------------------------------


@each_seed
def test_each_object_gets_the_points_that_no_other_took(seed):
    predictions, boxes, labels, ignore = scene(seed, objects=8)
    found = task_aligned_assignment(predictions, boxes, labels, ignore)
    iou = torch.stack(
        [ops.box_iou(a, b) for a, b in zip(boxes, predictions.boxes, strict=True)]
    )  # (B, M, A)
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


def test_objects_smaller_than_a_cell_have_points():
    """2 x 2 pixels on the corner of four cells: no point is inside."""
    predictions, *_ = scene(0, batch=1)
    speck = one_object([15.0, 15.0, 17.0, 17.0])
    found = task_aligned_assignment(predictions, *speck)
    distance = (predictions.points - 16).abs().amax(-1)[found.target[0] == 0]
    assert len(distance) == 8 and distance.max() < 1.5 * 16
    # With a reach of 0 there is nothing.
    nothing = task_aligned_assignment(predictions, *speck, reach=0.0)
    assert (nothing.target == -1).all()


def test_the_quality_of_a_hopeless_object_is_its_iou():
    """t^6 of an IoU of 0.01 is 1e-12: no constant may stand in for it."""
    predictions, *_ = scene(0, batch=1)
    boxes = torch.tensor([[[20.0, 20.0, 20.5, 20.5]]])
    predictions = Predictions(*(part.float() for part in predictions[:4]))
    labels, ignore = torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.bool)
    found = task_aligned_assignment(predictions, boxes, labels, ignore)
    best = ops.box_iou(boxes[0], predictions.boxes[0])[0, found.target[0] == 0].max()
    assert 1e-5 < best < 0.01
    torch.testing.assert_close(found.quality.max(), best)
