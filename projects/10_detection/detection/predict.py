"""Use a trained detector: evaluate it on a split, or find objects in pictures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from PIL import Image, ImageOps
from torch import Tensor

from detection.augment import draw_augmentations
from detection.backbone import make_backbone
from detection.config import AugmentConfig, ErrorsConfig, EvaluateConfig, PredictConfig
from detection.data import Split, load
from detection.errors import draw_errors, draw_worst, error_table
from detection.evaluate import COLOURS, average_precision, detect_all, draw_box, draw_predictions
from detection.letterbox import from_letterbox, read_letterboxed
from detection.model import Detections, Detector
from trainloop import (
    LabError,
    atomic_write,
    latest_checkpoint,
    load_checkpoint,
    load_into,
    pick_device,
    write_text,
)


def load_detector(path: Path | None, device: torch.device) -> tuple[Detector, dict[str, Any]]:
    """The averaged model of a checkpoint (the newest run's best if None), and the checkpoint.

    Raises:
        LabError: there is none, it cannot be read, or it is another project's or of `pretrain`.
    """
    path = path or latest_checkpoint("detection")
    checkpoint = load_checkpoint(path, "detection")
    if checkpoint["command"] != "train":
        raise LabError(f"{path} was written by `{checkpoint['command']}`: name one of `train`")
    config = checkpoint["config"]
    backbone = make_backbone(config["backbone"].removesuffix("-imagenet"), tuple(config["widths"]))
    centerness = config["assignment"] == "centre"
    model = Detector(len(checkpoint["notes"]["classes"]), backbone, centerness=centerness)
    weights = {k: v for k, v in checkpoint["states"]["ema"].items() if k != "updates"}
    load_into(path, {"model": model}, {"model": weights})
    return model.eval().to(device, memory_format=torch.channels_last), checkpoint


def evaluate_checkpoint(config: EvaluateConfig) -> dict[str, float | None]:
    """Print a checkpoint's average precision on a split and draw its detections."""
    data, found = detect_split(config)
    scores = average_precision(found, data)
    for name, value in scores.items():
        print(f"{config.split}/{name:<14} {'undefined' if value is None else f'{value:.3f}'}")
    save_figure(config.out, draw_predictions(data, found))
    print(f"picture: {config.out}")
    return scores


def detect_split(config: EvaluateConfig) -> tuple[Split, list[Detections]]:
    """The split that is asked for, and what the checkpoint finds in it.

    Raises:
        LabError: the data has other classes than the checkpoint.
    """
    device = pick_device(config.device)
    model, checkpoint = load_detector(config.checkpoint, device)
    trained = checkpoint["config"]
    data = load(config.data or trained["data"], config.split, trained["image_size"])
    classes = tuple(checkpoint["notes"]["classes"])
    if data.classes != classes:
        raise LabError(
            f"the checkpoint knows {', '.join(classes)}, the data {', '.join(data.classes)}: "
            "name data with the same classes"
        )
    return data, detect_all(model, data, device)


def explain_errors(config: ErrorsConfig) -> None:
    """Print and draw what kinds of error cost how much, and the worst images."""
    data, found = detect_split(config)
    config.out.mkdir(parents=True, exist_ok=True)
    table = error_table(found, data)
    print(table)
    write_text(config.out / "errors.md", table)
    save_figure(config.out / "errors.png", draw_errors(found, data, score=config.score))
    save_figure(config.out / "worst.png", draw_worst(found, data, config.worst, config.score))
    print(f"pictures: {config.out / 'errors.png'}, {config.out / 'worst.png'}")


def show_augmentations(config: AugmentConfig) -> None:
    """Draw what each augmentation does to the first training images."""
    data = load(config.data, "train", config.image_size).first(config.count)
    save_figure(config.out, draw_augmentations(data, count=config.count, seed=config.seed))
    print(f"picture: {config.out}")


def predict_images(config: PredictConfig) -> list[dict[str, Any]]:
    """Draw the boxes found in each picture, and write them all as JSON.

    A picture that cannot be read is named and left out; the command then ends with code 2 after
    the others.
    """
    device = pick_device(config.device)
    model, checkpoint = load_detector(config.checkpoint, device)
    classes, size = checkpoint["notes"]["classes"], checkpoint["config"]["image_size"]
    config.out.mkdir(parents=True, exist_ok=True)
    results, unreadable = [], []
    for number, path in enumerate(config.images):
        try:
            square, (width, height) = read_letterboxed(path, size)
        except Exception as error:  # Pillow raises a dozen kinds for a damaged picture
            unreadable.append(f"{path} ({error})")
            continue
        one = model.detect(torch.from_numpy(square.copy())[None].to(device), score=config.score)[0]
        boxes = from_letterbox(one.boxes.cpu().numpy(), (width, height), size)
        found = [
            {
                "label": classes[int(label)],
                "score": round(float(score), 4),
                "box_xyxy": [round(float(side), 1) for side in box],
            }
            for box, score, label in zip(boxes, one.scores, one.labels, strict=True)
        ]
        same = sum(path.stem == other.stem for other in config.images[:number])  # a/1.png, b/1.png
        picture = config.out / f"{path.stem}_boxes{f'_{same + 1}' if same else ''}.png"
        save_figure(picture, draw_found(path, found, classes))
        results.append({"image": str(path), "width": width, "height": height, "objects": found})
        print(f"{path}: {len(found)} objects, {picture}")
    text = json.dumps(results, indent=2, ensure_ascii=False) + "\n"
    write_text(config.out / "predictions.json", text)
    if unreadable:
        raise LabError(f"no readable picture: {'; '.join(unreadable)}")
    return results


def draw_found(path: Path, found: list[dict[str, Any]], classes: list[str]) -> Figure:
    """The picture as it is, with a box, a class and a score for each object."""
    with Image.open(path) as photo:
        pixels = np.asarray(ImageOps.exif_transpose(photo).convert("RGB"))
    height, width = pixels.shape[:2]
    inches = 8 / max(width, height)  # by the longer side: a tall thin picture once took gigabytes
    figure = Figure(figsize=(max(width * inches, 0.5), max(height * inches, 0.5)))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.imshow(pixels)
    axis.axis("off")
    for one in found:
        colour = COLOURS[classes.index(one["label"]) % len(COLOURS)]
        box: Float[Tensor, " 4"] = torch.tensor(one["box_xyxy"])
        draw_box(axis, box, colour, text=f"{one['label']} {one['score']:.2f}", size=11)
    return figure


def save_figure(path: Path, figure: Figure) -> None:
    """Write a PNG, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, lambda file: figure.savefig(file, format="png"))
