"""Kinds of error on cases made by hand, oracles against data that really is put right."""

from dataclasses import replace
from pathlib import Path

import matplotlib.colors as mcolors
import numpy as np
import pytest
import torch
from torchvision import ops

from detection.data import Split
from detection.errors import (
    KIND_COLOURS,
    ORACLES,
    TOTALS,
    Errors,
    confusion_matrix,
    draw_errors,
    draw_worst,
    error_table,
    find_errors,
    precision_recall_curves,
    worst,
)
from detection.evaluate import average_precision, pycocotools_figures
from detection.model import Detections
from trainloop import LabError

CUP, PEN = 0, 1
A, B, C = [0.0, 0.0, 10.0, 10.0], [40.0, 0.0, 50.0, 20.0], [0.0, 40.0, 20.0, 60.0]  # far apart
FAR = [40.0, 40.0, 60.0, 60.0]


def shifted(box: list[float], pixels: float) -> list[float]:
    """To the right."""
    return [box[0] + pixels, box[1], box[2] + pixels, box[3]]


def truth(*images: list[tuple], classes: tuple[str, ...] = ("cup", "pen")) -> Split:
    """A split of 64-pixel images; an object is (box, label) or (box, label, "ignore")."""
    slots = max(1, *map(len, images))
    boxes, labels = torch.zeros(len(images), slots, 4), torch.full((len(images), slots), -1)
    ignore = torch.zeros(len(images), slots, dtype=torch.bool)
    for i, objects in enumerate(images):
        for j, (box, label, *mark) in enumerate(objects):
            boxes[i, j], labels[i, j], ignore[i, j] = torch.tensor(box), label, bool(mark)
    pixels = torch.zeros(len(images), 3, 64, 64, dtype=torch.uint8)
    return Split(images=pixels, boxes=boxes, labels=labels, ignore=ignore, classes=classes)


def seen(*objects: tuple) -> Detections:
    """What was found in an image; each is (box, label, score)."""
    return Detections(
        torch.tensor([box for box, _, _ in objects]).reshape(-1, 4),
        torch.tensor([score for _, _, score in objects], dtype=torch.float32),
        torch.tensor([label for _, label, _ in objects], dtype=torch.int64),
    )


def random_case(seed: int, images: int = 8) -> tuple[list[Detections], Split]:
    """Crowded images of three classes, and for each image 25 boxes more or less like its objects.

    A tenth of the objects is ignored; an eighth of the detections has a class at random, and three
    an image are anywhere.
    """
    rng = np.random.default_rng(seed)
    objects, found = [], []
    for _ in range(images):
        low, size = rng.uniform(0, 40, (6, 2)), rng.uniform(8, 24, (6, 2))
        boxes, labels = np.hstack([low, low + size]), rng.integers(0, 3, 6)
        objects.append(
            [
                (box.tolist(), label, *(["ignore"] if rng.random() < 0.1 else []))
                for box, label in zip(boxes, labels.tolist(), strict=True)
            ]
        )
        of = rng.integers(0, 6, 25)
        noise = 0.2 * np.tile(size[of], 2) * rng.standard_normal((25, 4))
        near = torch.tensor(boxes[of] + noise).float()
        anywhere = rng.uniform(0, 60, (3, 2))
        near[:3] = torch.tensor(np.hstack([anywhere, anywhere + 4]))
        near[:, 2:] = torch.maximum(near[:, :2] + 1, near[:, 2:])
        guessed = np.where(rng.random(25) < 0.125, rng.integers(0, 3, 25), labels[of])
        found.append(Detections(near, torch.tensor(rng.random(25)).float(), torch.tensor(guessed)))
    return found, truth(*objects, classes=("cup", "pen", "key"))


def kinds_of(found: list[Detections], data: Split) -> list[str]:
    """What each detection is, best first."""
    return find_errors(found, data).kind.tolist()


