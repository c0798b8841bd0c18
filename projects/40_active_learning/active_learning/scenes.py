"""Frames to find digits in: real handwritten ones on clutter, rendered within seconds.

scikit-learn's digits (8x8) are enlarged, turned and faded onto a background of gradients, strokes
and scraps of digits that are no digits any more. Pool, validation and test scenes use different
digits: a net cannot know the test's by heart.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from numpy import ndarray
from torch import Tensor
from torch.nn import functional as F

from active_learning.pools import CLASSES, Knobs
from trainloop import load_images

SPLITS = {"pool": (0, 1_200), "val": (1_200, 1_500), "test": (1_500, 1_797)}
"""Which of the 1,797 digits each split shows."""
VALIDATION_FRAMES, TEST_FRAMES = 300, 600
CANVAS = 32  # pixels a side that a digit is drawn on before it is pasted
SMALLEST, LARGEST = 16.0, 24.0  # pixels of the 8x8 square's side


@dataclass(frozen=True)
class Frames:
    """N frames with up to M objects each.

    A pool also knows its clips, for pictures; no strategy is shown them.
    """

    images: UInt8[Tensor, "N C H W"]
    boxes: Float[Tensor, "N M 4"]  # xyxy in pixels; zeros in empty slots
    labels: Int64[Tensor, "N M"]  # -1 in empty slots
    classes: tuple[str, ...]
    clips: Int64[Tensor, " N"]  # which clip a frame is of
    names: tuple[str, ...] = ()  # files, where there are any

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: Int64[Tensor, " n"]) -> "Frames":
        """Some of the frames."""
        names = tuple(self.names[row] for row in rows.tolist()) if self.names else ()
        return replace(
            self,
            images=self.images[rows],
            boxes=self.boxes[rows],
            labels=self.labels[rows],
            clips=self.clips[rows],
            names=names,
        )

    def to(self, device: torch.device) -> "Frames":
        """With images, boxes and labels on a device."""
        moved = {name: getattr(self, name).to(device) for name in ("images", "boxes", "labels")}
        return replace(self, **moved)

    @property
    def objects(self) -> Int64[Tensor, " N"]:
        """How many objects each frame has: what labelling it costs in boxes."""
        return (self.labels >= 0).sum(1)


@dataclass(frozen=True)
class Things:
    """Digits to paste: which, where, how large, how bright. T things."""

    frame: Int64[ndarray, " T"]
    digit: Int64[ndarray, " T"]  # index among all 1,797
    centre: Float[ndarray, "T 2"]  # x, y in pixels
    side: Float[ndarray, " T"]  # of the 8x8 square, in pixels
    angle: Float[ndarray, " T"]  # radians
    light: Float[ndarray, " T"]  # added at full ink, of 255


def render(split: str, knobs: Knobs, size: int = 64, seed: int = 0) -> Frames:
    """The frames of `pool`, `val` or `test`; the same for the same arguments."""
    test = split != "pool"
    frames = {"val": VALIDATION_FRAMES, "test": TEST_FRAMES}.get(split, knobs.frames)
    rng = np.random.default_rng([seed, list(SPLITS).index(split), size])
    lengths = np.ones(frames, np.int64) if test else clip_lengths(knobs)
    scenes = len(lengths)
    clips = np.repeat(np.arange(scenes), lengths)[:frames]
    moment = np.arange(frames) - np.searchsorted(clips, clips)  # 0, 1 .. within each clip

    # Exactly the share of empty scenes, in random order; clips of unequal length: of frames.
    empty = empty_scenes(lengths, knobs.empty, rng)
    counts = np.where(empty, 0, rng.integers(1, knobs.objects + 1, scenes))
    digits, labels = all_digits()
    odds = np.ones(CLASSES)
    if not test and knobs.rare:
        odds[-knobs.rare :] /= knobs.rarity
    things = place(counts, odds, SPLITS[split], labels, size, rng)
    dark = rng.random(scenes) < (0.5 if test and knobs.dark else knobs.dark)

    images = background(scenes, size, digits, rng)[clips]
    things, speed = unroll(things, clips, rng)
    sway = 6 * np.sin(moment[things.frame, None] / 6)  # a parked camera's things stay in sight
    shown = replace(things, centre=things.centre + speed * sway)
    masks, boxes = draw(shown, digits)
    paste(images, shown, masks)
    images = np.where(dark[clips, None, None], 0.1 * images, images)
    noise = rng.normal(0, 1, images.shape).astype(np.float32)
    images += noise * np.where(dark[clips, None, None], 6.0, 5.0)
    # Objects lie in their slots in the order in which they were placed.
    slot = np.arange(len(shown.frame)) - np.searchsorted(shown.frame, shown.frame)
    table = np.zeros((frames, knobs.objects, 4), np.float32)
    names = np.full((frames, knobs.objects), -1)
    table[shown.frame, slot] = boxes.clip(0, size)
    names[shown.frame, slot] = labels[shown.digit]
    return Frames(
        images=torch.from_numpy(images.clip(0, 255).round().astype(np.uint8)[:, None]),
        boxes=torch.from_numpy(table),
        labels=torch.from_numpy(names),
        classes=tuple(map(str, range(CLASSES))),
        clips=torch.from_numpy(clips),
    )


def all_digits() -> tuple[Float[ndarray, "1797 8 8"], Int64[ndarray, "1797"]]:
    """scikit-learn's digits, ink in 0..1, and which digit each is."""
    parts = [load_images("digits", split) for split in ("train", "test")]
    images = torch.cat([images for images, _ in parts])[:, 0]
    return images.numpy().astype(np.float32) / 255, torch.cat([y for _, y in parts]).numpy()


