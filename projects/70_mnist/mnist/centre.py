"""From a photo or a drawing to an image like MNIST's.

MNIST was made so (LeCun et al. 1998): the digit is scaled to fit 20x20 pixels, its aspect kept, and
placed in 28x28 such that its centre of mass is in the middle, which is pixel (14, 14). A net that
was trained on that sees a larger, a shifted or a thinner digit as something else.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32
from PIL import Image, ImageOps
from scipy import ndimage

from trainloop import LabError, check

SIDE, BOX, MIDDLE = 28, 20, 14  # pixels; MNIST's mean centre of mass is (14.0, 14.0)
LEAST, MOST = 8, 50_000_000  # pixels: of a side, and of the whole picture
WORKING = 256  # the longer side of the picture that ink is looked for in
CONTRAST = 0.1  # ink differs from the paper by at least this much of black to white
PART = 0.1  # a blot counts as ink if it is this large, compared with the largest
STROKE = 0.12  # of the longer side: MNIST's strokes are 0.11 (5th percentile) to 0.15 (median) wide


class Centred(NamedTuple):
    """The steps of one picture."""

    grey: Float[np.ndarray, "h w"]
    """What was read, its longer side 256 pixels, 0 black to 1 white."""
    ink: Float[np.ndarray, "h w"]
    """Where the digit is, 0..1; strokes thinner than MNIST's are thickened."""
    image: Float32[np.ndarray, "28 28"]
    """White on black in 0..1, scaled and centred."""


def centre_picture(path: Path) -> Centred:
    """Read a picture of one digit and bring it into MNIST's form.

    Raises:
        LabError: it cannot be read, is tiny or huge, or shows nothing.
    """
    grey = read_grey(path)
    ink = find_ink(grey)
    check(bool(ink.max() > 0), f"{path} shows no digit: nothing in it stands out from its border")
    return Centred(grey, ink, centre(ink))