# --- kinds of error ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("objects", "detections", "kinds", "missed"),
    [
        ([(A, CUP)], [(A, CUP, 0.9)], ["right"], 0),
        ([(A, CUP)], [], [], 1),
        ([(A, CUP)], [(A, PEN, 0.9)], ["classification"], 0),
        ([(A, CUP)], [(shifted(A, 5), CUP, 0.9)], ["localisation"], 0),  # IoU 1/3
        ([(A, CUP)], [(shifted(A, 5), PEN, 0.9)], ["both"], 1),
        ([(A, CUP)], [(A, CUP, 0.9), (A, CUP, 0.8)], ["right", "duplicate"], 0),
        ([(A, CUP)], [(A, CUP, 0.9), (A, PEN, 0.8)], ["right", "classification"], 0),
        ([(A, CUP)], [(FAR, CUP, 0.9)], ["background"], 1),
        ([(A, CUP)], [(shifted(A, 9), CUP, 0.9)], ["background"], 1),  # IoU 1/19
        ([(A, CUP)], [(shifted(A, 9), PEN, 0.9)], ["background"], 1),
        # Half of A, a tenth of A: IoUs of just the thresholds.
        ([(A, CUP)], [([0.0, 0.0, 5.0, 10.0], CUP, 0.9)], ["right"], 0),
        ([(A, CUP)], [([0.0, 0.0, 5.0, 10.0], PEN, 0.9)], ["classification"], 0),
        ([(A, CUP)], [([0.0, 0.0, 1.0, 10.0], CUP, 0.9)], ["localisation"], 0),
        ([(A, CUP)], [([0.0, 0.0, 1.0, 10.0], PEN, 0.9)], ["background"], 1),
        # Two objects: the class's own goes first where it is not found, the other where it is.
        ([(A, PEN), (shifted(A, 5), CUP)], [(A, CUP, 0.9)], ["localisation"], 1),
        ([(A, PEN), (A, CUP)], [(A, CUP, 0.9), (A, CUP, 0.8)], ["right", "classification"], 0),
        # Nothing is held against what finds an ignored object of its class, once or often.
        ([(A, CUP, "ignore"), (B, CUP)], [(A, CUP, 0.9), (A, CUP, 0.8)], ["ignored"] * 2, 1),
        ([(A, CUP, "ignore"), (B, CUP)], [(A, PEN, 0.9)], ["background"], 1),
        ([(A, CUP, "ignore"), (A, PEN)], [(A, CUP, 0.9)], ["ignored"], 1),
    ],
)
def test_each_kind_by_hand(objects, detections, kinds, missed):
    errors = find_errors([seen(*detections)], truth(objects))
    assert errors.kind.tolist() == kinds
    assert errors.missed.sum() == missed
    assert errors.counts() == {
        **{kind: kinds.count(kind) for kind in ORACLES},
        "missed": missed,
        "false positives": len(kinds) - kinds.count("right") - kinds.count("ignored"),
        "false negatives": sum(len(o) == 2 for o in objects) - kinds.count("right"),
    }


def test_errors_are_about_objects_of_their_own_image():
    data = truth([(A, CUP)], [(B, CUP)])
    assert kinds_of([seen((B, CUP, 0.9)), seen((B, PEN, 0.8))], data) == [
        "background",
        "classification",
    ]


def test_what_an_error_is_about():
    """The object with the largest IoU of those that decide the kind."""
    near = shifted(A, 3.8)  # IoU 6.2/13.8 with A, 5.8/14.2 with the first object
    data = truth([(shifted(A, 8), CUP), (B, CUP), (A, CUP), (C, PEN)])
    found = [seen((B, CUP, 0.9), (near, CUP, 0.8), (C, CUP, 0.7), (FAR, CUP, 0.6), (B, CUP, 0.5))]
    errors = find_errors(found, data)
    expected = ["right", "localisation", "classification", "background", "duplicate"]
    assert errors.kind.tolist() == expected
    assert errors.truth.tolist() == [1, 2, 3, -1, 1]


def slow_kind(box: torch.Tensor, label: int, boxes: torch.Tensor, labels: list[int]) -> str:
    """Kind of a false positive among the (real) objects of its image."""
    iou = ops.box_iou(box[None], boxes)[0].tolist()
    own = max((u for u, k in zip(iou, labels, strict=True) if k == label), default=0.0)
    other = max((u for u, k in zip(iou, labels, strict=True) if k != label), default=0.0)
    if 0.1 <= own < 0.5:
        return "localisation"
    if other >= 0.5:
        return "classification"
    if own >= 0.5:
        return "duplicate"
    return "background" if max(own, other) <= 0.1 else "both"


