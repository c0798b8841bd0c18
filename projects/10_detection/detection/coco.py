"""A folder of photos and annotations in COCO format.

What can be put right without guessing (boxes over the edge, a broken photo) is, with a line on
stderr. Anything else stops with one line: a data set that shrank in silence costs more.
"""

import json
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy import ndarray

from detection.letterbox import read_letterboxed, to_letterbox
from detection.split import Split, SplitName, name_hash
from trainloop.errors import LabError
from trainloop.progress import progress_bar

LAYOUTS = (
    "annotations/instances_train*.json with train*/ (and val, test), train/_annotations.coco.json "
    "beside its images (and valid/, test/), or one annotations.json with images/; or in VOC's "
    "format: Annotations/*.xml with JPEGImages/"
)
"""What `data.load` reads, for messages."""
SHARES: dict[tuple[str, ...], dict[str, tuple[str, int, int]]] = {
    ("train",): {"train": ("train", 0, 80), "val": ("train", 80, 90), "test": ("train", 90, 100)},
    ("test", "train"): {"train": ("train", 0, 90), "val": ("train", 90, 100)},
    ("train", "val"): {"val": ("val", 0, 50), "test": ("val", 50, 100)},
}
"""By the annotation files there are: the file and the hundredths of its pictures for a split."""


def load_coco(folder: Path, split: SplitName, image_size: int = 128) -> Split:
    """A split of a folder in COCO format; see `data.load`."""
    folder = folder.expanduser().resolve()
    if not folder.is_dir():
        raise LabError(
            f"no folder {folder}: give 'tabletop', 'voc2007', 'voc2012', or a folder with {LAYOUTS}"
        )
    files = _annotation_files(folder)
    source, low, high = SHARES.get(tuple(sorted(files)), {}).get(split, (split, 0, 100))
    if source not in files or "train" not in files:
        raise LabError(f"{folder} has annotations for {', '.join(files)} only: it needs {LAYOUTS}")
    coco = {name: _read_json(files[name]) for name in {source, "train"}}
    path, categories = files[source], _by_id(coco[source], "categories", "name", files[source])
    classes = {key: categories[key]["name"] for key in sorted(categories)}
    learnt = _by_id(coco["train"], "categories", "name", files["train"])
    if classes != {key: learnt[key]["name"] for key in learnt}:
        raise LabError(f"{path} and {files['train']} differ in their categories: make them agree")
    if len(set(classes.values())) < len(classes):
        raise LabError(f"{path}: two categories have one name: rename or merge them")

    known = _by_id(coco[source], "images", "file_name", path)
    images = {i: one for i, one in known.items() if low <= hundredth(one["file_name"]) < high}
    places = _places(folder, path, images)
    return read_split(coco[source], path, images, places, classes, split, image_size)


def read_split(
    coco: dict,
    path: Path,
    images: dict[int, dict[str, Any]],
    places: dict[int, Path],
    classes: dict[int, str],
    split: SplitName,
    image_size: int,
) -> Split:
    """Some pictures of a COCO dict and their boxes, letterboxed; broken pictures are left out.

    Args:
        coco: its `images` and `annotations` are read.
        path: where it came from, for messages.
        images: those to read, by id.
        places: their files, by id.
        classes: the categories' names, by id.

    Raises:
        LabError: no picture is left, one has another size than it should, or an annotation names
            an image or a category that does not exist.
    """
    if not images:
        raise LabError(f"no picture of {path} falls to {split!r}: add pictures")
    pixels, sizes = {}, {}
    bar = progress_bar(len(images), "photo", f"reading {split}", leave=False)
    with ThreadPoolExecutor() as pool, bar:  # Pillow decodes and resizes outside the GIL
        results = pool.map(lambda i: _read_photo(places[i], image_size, images[i]), images)
        for i, result in zip(images, results, strict=True):
            bar.update()
            if result is not None:
                pixels[i], sizes[i] = result
    if not sizes:
        raise LabError(f"none of the {len(images)} pictures for {split!r} of {path} can be read")
    boxes, labels, ignore = _boxes(coco, path, list(classes), sizes, image_size)
    return Split(
        images=torch.from_numpy(np.stack(list(pixels.values()))),
        boxes=torch.from_numpy(boxes),
        labels=torch.from_numpy(labels),
        ignore=torch.from_numpy(ignore),
        classes=tuple(classes.values()),
        image_ids=tuple(sizes),
        files=tuple(places[i] for i in sizes),
        sizes=tuple(sizes.values()),
        category_ids=tuple(classes),
    )


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _annotation_files(folder: Path) -> dict[str, Path]:
    """The annotation file of each split that the folder has; a lone file counts as train."""
    found = [
        path
        for pattern in ("*.json", "annotations/*.json", "*/_annotations.coco.json")
        for path in sorted(folder.glob(pattern))
        if re.fullmatch(r"_?annotations(\.coco)?|instances.*", path.stem)
    ]
    if len(found) == 1:
        return {"train": found[0]}
    files: dict[str, Path] = {}
    for path in found:
        word = re.search("train|val|test", path.relative_to(folder).as_posix())
        if word is None or word.group() in files:
            raise LabError(f"{path} is one annotation file too many: keep one for each split")
        files[word.group()] = path
    if not files:
        raise LabError(f"no annotations in {folder}: it needs {LAYOUTS}")
    return files


