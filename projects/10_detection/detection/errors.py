"""What a detector gets wrong, and what each kind of error costs (TIDE, Bolya 2020).

Every false positive at IoU 0.5 is of one kind, by its largest IoU with the objects of its own class
and with those of others in its image. The first line that holds decides, as in the authors' code:

| kind           | own class      | other class    | an oracle (section 2.3)                     |
|----------------|----------------|----------------|---------------------------------------------|
| localisation   | in [0.1, 0.5)  |                | gives it the object's box                   |
| classification |                | 0.5 or more    | gives it the object's class                 |
| duplicate      | 0.5 or more    |                | drops it: the object was found already      |
| background     | at most 0.1    | at most 0.1    | drops it: there is nothing                  |
| both           | below 0.1      | in (0.1, 0.5)  | drops it: which object was meant is unclear |

If that would find an object twice, only the best of the fixed detections finds it, and none if it
had been found before; the others are dropped. Missed are objects that no detection finds and that
no localisation or classification error is about; the oracle takes them from those to be found.

What a kind costs, its dAP, is AP50 with the kind's errors fixed, and no others, less AP50: never
negative, since fixing takes away false positives and objects to find, or adds true positives. The
costs do not add up to what is missing to 1: one error can hide behind another.

Objects marked `ignore` are not missed, and what finds them is no error.

Figures are those of the authors' tidecv 1.0.1, but for what `Errors.fixed_ap50` says.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64, Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy import ndarray

from detection.average_precision import (
    RECALLS,
    Found,
    Truths,
    box_iou,
    equal_pairs,
    evaluate_boxes,
    match_boxes,
    precision_at_recalls,
)
from detection.data import Split
from detection.evaluate import COLOURS, as_arrays, draw_box
from detection.model import Detections
from trainloop import LabError

FOREGROUND, BACKGROUND = 0.5, 0.1  # IoU: t_f and t_b of the paper
ORACLES = {
    "classification": "gets the object's class",
    "localisation": "gets the object's box",
    "both": "dropped",
    "duplicate": "dropped",
    "background": "dropped",
    "missed": "no longer to be found",
}
"""The kinds of error, and what an oracle does about each."""
TOTALS = {
    "false positives": "dropped",
    "false negatives": "no longer to be found",
}
"""Kinds taken together: all wrong detections, all objects that are not found."""
KIND_COLOURS = {
    "classification": "tab:orange",
    "localisation": "dodgerblue",
    "both": "tab:purple",
    "duplicate": "tab:olive",
    "background": "tab:red",
    "missed": "magenta",
}


@dataclass(frozen=True)
class Errors:
    """n detections, best first, and G objects, with what is wrong about each."""

    found: Found
    truths: Truths
    kind: Shaped[ndarray, " n"]
    """Kind of error, as in `ORACLES`; "right", or "ignored": neither right nor wrong."""
    truth: Int64[ndarray, " n"]
    """Index of the object that is found, or that the error is about; -1 for background."""
    unfound: Bool[ndarray, " G"]
    """Objects that no detection finds: the false negatives."""
    missed: Bool[ndarray, " G"]
    """Those of them that no localisation or classification error is about."""

    def counts(self) -> dict[str, int]:
        """Number of errors of each kind, and of `TOTALS`."""
        counts = {kind: int((self.kind == kind).sum()) for kind in ORACLES}
        wrong = sum(counts.values())
        return counts | {
            "missed": int(self.missed.sum()),
            "false positives": wrong,
            "false negatives": int(self.unfound.sum()),
        }

    def costs(self) -> dict[str, float]:
        """dAP of each kind and of `TOTALS`: AP50 that is gained if it alone is fixed."""
        ap50 = self.fixed_ap50()
        return {kind: self.fixed_ap50(kind) - ap50 for kind in (*ORACLES, *TOTALS)}

    def fixed_ap50(self, *kinds: str) -> float:
        """COCO's AP50 as it would be with all errors of some kinds fixed; 1 with all kinds.

        Where tidecv differs: of the errors about an object it mends the best one, or none if that
        is of the other kind, which is not fixed; and it leaves out of the mean a class that has
        nothing left to be found, which here counts 1, or 0 if it is found nevertheless.

        Args:
            kinds: of `ORACLES`, or one of `TOTALS`.
        """
        labels, right = self.found.labels.copy(), self.kind == "right"
        fixed = np.isin(self.kind, kinds)
        if "false positives" in kinds:
            fixed |= ~right

        # Of those that can find an object the best one does: detections are sorted by score.
        mendable = np.isin(self.kind, ("localisation", "classification")) & self.unfound[self.truth]
        mendable = np.flatnonzero(mendable & np.isin(self.kind, kinds))
        best = mendable[np.unique(self.truth[mendable], return_index=True)[1]]
        right[best] = True
        labels[best] = self.truths.labels[self.truth[best]]

        counted = right | ~(fixed | (self.kind == "ignored"))
        to_find = ~self.truths.crowd
        if "missed" in kinds:
            to_find &= ~self.missed
        if "false negatives" in kinds:
            to_find &= ~self.unfound
        ap50 = []
        for k in np.unique(self.truths.labels[~self.truths.crowd]):
            correct = right[counted & (labels == k)]
            total = int(to_find[self.truths.labels == k].sum())
            ap50.append(
                precision_at_recalls(correct, total).mean() if total else float(len(correct) == 0)
            )
        return float(np.mean(ap50))


def find_errors(found: list[Detections], data: Split, score: float | int = 0.0) -> Errors:
    """Sort the detections that have at least this score by kind of error.

    Raises:
        LabError: there is nothing to find.
    """
    detections, truths = as_arrays(found, data)
    if truths.crowd.all():
        raise LabError("no image has an object to find: there are no errors to sort")
    order = np.lexsort((detections.images, -detections.scores))
    order = order[detections.scores[order] >= score]
    detections = Found(*(part[order] for part in detections))
    evaluation = evaluate_boxes(detections, truths, len(data.classes))
    match, ignored = evaluation.match[0, 0], evaluation.ignored[0, 0]  # of any area, at IoU 0.5
    wrong = np.flatnonzero((match < 0) & ~ignored)

    # Objects of each wrong detection's image, and those it overlaps most.
    real = np.flatnonzero(~truths.crowd)
    row, nth = equal_pairs(detections.images[wrong], truths.images[real])
    near = real[nth]
    iou = box_iou(detections.boxes[wrong[row]], truths.boxes[near], truths.crowd[near])
    own = truths.labels[near] == detections.labels[wrong[row]]
    own_truth, own_iou = _largest(row[own], near[own], iou[own], len(wrong))
    other_truth, other_iou = _largest(row[~own], near[~own], iou[~own], len(wrong))

    cases = {
        "localisation": (own_iou >= BACKGROUND) & (own_iou < FOREGROUND),
        "classification": other_iou >= FOREGROUND,
        "duplicate": own_iou >= FOREGROUND,
        "background": np.maximum(own_iou, other_iou) <= BACKGROUND,
    }
    kind = np.where(ignored, "ignored", np.full(len(match), "right", dtype="<U14"))
    kind[wrong] = np.select(list(cases.values()), list(cases), "both")
    about_own = np.isin(kind[wrong], ("localisation", "duplicate"))
    truth = match.copy()
    truth[wrong] = np.where(about_own, own_truth, other_truth)
    truth[kind == "background"] = -1

    unfound = ~truths.crowd
    unfound[truth[kind == "right"]] = False
    missed = unfound.copy()
    missed[truth[np.isin(kind, ("localisation", "classification"))]] = False
    return Errors(detections, truths, kind, truth, unfound, missed)


def _largest(
    row: Int64[ndarray, " P"], truth: Int64[ndarray, " P"], iou: Float64[ndarray, " P"], rows: int
) -> tuple[Int64[ndarray, "{rows}"], Float64[ndarray, "{rows}"]]:
    """Of pairs (row, truth), each row's truth with the largest IoU, and that; -1 and 0 if none."""
    order = np.argsort(iou, kind="stable")
    best, largest = np.full(rows, -1), np.zeros(rows)
    best[row[order]], largest[row[order]] = truth[order], iou[order]  # the last one stays
    return best, largest


