"""Our AP against pycocotools, and on cases known on paper."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from active_learning.average_precision import average_precision, pairwise_iou


def pycocotools(boxes, scores, labels, true_boxes, true_labels, classes):
    """Precision of every class and threshold by COCOeval, -1 become NaN."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def rows(boxes, labels, scores=None):
        found = []
        for n, (some, names) in enumerate(zip(boxes, labels, strict=True)):
            for i, (box, label) in enumerate(zip(some, names, strict=True)):
                if label >= 0:
                    x1, y1, x2, y2 = box.tolist()
                    row = {"id": len(found) + 1, "image_id": n, "category_id": int(label),
                           "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": 0,
                           "area": (x2 - x1) * (y2 - y1)}  # fmt: skip
                    found.append(row if scores is None else {**row, "score": float(scores[n, i])})
        return found

    def coco(annotations):
        made = COCO()
        made.dataset = {
            "images": [{"id": n} for n in range(len(boxes))],
            "categories": [{"id": k} for k in range(classes)],
            "annotations": annotations,
        }
        made.createIndex()
        return made

    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(
            coco(rows(true_boxes, true_labels)), coco(rows(boxes, labels, scores)), "bbox"
        )
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, 2].mean(1)  # (T, K)
    return np.where(precision < 0, np.nan, precision)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), coarse=st.booleans())
def test_equals_pycocotools(seed, coarse):
    """Frames with and without objects, detections near and far, ties of scores and of IoUs."""
    rng = np.random.default_rng(seed)
    frames, most, classes = int(rng.integers(1, 12)), 4, 3
    true_labels = rng.integers(-1, classes, (frames, most))
    corner = rng.integers(0, 40, (frames, most, 2)).astype(float)
    true_boxes = np.concatenate([corner, corner + rng.integers(4, 20, (frames, most, 2))], -1)
    boxes = np.repeat(true_boxes, 3, 1) + rng.integers(-4, 5, (frames, 3 * most, 4))
    boxes[..., 2:] = np.maximum(boxes[..., 2:], boxes[..., :2] + 1)
    labels = np.where(rng.random((frames, 3 * most)) < 0.7, np.repeat(true_labels, 3, 1), 0)
    labels = labels.clip(min=0)
    scores = rng.random((frames, 3 * most))
    if coarse:
        scores = scores.round(1)
        true_boxes[:, 1] = true_boxes[:, 0]  # two objects in one place
    case = (boxes, scores, labels, true_boxes, true_labels, classes)
    ours, theirs = average_precision(*case), pycocotools(*case)
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_on_paper():
    """Two objects; the best detection is right, the second wrong, the third right."""
    truth = np.array([[[0.0, 0, 10, 10], [20, 20, 30, 30]]])
    found = np.array([[[0.0, 0, 10, 10], [50, 50, 60, 60], [20, 20, 30, 30]]])
    scores = np.array([[0.9, 0.8, 0.7]])
    zeros = np.zeros((1, 3), int)
    ap = average_precision(found, scores, zeros, truth, np.zeros((1, 2), int), 2)
    assert ap[:, 0] == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)
    assert np.isnan(ap[:, 1]).all(), "a class without objects has no AP"
    nothing = np.full((1, 2), -1)
    assert np.isnan(average_precision(found, scores, zeros, truth, nothing, 2)).all()


def test_an_object_is_found_once():
    truth = np.array([[[0.0, 0, 10, 10]]])
    found = np.repeat(truth, 2, 1)
    label = np.zeros((1, 2), int)
    alone = average_precision(found[:, :1], np.array([[0.9]]), label[:, :1], truth, label[:, :1], 1)
    # A duplicate after the last hit costs nothing in AP; of two objects the second is then missed.
    other = np.concatenate([truth, [[[20.0, 20, 30, 30]]]], 1)
    twice = average_precision(found, np.array([[0.9, 0.8]]), label, other, label, 1)
    assert alone[0, 0] == 1
    assert twice[0, 0] == pytest.approx(51 / 101)


def test_iou():
    a, b = np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 1, 3, 3], [5, 5, 6, 6], [0, 0, 0, 0]])
    assert pairwise_iou(a, b)[0] == pytest.approx([1 / 7, 0, 0])
