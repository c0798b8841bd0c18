"""Detections of a whole split, their average precision, and pictures of them."""

import contextlib
import io

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy import ndarray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from detection.average_precision import Found, Truths, box_area, evaluate_boxes
from detection.data import Split
from detection.model import Detections, Detector

COLOURS = ("tab:orange", "tab:cyan", "tab:pink", "tab:olive", "tab:green", "tab:purple", "tab:red")
STATS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large",
         "ar_1", "ar_10", "ar_100", "ar_small", "ar_medium", "ar_large")  # fmt: skip
"""COCOeval's `stats`, by our names."""


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
    evaluation = evaluate_boxes(*as_arrays(found, data), len(data.classes))
    figures = evaluation.figures()
    of_class = zip(data.classes, evaluation.class_figures(), strict=True)
    return {name: figures[name] for name in ("ap", "ap50", "ap75")} | {
        f"ap_{name}": value for name, value in of_class
    }


def as_arrays(found: list[Detections], data: Split) -> tuple[Found, Truths]:
    """All images' detections and objects, image by image; an object's area is that of its box."""
    detections = Found(
        images=np.repeat(np.arange(len(found)), [len(one.scores) for one in found]),
        labels=torch.cat([one.labels for one in found]).numpy(),
        boxes=torch.cat([one.boxes for one in found]).double().numpy(),
        scores=torch.cat([one.scores for one in found]).double().numpy(),
    )
    image, slot = (data.labels >= 0).nonzero(as_tuple=True)
    boxes = data.boxes[image, slot].double().numpy()
    truths = Truths(
        images=image.numpy(),
        labels=data.labels[image, slot].numpy(),
        boxes=boxes,
        areas=box_area(boxes),
        crowd=data.ignore[image, slot].numpy(),
    )
    return detections, truths


def largest_difference(found: list[Detections], data: Split) -> float:
    """How far `average_precision.py` is from pycocotools in any of COCO's 12 figures or any class.

    At most 1, which is also what it counts if only one of them finds a figure undefined.
    """
    evaluation = evaluate_boxes(*as_arrays(found, data), len(data.classes))
    of_class = zip(data.classes, evaluation.class_figures(), strict=True)
    ours = evaluation.figures() | {f"ap/{name}": value for name, value in of_class}
    pairs = [(ours[name], value) for name, value in pycocotools_figures(found, data).items()]
    return max(float(a is not b) if a is None or b is None else abs(a - b) for a, b in pairs)


def pycocotools_figures(found: list[Detections], data: Split) -> dict[str, float | None]:
    """The same by pycocotools, the oracle: COCO's 12 figures (`Evaluation.figures`), then the
    classes' AP as ap/<class>; None where there is nothing to find."""
    coco = pycocotools_evaluation(*as_arrays(found, data), len(data.images), len(data.classes))
    of_class = coco.eval["precision"][:, :, :, 0, -1].mean((0, 1))  # all -1 where undefined
    values = np.concatenate([coco.stats, of_class])
    names = [*STATS, *(f"ap/{name}" for name in data.classes)]
    return {
        name: float(value) if value > -1 else None
        for name, value in zip(names, values, strict=True)
    }


def pycocotools_evaluation(found: Found, truths: Truths, images: int, classes: int) -> COCOeval:
    """What pycocotools makes of detections and truths in so many images and of so many classes."""

    def coco(objects: Found | Truths, **fields: ndarray) -> COCO:
        low, high = objects.boxes[:, :2], objects.boxes[:, 2:]
        columns = {
            "image_id": objects.images,
            "category_id": objects.labels,
            "bbox": np.hstack([low, high - low]),
            **fields,
        }
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        result = COCO()
        result.dataset = {
            "images": [{"id": image} for image in range(images)],
            "categories": [{"id": label} for label in range(classes)],
            "annotations": [
                {"id": number} | dict(zip(columns, row, strict=True))
                for number, row in enumerate(rows, start=1)  # COCOeval takes 0 for "not matched"
            ],
        }
        result.createIndex()
        return result

    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        evaluation = COCOeval(
            coco(truths, area=truths.areas, iscrowd=truths.crowd.astype(int)),
            coco(found, area=box_area(found.boxes), score=found.scores),
            "bbox",
        )
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


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
