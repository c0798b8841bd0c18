"""Augmentations that take the boxes along, each for a whole batch at once.

All have one signature: images, boxes (xyxy in pixels), labels (-1 where there is no object), ignore
-> the same four. They draw from torch's global generator, on the batch's device. A row without an
object has a zero box and is not ignored, before as after.

What an augmentation claims is that the answer moves with the question: a mirrored scene holds the
mirrored boxes. It has to be true of the data (text must not be mirrored) and is then free data.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor
from torch.nn import functional as F

from detection.boxes import area
from detection.evaluate import COLOURS, draw_box
from detection.letterbox import GREY
from detection.split import Split
from trainloop import LabError

SCALES = (0.5, 1.5)
"""Of `scale`: how large an image becomes. Below 0.5 bilinear sampling would skip pixels."""
CROPS = (0.6, 1.0)
"""Of `crop`: the share of the image's side that is kept."""
VISIBLE = 0.25
"""An object of whose box less than this share is left in the image is ignored."""
SMALLEST = 2.0
"""An object whose box is narrower or lower than this, in pixels, is ignored."""

Images = UInt8[Tensor, "B 3 H W"]
Boxes = Float[Tensor, "B M 4"]
Labels = Int64[Tensor, "B M"]
Ignore = Bool[Tensor, "B M"]
Batch = tuple[Images, Boxes, Labels, Ignore]
# What `mosaic` makes has slots for more objects, N.
Regrouped = tuple[Images, Float[Tensor, "B N 4"], Int64[Tensor, "B N"], Bool[Tensor, "B N"]]


def augment(
    names: Sequence[str], images: Images, boxes: Boxes, labels: Labels, ignore: Ignore
) -> Regrouped:
    """The named augmentations, one after the other, in the order of `AUGMENTATIONS`.

    Raises:
        LabError: a name that is not in `AUGMENTATIONS`.
    """
    unknown = set(names) - AUGMENTATIONS.keys()
    if unknown:
        known = ", ".join(AUGMENTATIONS)
        raise LabError(f"no augmentation is called {min(unknown)!r}: choose from {known}")
    batch = images, boxes, labels, ignore
    for name, augmentation in AUGMENTATIONS.items():
        if name in names:
            batch = augmentation(*batch)
    return batch


def colour(images: Images, boxes: Boxes, labels: Labels, ignore: Ignore) -> Batch:
    """Each image with its channels in another order, brighter or darker: shape is what counts."""
    count, device = len(images), images.device
    order = torch.rand(count, 3, device=device).argsort(1)
    shuffled = images[torch.arange(count, device=device)[:, None], order]
    brightness = 0.15 * torch.randn(count, 1, 1, 1, device=device)
    tint = 0.1 * torch.randn(count, 3, 1, 1, device=device)
    coloured = (shuffled * (brightness + tint).exp()).clamp(0, 255).to(torch.uint8)
    return coloured, boxes, labels, ignore


def flip(images: Images, boxes: Boxes, labels: Labels, ignore: Ignore) -> Batch:
    """Mirror half of the images left to right."""
    chosen = torch.rand(len(images), device=images.device) < 0.5
    x1, y1, x2, y2 = boxes.unbind(-1)
    mirrored = torch.stack([images.shape[3] - x2, y1, images.shape[3] - x1, y2], dim=-1)
    return (
        torch.where(chosen[:, None, None, None], images.flip(3), images),
        torch.where((chosen[:, None] & (labels >= 0))[..., None], mirrored, boxes),
        labels,
        ignore,
    )