@pytest.mark.parametrize("seed", range(4))
def test_every_false_positive_has_one_kind(seed):
    found, data = random_case(seed)
    errors = find_errors(found, data)
    wrong = ~np.isin(errors.kind, ["right", "ignored"])
    for d in np.flatnonzero(wrong):
        image = errors.found.images[d]
        real = (data.labels[image] >= 0) & ~data.ignore[image]
        box, label = torch.tensor(errors.found.boxes[d]).float(), int(errors.found.labels[d])
        labels = data.labels[image][real].tolist()
        assert errors.kind[d] == slow_kind(box, label, data.boxes[image][real], labels)
    counts = errors.counts()
    assert all(counts[kind] > 0 for kind in ORACLES if kind != "missed")  # none is untested
    assert sum(counts[kind] for kind in ORACLES) - counts["missed"] == wrong.sum()
    real = int(((data.labels >= 0) & ~data.ignore).sum())
    assert (errors.kind == "right").sum() + counts["false negatives"] == real


# --- oracles -------------------------------------------------------------------------------------


def put_right(
    errors: Errors, data: Split, kinds: tuple[str, ...]
) -> tuple[list[Detections], Split]:
    """Detections and data after the oracles of some kinds, one detection at a time."""
    labels, images, truths = data.labels.clone(), len(data.images), errors.truths
    slots = [(data.labels[i] >= 0).nonzero()[:, 0].tolist() for i in range(images)]
    place = [(i, j) for i in range(images) for j in slots[i]]  # image and slot of each object
    gone = errors.missed if "missed" in kinds else np.zeros_like(errors.missed)
    gone = errors.unfound if "false negatives" in kinds else gone
    for g in np.flatnonzero(gone):
        labels[place[g]] = -1

    kept: list[list[tuple]] = [[] for _ in range(images)]
    taken = set(errors.truth[errors.kind == "right"])
    for d, kind in enumerate(errors.kind):  # best first
        box, label, score = (part[d] for part in errors.found[2:0:-1] + errors.found[3:])
        g = errors.truth[d]
        if kind in kinds and kind in ("localisation", "classification") and g not in taken:
            taken.add(g)
            box, label = (truths.boxes[g], label) if kind == "localisation" else (
                box, truths.labels[g]
            )  # fmt: skip
        elif kind in kinds or ("false positives" in kinds and kind in ORACLES):
            continue
        kept[errors.found.images[d]].append((box.tolist(), int(label), float(score)))
    fixed = Split(data.images, data.boxes, labels, data.ignore, data.classes)
    return [seen(*image) for image in kept], fixed


ALL = tuple(ORACLES)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "kinds",
    [(), *((kind,) for kind in (*ORACLES, *TOTALS)), ("localisation", "classification"), ALL],
    ids="+".join,
)
def test_fixing_gives_the_ap_of_fixed_detections(seed, kinds):
    found, data = random_case(seed)
    errors = find_errors(found, data)
    fixed = errors.fixed_ap50(*kinds)
    assert fixed == pytest.approx(pycocotools_figures(*put_right(errors, data, kinds))["ap50"])
    assert (fixed == pytest.approx(1)) == (kinds == ALL)


@pytest.mark.parametrize("seed", range(4))
def test_no_kind_costs_less_than_nothing(seed):
    found, data = random_case(seed)
    errors = find_errors(found, data)
    costs = errors.costs()
    assert set(costs) == {*ORACLES, *TOTALS}
    assert min(costs.values()) >= 0
    assert all(costs[kind] > 0 for kind in ("localisation", "classification", "duplicate"))
    of_dropped = max(costs[kind] for kind in ("both", "duplicate", "background"))
    assert costs["false positives"] >= of_dropped
    assert costs["false negatives"] >= costs["missed"]
    gain = errors.fixed_ap50("missed") - average_precision(found, data)["ap50"]
    assert costs["missed"] == pytest.approx(gain)


