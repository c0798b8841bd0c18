"""Pictures and boxes as tensors: rendered tabletop scenes, Pascal VOC, or a folder of photos."""

import sys
from pathlib import Path

import numpy as np
import torch
from numpy import ndarray

from detection import tabletop
from detection.coco import load_coco
from detection.split import Split, SplitName
from detection.voc import CLASSES, find_voc, load_voc
from trainloop.checkpoint import atomic_write
from trainloop.datasets import fetch
from trainloop.paths import data_dir

TABLETOP_SEED = 0
TABLETOP_SPLITS = {
    "train": (0, 8_000),
    "val": (1_000_000, 200),
    "test": (2_000_000, 300),
    "pretrain": (3_000_000, 4_000),
}
"""First scene and number of scenes; `pretrain` cuts crops from scenes of its own."""


def load(data: str, split: SplitName, image_size: int = 128, per_class: int | None = None) -> Split:
    """`data`: "tabletop", "voc2007", "voc2012", or the path of a folder (`coco.LAYOUTS`).

    A folder is read as VOC if it has Annotations/*.xml, else as COCO. Splits that it lacks are cut
    from those it has by a hash of the file names, so that adding photos never moves an old one: a
    lone annotation file serves 80/10/10, a missing validation set is a tenth of train, a missing
    test set half of validation (`coco.SHARES`).

    Args:
        image_size: side of the square that photos are fitted into, in pixels.
        per_class: so many pictures of each class only (`Split.per_class`); None: all there are.

    Raises:
        LabError: the folder or what is in it cannot be used; the message says what to do.
    """
    if data == "tabletop":
        loaded = load_tabletop(split, image_size)
    elif data in ("voc2007", "voc2012"):
        root = fetch(data) / "VOCdevkit" / data.upper()
        loaded = load_voc(root, split, image_size, CLASSES)
    else:
        folder = Path(data).expanduser().resolve()
        root = find_voc(folder)
        loaded = load_voc(root, split, image_size) if root else load_coco(folder, split, image_size)
    return loaded if per_class is None else loaded.per_class(per_class)


def load_tabletop(split: str, image_size: int = 128) -> Split:
    """Rendered once, then read from $LAB_DATA/tabletop; the file's name holds all that matters."""
    first, count = TABLETOP_SPLITS[split]
    name = f"v{tabletop.VERSION}-seed{TABLETOP_SEED}-{split}-{first}+{count}-{image_size}px.npz"
    path = data_dir() / "tabletop" / name
    arrays = _read_arrays(path)
    if arrays is None:
        arrays = tabletop.render_split(TABLETOP_SEED, first, count, image_size)
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, lambda file: np.savez(file, **arrays))
    return Split(
        images=torch.from_numpy(arrays["images"]).permute(0, 3, 1, 2).contiguous(),
        boxes=torch.from_numpy(arrays["boxes_xyxy"]),
        labels=torch.from_numpy(arrays["labels"]),
        ignore=torch.from_numpy(arrays["ignore"]),
        classes=tabletop.CLASSES,
        image_ids=tuple(range(first, first + count)),
    )


def _read_arrays(path: Path) -> dict[str, ndarray] | None:
    """None where the file is missing or damaged (a zip has checksums)."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in ("images", "boxes_xyxy", "labels", "ignore")}
    except FileNotFoundError:
        return None
    except Exception as error:  # there is hardly a kind that a damaged zip cannot raise
        print(f"{path} is damaged ({error}): making it anew", file=sys.stderr, flush=True)
        return None