def clip_lengths(knobs: Knobs) -> Int64[ndarray, " S"]:
    """Frames of each clip, at least 1, longest first, `knobs.frames` in all.

    There are frames / clip of them; the one of rank r has a share proportional to r^-parked.
    """
    clips = max(1, round(knobs.frames / knobs.clip))
    share = np.arange(1, clips + 1, dtype=float) ** -knobs.parked
    spare = knobs.frames - clips  # after one frame for each
    edges = np.rint(np.append(0, np.cumsum(share) / share.sum() * spare)).astype(np.int64)
    return 1 + np.diff(edges)


def empty_scenes(
    lengths: Int64[ndarray, " S"], share: float, rng: np.random.Generator
) -> Bool[ndarray, " S"]:
    """Which scenes show nothing: in a random order as many as make up that share of the frames."""
    order = rng.permutation(len(lengths))
    before = np.cumsum(lengths[order]) - lengths[order] / 2
    empty = np.zeros(len(lengths), bool)
    empty[order] = before < share * lengths.sum()
    return empty


def place(
    counts: Int64[ndarray, " S"],
    odds: Float[ndarray, " K"],
    part: tuple[int, int],
    labels: Int64[ndarray, "1797"],
    size: int,
    rng: np.random.Generator,
) -> Things:
    """Objects of each scene: a class by its odds, a digit of the split, a place of its own.

    A place is the best of eight tries: the one farthest from the objects before it.
    """
    scene = np.repeat(np.arange(len(counts)), counts)
    total = len(scene)
    classes = rng.choice(len(odds), total, p=odds / odds.sum())
    by_class = [part[0] + np.flatnonzero(labels[slice(*part)] == k) for k in range(len(odds))]
    digit = np.array([rng.choice(by_class[k]) for k in classes], np.int64)
    side = rng.uniform(SMALLEST, LARGEST, total)
    margin = (0.42 * side + 1)[:, None, None]
    tries = margin + rng.random((total, 8, 2)) * (size - 2 * margin)
    centre = tries[:, 0].copy()
    first = np.searchsorted(scene, scene)
    for i in range(total):
        if i > first[i]:
            gaps = np.abs(tries[i][:, None] - centre[first[i] : i]).max(-1)  # (8, before)
            centre[i] = tries[i][gaps.min(1).argmax()]
    angle = rng.normal(0, 0.2, total)
    light = rng.uniform(80, 150, total)
    return Things(scene, digit, centre, side, angle, light)


def unroll(
    things: Things, clips: Int64[ndarray, " N"], rng: np.random.Generator
) -> tuple[Things, Float[ndarray, "T 2"]]:
    """The things of every scene in every frame of its clip, and how far they move from one on."""
    speed = rng.normal(0, 0.35, (len(things.frame), 2))
    count = np.bincount(things.frame, minlength=clips.max() + 1)
    first = np.cumsum(count) - count
    each = count[clips]  # things of each frame
    frame = np.repeat(np.arange(len(clips)), each)
    nth = np.arange(len(frame)) - np.repeat(np.cumsum(each) - each, each)
    row = first[clips][frame] + nth
    parts = {name: value[row] for name, value in vars(things).items()}
    return Things(**{**parts, "frame": frame}), speed[row].clip(-0.5, 0.5)