@pytest.mark.parametrize(
    ("detections", "kind", "cost"),
    [
        # One of two cups is found first: AP50 51/101, and 1 with the error fixed.
        ([(A, CUP, 0.9), (B, PEN, 0.8)], "classification", 50 / 101),
        ([(A, CUP, 0.9), (shifted(B, 5), CUP, 0.8)], "localisation", 50 / 101),
        ([(A, CUP, 0.9)], "missed", 50 / 101),
        # A false positive between two hits: precision 2/3 at the upper 50 recalls.
        ([(A, CUP, 0.9), (A, CUP, 0.8), (B, CUP, 0.7)], "duplicate", 50 / 303),
        ([(A, CUP, 0.9), (FAR, CUP, 0.8), (B, CUP, 0.7)], "background", 50 / 303),
        ([(A, CUP, 0.9), (FAR, CUP, 0.8), (B, CUP, 0.7)], "false positives", 50 / 303),
        # Another class's detection takes nothing from this one.
        ([(A, CUP, 0.9), (shifted(A, 5), PEN, 0.8), (B, CUP, 0.7)], "both", 0),
        # Only the better of two detections can be mended, and none where it is found already.
        ([(A, CUP, 0.9), (B, PEN, 0.8), (B, PEN, 0.7)], "classification", 50 / 101),
        ([(A, CUP, 0.9), (B, CUP, 0.8), (B, PEN, 0.7)], "classification", 0),
    ],
)
def test_costs_by_hand(detections, kind, cost):
    errors = find_errors([seen(*detections)], truth([(A, CUP), (B, CUP)]))
    assert errors.costs()[kind] == pytest.approx(cost)


def test_a_class_with_nothing_left_to_find():
    """Nobody looked for the pen: without it all is well. A false alarm is still one."""
    data = truth([(A, CUP), (B, PEN)])
    assert find_errors([seen((A, CUP, 0.9))], data).fixed_ap50("missed") == 1
    errors = find_errors([seen((A, CUP, 0.9), (FAR, PEN, 0.8))], data)
    assert errors.fixed_ap50("missed") == errors.fixed_ap50() == 0.5
    assert errors.fixed_ap50("missed", "background") == 1


@pytest.mark.parametrize("objects", [[], [(A, CUP, "ignore")]])
def test_nothing_to_find(objects):
    for function in (find_errors, error_table, draw_errors, draw_worst):
        with pytest.raises(LabError, match="no image has an object"):
            function([seen((A, CUP, 0.9))], truth(objects))


def test_nothing_found():
    errors = find_errors([seen(), seen()], truth([(A, CUP)], [(B, PEN), (C, PEN)]))
    assert errors.missed.sum() == errors.counts()["missed"] == 3
    assert errors.costs() == pytest.approx(
        {**dict.fromkeys([*ORACLES, *TOTALS], 0), "missed": 1, "false negatives": 1}
    )


# --- confusion matrix and curves -----------------------------------------------------------------


def test_confusion_matrix_by_hand():
    data = truth([(A, CUP), (B, PEN), (C, PEN), (shifted(C, 30), CUP, "ignore")], [(A, PEN)])
    found = [
        seen(
            (A, CUP, 0.9),
            (A, PEN, 0.8),  # finds nothing: A is taken
            (B, CUP, 0.7),
            (C, PEN, 0.2),  # not sure enough
            (shifted(C, 30), PEN, 0.6),  # ignored, whatever its class
            (FAR, CUP, 0.5),
        ),
        seen((A, PEN, 0.25)),
    ]
    data.boxes[0, 3] = torch.tensor([0.0, 20.0, 10.0, 30.0])
    found[0].boxes[4] = data.boxes[0, 3]
    expected = [
        [1, 0, 0],  # cups
        [1, 1, 1],  # pens: one taken for a cup, one found, one missed
        [1, 1, 0],  # nothing
    ]
    assert confusion_matrix(found, data, score=0.25).tolist() == expected
    expected[1] = [1, 2, 0]
    assert confusion_matrix(found, data, score=0.125).tolist() == expected