def mosaic(images: Images, boxes: Boxes, labels: Labels, ignore: Ignore) -> Regrouped:
    """Half of the images become four images of the batch, at half size, around a random point.

    Mosaic (YOLOv4, Bochkovskiy 2020, section 3.3): more objects an image, smaller ones, and out of
    their context. The other half stay whole (so does half of what darknet trains YOLOv4 on): whole
    images are what the detector is for. The point is drawn from the middle half of the sides; what
    of the four is beyond the image's edge is lost, and grey shows where they do not reach.

    H and W must be even. The slots become as many as the fullest image needs, but at least one if
    there was one.
    """
    count, _, height, width = images.shape
    slots, device = labels.shape[1], images.device
    order = torch.rand(count, device=device).argsort()
    picks = torch.stack([order.roll(i) for i in range(4)], dim=1)  # (B, 4), each image four times

    halves = F.avg_pool2d(images.float(), 2).round().to(torch.uint8)
    tiles = halves[picks].unflatten(1, (2, 2))  # (B, row, column, 3, H/2, W/2)
    canvas = tiles.permute(0, 3, 1, 4, 2, 5).reshape(images.shape)
    corners = torch.tensor([[0, 0], [width, 0], [0, height], [width, height]], device=device) / 2
    tile_boxes = boxes[picks] / 2 + corners.repeat(1, 2)[:, None]  # (B, 4, M, 4)

    span = torch.tensor([width, height], device=device)
    offset = (0.5 * span * (torch.rand(count, 2, device=device) - 0.5)).round()  # no blur by parts
    moved = resize_and_move(
        canvas,
        tile_boxes.flatten(1, 2),
        labels[picks].flatten(1),
        ignore[picks].flatten(1),
        factor=torch.ones(count, device=device),
        offset=offset,
    )
    whole = (
        images,
        F.pad(boxes, (0, 0, 0, 3 * slots)),
        F.pad(labels, (0, 3 * slots), value=-1),
        F.pad(ignore, (0, 3 * slots)),
    )
    chosen = torch.rand(count, device=device) < 0.5
    images, boxes, labels, ignore = (
        torch.where(chosen.view(-1, *[1] * (a.ndim - 1)), a, b)
        for a, b in zip(moved, whole, strict=True)
    )

    # Objects to the front, then as many slots as the fullest image needs.
    most = max(1, int((labels >= 0).sum(1).max()))
    front = (labels < 0).int().argsort(dim=1, stable=True)[:, :most]
    rows = torch.arange(count, device=device)[:, None]
    return images, boxes[rows, front], labels[rows, front], ignore[rows, front]


def scale(images: Images, boxes: Boxes, labels: Labels, ignore: Ignore) -> Batch:
    """Each image larger or smaller about its centre (`SCALES`), with grey around a smaller one."""
    low, high = SCALES
    factor = low + (high - low) * torch.rand(len(images), device=images.device)
    centre = torch.tensor([images.shape[3], images.shape[2]], device=images.device) / 2
    offset = centre * (1 - factor[:, None])
    return resize_and_move(images, boxes, labels, ignore, factor, offset)


def crop(images: Images, boxes: Boxes, labels: Labels, ignore: Ignore) -> Batch:
    """A part of each image (`CROPS`), anywhere in it, enlarged to the size of the image."""
    low, high = CROPS
    share = low + (high - low) * torch.rand(len(images), 1, device=images.device)
    span = torch.tensor([images.shape[3], images.shape[2]], device=images.device)
    corner = torch.rand(len(images), 2, device=images.device) * (1 - share) * span
    return resize_and_move(images, boxes, labels, ignore, 1 / share[:, 0], -corner / share)


AUGMENTATIONS = {"colour": colour, "flip": flip, "mosaic": mosaic, "scale": scale, "crop": crop}
"""By name, in the order in which they are applied: the four images of a mosaic differ in colour and
direction, and what is scaled and cropped is the mosaic."""