def background(
    scenes: int, size: int, digits: Float[ndarray, "D 8 8"], rng: np.random.Generator
) -> Float[ndarray, "S H W"]:
    """Clutter in 0..255: blotches, a few strokes, and scraps of digits cut to a quarter."""
    coarse = torch.from_numpy(rng.normal(0, 1, (scenes, 1, 5, 5)).astype(np.float32))
    smooth = F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=True)[:, 0]
    images = 110 + 22 * smooth.numpy() + rng.normal(0, 12, (scenes, 1, 1)).astype(np.float32)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    for _ in range(4):  # a stroke in each scene: what lies within a width of a segment
        ends = rng.uniform(0, size, (scenes, 2, 2)).astype(np.float32)
        light = rng.uniform(-60, 60, scenes).astype(np.float32)
        along = ends[:, 1] - ends[:, 0]
        length = (along**2).sum(1).clip(1)[:, None, None]
        dx, dy = (v - ends[:, 0, i, None, None] for i, v in enumerate((x, y)))
        t = ((dx * along[:, 0, None, None] + dy * along[:, 1, None, None]) / length).clip(0, 0.4)
        gap = np.hypot(dx - t * along[:, 0, None, None], dy - t * along[:, 1, None, None])
        images += light[:, None, None] * np.clip(2.0 - gap, 0, 1)
    for _ in range(3):  # a quarter of a digit is part of none
        scrap = digits[rng.integers(0, SPLITS["pool"][1], scenes)].copy()
        rows, columns = rng.integers(0, 2, (2, scenes)) * 4
        keep = np.zeros_like(scrap)
        for i, (row, column) in enumerate(zip(rows, columns, strict=True)):
            keep[i, row : row + 4, column : column + 4] = 1
        things = Things(
            np.arange(scenes),
            np.arange(scenes),
            rng.uniform(0, size, (scenes, 2)),
            rng.uniform(SMALLEST, LARGEST, scenes),
            rng.uniform(-np.pi, np.pi, scenes),
            rng.uniform(-110, 110, scenes),
        )
        masks, _ = draw(things, scrap * keep)
        paste(images, things, masks)
    return images


def draw(
    things: Things, digits: Float[ndarray, "D 8 8"]
) -> tuple[Float[ndarray, "T c c"], Float[ndarray, "T 4"]]:
    """Ink in 0..1 on a canvas whose corner is the whole pixel next to centre - CANVAS / 2; boxes.

    A box is that of the pixels with more than a third of full ink, in pixels of the frame.
    """
    corner = np.floor(things.centre - CANVAS / 2)
    sub = things.centre - corner - CANVAS / 2  # where in the canvas' middle the centre is, 0..1
    cosine, sine = np.cos(things.angle), np.sin(things.angle)
    # Pixel p of the canvas shows the digit at R(-angle) (p - middle - sub) * 2 / side, in -1..1.
    scale = CANVAS / things.side
    turn = np.stack([np.stack([cosine, sine], -1), np.stack([-sine, cosine], -1)], 1)
    turn *= scale[:, None, None]
    shift = -(turn @ (sub * 2 / CANVAS)[..., None])
    theta = torch.from_numpy(np.concatenate([turn, shift], -1).astype(np.float32))
    source = torch.from_numpy(digits[things.digit])[:, None]
    # Bicubic first: bilinear from 8x8 shows its facets.
    source = F.interpolate(source, size=(24, 24), mode="bicubic", align_corners=False).clamp(0, 1)
    grid = F.affine_grid(theta, [len(theta), 1, CANVAS, CANVAS], align_corners=False)
    masks = F.grid_sample(source, grid, align_corners=False)[:, 0].numpy()

    inked = masks > 1 / 3
    across, down = inked.any(1), inked.any(2)
    low = np.stack([across.argmax(1), down.argmax(1)], -1)
    high = CANVAS - np.stack([across[:, ::-1].argmax(1), down[:, ::-1].argmax(1)], -1)
    return masks, np.concatenate([corner + low, corner + high], -1)


def paste(images: Float[ndarray, "N H W"], things: Things, masks: Float[ndarray, "T c c"]) -> None:
    """Add the things' light to their frames, in place; what sticks out is cut off."""
    size = images.shape[-1]
    corners = np.floor(things.centre - CANVAS / 2).astype(int)
    for frame, (x, y), light, mask in zip(things.frame, corners, things.light, masks, strict=True):
        left, top = max(x, 0), max(y, 0)
        right, bottom = min(x + CANVAS, size), min(y + CANVAS, size)
        if left < right and top < bottom:
            part = mask[top - y : bottom - y, left - x : right - x]
            images[frame, top:bottom, left:right] += light * part
