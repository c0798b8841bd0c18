"""Reading COLMAP's sparse models, binary and text: cameras, poses, points.

The format is https://colmap.github.io/format.html. Quaternions are w x y z and, with the
translation, take the world to the camera; x right, y down, z forward, as in `splatting.camera`.
"""

import os
import struct
from pathlib import Path
from typing import BinaryIO

import torch
from jaxtyping import Float
from torch import Tensor

from splatting.camera import Camera
from splatting.gaussians import rotations
from trainloop import LabError, check

# Number in the binary file, name, number of parameters. Those with a lens's distortion are known in
# order to be refused by name.
MODELS = {
    0: ("SIMPLE_PINHOLE", 3),
    1: ("PINHOLE", 4),
    2: ("SIMPLE_RADIAL", 4),
    3: ("RADIAL", 5),
    4: ("OPENCV", 8),
    5: ("OPENCV_FISHEYE", 8),
    6: ("FULL_OPENCV", 12),
    7: ("FOV", 5),
    8: ("SIMPLE_RADIAL_FISHEYE", 4),
    9: ("RADIAL_FISHEYE", 5),
    10: ("THIN_PRISM_FISHEYE", 12),
}
Lens = tuple[int, int, float, float, float, float]  # width, height, fx, fy, cx, cy
Pose = tuple[list[float], list[float], int, str]  # quaternion, translation, camera, name


def model_folder(folder: Path) -> Path | None:
    """`sparse/0`, `sparse` or the folder itself, whichever holds cameras.bin or cameras.txt."""
    for candidate in (folder / "sparse/0", folder / "sparse", folder):
        if any((candidate / f"cameras{ending}").is_file() for ending in (".bin", ".txt")):
            return candidate
    return None


def is_colmap(folder: Path) -> bool:
    """Whether there is a model in it."""
    return model_folder(folder) is not None


def read_colmap(
    folder: Path,
) -> tuple[list[tuple[str, Camera]], Float[Tensor, "P 3"], Float[Tensor, "P 3"]]:
    """(name of the picture, camera) by name, and points with their colours in [0, 1].

    Raises:
        LabError: a file is missing or cut short, or a lens is not a pinhole.
    """
    home = model_folder(folder)
    binary = (home / "cameras.bin").is_file()
    ending = ".bin" if binary else ".txt"
    read = _read_binary if binary else _read_text
    for part in ("images", "points3D"):
        check(
            (home / (part + ending)).is_file(), f"{home} has cameras{ending} but no {part}{ending}"
        )
    try:
        lenses, poses, points = read(home)
    except LabError:
        raise
    except (struct.error, ValueError, IndexError, KeyError, OverflowError) as error:
        raise LabError(f"{home} is cut short or no COLMAP model: {error}") from None
    cameras = []
    for quaternion, translation, lens, name in sorted(poses, key=lambda pose: pose[3]):
        check(lens in lenses, f"{home}: {name} was taken by camera {lens}, which is not listed")
        check(any(quaternion), f"{home}: the quaternion of {name} is zero")
        matrix = torch.eye(4, dtype=torch.float64)
        matrix[:3, :3] = rotations(torch.tensor([quaternion], dtype=torch.float64))[0]
        matrix[:3, 3] = torch.tensor(translation, dtype=torch.float64)
        width, height, fx, fy, cx, cy = lenses[lens]
        cameras.append((name, Camera(matrix.float(), fx, fy, cx, cy, width, height)))
    check(len(cameras) > 0, f"{home} has no picture with a pose")
    table = torch.tensor(points, dtype=torch.float64).reshape(-1, 6).float()
    return cameras, table[:, :3], table[:, 3:] / 255


def _lens(home: Path, model: str, width: int, height: int, values: list[float]) -> Lens:
    if model == "SIMPLE_PINHOLE":
        focal, cx, cy = values
        return width, height, focal, focal, cx, cy
    if model == "PINHOLE":
        fx, fy, cx, cy = values
        return width, height, fx, fy, cx, cy
    raise LabError(
        f"{home}: camera model {model} has distortion: run `colmap image_undistorter` first"
    )


# --- binary: little-endian, a count, then records ------------------------------------------------


def _unpack(file: BinaryIO, form: str) -> tuple:
    return struct.unpack("<" + form, file.read(struct.calcsize("<" + form)))


def _skip(file: BinaryIO, size: int) -> None:
    """Past bytes that must be there: `seek` does not mind the end of a file."""
    if file.seek(size, 1) > os.fstat(file.fileno()).st_size:
        raise ValueError("cut short")


def _read_binary(home: Path) -> tuple[dict[int, Lens], list[Pose], list[list[float]]]:
    lenses, poses, points = {}, [], []
    with (home / "cameras.bin").open("rb") as file:
        for _ in range(_unpack(file, "Q")[0]):
            number, model, width, height = _unpack(file, "iiQQ")
            check(model in MODELS, f"{home}: camera model {model} is not known")
            name, count = MODELS[model]
            lenses[number] = _lens(home, name, width, height, list(_unpack(file, f"{count}d")))
    with (home / "images.bin").open("rb") as file:
        for _ in range(_unpack(file, "Q")[0]):
            _, *pose = _unpack(file, "i7d")
            lens = _unpack(file, "i")[0]
            name = b""
            while (letter := _unpack(file, "c")[0]) != b"\0":
                name += letter
            count = _unpack(file, "Q")[0]
            _skip(file, 24 * count)  # x, y and the point seen there
            poses.append((pose[:4], pose[4:], lens, name.decode()))
    with (home / "points3D.bin").open("rb") as file:
        for _ in range(_unpack(file, "Q")[0]):
            _, x, y, z, r, g, b, _ = _unpack(file, "Q3d3Bd")
            _skip(file, 8 * _unpack(file, "Q")[0])  # the track: who saw it
            points.append([x, y, z, float(r), float(g), float(b)])
    return lenses, poses, points


# --- text ----------------------------------------------------------------------------------------


def _rows(path: Path) -> list[list[str]]:
    lines = path.read_text("utf-8").splitlines()
    return [line.split() for line in lines if not line.startswith("#")]


def _read_text(home: Path) -> tuple[dict[int, Lens], list[Pose], list[list[float]]]:
    lenses = {
        int(number): _lens(home, model, int(width), int(height), list(map(float, values)))
        for number, model, width, height, *values in filter(None, _rows(home / "cameras.txt"))
    }
    rows = _rows(home / "images.txt")  # two lines a picture; the second, its points, may be empty
    while rows and not rows[-1]:
        rows.pop()
    poses = [
        ([float(v) for v in row[1:5]], [float(v) for v in row[5:8]], int(row[8]), " ".join(row[9:]))
        for row in rows[::2]
    ]
    points = [[float(v) for v in row[1:7]] for row in filter(None, _rows(home / "points3D.txt"))]
    return lenses, poses, points
