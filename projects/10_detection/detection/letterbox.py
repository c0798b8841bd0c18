"""Photos of any size in a grey square, and boxes on the way there and back."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from PIL import ExifTags, Image, ImageOps

from trainloop.errors import LabError

GREY = (114, 114, 114)  # of the padding


def _inside(size: tuple[int, int], image_size: int) -> tuple[ndarray, ndarray]:
    """(width, height) of a picture fitted into the square, and its left top corner there."""
    fitted = np.maximum(np.rint(np.array(size) * image_size / max(size)).astype(int), 1)
    return fitted, (image_size - fitted) // 2


def to_letterbox(boxes: ndarray, size: tuple[int, int], image_size: int) -> ndarray:
    """xyxy boxes (..., 4) in a picture of (width, height) pixels -> in its square."""
    fitted, corner = _inside(size, image_size)
    return boxes * np.tile(fitted, 2) / np.tile(size, 2) + np.tile(corner, 2)


def from_letterbox(boxes: ndarray, size: tuple[int, int], image_size: int) -> ndarray:
    """The way back, clipped to the picture."""
    fitted, corner = _inside(size, image_size)
    size = np.tile(size, 2)
    return np.clip((boxes - np.tile(corner, 2)) * size / np.tile(fitted, 2), 0, size)


def read_letterboxed(
    path: Path, image_size: int, drawn_on: tuple[int, int] | None = None
) -> tuple[UInt8[ndarray, "3 S S"], tuple[int, int]]:
    """A photo in a grey square, and its (width, height) before.

    A phone stores a photo as its sensor lay and notes in EXIF how to turn it. Annotation tools
    mostly show it turned, so it is turned here too, unless `drawn_on`, the (width, height) that
    the boxes were drawn on, fits only the unturned one. A raw and a turned photo of one size (a
    square one, or one upside down) cannot be told apart: turned.

    Raises:
        LabError: the picture has another size than `drawn_on`.
        Exception: of many kinds: it cannot be read.
    """
    with Image.open(path) as photo:
        stored, orientation = photo.size, photo.getexif().get(ExifTags.Base.Orientation)
        turned = stored[::-1] if orientation in (5, 6, 7, 8) else stored
        size = drawn_on or turned
        if size not in (stored, turned):
            was, now = ("{}x{}".format(*pair) for pair in (drawn_on, turned))
            raise LabError(f"{path} is {now} but its boxes were drawn on {was}: export them again")
        fitted, corner = _inside(size, image_size)
        photo.draft("RGB", (2 * image_size,) * 2)  # decodes a large JPEG at a fraction of its size
        upright = ImageOps.exif_transpose(photo) if size == turned else photo
        square = Image.new("RGB", (image_size, image_size), GREY)
        square.paste(upright.convert("RGB").resize(tuple(fitted.tolist())), tuple(corner.tolist()))
    return np.asarray(square).transpose(2, 0, 1), size