def confusion_matrix(
    found: list[Detections], data: Split, score: float | int = 0.3
) -> Int64[ndarray, "k k"]:
    """How often an object of the row's class is taken for one of the column's; k = classes + 1.

    Detections with at least this score and objects are matched as for AP50, but whatever their
    classes. The last column counts objects that no detection finds, the last row detections that
    find no object. So a class's row adds up to its objects, its column to its detections; but for
    ignored objects and what finds them, which are left out.
    """
    detections, truths = as_arrays(found, data)
    detections = Found(*(part[detections.scores >= score] for part in detections))
    match = match_boxes(
        detections._replace(labels=np.zeros_like(detections.labels)),
        truths._replace(labels=np.zeros_like(truths.labels)),
    )
    background = len(data.classes)
    matrix = np.zeros((background + 1, background + 1), dtype=np.int64)
    counted = ~np.append(truths.crowd, False)[match]  # the appended is [-1], no object
    taken_from = np.append(truths.labels, background)[match]
    np.add.at(matrix, (taken_from[counted], detections.labels[counted]), 1)
    unfound = ~truths.crowd
    unfound[match[match >= 0]] = False
    np.add.at(matrix, (truths.labels[unfound], background), 1)
    return matrix


def precision_recall_curves(
    found: list[Detections], data: Split
) -> dict[str, Float64[ndarray, "101"]]:
    """Interpolated precision at `RECALLS` and IoU 0.5 of each class that has something to find."""
    precision = evaluate_boxes(*as_arrays(found, data), len(data.classes)).precision
    curves = dict(zip(data.classes, precision[0, :, :, 0, -1].T, strict=True))
    return {name: curve for name, curve in curves.items() if not np.isnan(curve[0])}