def read_grey(path: Path) -> Float[np.ndarray, "h w"]:
    """Brightness in 0..1, its longer side 256 pixels, turned as EXIF says.

    Transparency becomes paper. Where most of the picture is opaque that has the opaque part's
    brightness; else there are strokes on nothing: white under dark ones, black under light ones.

    Raises:
        LabError: it cannot be read, or is tiny or huge.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            check(
                min(width, height) >= LEAST,
                f"{path} has only {width}x{height} pixels: a digit needs {LEAST} each way",
            )
            check(
                width * height <= MOST,
                f"{path} has {width}x{height} pixels, more than {MOST / 1e6:.0f} million: "
                "make it smaller",
            )
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith(("I", "F")):  # 16 bits and more; "L" would cut them off
                values = np.asarray(image, np.float32)
                top = 65535 if image.mode.startswith("I") else max(values.max(), 1e-6)
                image = Image.fromarray((values * (255 / top)).clip(0, 255).astype(np.uint8))
            image = image.convert("RGBA")
    except LabError:
        raise
    except Exception as error:  # Pillow raises a dozen kinds for a damaged picture
        raise LabError(f"{path} is no readable picture: {error}") from None
    scale = WORKING / max(width, height)
    size = [max(LEAST, round(side * scale)) for side in image.size]
    alpha = np.asarray(image.getchannel("A").resize(size, Image.Resampling.BILINEAR)) / 255
    grey = np.asarray(image.convert("RGB").convert("L").resize(size, Image.Resampling.BILINEAR))
    return on_paper(grey / 255, alpha)


def on_paper(
    grey: Float[np.ndarray, "h w"], alpha: Float[np.ndarray, "h w"]
) -> Float[np.ndarray, "h w"]:
    """A picture with transparency, laid on paper that goes with it."""
    opaque = grey[alpha > 0.5]
    if opaque.size == 0:
        return np.zeros_like(grey)
    middle = np.median(opaque)
    paper = middle if opaque.size > grey.size / 2 else float(middle < 0.5)
    return alpha * grey + (1 - alpha) * paper


def find_ink(grey: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """The digit, 0..1 and 0 around it; all 0 where nothing stands out.

    Paper is what the border shows, a plane, for a lamp makes one side lighter. What differs from it
    most, darker or lighter, is ink. Of its blots those count that are not much smaller than the
    largest: the bar of a 5 does, a speck of dust does not.
    """
    difference = grey - paper_plane(grey)
    darker, lighter = np.minimum(difference, 0), np.maximum(difference, 0)
    strength = -darker if (darker**2).sum() > (lighter**2).sum() else lighter
    if strength.max() < CONTRAST:
        return np.zeros_like(grey)
    blots, count = ndimage.label(strength > otsu(strength), np.ones((3, 3)))
    sizes = np.bincount(blots.ravel(), minlength=count + 1)
    sizes[0] = 0  # the paper
    digit = (sizes >= PART * sizes.max())[blots]
    full = np.quantile(strength[digit], 0.75)
    rim = ndimage.binary_dilation(digit, iterations=2)  # the soft edge of the strokes
    return np.maximum((strength / full).clip(0, 1) * rim, thickened(digit))


def paper_plane(grey: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """The plane through the border's brightness, by least squares.

    Through the half of it that is nearest to its median: ink may touch the border.
    """
    height, width = grey.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    plane = np.stack([np.ones_like(x), x, y], axis=-1)  # (h, w, 3)
    edge = np.ones(grey.shape, bool)
    frame = max(1, min(height, width) // 32)
    edge[frame:-frame, frame:-frame] = False
    terms, values = plane[edge], grey[edge]
    off = np.abs(values - np.median(values))
    near = off <= np.median(off)
    return plane @ np.linalg.lstsq(terms[near], values[near], rcond=None)[0]


def otsu(values: Float[np.ndarray, "h w"]) -> float:
    """The threshold that makes two classes of the least variance within (Otsu 1979).

    Where several do equally well, because nothing lies between the classes, their middle.
    """
    counts, edges = np.histogram(values, 256)
    middles = (edges[1:] + edges[:-1]) / 2
    below = counts.cumsum()[:-1]
    above = below[-1] + counts[-1] - below
    moment = (counts * middles).cumsum()
    with np.errstate(invalid="ignore", divide="ignore"):
        means = moment[:-1] / below, (moment[-1] - moment[:-1]) / above
        between = np.nan_to_num(below * above * (means[0] - means[1]) ** 2)
    return float(edges[1:-1][between >= between.max() * (1 - 1e-9)].mean())


def thickened(digit: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Strokes at least as wide as MNIST's thin ones.

    In a stroke of width w the mean distance to its edge is w / 4. scipy measures it to the
    middle of the next pixel, which is half a pixel more.
    """
    rows, columns = (np.flatnonzero(digit.any(axis)) for axis in (1, 0))
    longest = max(np.ptp(rows), np.ptp(columns)) + 1
    width = 4 * (ndimage.distance_transform_edt(digit)[digit].mean() - 0.5)
    lacking = STROKE * longest - width
    if lacking <= 0:
        return digit
    return ndimage.distance_transform_edt(~digit) <= lacking / 2


def centre(ink: Float[np.ndarray, "h w"]) -> Float32[np.ndarray, "28 28"]:
    """Scale the ink's box to 20 pixels, its aspect kept, and put its centre of mass at (14, 14).

    A digit whose mass is far off its middle stays whole: it is moved only as far as fits.
    """
    rows, columns = (np.flatnonzero((ink > 0.5).any(axis)) for axis in (1, 0))
    cut = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = BOX / max(cut.shape)
    height, width = (max(1, round(side * scale)) for side in cut.shape)
    small = Image.fromarray(cut.astype(np.float32)).resize(
        (width, height), Image.Resampling.BILINEAR
    )  # Pillow's filter widens with the scale: this is antialiased
    pixels = np.asarray(small).clip(0, 1)
    image = np.zeros((SIDE, SIDE), np.float32)
    top, left = (
        min(max(round(MIDDLE - mass), 0), SIDE - side)
        for mass, side in zip(ndimage.center_of_mass(pixels), pixels.shape, strict=True)
    )
    image[top : top + height, left : left + width] = pixels
    return image