def _read_json(path: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        coco = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise LabError(f"{path} is no readable JSON ({error}): export it again") from error
    for key in ("images", "annotations", "categories"):
        entries = coco.get(key) if isinstance(coco, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise LabError(f"{path} has no list of {key!r}: export it again in COCO format")
    return coco


def _by_id(coco: dict, what: str, text: str, path: Path) -> dict[int, dict[str, Any]]:
    """Categories or images by their id; each needs a whole number of its own, and a `text`."""
    table: dict[int, dict[str, Any]] = {}
    for entry in coco[what]:
        key = entry.get("id")
        if type(key) is not int or key in table:
            raise LabError(f"{path}: {what}: id {key!r} is not a whole number of its own: renumber")
        if not isinstance(entry.get(text), str) or not entry[text]:
            raise LabError(f"{path}: {what}: id {key} has no {text!r}: add it")
        table[key] = entry
    if not table:
        raise LabError(f"{path} lists no {what}: export it again")
    return table


def hundredth(file_name: str) -> int:
    """0..99, from the name alone: where a picture goes does not depend on the others."""
    return name_hash(file_name) % 100


def _places(folder: Path, path: Path, images: dict[int, dict]) -> dict[int, Path]:
    """Each picture's file, wherever the usual layouts put it, never outside the folder."""
    tag = path.stem.removeprefix("instances_")
    word = re.search("train|val|test", tag)
    named = sorted(folder.glob(f"{word.group()}*/")) if word else []
    roots = [path.parent, path.parent / "images", folder, folder / "images"]
    roots += [folder / tag, folder / "images" / tag, *named]
    places = {}
    for key, image in images.items():
        name = image["file_name"].replace("\\", "/")
        spots = [Path(os.path.normpath(root / name)) for root in roots]
        inside = [spot for spot in spots if spot.is_relative_to(folder)]
        places[key] = next(filter(os.path.isfile, inside), None)  # no error for an odd name
        if places[key] is None and len(inside) < len(spots):
            raise LabError(f"{path}: file_name {name!r} leads out of {folder}: correct it")
    missing = [images[key]["file_name"] for key, spot in places.items() if spot is None]
    if missing:
        count = f"{len(missing)} of {len(images)}"
        raise LabError(f"{count} pictures of {path} are missing, first {missing[0]!r}: add them")
    return places


def _read_photo(path: Path, image_size: int, image: dict) -> tuple | None:
    """As `read_letterboxed`; None, with a warning, where there is nothing to be read."""
    stated = (image.get("width"), image.get("height"))
    sane = all(type(side) is int and side > 0 for side in stated)
    try:
        return read_letterboxed(path, image_size, stated if sane else None)
    except LabError:
        raise
    except Exception as error:  # like a damaged zip, a damaged picture can raise anything
        _say(f"warning: {path} is skipped, it is no readable picture ({error})")
        return None


def _has_area(box: Any) -> bool:
    """Four sane numbers, the last two above 0 (JSON may hold NaN, Infinity, null and text)."""
    numbers = isinstance(box, list) and [type(v) in (int, float) for v in box] == [True] * 4
    return numbers and all(abs(v) < 1e9 for v in box) and box[2] > 0 and box[3] > 0


def _boxes(
    coco: dict, path: Path, category_ids: list[int], sizes: dict, image_size: int
) -> tuple[ndarray, ndarray, ndarray]:
    """Boxes (N, M, 4), labels (N, M), ignore (N, M) of the N pictures in `sizes`, letterboxed."""
    found: dict[int, list] = {key: [] for key in sizes}
    known = {image["id"] for image in coco["images"]}
    flat = outside = 0
    for one in coco["annotations"]:
        key, category, box = one.get("image_id"), one.get("category_id"), one.get("bbox")
        if type(key) is not int or key not in known:
            raise LabError(
                f"{path}: an annotation names the unknown image {key!r}: export it again"
            )
        if type(category) is not int or category not in category_ids:
            raise LabError(f"{path}: an annotation names the unknown category {category!r}: add it")
        if key not in sizes:
            continue
        if not _has_area(box):
            flat += 1
            continue
        x, y, width, height = box
        corners = np.clip([x, y, x + width, y + height], 0, np.tile(sizes[key], 2))
        corners = to_letterbox(corners, sizes[key], image_size).astype(np.float32)
        if (corners[2:] > corners[:2]).all():
            crowd = one.get("iscrowd") == 1
            found[key].append((corners, category_ids.index(category), crowd))
        else:
            outside += 1
    if flat or outside:
        _say(
            f"warning: {path}: dropped {flat} boxes without area and {outside} outside their "
            "picture or too thin"
        )
    slots = max(1, *map(len, found.values()))
    boxes = np.zeros((len(found), slots, 4), np.float32)
    labels = np.full((len(found), slots), -1, np.int64)
    ignore = np.zeros((len(found), slots), bool)
    for row, objects in enumerate(found.values()):
        for slot, (corners, label, crowd) in enumerate(objects):
            boxes[row, slot], labels[row, slot], ignore[row, slot] = corners, label, crowd
    return boxes, labels, ignore
