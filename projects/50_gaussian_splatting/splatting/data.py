"""Posed views: the project's own tabletop, NeRF-synthetic folders, COLMAP reconstructions."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from splatting import scene
from splatting.camera import Camera
from splatting.colmap import is_colmap, read_colmap
from trainloop import LabError, atomic_write, check, data_dir
from trainloop.progress import progress_bar

TRAIN, VAL, TEST = 40, 4, 8  # views of the tabletop
SPHERE = 1.5  # half the side of the cube that random points fill where nothing better is known


@dataclass(frozen=True)
class Views:
    """V pictures of one size, with the cameras that took them.

    Attributes:
        images: RGB.
        depths: along the axis in scene units, 0 where nothing is; None where they are not known.
        names: for messages and titles.
    """

    images: UInt8[Tensor, "V H W 3"]
    cameras: list[Camera]
    names: list[str]
    depths: Float[Tensor, "V H W"] | None = None

    def __len__(self) -> int:
        return len(self.cameras)

    def image(self, number: int) -> Float[Tensor, "H W 3"]:
        """One picture, in [0, 1]."""
        return self.images[number].float() / 255

    def take(self, rows: Iterable[int]) -> "Views":
        """Some of the views."""
        rows = list(rows)
        return Views(
            self.images[rows],
            [self.cameras[i] for i in rows],
            [self.names[i] for i in rows],
            None if self.depths is None else self.depths[rows],
        )

    def to(self, device: torch.device) -> "Views":
        """Pictures and cameras on a device."""
        return replace(
            self,
            images=self.images.to(device),
            cameras=[camera.to(device) for camera in self.cameras],
        )


@dataclass(frozen=True)
class Scene:
    """Views to train on, to tune on and to test on, and where to begin.

    Attributes:
        points, rgb: on surfaces, with colours in [0, 1]; or random ones in the scene's cube.
        background: RGB behind everything.
        extent: 1.1 times the largest distance of a training camera from their mean: the unit of
            learning rates and size limits.
    """

    train: Views
    val: Views
    test: Views
    points: Float[Tensor, "P 3"]
    rgb: Float[Tensor, "P 3"]
    background: Float[Tensor, " 3"]
    extent: float


def load(data: str, size: int = 128, points: int = 2000, init: str = "points") -> Scene:
    """`tabletop`, or a folder in the form of NeRF-synthetic or COLMAP.

    Args:
        size: of the tabletop's pictures; a folder's are shrunk by a whole number until their
            longer side is at most this, where it is not 0.
        points: how many Gaussians to begin with, at most.
        init: points (on surfaces, where they are known) or random.

    Raises:
        LabError: no such folder, or its pictures and cameras do not fit together.
    """
    if data == "tabletop":
        train, val, test = tabletop(size)
        found, background = None, torch.from_numpy(scene.BACKGROUND)
    else:
        folder = Path(data)
        check(folder.is_dir(), f"--data {data}: no such folder (or `tabletop`)")
        if is_colmap(folder):
            views, found = _colmap(folder, size)
            train, val, test = _every_eighth(views)
            background = torch.zeros(3)
        elif list(folder.glob("transforms*.json")):
            train, val, test = _nerf(folder, size)
            found, background = None, torch.ones(3)
        else:
            raise LabError(
                f"{folder} holds neither transforms_train.json (NeRF-synthetic) nor "
                "sparse/0/cameras.bin or .txt (COLMAP)"
            )
    places = torch.stack([camera.position for camera in train.cameras])
    extent = 1.1 * float((places - places.mean(0)).norm(dim=1).max())
    generator = torch.Generator().manual_seed(0)
    if found is None and init == "points" and train.depths is not None:
        found = surface_points(train, points, generator)
    if found is None or init == "random":
        cube = 2 * torch.rand(points, 3, generator=generator) - 1
        found = SPHERE * cube, torch.rand(points, 3, generator=generator)
    chosen = torch.randperm(len(found[0]), generator=generator)[:points]
    check(
        len(chosen) >= 4,
        f"{data} has {len(chosen)} points: at least 4 are needed, or --init random",
    )
    return Scene(
        train, val, test, found[0][chosen], found[1][chosen], background, max(extent, 1e-3)
    )


# --- the tabletop --------------------------------------------------------------------------------


def tabletop(size: int) -> tuple[Views, Views, Views]:
    """Views to train on, validate and test on; rendered once, then read from the data folder."""
    path = data_dir() / f"splatting/tabletop-v{scene.VERSION}-{size}.npz"
    everything = scene.cameras(TRAIN + VAL + TEST, size)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        images, depths = [], []
        for camera in everything:
            image, depth = scene.render(camera)
            images.append((image * 255 + 0.5).astype(np.uint8))
            depths.append(depth)
            if camera is everything[0]:
                bar = progress_bar(len(everything), "view", "rendering the tabletop")
            bar.update()
        bar.close()
        arrays = {"images": np.stack(images), "depths": np.stack(depths)}
        atomic_write(path, lambda file: np.savez_compressed(file, **arrays))
    with np.load(path) as file:
        images, depths = torch.from_numpy(file["images"]), torch.from_numpy(file["depths"])
    views = Views(images, everything, [f"view {i}" for i in range(len(everything))], depths)
    # Every 13 views along the spiral two are for testing and one for validation.
    test = [i for i in range(len(views)) if i % 13 in (3, 9)]
    val = [i for i in range(len(views)) if i % 13 == 6]
    train = [i for i in range(len(views)) if i not in test and i not in val]
    return views.take(train), views.take(val), views.take(test)


def surface_points(
    views: Views, count: int, generator: torch.Generator
) -> tuple[Float[Tensor, "P 3"], Float[Tensor, "P 3"]]:
    """Points seen in random pixels, by their exact depth, and the pixels' colours in [0, 1]."""
    seen = (views.depths > 0).nonzero()  # (n, 3): view, row, column
    chosen = seen[torch.randperm(len(seen), generator=generator)[:count]]
    points = torch.empty(len(chosen), 3)
    for number, camera in enumerate(views.cameras):
        mine = (chosen[:, 0] == number).nonzero().squeeze(1)
        rows, columns = chosen[mine, 1], chosen[mine, 2]
        rays = camera.rays(torch.stack([columns, rows], -1) + 0.5)
        points[mine] = camera.position + views.depths[number, rows, columns, None] * rays
    return points, views.images[tuple(chosen.T)].float() / 255


