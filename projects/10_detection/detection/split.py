"""What training and evaluation read: pictures and their boxes as tensors."""

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from torch import Tensor

from trainloop.errors import LabError

SplitName = Literal["train", "val", "test"]


def name_hash(name: str) -> int:
    """A number of 256 bits from the name alone: what it decides does not depend on the others."""
    return int(hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest(), 16)


@dataclass(frozen=True)
class Split:
    """N pictures of S x S pixels with up to M objects each, in memory."""

    images: UInt8[Tensor, "N 3 S S"]
    boxes: Float32[Tensor, "N M 4"]
    """xyxy in pixels of the (letterboxed) picture; zeros where there is none."""
    labels: Int64[Tensor, "N M"]
    """Index into `classes`; -1 where there is none."""
    ignore: Bool[Tensor, "N M"]
    """Neither to be found nor to be punished when found: COCO's iscrowd, VOC's difficult, hardly
    visible solids."""
    classes: tuple[str, ...]
    image_ids: tuple[int, ...] = ()
    """COCO's image ids; for tabletop the scenes' indices; empty for VOC."""
    files: tuple[Path, ...] = ()
    """The pictures' files; empty for tabletop."""
    sizes: tuple[tuple[int, int], ...] = ()
    """(width, height) before the letterbox (`from_letterbox` goes back); empty for tabletop."""
    category_ids: tuple[int, ...] = ()
    """COCO's category id of each class; empty for tabletop and VOC."""

    def first(self, count: int) -> "Split":
        """The first `count` pictures."""
        return self.take(torch.arange(len(self.images))[:count])

    def take(self, indices: Int64[Tensor, " n"]) -> "Split":
        """Some pictures, in the order of their `indices`."""

        def pick(part: tuple) -> tuple:
            return tuple(part[i] for i in indices.tolist()) if part else ()

        return Split(
            *(part[indices] for part in (self.images, self.boxes, self.labels, self.ignore)),
            classes=self.classes,
            image_ids=pick(self.image_ids),
            files=pick(self.files),
            sizes=pick(self.sizes),
            category_ids=self.category_ids,
        )

    def per_class(self, count: int) -> "Split":
        """The first `count` pictures of each class, by a hash of their names; in their old order.

        A picture counts for every class of which it shows an object that is not ignored, so there
        may be more than `count` of a common class. What a larger `count` adds is added to the same
        pictures, so that a curve over `count` compares like with like. A class that fewer pictures
        show keeps them all, with a warning.

        Raises:
            LabError: `count` is below 1.
        """
        if count < 1:
            raise LabError(f"pictures of each class must be at least 1, not {count}")
        names = [file.name for file in self.files] or self.image_ids or range(len(self.images))
        hashes = [name_hash(str(name)) for name in names]
        order = torch.tensor(sorted(range(len(hashes)), key=hashes.__getitem__))  # (N,)

        wanted = torch.where(self.ignore, -1, self.labels)  # (N, M)
        shows = torch.zeros(len(wanted), 1 + len(self.classes), dtype=torch.bool)
        shows = shows.scatter(1, wanted + 1, True)[order, 1:]  # (N, C)
        few = [name for name, n in zip(self.classes, shows.sum(0), strict=True) if n < count]
        if few:
            message = f"warning: fewer than {count} pictures show {', '.join(few)}"
            print(message, file=sys.stderr, flush=True)
        chosen = (shows & (shows.cumsum(0) <= count)).any(1)
        return self.take(order[chosen].sort().values)

    def batch(self, indices: Int64[Tensor, " B"], device: torch.device) -> tuple[Tensor, ...]:
        """Images, boxes, labels and ignore of some pictures, on the device."""
        parts = (self.images, self.boxes, self.labels, self.ignore)
        return tuple(part[indices].to(device) for part in parts)
