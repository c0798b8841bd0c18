"""The tabletop, and folders in foreign formats, written here."""

import json
import math
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from splatting import scene
from splatting.data import load, read_image, shrink
from splatting.projection import in_camera
from trainloop import LabError

SIZE = 32


def test_tabletop_is_split_and_cached(data_folder):
    found = load("tabletop", SIZE)
    assert (len(found.train), len(found.val), len(found.test)) == (40, 4, 8)
    names = [*found.train.names, *found.val.names, *found.test.names]
    assert len(set(names)) == 52
    assert found.train.images.shape == (40, SIZE, SIZE, 3)
    path = data_folder / f"splatting/tabletop-v{scene.VERSION}-{SIZE}.npz"
    before = path.stat().st_mtime_ns
    again = load("tabletop", SIZE)
    assert path.stat().st_mtime_ns == before
    assert torch.equal(again.points, found.points)


def test_depth_is_where_the_surfaces_are():
    """A point by its depth in one view has the same depth and colour in another that sees it."""
    found = load("tabletop", SIZE, points=500)
    agree = []
    for number, camera in enumerate(found.train.cameras):
        near = in_camera(found.points, camera)
        pixels = near[:, :2] / near[:, 2:] * camera.fx + camera.cx
        columns, rows = pixels.long().clamp(0, SIZE - 1).T
        depth = found.train.depths[number, rows, columns]
        seen = (depth - near[:, 2]).abs() < 0.15
        agree.append(seen.float().mean())
        difference = found.train.image(number)[rows, columns] - found.rgb
        assert difference[seen].abs().mean() < 0.15
    assert torch.stack(agree).mean() > 0.5
    assert found.points[:, 2].min() > -1e-4, "nothing below the table"
    assert found.points[:, :2].norm(dim=1).max() < scene.TABLE + 1e-3


def test_a_shadow_lies_behind_the_ball():
    """Where the lamp's ray through a ball's centre meets the table there is ambient light only."""
    centre = np.array(scene.BALLS[0][0], np.float32)
    away = centre - scene.LAMP
    ground = centre - away * centre[2] / away[2]
    tiles = np.array([(0.52, 0.44, 0.34), (0.10, 0.12, 0.16)])
    for spot, is_dark in ((ground, True), (np.array([0.1, -1.5, 0]), False)):
        spot = spot.astype(np.float32)
        arm = np.array([[2.0, -0.8, -2.0]], np.float32)  # from beside and above
        colour, _ = scene._light(spot - arm[0], arm)
        expected = (0.30 * tiles) ** (1 / 2.2)
        assert (np.abs(colour - expected).max(1) < 1e-3).any() == is_dark


# --- NeRF-synthetic ------------------------------------------------------------------------------


def write_nerf(folder, count=3, splits=("train",), **change):
    found = load("tabletop", SIZE).train
    for split in splits:
        frames = []
        for i in range(count):
            (folder / split).mkdir(parents=True, exist_ok=True)
            image = np.dstack([found.images[i].numpy(), np.full((SIZE, SIZE), 255, np.uint8)])
            image[0, 0] = (10, 20, 30, 0)  # transparent
            Image.fromarray(image).save(folder / split / f"r_{i}.png")
            pose = torch.linalg.inv(found.cameras[i].world_to_camera)
            pose = pose @ torch.diag(torch.tensor([1.0, -1, -1, 1]))
            frames.append({"file_path": f"./{split}/r_{i}", "transform_matrix": pose.tolist()})
        table = {"camera_angle_x": math.radians(scene.FIELD_OF_VIEW), "frames": frames, **change}
        (folder / f"transforms_{split}.json").write_text(json.dumps(table))
    return found


