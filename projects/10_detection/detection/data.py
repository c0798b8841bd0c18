"""Pictures and boxes as tensors: rendered tabletop scenes, or a folder in COCO format."""

import sys
from pathlib import Path

import numpy as np
import torch
from numpy import ndarray

from detection import tabletop
from detection.coco import load_coco
from detection.split import Split, SplitName
from trainloop.checkpoint import atomic_write
from trainloop.paths import data_dir

TABLETOP_SEED = 0
TABLETOP_SPLITS = {"train": (0, 8_000), "val": (1_000_000, 200), "test": (2_000_000, 300)}
"""First scene and number of scenes."""


def load(data: str, split: SplitName, image_size: int = 128) -> Split:
    """`data`: "tabletop", or the path of a folder in COCO format (`coco.LAYOUTS`).

    Splits that a folder lacks are cut from those it has by a hash of the file names, so that adding
    photos never moves an old one: a lone annotation file serves 80/10/10, a missing validation set
    is a tenth of train, a missing test set half of validation (`coco.SHARES`).

    Raises:
        LabError: the folder or what is in it cannot be used; the message says what to do.
    """
    if data == "tabletop":
        return load_tabletop(split, image_size)
    return load_coco(Path(data), split, image_size)


def load_tabletop(split: SplitName, image_size: int = 128) -> Split:
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
