"""Average precision against pycocotools, down to each point of each curve and each match."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import ops

from detection.average_precision import (
    IOU_THRESHOLDS,
    RECALLS,
    Found,
    Truths,
    box_area,
    box_iou,
    evaluate_boxes,
    match_boxes,
    precision_at_recalls,
    rank_in_class,
)
from detection.evaluate import STATS, pycocotools_evaluation

IMAGES, CLASSES = 6, 3


def random_case(
    seed: int, objects: int = 40, detections: int = 400, side: int = 5
) -> tuple[Found, Truths]:
    """Boxes of few different sizes at few places, in any order.

    Corners lie on a grid of `side` x `side` points, 32 pixels apart, so that IoUs of just a
    threshold, equal IoUs, nested and empty boxes and areas of just 32² and 96² are common, and
    there are ten different scores. Image 0 has no truth, image 1 no detection, class 2 only crowds.
    """
    rng = np.random.default_rng(seed)

    def boxes(count: int) -> np.ndarray:
        corners = np.sort(32.0 * rng.integers(0, side, (count, 2, 2)), axis=1)
        return corners.reshape(count, 4)

    found = Found(
        images=rng.choice([0, 2, 3, 4, 5], detections),
        labels=rng.integers(0, CLASSES, detections),
        boxes=boxes(detections),
        scores=rng.integers(0, 10, detections) / 10,
    )
    truth_boxes, labels = boxes(objects), rng.integers(0, CLASSES, objects)
    areas = box_area(truth_boxes) * rng.choice([0.3, 1.0], objects)  # of a mask
    truths = Truths(
        images=rng.integers(1, IMAGES, objects),
        labels=labels,
        boxes=truth_boxes,
        areas=areas,
        crowd=(rng.random(objects) < 0.2) | (labels == 2),
    )
    return found, truths


def assert_equal_to_pycocotools(found: Found, truths: Truths) -> None:
    """Every figure, every curve, and what was matched with what."""
    ours = evaluate_boxes(found, truths, CLASSES)
    theirs = pycocotools_evaluation(found, truths, IMAGES, CLASSES)
    figures = ours.figures()
    for a, b in (
        (ours.precision, theirs.eval["precision"]),
        (ours.recall, theirs.eval["recall"]),
        ([figures[name] for name in STATS], theirs.stats),
        (ours.class_figures(), theirs.eval["precision"][:, :, :, 0, -1].mean((0, 1))),
    ):
        defined = np.where(b == -1, np.nan, b)
        np.testing.assert_allclose(np.array(a, dtype=float), defined, rtol=0, atol=1e-9)

    match, ignored = np.full_like(ours.match, -1), np.ones_like(ours.ignored)
    for one in filter(None, theirs.evalImgs):  # an image, class and range of area
        a = theirs.params.areaRng.index(one["aRng"])
        detections = np.array(one["dtIds"], dtype=int) - 1  # theirs count from 1
        match[a][:, detections] = one["dtMatches"] - 1
        ignored[a][:, detections] = one["dtIgnore"]
    np.testing.assert_array_equal(ours.match, match)
    np.testing.assert_array_equal(ours.ignored, ignored)


# --- against pycocotools -------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_random_boxes(seed):
    found, truths = random_case(seed)
    assert_equal_to_pycocotools(found, truths)


@pytest.mark.parametrize("seed", range(4))
def test_detections_near_the_truth(seed):
    """Most of these find something, at an IoU anywhere: the curves have many points."""
    _, truths = random_case(seed, objects=80, side=8)
    rng = np.random.default_rng(seed)
    of = rng.integers(0, 80, 400)
    size = truths.boxes[of, 2:] - truths.boxes[of, :2]
    boxes = truths.boxes[of] + 0.1 * np.tile(size, 2) * rng.standard_normal((400, 4))
    boxes = boxes.astype(np.float32).astype(np.float64)
    labels = np.where(rng.random(400) < 0.1, rng.integers(0, CLASSES, 400), truths.labels[of])
    found = Found(truths.images[of], labels, boxes, rng.random(400))
    assert evaluate_boxes(found, truths, CLASSES).figures()["ap"] > 0.1
    assert_equal_to_pycocotools(found, truths)


def test_more_than_100_detections_of_an_image_and_class():
    found, truths = random_case(0, detections=450)
    found = found._replace(images=np.full(450, 3), labels=np.arange(450) % 2)
    assert_equal_to_pycocotools(found, truths)
    assert evaluate_boxes(found, truths, CLASSES).ignored.all((0, 1)).sum() >= 250


box_strategy = st.tuples(*[st.integers(0, 4)] * 4).map(
    lambda s: [30.0 * c for c in (*np.minimum(s[:2], s[2:]), *np.maximum(s[:2], s[2:]))]
)
detection = st.tuples(st.integers(0, 1), st.integers(0, 1), box_strategy, st.integers(1, 3))
truth = st.tuples(st.integers(0, 1), st.integers(0, 1), box_strategy, st.booleans())


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.lists(detection, max_size=8), st.lists(truth, max_size=6))
def test_few_boxes_of_any_kind(detections, objects):
    """No detection, no truth, a truth twice: hypothesis begins with the smallest cases."""
    found = Found(
        np.array([image for image, *_ in detections], dtype=np.int64),
        np.array([label for _, label, *_ in detections], dtype=np.int64),
        np.array([box for *_, box, _ in detections], dtype=np.float64).reshape(-1, 4),
        np.array([score / 4 for *_, score in detections], dtype=np.float64),
    )
    boxes = np.array([box for *_, box, _ in objects], dtype=np.float64).reshape(-1, 4)
    truths = Truths(
        np.array([image for image, *_ in objects], dtype=np.int64),
        np.array([label for _, label, *_ in objects], dtype=np.int64),
        boxes,
        box_area(boxes),
        np.array([crowd for *_, crowd in objects], dtype=bool),
    )
    assert_equal_to_pycocotools(found, truths)


# --- by hand -------------------------------------------------------------------------------------

SQUARE = [0.0, 0.0, 10.0, 10.0]


def one_class(boxes: list[list[float]], scores: list[float]) -> Found:
    zeros = np.zeros(len(boxes), dtype=np.int64)
    return Found(zeros, zeros, np.array(boxes).reshape(-1, 4), np.array(scores, dtype=np.float64))


def truths_of(boxes: list[list[float]], crowd: list[bool]) -> Truths:
    zeros, array = np.zeros(len(boxes), dtype=np.int64), np.array(boxes).reshape(-1, 4)
    return Truths(zeros, zeros, array, box_area(array), np.array(crowd, dtype=bool))


@pytest.mark.parametrize(("width", "thresholds"), [(5.0, 1), (4.999, 0), (7.5, 6), (9.5, 10)])
def test_an_iou_of_just_the_threshold_is_enough(width, thresholds):
    found = one_class([[0.0, 0.0, width, 10.0]], [0.5])
    match = evaluate_boxes(found, truths_of([SQUARE], [False]), 1).match[0, :, 0]
    assert (match == 0).sum() == thresholds


def test_the_best_detection_chooses_first():
    """The second overlaps the left truth best, but finds it taken and has to take the right one."""
    left, right = SQUARE, [2.0, 0.0, 12.0, 10.0]
    found = one_class([[0.2, 0.0, 10.0, 10.0], [0.5, 0.0, 10.0, 10.0]], [0.6, 0.9])
    assert match_boxes(found, truths_of([left, right], [False, False])).tolist() == [1, 0]


def test_a_crowd_takes_any_number_and_only_what_has_no_other_truth():
    inside, around = [2.0, 2.0, 4.0, 4.0], [0.0, 0.0, 10.0, 12.0]
    found = one_class([inside, inside, SQUARE, SQUARE], [0.9, 0.8, 0.7, 0.6])
    truths = truths_of([around, [0.0, 0.0, 10.0, 9.0]], [True, False])
    assert match_boxes(found, truths).tolist() == [0, 0, 1, 0]  # a crowd's IoU is 1 for the squares
    evaluation = evaluate_boxes(found, truths, 1)
    assert evaluation.ignored[0, 0].tolist() == [True, True, False, True]
    assert evaluation.figures()["ap50"] == 1


def slow_precision_at_recalls(correct: list[bool], to_find: int) -> list[float]:
    """The best precision among all cuts of the ranking that reach the recall."""
    cuts = [sum(correct[:n]) for n in range(1, len(correct) + 1)]
    points = [(hits / n, hits / to_find) for n, hits in enumerate(cuts, start=1)]
    return [max((p for p, r in points if r >= recall), default=0.0) for recall in RECALLS]


@settings(deadline=None, max_examples=50, derandomize=True)
@given(st.lists(st.booleans(), max_size=12), st.integers(0, 3))
def test_precision_is_the_best_of_any_cut(correct, missed):
    to_find = max(1, sum(correct) + missed)
    ours = precision_at_recalls(np.array(correct, dtype=bool), to_find)
    assert ours == pytest.approx(slow_precision_at_recalls(correct, to_find))


def test_rank_in_class():
    found = Found(
        images=np.array([7, 0, 7, 7, 7, 0]),
        labels=np.array([1, 0, 0, 1, 1, 0]),
        boxes=np.zeros((6, 4)),
        scores=np.array([0.5, 0.1, 0.2, 0.9, 0.5, 0.3]),
    )
    assert rank_in_class(found).tolist() == [1, 1, 0, 0, 2, 0]


def test_iou_is_torchvisions():
    rng = np.random.default_rng(0)
    a, b = np.sort(10 * rng.random((2, 50, 2, 2)), axis=2).reshape(2, 50, 4)
    expected = ops.box_iou(torch.from_numpy(a), torch.from_numpy(b)).diagonal().numpy()
    np.testing.assert_allclose(box_iou(a, b, np.zeros(50, dtype=bool)), expected, rtol=1e-12)
    assert len(IOU_THRESHOLDS) == 10 and 5 < (expected > 0).sum() < 45