def test_nerf_synthetic(tmp_path):
    truth = write_nerf(tmp_path, splits=("train", "val", "test"))
    found = load(str(tmp_path), SIZE)
    assert len(found.train) == len(found.test) == 3
    assert found.background.tolist() == [1, 1, 1]
    for camera, expected in zip(found.train.cameras, truth.cameras, strict=False):
        assert torch.allclose(camera.world_to_camera, expected.world_to_camera, atol=1e-5)
        assert camera.fx == pytest.approx(expected.fx)
    assert found.train.images[0, 0, 0].tolist() == [255, 255, 255], "on white"
    assert torch.equal(found.train.images[1, 5], truth.images[1, 5])
    assert found.points.shape == (2000, 3)
    small = load(str(tmp_path), 16)
    assert small.train.images.shape[1:3] == (16, 16)
    assert small.train.cameras[0].fx == pytest.approx(truth.cameras[0].fx / 2)


def test_one_transforms_json_is_split(tmp_path):
    write_nerf(tmp_path, count=16)
    (tmp_path / "transforms_train.json").rename(tmp_path / "transforms.json")
    found = load(str(tmp_path), SIZE)
    assert (len(found.train), len(found.val), len(found.test)) == (12, 2, 2)


# --- COLMAP --------------------------------------------------------------------------------------


def quaternion_of(rotation):
    w = math.sqrt(max(0, 1 + rotation.trace().item())) / 2
    r = rotation.tolist()
    return [
        w,
        (r[2][1] - r[1][2]) / 4 / w,
        (r[0][2] - r[2][0]) / 4 / w,
        (r[1][0] - r[0][1]) / 4 / w,
    ]


def write_colmap(folder, binary, count=8, model="PINHOLE", width=SIZE):
    found = load("tabletop", SIZE)
    home = folder / "sparse/0"
    home.mkdir(parents=True)
    (folder / "images").mkdir()
    views, poses = found.train, []
    for i in range(count):
        Image.fromarray(views.images[i].numpy()).save(folder / f"images/{i}.png")
        matrix = views.cameras[i].world_to_camera
        poses.append([*quaternion_of(matrix[:3, :3]), *matrix[:3, 3].tolist()])
    focal = views.cameras[0].fx
    lens = {"PINHOLE": [focal, focal, 16, 16], "SIMPLE_PINHOLE": [focal, 16, 16],
            "OPENCV": [focal, focal, 16, 16, 0.1, 0, 0, 0]}[model]  # fmt: skip
    number = {"SIMPLE_PINHOLE": 0, "PINHOLE": 1, "OPENCV": 4}[model]
    points = [(*p, *(int(255 * v) for v in c)) for p, c in
              zip(found.points[:50].tolist(), found.rgb[:50].tolist(), strict=True)]  # fmt: skip
    if binary:
        content = struct.pack("<Q", 1) + struct.pack("<iiQQ", 7, number, width, SIZE)
        (home / "cameras.bin").write_bytes(content + struct.pack(f"<{len(lens)}d", *lens))
        content = struct.pack("<Q", count)
        for i, pose in reversed(list(enumerate(poses))):
            content += struct.pack("<i7di", i + 1, *pose, 7) + f"{i}.png".encode() + b"\0"
            content += struct.pack("<Q", 2) + struct.pack("<2dq", 1, 2, -1) * 2
        (home / "images.bin").write_bytes(content)
        content = struct.pack("<Q", len(points))
        for i, point in enumerate(points):
            content += struct.pack("<Q3d3Bd", i, *point, 0.5) + struct.pack("<Q2i", 1, 3, 4)
        (home / "points3D.bin").write_bytes(content)
    else:
        line = " ".join(map(str, [7, model, width, SIZE, *lens]))
        (home / "cameras.txt").write_text(f"# cameras\n{line}\n")
        lines = []
        for i, pose in enumerate(poses):
            lines += [" ".join(map(str, [i + 1, *pose, 7, f"{i}.png"])), "1 2 -1" if i % 2 else ""]
        (home / "images.txt").write_text("# images\n" + "\n".join(lines) + "\n")
        lines = [" ".join(map(str, [i, *point, 0.5, 3, 4])) for i, point in enumerate(points)]
        (home / "points3D.txt").write_text("\n".join(lines) + "\n")
    return found


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("model", ["PINHOLE", "SIMPLE_PINHOLE"])
def test_colmap(tmp_path, binary, model):
    truth = write_colmap(tmp_path, binary, model=model)
    found = load(str(tmp_path), SIZE)
    assert found.test.names == ["0.png"]
    assert found.val.names == ["4.png"]
    assert found.train.names == [f"{i}.png" for i in (1, 2, 3, 5, 6, 7)]
    for camera, i in zip(found.train.cameras, (1, 2, 3, 5, 6, 7), strict=True):
        expected = truth.train.cameras[i]
        assert torch.allclose(camera.world_to_camera, expected.world_to_camera, atol=1e-4)
        assert camera.fx == pytest.approx(expected.fx)
    nearest = torch.cdist(found.points, truth.points[:50]).argmin(1)
    assert torch.allclose(found.points, truth.points[nearest], atol=1e-5)
    assert torch.allclose(found.rgb, truth.rgb[nearest], atol=1 / 255)


