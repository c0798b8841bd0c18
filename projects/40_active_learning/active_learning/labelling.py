"""Which photos to label next, for real: labels come from CVAT or Label Studio and go back."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor
from torch.nn import functional as F

from active_learning.coco import Labels, find_photos, make_frames, read_labels
from active_learning.config import CurveConfig, NextConfig
from active_learning.detector import detect, fit
from active_learning.model import Detections
from active_learning.pictures import draw_sheet
from active_learning.predictions import predict
from active_learning.protocol import choose
from active_learning.scenes import Frames
from active_learning.strategies import k_centres
from trainloop import atomic_write, check, pick_device, progress_bar
from trainloop.batches import mix

PROPOSED_FROM = 0.3  # score of a box that a person is given to correct


def next_images(config: NextConfig) -> list[str]:
    """Write the next photos to label, with the net's boxes to correct; returns their names.

    Nothing labelled: photos that differ from each other as thumbnails. Else a detector is trained
    on what is labelled, looks at the rest, and a strategy chooses.

    Raises:
        LabError: see `coco.read_labels`; or fewer photos without labels than asked for.
    """
    names = find_photos(config.data)
    labels = join([(path, read_labels(path, names)) for path in config.labelled])
    rows = [row for row, name in enumerate(names) if name in labels.photos]
    left = len(names) - len(rows)
    check(
        config.n <= left,
        f"-n {config.n} photos to label next, and only {left} of {len(names)} are without labels",
    )
    bare = sum(not boxes for boxes in labels.photos.values())
    if bare:
        say(f"{bare} of {len(rows)} labelled photos have no box: taken as showing nothing")
    frames, sizes = make_frames(config.data, names, labels, config.image_size)
    if rows:
        chosen, found = ask(config, frames, rows)
    else:
        say("nothing is labelled yet: choosing photos that differ from each other")
        small = F.interpolate(frames.images.float(), size=(8, 8), mode="area").flatten(1)
        chosen = k_centres(small, torch.zeros(len(names), dtype=torch.bool), config.n)
        found = None
    picked = [names[row] for row in chosen.tolist()]
    config.out.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{name}\n" for name in picked)
    atomic_write(config.out / "next.txt", lambda file: file.write(text.encode()))
    coco = json.dumps(proposals(frames, chosen, found, sizes, labels.classes), indent=1).encode()
    atomic_write(config.out / "next.json", lambda file: file.write(coco))
    sheet = draw_sheet(
        frames, {"next": [chosen.tolist()]}, f"the first of {config.n} to label next"
    )
    atomic_write(config.out / "next.png", lambda file: sheet.savefig(file, format="png", dpi=150))
    say(f"{len(picked)} photos in {config.out / 'next.txt'}; boxes to correct in next.json")
    return picked


def ask(
    config: NextConfig, frames: Frames, rows: list[int]
) -> tuple[Int64[Tensor, " n"], Detections]:
    """Train on the labelled rows; what the strategy chooses, and what the net finds everywhere."""
    device = pick_device("auto")
    options = CurveConfig(steps=config.steps, image_size=config.image_size, seed=config.seed,
                          data=str(config.data))  # fmt: skip
    count = options.members if config.strategy == "committee" else 1
    labelled = frames.take(torch.tensor(rows))
    with progress_bar(count * config.steps, "step", f"training on {len(rows)} photos") as bar:
        nets = tuple(
            fit(labelled, options, device, mix(config.seed, member), lambda *_: bar.update())
            for member in range(count)
        )
    passes = options.passes if config.strategy == "bald" else 0
    seen = predict(nets[0], frames, device, passes, nets if count > 1 else ())
    chosen = choose(config.strategy, seen, rows, frames, config.n, mix(config.seed, len(rows)))
    return chosen, detect(nets[0], frames, device)


def join(files: list[tuple[Path, Labels]]) -> Labels:
    """Several label files as one; classes are told apart by their names.

    Raises:
        LabError: two files label the same photo.
    """
    photos, sizes, classes = {}, {}, {}
    for path, labels in files:
        twice = sorted(set(photos) & set(labels.photos))
        check(not twice, f"{path} labels {twice[0] if twice else ''} again: give it once")
        photos |= labels.photos
        sizes |= labels.sizes
        classes |= dict.fromkeys(labels.classes)
    return Labels(photos, sizes, tuple(classes))


def proposals(
    frames: Frames,
    chosen: Int64[Tensor, " n"],
    found: Detections | None,
    sizes: list[tuple[int, int]],
    classes: tuple[str, ...],
) -> dict:
    """COCO of the chosen photos: boxes in their own pixels, with scores, to be corrected."""
    images, annotations = [], []
    for number, row in enumerate(chosen.tolist(), 1):
        width, height = sizes[row]
        name = frames.names[row]
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        scale = frames.images.shape[-1] / max(sizes[row])
        if found is None:
            continue
        for box, score, label in zip(
            found.boxes[row], found.scores[row].tolist(), found.labels[row].tolist(), strict=True
        ):
            if score >= PROPOSED_FROM:
                x1, y1, x2, y2 = (
                    np.round((box / scale).tolist(), 1).clip(0, [width, height] * 2).tolist()
                )
                wide, high = round(x2 - x1, 1), round(y2 - y1, 1)
                annotations.append({
                    "id": len(annotations) + 1, "image_id": number, "category_id": label + 1,
                    "bbox": [x1, y1, wide, high], "area": round(wide * high, 1),
                    "iscrowd": 0, "score": round(score, 3),
                })  # fmt: skip
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": key, "name": name} for key, name in enumerate(classes, 1)],
    }


def say(message: str) -> None:
    """To the person, not to a pipe."""
    print(message, file=sys.stderr, flush=True)
