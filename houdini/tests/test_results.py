"""Predictions into attributes: what is refused and how, places, colours, the atlas's uv."""

import subprocess
import sys
import zipfile
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))

import results_data as data

from houdini_bridge.results.cloud import SRGB, atlas_uv, cloud_of, linear, place, plain
from houdini_bridge.results.config import ImportConfig
from houdini_bridge.results.npz import FORM, read_results
from houdini_bridge.results.preview import BACKGROUND, cards
from houdini_bridge.results.write import write
from trainloop import LabError


def refused(path: Path, match: str) -> None:
    with pytest.raises(LabError, match=match) as caught:
        read_results(path)
    assert "\n" not in str(caught.value)
    assert path.parent.name in str(caught.value), "says which file"


def test_all_of_a_file_is_read(tmp_path):
    path = data.write(tmp_path)
    results, content = read_results(path), data.arrays()
    for name in ("index", "label", "prediction", "probabilities", "embedding", "map2d", "map3d"):
        assert np.array_equal(getattr(results, name), content[name])
    assert results.class_names == tuple(data.NAMES)
    assert (results.atlas_columns, results.atlas_cell, len(results)) == (3, 5, 7)
    assert np.array_equal(results.atlas, data.atlas())


@pytest.mark.parametrize("name", ["probabilities", "embedding", "map2d", "map3d"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_with_its_row(tmp_path, name, value):
    broken = data.arrays()[name].copy()
    broken[4, 1] = broken[6, 0] = value
    refused(data.write(tmp_path, **{name: broken}), f"{name} is NaN.* row 4 and 1 more")


@pytest.mark.parametrize("name", list(FORM))
def test_a_key_that_is_missing_or_of_another_form_is_named(tmp_path, name):
    refused(data.write(tmp_path, **{name: None}), rf"lacks {name}:")
    right = data.arrays()[name]
    if right.ndim and name != "index":  # index says how many rows there should be
        refused(data.write(tmp_path, **{name: right[:-1]}), rf"{name} has the shape \(")
    refused(data.write(tmp_path, **{name: right[None]}), rf"{name} has the shape \(1,")
    other = np.zeros(right.shape, np.int64 if right.dtype.kind == "f" else np.float32)
    refused(data.write(tmp_path, **{name: other}), rf"{name} holds (int64|float32), not")


def changed(name: str, row: int, value) -> dict[str, np.ndarray]:
    array = data.arrays()[name].copy()
    array[row] = value
    return {name: array}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"version": np.array(2)}, "version is 2"),
        (changed("index", 3, -1), "index is negative.* row 3"),
        (changed("index", 3, 2**31), "index is .*beyond int32 in row 3"),
        (changed("index", 3, data.arrays()["index"][0]), "index is there twice in row 3"),
        (changed("label", 6, 10), "label is not 0 to 9 in row 6"),
        (changed("prediction", 2, -1), "prediction is not 0 to 9 in row 2"),
        (changed("probabilities", 1, 0.2), "do not sum to 1 in row 1"),
        (changed("probabilities", 1, [-0.5, 1.5] + [0] * 8), "negative in row 1"),
        (
            changed("prediction", 5, data.arrays()["probabilities"][5].argmin()),
            "not the most probable class in row 5$|not the most probable class in row 5:",
        ),
        (changed("class_names", 0, " "), "empty"),
        (changed("class_names", 0, "a\nb"), "control character"),
        (changed("class_names", 0, data.NAMES[1]), "the same"),
        ({"atlas_columns": np.array(0)}, "atlas_columns is 0"),
        ({"atlas_cell": np.array(-5)}, "atlas_cell is -5"),
        ({"atlas_columns": np.array(4)}, "15 x 15 pixels, not 20 x 10"),
        ({"class_names": np.array(data.NAMES, dtype=object)}, "damaged or holds objects"),
    ],
)
def test_values_out_of_range_are_refused(tmp_path, change, match):
    refused(data.write(tmp_path, **change), match)


def test_no_predictions_are_refused_and_a_single_one_is_not(tmp_path):
    refused(data.write(tmp_path, **{k: v[:0] for k, v in rows(data.arrays()).items()}), "holds no")
    results = read_results(data.write(tmp_path, 1))
    for which in ("2d", "3d"):
        cloud = cloud_of(results, which, 10.0)
        assert cloud["P"].tolist() == [[0, 0, 0]]
        assert cloud["uv"].tolist() == [[0, 0, 0]]


