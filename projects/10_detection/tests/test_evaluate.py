"""Average precision on cases small enough to work out, and where the boxes are drawn."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from torchvision import ops

from detection import evaluate
from detection.backbone import SmallBackbone
from detection.data import Split
from detection.evaluate import (
    COLOURS,
    STATS,
    as_arrays,
    average_precision,
    detect_all,
    draw_predictions,
    largest_difference,
    pycocotools_figures,
)
from detection.model import Detections, Detector

A, B, C = [2.0, 3.0, 12.0, 8.0], [20.0, 4.0, 24.0, 30.0], [1.0, 20.0, 13.0, 29.0]  # far apart
D = [0.0, 0.0, 40.0, 40.0]  # no longer "small"


def truth(*images: list[tuple], classes: tuple[str, ...] = ("cup", "pen")) -> Split:
    """A split of 32-pixel images; an object is (box, label) or (box, label, "ignore")."""
    slots = max(1, *map(len, images))
    boxes, labels = torch.zeros(len(images), slots, 4), torch.full((len(images), slots), -1)
    ignore = torch.zeros(len(images), slots, dtype=torch.bool)
    for i, objects in enumerate(images):
        for j, (box, label, *mark) in enumerate(objects):
            boxes[i, j], labels[i, j], ignore[i, j] = torch.tensor(box), label, bool(mark)
    pixels = torch.zeros(len(images), 3, 32, 32, dtype=torch.uint8)
    return Split(images=pixels, boxes=boxes, labels=labels, ignore=ignore, classes=classes)


def seen(*objects: tuple) -> Detections:
    """What was found in an image; each is (box, label, score)."""
    return Detections(
        torch.tensor([box for box, _, _ in objects]).reshape(-1, 4),
        torch.tensor([score for _, _, score in objects], dtype=torch.float32),
        torch.tensor([label for _, label, _ in objects], dtype=torch.int64),
    )


def ap(found: list[Detections], data: Split) -> float | None:
    return average_precision(found, data)["ap"]


# --- average precision -------------------------------------------------------------------------


def test_perfect_detections():
    data = truth([(A, 0), (B, 1)], [], [(C, 1)])
    found = [seen((A, 0, 0.9), (B, 1, 0.3)), seen(), seen((C, 1, 0.6))]
    assert average_precision(found, data) == pytest.approx(
        {"ap": 1, "ap50": 1, "ap75": 1, "ap_cup": 1, "ap_pen": 1}
    )


def test_nothing_found():
    data = truth([(A, 0), (B, 1)], [(C, 1)])
    assert set(average_precision([seen(), seen()], data).values()) == {0.0}


@pytest.mark.parametrize("found", [seen(), seen((A, 0, 0.9))])
@pytest.mark.parametrize("objects", [[], [(A, 0, "ignore")]])
def test_nothing_to_find(objects, found):
    assert set(average_precision([found], truth(objects)).values()) == {None}


@pytest.mark.parametrize("found", [seen(), seen((B, 0, 0.9)), seen((A, 0, 0.9), (B, 1, 0.8))])
def test_a_class_without_objects_has_no_precision_whatever_is_found(found):
    scores = average_precision([found], truth([(A, 0), (B, 1, "ignore")]))
    expected = 1.0 if len(found.scores) == 2 else 0.0
    assert scores["ap_pen"] is None and scores["ap_cup"] == scores["ap"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        # COCO reads the precision at the 101 recalls 0, 0.01 .. 1: recall 1/2 reaches 51 of them.
        ([(A, 0, 0.9)], 51 / 101),  # one of two objects
        ([(A, 0, 0.9), (A, 0, 0.8), (B, 0, 0.7)], (51 + 50 * 2 / 3) / 101),  # a duplicate
        ([(A, 0, 0.9), (B, 0, 0.8), (A, 0, 0.7)], 1.0),  # a duplicate after all is found
        ([(C, 0, 0.9), (A, 0, 0.8), (B, 0, 0.7)], 2 / 3),  # a false alarm first
        ([(A, 1, 0.9), (B, 0, 0.8)], 51 / 101),  # one of the wrong class
    ],
)
def test_misses_duplicates_and_false_alarms(found, expected):
    assert average_precision([seen(*found)], truth([(A, 0), (B, 0)]))["ap_cup"] == pytest.approx(
        expected
    )


def test_thresholds():
    """x2 is 6.2 of 10 pixels from x1: an IoU of 0.62 passes at 0.50, 0.55 and 0.60 of ten."""
    near = [A[0], A[1], A[0] + 6.2, A[3]]
    scores = average_precision([seen((near, 0, 0.9))], truth([(A, 0)]))
    assert scores["ap"] == pytest.approx(0.3)
    assert scores["ap50"] == pytest.approx(1) and scores["ap75"] == 0


def test_classes_count_equally():
    data = truth([(A, 0), (B, 0), (C, 1)])
    scores = average_precision([seen((A, 0, 0.9), (B, 0, 0.8))], data)
    assert scores["ap_cup"] == pytest.approx(1) and scores["ap_pen"] == 0
    assert scores["ap"] == scores["ap50"] == pytest.approx(0.5)


def test_detections_belong_to_their_image():
    data = truth([(A, 0)], [(B, 0)])
    assert ap([seen((A, 0, 0.9)), seen((B, 0, 0.8))], data) == pytest.approx(1)
    assert ap([seen((B, 0, 0.8)), seen((A, 0, 0.9))], data) == 0


def test_ignored_objects_neither_help_nor_hurt():
    plain, marked = truth([(A, 0), (B, 0)]), truth([(A, 0), (B, 0), (C, 0, "ignore")])
    inside = [3.0, 21.0, 8.0, 25.0]  # a small part of C, as is usual for a crowd's members
    for found in ([], [(A, 0, 0.5)], [(A, 0, 0.5), (B, 0, 0.3)]):
        expected = ap([seen(*found)], plain)
        for more in ([], [(C, 0, 0.9)], [(C, 0, 0.9), (inside, 0, 0.8), (inside, 0, 0.2)]):
            assert ap([seen(*found, *more)], marked) == expected
    assert ap([seen((C, 0, 0.9), (A, 0, 0.5))], plain) < ap([seen((A, 0, 0.5))], plain)


def slow_ap50(found: list[Detections], data: Split) -> float:
    """AP50 of one class without ignored objects: best detection first, each object once."""
    everything = [
        (float(score), image, box[None])
        for image, one in enumerate(found)
        for box, score in zip(one.boxes, one.scores, strict=True)
    ]
    free = [set((data.labels[i] >= 0).nonzero()[:, 0].tolist()) for i in range(len(found))]
    total = sum(map(len, free))
    hits, precision, recall = 0, [], []
    for rank, (_, image, box) in enumerate(sorted(everything, key=lambda d: -d[0]), start=1):
        iou = ops.box_iou(box, data.boxes[image])[0]
        best = max(free[image], key=lambda j: iou[j], default=None)
        if best is not None and iou[best] >= 0.5:
            free[image].remove(best)
            hits += 1
        precision.append(hits / rank)
        recall.append(hits / total)
    at = [[p for p, r in zip(precision, recall, strict=True) if r >= i / 100] for i in range(101)]
    return float(np.mean([max(reached, default=0.0) for reached in at]))


@pytest.mark.parametrize("seed", range(4))
def test_ap50_worked_out_directly(seed):
    generator = torch.Generator().manual_seed(seed)
    corners = 40 * torch.rand(6, 4, 2, 2, generator=generator).sort(-2).values
    data = truth(*([(box, 0) for box in image] for image in corners.flatten(-2).tolist()))
    found = []
    for image in corners:
        near = image.repeat(3, 1, 1) + 2 * torch.randn(12, 2, 2, generator=generator)
        boxes, scores = near.sort(-2).values.flatten(-2), torch.rand(12, generator=generator)
        found.append(Detections(boxes, scores, torch.zeros(12, dtype=torch.int64)))
    expected = slow_ap50(found, data)
    assert 0.1 < expected < 0.8
    assert average_precision(found, data)["ap50"] == pytest.approx(expected)


# --- against pycocotools -------------------------------------------------------------------------


def test_arrays_of_all_images():
    data = truth([], [(A, 0), (B, 1, "ignore")], [(C, 1)])
    found, truths = as_arrays([seen((A, 1, 0.5)), seen(), seen((B, 0, 0.25), (C, 1, 0.5))], data)
    assert found.images.tolist() == [0, 2, 2] and found.labels.tolist() == [1, 0, 1]
    assert found.boxes.tolist() == [A, B, C] and found.scores.tolist() == [0.5, 0.25, 0.5]
    assert truths.images.tolist() == [1, 1, 2] and truths.labels.tolist() == [0, 1, 1]
    assert truths.boxes.tolist() == [A, B, C] and truths.areas.tolist() == [50, 104, 108]
    assert truths.crowd.tolist() == [False, True, False]


@pytest.mark.parametrize("objects", [[], [(A, 0)], [(A, 0), (D, 1), (C, 1, "ignore")]])
@pytest.mark.parametrize("found", [[], [(A, 0, 0.9), (A, 0, 0.9), (A, 1, 0.5), (D, 1, 0.4)]])
def test_figures_are_those_of_pycocotools(objects, found):
    found, data = [seen(*found), seen()], truth(objects, [])
    theirs = pycocotools_figures(found, data)
    assert list(theirs) == [*STATS, "ap/cup", "ap/pen"]
    ours = average_precision(found, data)
    for name, other in (("ap", "ap"), ("ap50", "ap50"), ("ap_cup", "ap/cup"), ("ap_pen", "ap/pen")):
        assert ours[name] == pytest.approx(theirs[other], abs=1e-9)
    assert largest_difference(found, data) < 1e-9


def test_largest_difference(monkeypatch):
    """One figure of the others' is changed."""
    found, data = [seen((A, 0, 0.9))], truth([(A, 0), (B, 1)])
    theirs = pycocotools_figures(found, data)
    assert theirs["ap/pen"] == 0 and theirs["ap_large"] is None
    for name, value, difference in (
        ("ap", theirs["ap"] - 0.25, 0.25),
        ("ap/pen", 0.125, 0.125),
        ("ap_large", 0.0, 1.0),
        ("ap/cup", None, 1.0),
        ("ap_large", None, 0.0),
    ):
        monkeypatch.setattr(evaluate, "pycocotools_figures", lambda *_: theirs | {name: value})  # noqa: B023
        assert largest_difference(found, data) == pytest.approx(difference)


