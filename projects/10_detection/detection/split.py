"""What training and evaluation read: pictures and their boxes as tensors."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from torch import Tensor

SplitName = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Split:
    """N pictures of S x S pixels with up to M objects each, in memory."""

    images: UInt8[Tensor, "N 3 S S"]
    boxes: Float32[Tensor, "N M 4"]
    """xyxy in pixels of the (letterboxed) picture; zeros where there is none."""
    labels: Int64[Tensor, "N M"]
    """Index into `classes`; -1 where there is none."""
    ignore: Bool[Tensor, "N M"]
    """Neither to be found nor to be punished when found: COCO's iscrowd, hardly visible solids."""
    classes: tuple[str, ...]
    image_ids: tuple[int, ...] = ()
    """COCO's image ids; for tabletop the scenes' indices."""
    files: tuple[Path, ...] = ()
    """The pictures' files; empty for tabletop."""
    sizes: tuple[tuple[int, int], ...] = ()
    """(width, height) before the letterbox (`from_letterbox` goes back); empty for tabletop."""
    category_ids: tuple[int, ...] = ()
    """COCO's category id of each class; empty for tabletop."""

    def first(self, count: int) -> "Split":
        """The first `count` pictures."""
        return Split(
            *(part[:count] for part in (self.images, self.boxes, self.labels, self.ignore)),
            classes=self.classes,
            image_ids=self.image_ids[:count],
            files=self.files[:count],
            sizes=self.sizes[:count],
            category_ids=self.category_ids,
        )

    def batch(self, indices: Int64[Tensor, " B"], device: torch.device) -> tuple[Tensor, ...]:
        """Images, boxes, labels and ignore of some pictures, on the device."""
        parts = (self.images, self.boxes, self.labels, self.ignore)
        return tuple(part[indices].to(device) for part in parts)