def resize_and_move(
    images: Images,
    boxes: Boxes,
    labels: Labels,
    ignore: Ignore,
    factor: Float[Tensor, " B"],
    offset: Float[Tensor, "B 2"],
) -> Batch:
    """What is at (x, y) in an image comes to `factor` (x, y) + `offset`, in pixels.

    Pixels are sampled bilinearly; beyond the image it is grey, as around a letterboxed photo. Boxes
    are clipped to the image, and then

    - objects outside it are gone: label -1;
    - slivers, with less than `VISIBLE` of the area of the box given or a side below `SMALLEST`, are
      ignored: nobody could tell from what is seen what they are, yet it is no background either;
    - the others count. Theirs is the clipped box of the whole object, which can be larger than the
      box around what is left of it (of a ball cut anywhere but through its middle).
    """
    span = torch.tensor([images.shape[3], images.shape[2]], device=images.device)
    moved = boxes * factor[:, None, None] + offset.repeat(1, 2)[:, None]
    clipped = moved.clamp(min=0).minimum(span.repeat(2))
    sides = clipped[..., 2:] - clipped[..., :2]
    exists = (labels >= 0) & (sides > 0).all(-1)
    sliver = (area(clipped) < VISIBLE * area(moved)) | (sides < SMALLEST).any(-1)
    return (
        _sample(images, factor, offset),
        torch.where(exists[..., None], clipped, 0.0),
        torch.where(exists, labels, -1),
        exists & (ignore | sliver),
    )


def _sample(images: Images, factor: Float[Tensor, " B"], offset: Float[Tensor, "B 2"]) -> Images:
    """The pixels of `resize_and_move`."""
    height, width = images.shape[2:]
    x, x_inside = _sources(width, factor, offset[:, 0])
    y, y_inside = _sources(height, factor, offset[:, 1])
    # (B, H, W, 2) from (B, W) and (B, H): no rotation, so columns do not depend on rows.
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), dim=-1)
    inside = x_inside[:, None, None, :] & y_inside[:, None, :, None]
    sampled = F.grid_sample(images.float(), grid, align_corners=False)
    return torch.where(inside, sampled.round(), GREY[0]).to(torch.uint8)


def _sources(
    length: int, factor: Float[Tensor, " B"], offset: Float[Tensor, " B"]
) -> tuple[Float[Tensor, "B length"], Bool[Tensor, "B length"]]:
    """Where on an axis each pixel comes from, in grid_sample's -1 .. 1, and whether that exists."""
    centres = torch.arange(length, device=factor.device) + 0.5
    source = (centres - offset[:, None]) / factor[:, None]
    # Held at the outermost pixels' centres: padding_mode="border", which torch 2.7 lacks on mps.
    return 2 * source.clamp(0.5, length - 0.5) / length - 1, (source > 0) & (source < length)


def draw_augmentations(
    split: Split, names: Sequence[str] = tuple(AUGMENTATIONS), count: int = 4, seed: int = 0
) -> Figure:
    """The first `count` images of a split, and below them the same after each augmentation.

    Boxes are drawn in the colour of their class, ignored ones light grey and dashed. The global
    generator is left as it was.

    Raises:
        LabError: a name that is not in `AUGMENTATIONS`.
    """
    data = split.first(count)
    original = data.images, data.boxes, data.labels, data.ignore
    rows = {"original": original}
    with torch.random.fork_rng(devices=[]):
        for name in names:
            torch.manual_seed(seed)
            rows[name] = augment([name], *original)

    columns = len(data.images)
    figure = Figure(figsize=(2.1 * columns + 0.3, 2.1 * len(rows) + 0.35), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02)
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for (name, batch), axes in zip(rows.items(), grid, strict=True):
        axes[0].set_ylabel(name)
        for axis, image, boxes, labels, ignore in zip(axes, *batch, strict=True):
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            axis.imshow(image.permute(1, 2, 0).numpy())
            for box, label, ignored in zip(boxes, labels.tolist(), ignore.tolist(), strict=True):
                if label >= 0:
                    own = COLOURS[label % len(COLOURS)]
                    draw_box(axis, box, "lightgrey" if ignored else own, dashed=ignored)
    handles = [
        Patch(color=COLOURS[label % len(COLOURS)], label=name)
        for label, name in enumerate(data.classes[:12])
    ]
    handles.append(Patch(fill=False, edgecolor="grey", linestyle=(0, (2, 2)), label="ignored"))
    figure.legend(handles=handles, loc="outside upper center", frameon=False,
                  ncols=len(handles), fontsize=9)  # fmt: skip
    return figure