# --- detections and pictures -------------------------------------------------------------------


def test_detect_all_takes_every_image_once_and_leaves_the_model_as_it_was():
    torch.manual_seed(0)
    model = Detector(2, SmallBackbone((4, 4, 8, 8)), neck=8, prior=0.5)
    data = truth(*([] for _ in range(5)))
    data.images.random_(0, 256)
    running = model.class_tower.norms[0].running_mean.clone()
    for training in (True, False):
        found = detect_all(model.train(training), data, torch.device("cpu"), batch=2)
        assert model.training is training and torch.equal(
            model.class_tower.norms[0].running_mean, running
        )
        assert len(found) == 5
        expected = model.eval().detect(data.images)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a.boxes, b.boxes, atol=1e-3, rtol=0)


def boxes_drawn(axis) -> list[tuple[list[float], tuple]]:
    """Corners, in pixels of the picture (0 at its left or top edge), and colour of each box."""
    left, _, _, top = axis.get_images()[0].get_extent()
    return [
        ([p.get_x() - left, p.get_y() - top, p.get_x() - left + p.get_width(),
          p.get_y() - top + p.get_height()], p.get_edgecolor())
        for p in axis.patches
    ]  # fmt: skip


def test_boxes_are_drawn_where_they_belong():
    data = truth([(A, 0), (B, 1, "ignore")], [(C, 1)])
    whole = [0.0, 0.0, 32.0, 32.0]
    found = [seen((whole, 1, 0.9), (B, 0, 0.41), (C, 0, 0.39)), seen()]
    first, second = draw_predictions(data, found).axes
    expected = [
        (A, to_rgba("white")),
        (B, to_rgba("grey")),
        (whole, to_rgba(COLOURS[1])),
        (B, to_rgba(COLOURS[0])),
    ]
    assert boxes_drawn(first) == [(pytest.approx(box), colour) for box, colour in expected]
    assert [text.get_text() for text in first.texts] == ["0.90", "0.41"]
    assert boxes_drawn(second) == [(pytest.approx(C), to_rgba("white"))]


def test_a_picture_of_one_image_without_detections(tmp_path):
    figure = draw_predictions(truth([]), [seen()])
    figure.savefig(tmp_path / "one.png")
    assert len(figure.axes) == 1 and not figure.axes[0].patches


def test_a_picture_of_more_classes_than_colours_and_more_images_than_asked_for(tmp_path):
    classes = tuple(f"class {i}" for i in range(30))
    data = truth(*([(A, 29)] for _ in range(9)), classes=classes)
    figure = draw_predictions(data, [seen((A, 29, 0.9), (B, 7, 0.9))] * 9, count=7)
    figure.savefig(tmp_path / "many.png")
    shown = [axis for axis in figure.axes if axis.get_images()]
    assert len(shown) == 7 and all(len(axis.patches) == 3 for axis in shown)
    assert len(figure.legends[0].get_texts()) == 12  # more would not fit
    assert boxes_drawn(shown[0])[2] == (pytest.approx(B), to_rgba(COLOURS[0]))