# --- The worst images ----------------------------------------------------------------------------


class Error(NamedTuple):
    """One error in an image."""

    kind: str  # as in `ORACLES`
    what: str  # "cylinder 0.87 is a box"
    box: Float64[ndarray, " 4"]  # xyxy in pixels, of the detection; of the object if missed
    score: float | None  # None if missed


class BadImage(NamedTuple):
    """An image, and what is wrong there: misses first, then the surest error first."""

    image: int  # index into the split
    loss: float
    errors: list[Error]


def worst(
    found: list[Detections], data: Split, count: int, score: float | int = 0.3
) -> list[BadImage]:
    """The images that lose most, worst first; fewer than `count` if the others are faultless.

    An image loses 1 for each object that no detection of at least this score finds, and for each
    wrong detection its score: the surer, the worse.

    Raises:
        LabError: there is nothing to find.
    """
    errors = find_errors(found, data, score)
    wrong = np.isin(errors.kind, list(ORACLES))
    loss = np.bincount(errors.truths.images[errors.unfound], minlength=len(data.images))
    loss = loss + np.bincount(
        errors.found.images[wrong], errors.found.scores[wrong], minlength=len(data.images)
    )
    images = np.argsort(-loss, kind="stable")[:count]
    return [
        BadImage(image, float(loss[image]), _errors_of(image, errors, data.classes))
        for image in images.tolist()
        if loss[image] > 0
    ]


def _errors_of(image: int, errors: Errors, classes: tuple[str, ...]) -> list[Error]:
    truths, found = errors.truths, errors.found
    listed = [
        Error("missed", f"{classes[truths.labels[g]]} missed", truths.boxes[g], None)
        for g in np.flatnonzero(errors.missed & (truths.images == image))
    ]
    wrong = np.flatnonzero(np.isin(errors.kind, list(ORACLES)) & (found.images == image))
    about = errors.truth[wrong]
    ious = box_iou(found.boxes[wrong], truths.boxes[about], truths.crowd[about])
    for d, g, iou in zip(wrong, about, ious, strict=True):
        object_ = classes[truths.labels[g]]
        why = {
            "classification": f"is a {object_}",
            "localisation": f"has IoU {iou:.2f}",
            "both": f"has IoU {iou:.2f} with a {object_}",
            "duplicate": "was found already",
            "background": "is not there",
        }[errors.kind[d]]
        what = f"{classes[found.labels[d]]} {found.scores[d]:.2f} {why}"
        listed.append(Error(str(errors.kind[d]), what, found.boxes[d], float(found.scores[d])))
    return listed


