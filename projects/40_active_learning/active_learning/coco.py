"""Photos and labels in COCO's JSON, as CVAT and Label Studio export it."""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from PIL import Image, ImageOps, UnidentifiedImageError

from active_learning.scenes import Frames
from trainloop import check
from trainloop.batches import mix

PHOTOS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
UPLOAD = re.compile(r"^[0-9a-f]{8}-")  # what Label Studio puts before the name of an upload
SHARES = {"pool": (0, 60), "val": (60, 75), "test": (75, 100)}  # hundredths of a folder's photos
PAD = 110  # the grey beside a photo that is not square


@dataclass(frozen=True)
class Labels:
    """What a label file says: of each photo its boxes.

    Attributes:
        photos: (label, x1, y1, x2, y2) of each object in pixels of the photo, by the photo's name
            within the pool; an empty list where it shows nothing.
        sizes: width and height that the file states, by the same name, where it does.
        classes: names of the categories, in the order of their ids.
    """

    photos: dict[str, list[tuple[str, float, float, float, float]]]
    sizes: dict[str, tuple[int, int]]
    classes: tuple[str, ...]


def find_photos(folder: Path) -> list[str]:
    """Every photo below the folder, by its path from there, sorted.

    Raises:
        LabError: no such folder, or no photo in it.
    """
    check(folder.is_dir(), f"no folder {folder}: give the one with the photos as --data")
    found = [p for p in folder.rglob("*") if p.suffix.lower() in PHOTOS and p.is_file()]
    check(bool(found), f"{folder} holds no photo: {', '.join(sorted(PHOTOS))} are read")
    return sorted(path.relative_to(folder).as_posix() for path in found)


def read_labels(path: Path, names: list[str]) -> Labels:
    """A COCO JSON about some of the photos `names`.

    A photo is known by its path, else by its file's name, else by that without the eight letters
    that Label Studio puts in front of an upload's.

    Raises:
        LabError: no COCO JSON, or one about unknown photos, one photo twice, a name that fits two
            photos, unknown images or categories, impossible boxes, no box at all, or boxes that
            are a net's and not a person's.
    """
    coco = read_json(path)
    images = by_id(coco, "images", "file_name", path)
    categories = by_id(coco, "categories", "name", path)
    check(bool(images), f"{path} lists no images: export it again, with those that are labelled")
    check(bool(categories), f"{path} lists no categories: export it again in COCO format")
    classes = tuple(categories[key]["name"] for key in sorted(categories))
    check(len(set(classes)) == len(classes), f"{path}: two categories have one name: rename one")

    known, photos, sizes = Names(names), {}, {}
    of_id: dict[Any, str] = {}
    for key, image in images.items():
        name = known.find(image["file_name"], path)
        check(name not in photos, f"{path} lists {name} twice: keep one of them")
        of_id[key], photos[name] = name, []
        size = (image.get("width"), image.get("height"))
        if all(type(side) is int and side > 0 for side in size):
            sizes[name] = size
    for number, one in enumerate(coco["annotations"], 1):
        where = f"{path}: annotation {one.get('id', number)}"
        check(
            one.get("image_id") in of_id,
            f"{where} is of image {one.get('image_id')!r}, which is not listed: export it again",
        )
        check(
            one.get("category_id") in categories,
            f"{where} is of category {one.get('category_id')!r}, which is not listed: export again",
        )
        check(
            "score" not in one,
            f"{where} has a score: it was proposed by a net. Correct it in a labelling tool first",
        )
        box = one.get("bbox")
        sane = isinstance(box, list) and len(box) == 4
        sane = sane and all(type(v) in (int, float) and math.isfinite(v) for v in box)
        check(sane and box[2] > 0 and box[3] > 0, f"{where} has no box with an area: {box!r}")
        x, y, width, height = box
        label = categories[one["category_id"]]["name"]
        photos[of_id[one["image_id"]]].append((label, x, y, x + width, y + height))
    check(
        any(photos.values()),
        f"{path} claims {len(photos)} labelled photos and has not one box: label them first",
    )
    return Labels(photos, sizes, classes)


class Names:
    """Finds a photo by what a label file calls it."""

    def __init__(self, names: list[str]) -> None:
        self.paths = set(names)
        self.bases: dict[str, list[str]] = {}
        for name in names:
            self.bases.setdefault(PurePosixPath(name).name, []).append(name)

    def find(self, said: str, path: Path) -> str:
        """The photo's path within the pool."""
        name = said.replace("\\", "/").removeprefix("./")
        if name in self.paths:
            return name
        base = PurePosixPath(name).name
        for candidate in (base, UPLOAD.sub("", base)):
            fits = self.bases.get(candidate, [])
            check(
                len(fits) < 2,
                f"{path}: {said!r} may be {' or '.join(fits[:2])}: duplicated file names; rename "
                "one, or export with folders",
            )
            if fits:
                return fits[0]
        check(False, f"{path} labels {said!r}, which is not in the pool: add it, or leave it out")
        raise AssertionError


