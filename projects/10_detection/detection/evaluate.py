"""Average precision by pycocotools, and pictures of what was found."""

import contextlib
import io

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from detection.data import Split
from detection.model import Detections, Detector

COLOURS = ("tab:orange", "tab:cyan", "tab:pink", "tab:olive", "tab:green", "tab:purple", "tab:red")


def detect_all(model: Detector, data: Split, device: torch.device, batch: int = 50):
    """Detections in every image of a split, on the CPU; the model in evaluation mode meanwhile."""
    was_training = model.training
    model.eval()
    found: list[Detections] = []
    for images in data.images.split(batch):
        batch_found = model.detect(images.to(device))
        found.extend(Detections(*(tensor.cpu() for tensor in one)) for one in batch_found)
    model.train(was_training)
    return found


def average_precision(found: list[Detections], data: Split) -> dict[str, float | None]:
    """COCO's figures, in 0..1; None where no image has an object to find.

    Objects marked `ignore` count as COCO's crowd regions: what is found there is not held against
    the detector, and not finding them is no miss.

    Returns:
        ap: mean over classes and the IoU thresholds 0.50, 0.55 .. 0.95; ap50, ap75: at one
        threshold; ap_<class>: of each class.
    """
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": index} for index in range(len(data.images))],
        "categories": [{"id": label, "name": name} for label, name in enumerate(data.classes)],
        "annotations": [],
    }
    image, slot = (data.labels >= 0).nonzero(as_tuple=True)
    for number, (i, j) in enumerate(zip(image.tolist(), slot.tolist(), strict=True), start=1):
        x1, y1, x2, y2 = data.boxes[i, j].tolist()
        truth.dataset["annotations"].append(
            {
                "id": number,  # from 1: COCOeval takes 0 for "not matched"
                "image_id": i,
                "category_id": int(data.labels[i, j]),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": int(data.ignore[i, j]),
            }
        )
    names = [f"ap_{name}" for name in data.classes]
    rows = [
        np.column_stack(
            [
                np.full(len(one.scores), index),
                one.boxes[:, :2],
                one.boxes[:, 2:] - one.boxes[:, :2],
                one.scores,
                one.labels,
            ]
        )
        for index, one in enumerate(found)
    ]
    table = np.concatenate(rows).astype(np.float64)
    if len(table) == 0 or not truth.dataset["annotations"]:
        to_find = set(data.labels[~data.ignore].tolist()) - {-1}
        of_all = dict.fromkeys(["ap", "ap50", "ap75"], 0.0 if to_find else None)
        return of_all | {n: 0.0 if label in to_find else None for label, n in enumerate(names)}
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        truth.createIndex()
        coco = COCOeval(truth, truth.loadRes(table), "bbox")
        coco.evaluate()
        coco.accumulate()
    precision = coco.eval["precision"][:, :, :, 0, -1]  # (thresholds, recalls, classes)

    def mean(part: np.ndarray) -> float | None:
        return float(part[part > -1].mean()) if (part > -1).any() else None

    return {
        "ap": mean(precision),
        "ap50": mean(precision[0]),
        "ap75": mean(precision[5]),
        **{name: mean(precision[:, :, label]) for label, name in enumerate(names)},
    }


def draw_predictions(
    data: Split, found: list[Detections], count: int = 24, score: float = 0.4
) -> Figure:
    """A grid of images: predictions above `score` in their class's colour, the truth dashed."""
    count = min(count, len(data.images))
    columns = min(6, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(2.1 * columns, 2.1 * rows + 0.35), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    for index, axis in zip(range(count), axes, strict=False):
        axis.imshow(data.images[index].permute(1, 2, 0).numpy())
        for box, label, ignored in zip(
            data.boxes[index], data.labels[index], data.ignore[index], strict=True
        ):
            if label >= 0:
                draw_box(axis, box, "grey" if ignored else "white", dashed=True)
        one = found[index]
        for box, probability, label in zip(one.boxes, one.scores, one.labels, strict=True):
            if probability >= score:
                colour = COLOURS[int(label) % len(COLOURS)]
                draw_box(axis, box, colour, text=f"{probability:.2f}")
    handles = [
        Patch(color=COLOURS[label % len(COLOURS)], label=name)
        for label, name in enumerate(data.classes[:12])
    ]
    figure.legend(handles=handles, loc="outside upper center", frameon=False,
                  ncols=len(handles), fontsize=9)  # fmt: skip
    return figure


def draw_box(
    axis: Axes,
    box: Float[Tensor, " 4"],
    colour: str,
    text: str = "",
    dashed: bool = False,
    size: int = 6,
) -> None:
    """One box (xyxy in pixels) on a matplotlib axis that shows the image."""
    x1, y1, x2, y2 = (box - 0.5).tolist()  # imshow puts the centre of pixel 0 at 0
    style = {"linestyle": (0, (2, 2)), "linewidth": 0.8} if dashed else {"linewidth": 1.4}
    axis.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, **style))
    if text:
        axis.text(x1, y1 - 1, text, fontsize=size, color="black", va="bottom",
                  bbox={"facecolor": colour, "edgecolor": "none", "pad": 0.6})  # fmt: skip