# --- Tables and pictures -------------------------------------------------------------------------


def error_table(found: list[Detections], data: Split) -> str:
    """A Markdown table of the kinds of error, their number and their cost, dearest first.

    Raises:
        LabError: there is nothing to find.
    """
    errors = find_errors(found, data)
    counts, costs = errors.counts(), errors.costs()
    right = int((errors.kind == "right").sum())
    lines = [
        f"AP50 {errors.fixed_ap50():.3f}: {right} of {right + counts['false negatives']} objects "
        f"found, {counts['false positives']} false positives of any score",
        "",
        "| error | count | dAP50 | what the oracle does |",
        "|---|---:|---:|---|",
    ]
    for kind in (*sorted(ORACLES, key=lambda kind: -costs[kind]), *TOTALS):
        oracle = (ORACLES | TOTALS)[kind]
        lines.append(f"| {kind} | {counts[kind]} | {costs[kind]:.3f} | {oracle} |")
    return "\n".join(lines) + "\n"


def draw_errors(found: list[Detections], data: Split, score: float | int = 0.3) -> Figure:
    """Cost of each kind of error, confusion matrix at a score, precision-recall curves.

    Raises:
        LabError: there is nothing to find.
    """
    errors = find_errors(found, data)
    figure = Figure(figsize=(14, 4.4), layout="constrained")
    costs, confusion, curves = figure.subplots(1, 3, width_ratios=(1.15, 1, 1.05))
    _draw_costs(costs, errors)
    _draw_confusion(confusion, confusion_matrix(found, data, score), data.classes, score)
    _draw_curves(curves, precision_recall_curves(found, data), data.classes)
    return figure


def _draw_costs(axis: Axes, errors: Errors) -> None:
    costs, counts = errors.costs(), errors.counts()
    names = [*ORACLES, *TOTALS]
    place = [*range(len(ORACLES)), *(len(ORACLES) + 0.5 + i for i in range(len(TOTALS)))]
    values = [costs[name] for name in names]
    colours = [KIND_COLOURS.get(name, "tab:grey") for name in names]
    bars = axis.barh(place, values, color=colours)
    axis.bar_label(bars, [f"{value:.3f}" for value in values], padding=3, fontsize=9, color="black")
    axis.set_yticks(place, [f"{name} ({counts[name]})" for name in names])
    axis.invert_yaxis()
    axis.set_xlim(0, 1.18 * max(*values, 0.01))
    axis.set_xlabel("dAP50 if fixed alone")
    axis.set_title(f"What errors cost (AP50 {errors.fixed_ap50():.3f})")
    axis.spines[["top", "right"]].set_visible(False)


def _draw_confusion(
    axis: Axes, matrix: Int64[ndarray, "k k"], classes: tuple[str, ...], score: float | int
) -> None:
    share = matrix / matrix.sum(1, keepdims=True).clip(min=1)
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(matrix))
    size = min(9, 120 / len(matrix))
    axis.set_xticks(ticks, [*classes, "missed"], rotation=90 if len(matrix) > 5 else 0, size=size)
    axis.set_yticks(ticks, [*classes, "nothing"], size=size)
    if len(matrix) <= 13:  # more numbers could not be read
        for row, column in [*np.ndindex(matrix.shape)][:-1]:  # nothing that is missed: no count
            colour = "white" if share[row, column] > 0.5 else "black"
            axis.text(column, row, str(matrix[row, column]), color=colour, fontsize=size,
                      ha="center", va="center")  # fmt: skip
    for line in (axis.axhline, axis.axvline):
        line(len(classes) - 0.5, color="grey", linewidth=0.8)
    axis.set_xlabel("found as")
    axis.set_ylabel("is")
    axis.set_title(f"Taken for what, at score {score:g} or more")