@pytest.mark.parametrize("score", [0.0, 0.3, 0.9, 1.0])
def test_confusion_matrix_counts_all(score):
    found, data = random_case(0)
    data.ignore[:] = False
    matrix = confusion_matrix(found, data, score)
    labels = torch.cat([one.labels[one.scores >= score] for one in found])
    assert matrix[:-1].sum(1).tolist() == data.labels.flatten().bincount().tolist()
    assert matrix[:, :-1].sum(0).tolist() == labels.bincount(minlength=3).tolist()
    assert matrix[-1, -1] == 0


def test_precision_recall_curves():
    found, data = random_case(0)
    curves = precision_recall_curves(found, data)
    assert list(curves) == ["cup", "pen", "key"]
    ap50 = average_precision(found, data)["ap50"]
    assert np.mean([curve.mean() for curve in curves.values()]) == pytest.approx(ap50)
    assert list(precision_recall_curves([seen()], truth([(A, PEN)]))) == ["pen"]


# --- the worst images ----------------------------------------------------------------------------


def worst_case() -> tuple[list[Detections], Split]:
    data = truth([(A, CUP)], [(A, CUP), (B, PEN), (C, PEN)], [], [(B, CUP)], [(C, PEN, "ignore")])
    found = [
        seen((A, CUP, 0.9)),
        seen((A, PEN, 0.875), (shifted(B, 5), PEN, 0.75), (shifted(A, 5), PEN, 0.25)),
        seen((FAR, CUP, 0.5)),
        seen((B, CUP, 0.25)),  # too unsure to count
        seen((C, PEN, 0.9), (C, PEN, 0.8)),
    ]
    return found, data


def test_worst_images_first():
    found, data = worst_case()
    bad = worst(found, data, count=9, score=0.3)
    assert [(one.image, one.loss) for one in bad] == [(1, 3 + 0.875 + 0.75), (3, 1.0), (2, 0.5)]
    assert worst(found, data, count=2, score=0.3)[-1].image == 3
    assert [one.image for one in worst(found, data, count=9, score=0.25)] == [1, 2]
    assert [[error.what for error in one.errors] for one in bad] == [
        ["pen missed", "pen 0.88 is a cup", "pen 0.75 has IoU 0.33"],
        ["cup missed"],
        ["cup 0.50 is not there"],
    ]
    missed, confused, shaky = bad[0].errors
    assert missed.box.tolist() == C and missed.score is None and missed.kind == "missed"
    assert confused.box.tolist() == A and confused.score == 0.875
    assert shaky.box.tolist() == shifted(B, 5) and shaky.kind == "localisation"


def test_words_for_the_other_kinds():
    data = truth([(A, CUP)])
    found = [seen((A, CUP, 0.9), (A, CUP, 0.8), (shifted(A, 5), PEN, 0.7))]
    (bad,) = worst(found, data, count=1)
    said = ["cup 0.80 was found already", "pen 0.70 has IoU 0.33 with a cup"]
    assert [error.what for error in bad.errors] == said
    assert bad.loss == pytest.approx(1.5)


def test_no_image_is_bad_where_all_is_right():
    assert worst([seen((A, CUP, 0.9)), seen()], truth([(A, CUP)], []), count=3) == []


# --- table and pictures --------------------------------------------------------------------------


def test_table():
    found = [seen((A, CUP, 0.9), (A, CUP, 0.85), (B, PEN, 0.8))]
    first, empty, *table = error_table(found, truth([(A, CUP), (B, CUP)])).splitlines()
    assert first == "AP50 0.505: 1 of 2 objects found, 2 false positives of any score"
    assert not empty and len(table) == 2 + len(ORACLES) + len(TOTALS)
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in table]
    # With the pen called a cup, at rank 3: precision 2/3 at 50 recalls.
    assert rows[2] == ("classification", "1", "0.330", "gets the object's class")
    assert {row[:3] for row in rows[3:]} >= {("duplicate", "1", "0.000"), ("missed", "0", "0.000")}
    assert rows[-2][:2] == ("false positives", "2") and rows[-1][:2] == ("false negatives", "1")