def rows(content: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: content[name] for name, (_, shape) in FORM.items() if "N" in shape}


@pytest.mark.parametrize("how", ["missing", "text", "cut", "not npy", "bits"])
def test_files_that_cannot_be_read_are_refused(tmp_path, how):
    path = data.write(tmp_path)
    whole = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
    elif how == "text":
        path.write_text("no zip")
    elif how == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "bits":
        whole[200:240] = bytes(40)
        path.write_bytes(whole)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for name in FORM:
                archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00")
    refused(path, "no file|no .npz|damaged")


@pytest.mark.parametrize("how", ["missing", "colour", "size", "cut", "text"])
def test_an_atlas_that_will_not_do_is_refused(tmp_path, how):
    path, atlas = data.write(tmp_path), tmp_path / "atlas.png"
    if how == "missing":
        atlas.unlink()
    elif how == "colour":
        Image.fromarray(data.atlas()).convert("RGB").save(atlas)
    elif how == "size":
        Image.fromarray(data.atlas()[:-1]).save(atlas)
    elif how == "cut":
        atlas.write_bytes(atlas.read_bytes()[:-40])
    else:
        atlas.write_text("no image")
    wanted = {"missing": "there is no", "colour": "8-bit grey but RGB", "size": "15 x 14 pixels"}
    refused(path, wanted.get(how, "cannot be read as a PNG"))


def test_attributes_say_what_the_predictions_say(tmp_path):
    content = data.arrays()
    cloud = cloud_of(read_results(data.write(tmp_path)), "3d", 8.0)
    for attribute, name in (("image", "index"), ("label", "label"), ("pred", "prediction")):
        assert np.array_equal(cloud[attribute], content[name])
    assert np.array_equal(cloud["variant"], cloud["pred"])
    assert cloud["correct"].tolist() == [1, 0, 1, 1, 0, 1, 1]
    assert np.array_equal(cloud["confidence"], content["probabilities"].max(1))
    greys = [data.image_of(number).mean() / 255 for number in range(7)]
    assert np.allclose(cloud["ink"], greys)
    for row, prediction in enumerate(content["prediction"]):
        seen = matplotlib.colors.to_rgb(f"C{prediction}")  # Tableau's ten are its default cycle
        assert np.allclose(SRGB[prediction], seen, atol=2e-3)
        assert np.allclose(cloud["Cd"][row], linear(SRGB[prediction]))


def test_the_map_is_centred_and_scaled_alike_along_all_axes(tmp_path):
    results = read_results(data.write(tmp_path))
    for which, points in (("2d", results.map2d), ("3d", results.map3d)):
        placed = cloud_of(results, which, 8.0)["P"]
        extent = np.ptp(placed, axis=0)
        assert np.isclose(extent.max(), 8)
        assert np.allclose(placed.max(0), -placed.min(0), atol=1e-6)
        axes = points.shape[1]
        ratio = np.ptp(points, axis=0) / extent[:axes]
        assert np.allclose(ratio, ratio[0])
        assert np.array_equal(np.argsort(placed[:, 1]), np.argsort(points[:, 1])), "not mirrored"
        assert (placed[:, axes:] == 0).all()
    same = place(np.full((3, 2), 5, np.float32), 8)
    assert np.array_equal(same, np.zeros((3, 3)))
    huge = place(np.array([[-3e38, 0], [3e38, 1]], np.float32), 8)
    assert np.allclose(huge, [[-4, 0, 0], [4, 0, 0]])


def test_uv_of_a_point_leads_to_its_image(tmp_path):
    """Looked up as Houdini does: v=0 is the image's lowest row. The images are asymmetric."""
    results = read_results(data.write(tmp_path))
    cloud = cloud_of(results, "2d", 10)
    upright = results.atlas[::-1]  # row 0 is now the lowest, as v counts
    height, width = upright.shape
    steps = (np.arange(data.CELL) + 0.5) / data.CELL  # centres of a card's pixels, from its corner
    for number in range(len(cloud)):
        u = cloud["uv"][number, 0] + steps * cloud.uv_size[0]
        v = cloud["uv"][number, 1] + steps * cloud.uv_size[1]
        found = upright[np.ix_((v * height).astype(int), (u * width).astype(int))]
        assert np.array_equal(found[::-1], data.image_of(number))
    assert np.allclose(atlas_uv(np.array([0]), 3, 4), [[0, 0.75, 0]]), "top left"