def _draw_curves(
    axis: Axes, curves: dict[str, Float64[ndarray, "101"]], classes: tuple[str, ...]
) -> None:
    few = len(curves) <= len(COLOURS)
    for name, curve in curves.items():
        colour = COLOURS[classes.index(name) % len(COLOURS)] if few else "lightgrey"
        label = f"{name} (AP50 {curve.mean():.3f})" if few else None
        axis.plot(RECALLS, curve, color=colour, label=label)
    if len(curves) > 1:
        mean = np.mean(list(curves.values()), axis=0)
        label = f"mean (AP50 {mean.mean():.3f})"
        axis.plot(RECALLS, mean, color="black", linestyle="--", linewidth=1, label=label)
    axis.set(xlim=(0, 1), ylim=(0, 1.03), xlabel="recall", ylabel="precision")
    axis.set_title("Precision and recall at IoU 0.5")
    axis.legend(loc="lower left", fontsize=9, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)


def draw_worst(
    found: list[Detections], data: Split, count: int = 12, score: float | int = 0.3
) -> Figure:
    """The images that lose most (`worst`), with a line for each error.

    Objects are dashed (grey if ignored), right detections green, wrong ones and missed objects in
    the colour of their kind.

    Raises:
        LabError: there is nothing to find.
    """
    images = worst(found, data, count, score)
    columns = min(4, max(1, len(images)))
    rows = max(1, -(-len(images) // columns))
    figure = Figure(figsize=(3.3 * columns, 4.3 * rows + 0.4), layout="constrained")
    axes = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=(3.3, 1) * rows)
    for axis in axes.flat:
        axis.set_axis_off()
    if not images:
        axes[0, 0].text(0.5, 0.5, "no errors", ha="center")
        return figure
    errors = find_errors(found, data, score)
    pictures, captions = axes[0::2].ravel(), axes[1::2].ravel()
    for picture, caption, bad in zip(pictures, captions, images, strict=False):
        _draw_bad_image(picture, bad, errors, data)
        _write_errors(caption, bad.errors)
    handles = [Patch(color=colour, label=kind) for kind, colour in KIND_COLOURS.items()]
    handles.append(Patch(color="lime", label="right"))
    figure.legend(handles=handles, loc="outside upper center", frameon=False,
                  ncols=2 * columns, fontsize=9)  # fmt: skip
    return figure


def _draw_bad_image(axis: Axes, bad: BadImage, errors: Errors, data: Split) -> None:
    axis.imshow(data.images[bad.image].permute(1, 2, 0).numpy())
    here = errors.truths.images == bad.image
    for box, ignored in zip(errors.truths.boxes[here], errors.truths.crowd[here], strict=True):
        draw_box(axis, torch.from_numpy(box), "grey" if ignored else "white", dashed=True)
    for box in errors.found.boxes[(errors.found.images == bad.image) & (errors.kind == "right")]:
        draw_box(axis, torch.from_numpy(box), "lime")
    for error in bad.errors:
        text = "" if error.score is None else f"{error.score:.2f}"
        draw_box(axis, torch.from_numpy(error.box), KIND_COLOURS[error.kind], text=text)
    name = f"image {bad.image}" if not data.files else data.files[bad.image].name
    axis.set_title(f"{name}: loses {bad.loss:.2f}", fontsize=9)


def _write_errors(axis: Axes, errors: list[Error], most: int = 5) -> None:
    """A line for each error, in the colour of its kind; at most so many."""
    lines = [(error.what, KIND_COLOURS[error.kind]) for error in errors]
    if len(lines) > most:
        lines[most - 1 :] = [(f"and {len(lines) - most + 1} more", "black")]
    for number, (text, colour) in enumerate(lines):
        axis.text(0.02, 1 - number / most, text, color=colour, fontsize=9, va="top")