def test_picture_of_errors(tmp_path):
    found, data = random_case(0)
    figure = draw_errors(found, data, score=0.4)
    figure.savefig(tmp_path / "errors.png", dpi=30)
    bars, confusion, curves = figure.axes
    costs = find_errors(found, data).costs()
    widths = [bar.get_width() for bar in bars.patches]
    assert widths == pytest.approx([costs[kind] for kind in (*ORACLES, *TOTALS)])
    numbers = [text.get_text() for text in confusion.texts]
    matrix = confusion_matrix(found, data, score=0.4)
    assert numbers == [str(n) for n in matrix.flatten()][:-1]
    drawn = [line.get_ydata() for line in curves.lines]
    expected = [*precision_recall_curves(found, data).values()]
    np.testing.assert_allclose(drawn, [*expected, np.mean(expected, 0)])


def test_picture_of_errors_with_many_classes_or_one(tmp_path):
    many = tuple(f"class {k}" for k in range(30))
    for classes in (many, ("cup",)):
        data = truth([(A, 0), (B, len(classes) - 1)], classes=classes)
        figure = draw_errors([seen((A, 0, 0.9), (B, 0, 0.8))], data)
        figure.savefig(tmp_path / "errors.png", dpi=30)


def corners(axis) -> list[tuple[list[float], tuple]]:
    """Corners, in pixels of the picture (0 at its left or top edge), and colour of each box."""
    left, _, _, top = axis.get_images()[0].get_extent()
    return [
        ([p.get_x() - left, p.get_y() - top, p.get_x() - left + p.get_width(),
          p.get_y() - top + p.get_height()], p.get_edgecolor())
        for p in axis.patches
    ]  # fmt: skip


def test_picture_of_the_worst_images(tmp_path):
    found, data = worst_case()
    figure = draw_worst(found, data, count=2)
    figure.savefig(tmp_path / "worst.png", dpi=30)
    first, second, *captions = figure.axes
    expected = [(A, "white"), (B, "white"), (C, "white"), (C, KIND_COLOURS["missed"]),
                (A, KIND_COLOURS["classification"]),
                (shifted(B, 5), KIND_COLOURS["localisation"])]  # fmt: skip
    expected = [(pytest.approx(box), mcolors.to_rgba(colour)) for box, colour in expected]
    assert corners(first) == expected
    assert (
        first.get_title() == "image 1: loses 4.62" and second.get_title() == "image 3: loses 1.00"
    )
    written = [[(text.get_text(), text.get_color()) for text in axis.texts] for axis in captions]
    assert written[0][1] == ("pen 0.88 is a cup", KIND_COLOURS["classification"])
    assert written[1] == [("cup missed", KIND_COLOURS["missed"])]


def test_five_bad_images_take_two_rows_and_go_by_the_names_of_their_files():
    files = tuple(Path("photos") / f"{n}.jpg" for n in range(6))
    data = replace(truth(*[[(A, CUP)]] * 5, []), files=files)
    figure = draw_worst([seen()] * 6, data)
    titles = [axis.get_title() for axis in figure.axes if axis.get_images()]
    assert titles == [f"{n}.jpg: loses 1.00" for n in range(5)]


def test_what_is_right_or_ignored_is_drawn_as_such():
    data = truth([(A, CUP), (B, PEN, "ignore"), (C, CUP)])
    picture, _ = draw_worst([seen((A, CUP, 0.9), (B, PEN, 0.8), (B, PEN, 0.7))], data).axes
    expected = [(A, "white"), (B, "grey"), (C, "white"), (A, "lime"), (C, "magenta")]
    expected = [(pytest.approx(box), mcolors.to_rgba(colour)) for box, colour in expected]
    assert corners(picture) == expected


def test_a_caption_names_at_most_five_errors():
    objects = [([8.0 * n, 0.0, 8.0 * n + 6, 6.0], CUP) for n in range(7)]
    _, caption = draw_worst([seen()], truth(objects)).axes
    assert [text.get_text() for text in caption.texts] == ["cup missed"] * 4 + ["and 3 more"]


def test_picture_without_errors(tmp_path):
    figure = draw_worst([seen((A, CUP, 0.9))], truth([(A, CUP)]))
    figure.savefig(tmp_path / "none.png", dpi=30)
    assert figure.axes[0].texts[0].get_text() == "no errors"