# --- folders -------------------------------------------------------------------------------------


def read_image(path: Path, background: float | None = None) -> UInt8[np.ndarray, "H W 3"]:
    """RGB; what is transparent shows `background`, a grey in [0, 1].

    Raises:
        LabError: the file is missing or no picture.
    """
    try:
        with Image.open(path) as file:
            rgba = np.asarray(file.convert("RGBA"), np.float32)
    except FileNotFoundError:
        raise LabError(f"no picture at {path}, which the cameras' file names") from None
    except (UnidentifiedImageError, OSError) as error:
        raise LabError(f"{path} is no picture that can be read: {error}") from None
    alpha = rgba[..., 3:] / 255
    if background is not None:
        rgba = alpha * rgba + (1 - alpha) * 255 * background
    return (rgba[..., :3] + 0.5).astype(np.uint8)


def shrink(image: np.ndarray, camera: Camera, size: int) -> tuple[np.ndarray, Camera]:
    """Average k x k pixels, with k the least that makes the longer side at most `size`."""
    k = 1 if size == 0 else math.ceil(max(image.shape[:2]) / size)
    height, width = image.shape[0] // k, image.shape[1] // k
    blocks = image[: height * k, : width * k].reshape(height, k, width, k, 3)
    small = (blocks.astype(np.float32).mean((1, 3)) + 0.5).astype(np.uint8)
    return small, Camera(camera.world_to_camera, camera.fx / k, camera.fy / k, camera.cx / k,
                         camera.cy / k, width, height)  # fmt: skip