def test_linear_light_of_known_greys():
    assert np.allclose(linear(np.array([0.0, 0.04045, 0.5, 1.0])), [0, 0.0031308, 0.2140411, 1])


def test_numbers_are_written_short_and_read_back_the_same():
    values = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32) * np.float32(1e-3)
    values[0] = [0.1, 1e-30, 16777216]
    assert np.array_equal(np.array(plain(values)).astype(np.float32), values)
    assert plain(values)[0] == [0.1, 1e-30, 16777216]
    assert plain(np.array([3, -1], np.int32)) == [3, -1]


def test_the_pictures_cards_are_the_images_upright(tmp_path):
    """A single card, drawn at its place: an L, not a mirrored or turned one."""
    results = read_results(data.write(tmp_path, 1))
    cloud = cloud_of(results, "2d", 10.0)
    pixels, (left, right, bottom, top) = cards(results, cloud)
    side = float(cloud["pscale"][0])
    assert np.allclose([left, right, bottom, top], [-side, side, -side, side], rtol=2e-3)
    drawn = pixels != round(255 * BACKGROUND)
    rows_, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    assert abs(rows_[0] - 350) <= 1
    assert abs(rows_[-1] - 1050) <= 1
    card = pixels[rows_[0] : rows_[-1] + 1, columns[0] : columns[-1] + 1]
    step = len(card) // data.CELL
    assert np.array_equal(card[step // 2 :: step, step // 2 :: step][:5, :5], data.image_of(0))


def test_the_near_card_hides_the_far_one(tmp_path):
    far_first = {"map3d": np.array([[0, 0, 1], [0, 0, -1]], np.float32)}
    results = read_results(data.write(tmp_path, 2, **far_first))
    pixels, _ = cards(results, cloud_of(results, "3d", 10))
    assert data.image_of(0).max() in pixels
    assert data.image_of(1).max() not in pixels


def command(*options: str) -> subprocess.CompletedProcess:
    code = "from houdini_bridge.results.cli import import_results as run; run()"
    return subprocess.run([sys.executable, "-c", code, *options], capture_output=True, text=True)


def test_the_command_writes_a_folder_that_can_be_carried(tmp_path):
    path = data.write(tmp_path)
    done = command(str(path), "--map=3d")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "no font warning for names in other scripts"
    folder = tmp_path / "houdini"
    names = ["atlas.png", "map3d.geo", "map3d.usda", "map3d.csv", "map3d.json", "map3d.png"]
    assert done.stdout.split() == [str(folder / name) for name in names]
    assert sorted(names) == sorted(path.name for path in folder.iterdir())
    assert (folder / "atlas.png").read_bytes() == (tmp_path / "atlas.png").read_bytes()
    for name in names[1:5]:
        assert str(tmp_path) not in (folder / name).read_text("utf-8"), "no absolute path"


def test_twice_gives_the_same_bytes_and_out_may_be_the_folder_itself(tmp_path, monkeypatch):
    path = data.write(tmp_path)
    monkeypatch.setattr("houdini_bridge.results.write.preview", lambda path, *_: path.touch())
    config = ImportConfig(predictions=path, out=str(tmp_path))
    first = [p.read_bytes() for p in write(config)]
    assert [p.read_bytes() for p in write(config)] == first
    assert len(first[0]) == (tmp_path / "atlas.png").stat().st_size


def test_misuse_is_one_line_and_code_2(tmp_path):
    done = command(str(tmp_path / "missing.npz"))
    assert done.returncode == 2
    assert "there is no file" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    (tmp_path / "file").write_text("")
    path = data.write(tmp_path)
    with pytest.raises(LabError, match="is no folder: choose another --out"):
        write(ImportConfig(predictions=path, out=str(tmp_path / "file")))
    for size in (-1.0, 0.0, float("nan"), float("inf")):
        with pytest.raises(LabError, match="--size must be"):
            ImportConfig(predictions=path, size=size)
    assert not (tmp_path / "houdini").exists()


def test_help_is_quick():
    code = (
        "import sys; from houdini_bridge.results.cli import import_results as run\n"
        "try: run()\n"
        "finally: print([m for m in ('torch', 'numpy', 'pxr', 'matplotlib') if m in sys.modules])"
    )
    run = [sys.executable, "-c", code, "--help"]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "--map" in done.stdout