# --- what does not fit ---------------------------------------------------------------------------


def test_images_and_cameras_that_do_not_match(tmp_path):
    write_colmap(tmp_path, True, width=SIZE + 1)
    with pytest.raises(LabError, match="is 32x32 pixels, but its camera has 33x32"):
        load(str(tmp_path), SIZE)


def test_a_picture_is_missing(tmp_path):
    write_nerf(tmp_path)
    (tmp_path / "train/r_1.png").unlink()
    with pytest.raises(LabError, match=r"no picture at .*r_1\.png"):
        load(str(tmp_path), SIZE)


def test_a_lens_with_distortion_is_refused(tmp_path):
    write_colmap(tmp_path, False, model="OPENCV")
    with pytest.raises(LabError, match="OPENCV has distortion"):
        load(str(tmp_path), SIZE)


def test_a_zero_quaternion(tmp_path):
    write_colmap(tmp_path, False)
    path = tmp_path / "sparse/0/images.txt"
    lines = path.read_text().split("\n")
    lines[1] = " ".join(["1", "0", "0", "0", "0", *lines[1].split()[5:]])
    path.write_text("\n".join(lines))
    with pytest.raises(LabError, match=r"the quaternion of 0\.png is zero"):
        load(str(tmp_path), SIZE)


@pytest.mark.parametrize("part", ["cameras", "images", "points3D"])
def test_a_model_cut_short(tmp_path, part):
    write_colmap(tmp_path, True)
    path = tmp_path / f"sparse/0/{part}.bin"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(LabError, match="is cut short or no COLMAP model") as caught:
        load(str(tmp_path), SIZE)
    assert "\n" not in str(caught.value)
    path.unlink()
    with pytest.raises(LabError):
        load(str(tmp_path), SIZE)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("hello", r"is no transforms\.json"),
        ('{"frames": []}', "names no picture"),
        ('{"frames": [{"file_path": "a"}]}', r"is no transforms\.json"),
        ('{"frames": [{"file_path": "a", "transform_matrix": [[1]]}]}', "is not 4x4"),
    ],
)
def test_transforms_that_are_none(tmp_path, content, said):
    (tmp_path / "transforms_train.json").write_text(content)
    with pytest.raises(LabError, match=said):
        load(str(tmp_path), SIZE)


def test_a_folder_of_nothing(tmp_path):
    with pytest.raises(LabError, match=r"holds neither transforms_train\.json"):
        load(str(tmp_path), SIZE)
    with pytest.raises(LabError, match="no such folder"):
        load(str(tmp_path / "missing"), SIZE)
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(LabError, match="is no picture that can be read"):
        read_image(tmp_path / "a.png")


def test_shrinking_averages(camera):
    image = np.arange(28 * 40 * 3, dtype=np.uint8).reshape(28, 40, 3)
    small, shrunk = shrink(image, camera, 20)
    assert small.shape == (14, 20, 3)
    expected = image[:2, 2:4].astype(float).mean((0, 1))
    assert np.abs(small[0, 1] - expected).max() <= 0.5
    assert (shrunk.fx, shrunk.cx, shrunk.width) == (22, 10.5, 20)