def assemble(found: list[tuple[np.ndarray, Camera, str]], size: int) -> Views:
    """Views of one size out of pictures and the cameras that claim to have taken them.

    Raises:
        LabError: a picture is not as large as its camera says, or they differ in size.
    """
    images, cameras, names = [], [], []
    for image, camera, name in found:
        there, said = f"{image.shape[1]}x{image.shape[0]}", f"{camera.width}x{camera.height}"
        check(
            there == said, f"{name} is {there} pixels, but its camera has {said}: they do not match"
        )
        image, camera = shrink(image, camera, size)
        if images and image.shape != images[0].shape:
            raise LabError(f"{name} differs in size from {names[0]}: all views must have one size")
        images.append(image)
        cameras.append(camera)
        names.append(name)
    return Views(torch.from_numpy(np.stack(images)), cameras, names)


def _nerf(folder: Path, size: int) -> tuple[Views, Views, Views]:
    """transforms_train.json, with _val and _test where they are; else every eighth view."""
    splits = {}
    for split in ("train", "val", "test"):
        path = folder / f"transforms_{split}.json"
        if split == "train" and not path.exists():
            path = folder / "transforms.json"
        if path.exists():
            splits[split] = assemble(read_transforms(path), size)
    check("train" in splits, f"{folder} has neither transforms_train.json nor transforms.json")
    if len(splits) == 1:
        return _every_eighth(splits["train"])
    test = splits.get("test") or splits["val"]
    return splits["train"], splits.get("val") or test, test


def read_transforms(path: Path) -> list[tuple[np.ndarray, Camera, str]]:
    """Pictures and cameras of a NeRF-synthetic `transforms.json`, on white.

    Its matrices take camera to world, with y up and z backward (OpenGL); instant-ngp's fl_x, cx, w
    and the like are used where they are.

    Raises:
        LabError: the file is no JSON, or lacks what is needed.
    """
    try:
        table = json.loads(path.read_text("utf-8"))
        frames = table["frames"]
        poses = [torch.tensor(f["transform_matrix"], dtype=torch.float32) for f in frames]
        files = [f["file_path"] for f in frames]
    except (ValueError, KeyError, TypeError) as error:
        raise LabError(f"{path} is no transforms.json: {error!r}") from None
    check(len(frames) > 0, f"{path} names no picture")
    found = []
    for pose, name in zip(poses, files, strict=True):
        check(pose.shape == (4, 4), f"{path}: the matrix of {name} is not 4x4")
        file = path.parent / name
        file = file if file.suffix else file.with_suffix(".png")
        image = read_image(file, background=1.0)
        width, height = table.get("w", image.shape[1]), table.get("h", image.shape[0])
        if "fl_x" in table:
            fx, fy = table["fl_x"], table.get("fl_y", table["fl_x"])
        else:
            check("camera_angle_x" in table, f"{path} has neither camera_angle_x nor fl_x")
            fx = fy = width / 2 / math.tan(table["camera_angle_x"] / 2)
        cx, cy = table.get("cx", width / 2), table.get("cy", height / 2)
        flipped = pose @ torch.diag(torch.tensor([1.0, -1, -1, 1]))
        camera = Camera(torch.linalg.inv(flipped), fx, fy, cx, cy, int(width), int(height))
        found.append((image, camera, str(file.relative_to(path.parent))))
    return found


def _colmap(folder: Path, size: int) -> tuple[Views, tuple[Tensor, Tensor] | None]:
    cameras, points, rgb = read_colmap(folder)
    images = folder / "images"
    found = [(read_image(images / name), camera, name) for name, camera in cameras]
    return assemble(found, size), (points, rgb) if len(points) else None


def _every_eighth(views: Views) -> tuple[Views, Views, Views]:
    """Of views in the order of their names: two in eight are held out, as is the custom."""
    check(
        len(views) >= 8, f"{len(views)} views are too few to hold some out: at least 8 are needed"
    )
    rows = range(len(views))
    return (
        views.take(i for i in rows if i % 8 not in (0, 4)),
        views.take(i for i in rows if i % 8 == 4),
        views.take(i for i in rows if i % 8 == 0),
    )