def read_json(path: Path) -> dict[str, list[dict[str, Any]]]:
    """A file's lists of images, annotations and categories."""
    check(path.is_file(), f"no label file {path}")
    try:
        coco = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        check(False, f"{path} is no readable JSON ({error}): export it again in COCO format")
    for key in ("images", "annotations", "categories"):
        entries = coco.get(key) if isinstance(coco, dict) else None
        sane = isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)
        check(sane, f"{path} has no list of {key!r}: export it again in COCO format")
    return coco


def by_id(coco: dict, what: str, text: str, path: Path) -> dict[int, dict[str, Any]]:
    """Images or categories by their id."""
    table: dict[int, dict[str, Any]] = {}
    for entry in coco[what]:
        key = entry.get("id")
        sane = type(key) is int and key not in table
        check(sane, f"{path}: {what}: id {key!r} is not a whole number of its own: export it again")
        named = isinstance(entry.get(text), str) and entry[text]
        check(bool(named), f"{path}: {what}: id {key} has no {text!r}: export it again")
        table[key] = entry
    return table


def read_photo(
    path: Path, size: int, stated: tuple[int, int] | None = None
) -> tuple[ndarray, tuple[int, int]]:
    """RGB, scaled so that the longer side is `size`, in the upper left of a grey square.

    And the photo's own width and height.

    Turned upright as its EXIF says, as labelling tools show it.

    Raises:
        LabError: unreadable, or of another size than the label file states.
    """
    try:
        with Image.open(path) as file:
            photo = ImageOps.exif_transpose(file).convert("RGB")
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
        check(False, f"{path} is no readable photo ({error}): replace it")
    check(
        stated in (None, photo.size),
        f"{path} is {photo.width} x {photo.height} pixels, its labels are for {stated}: relabel it",
    )
    scale = size / max(photo.size)
    small = photo.resize([max(1, round(scale * side)) for side in photo.size], Image.Resampling.BOX)
    square = Image.new("RGB", (size, size), (PAD,) * 3)
    square.paste(small)
    return np.asarray(square), photo.size


def make_frames(
    folder: Path, names: list[str], labels: Labels, size: int
) -> tuple[Frames, list[tuple[int, int]]]:
    """The photos as frames, with what is labelled of them, and the width and height of each."""
    images, sizes = [], []
    for name in names:
        image, own = read_photo(folder / name, size, labels.sizes.get(name))
        images.append(image)
        sizes.append(own)
    slots = max([1, *map(len, labels.photos.values())])
    boxes = np.zeros((len(names), slots, 4), np.float32)
    numbers = np.full((len(names), slots), -1)
    for row, name in enumerate(names):
        for slot, (label, *box) in enumerate(labels.photos.get(name, [])):
            boxes[row, slot] = np.clip(np.array(box) * size / max(sizes[row]), 0, size)
            numbers[row, slot] = labels.classes.index(label)
    return Frames(
        images=torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(),
        boxes=torch.from_numpy(boxes),
        labels=torch.from_numpy(numbers),
        classes=labels.classes,
        clips=torch.arange(len(names)),
        names=tuple(names),
    ), sizes


def load_folder(folder: Path, split: str, size: int) -> Frames:
    """A split of a folder whose every photo is labelled: 60% pool, 15% val, 25% test.

    A photo's split follows from its name, so that adding some moves none.

    Raises:
        LabError: no photos, no label file or several, photos without labels, a split that is empty.
    """
    names = find_photos(folder)
    files = sorted({*folder.glob("*.json"), *folder.glob("annotations/*.json")})
    check(
        len(files) == 1,
        f"{folder} needs one label file in COCO format, annotations.json, not {len(files)}",
    )
    labels = read_labels(files[0], names)
    missing = [name for name in names if name not in labels.photos]
    check(
        not missing,
        f"{files[0]} does not list {len(missing)} of {len(names)} photos, first "
        f"{missing[0] if missing else ''}: a study needs every label (`next` does not)",
    )
    low, high = SHARES[split]
    chosen = [name for name in names if low <= hundredth(name) < high]
    check(bool(chosen), f"no photo of {folder} falls to the {split}: add photos")
    return make_frames(folder, chosen, labels, size)[0]


def hundredth(name: str) -> int:
    """0..99, from the file's name alone."""
    code = int.from_bytes(PurePosixPath(name).name.encode(), "big")
    return mix(code % (1 << 61), code >> 61) % 100
