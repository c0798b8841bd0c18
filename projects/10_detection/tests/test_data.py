"""Tabletop's cache, and COCO folders good and bad."""

import json
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from detection import data, tabletop
from detection.data import load
from detection.letterbox import GREY, from_letterbox, read_letterboxed, to_letterbox
from trainloop.errors import LabError

# --- tabletop ----------------------------------------------------------------------------------


@pytest.fixture
def small_tabletop(tmp_path, monkeypatch):
    """Three scenes of 32 pixels a split, cached in a folder of the test's own."""
    monkeypatch.setenv("LAB_DATA", str(tmp_path))
    few = {name: (first, 3) for name, (first, _) in data.TABLETOP_SPLITS.items()}
    monkeypatch.setattr(data, "TABLETOP_SPLITS", few)
    return tmp_path / "tabletop"


def cannot_render(*args):
    raise AssertionError("rendered although the cache is good")


def test_tabletop_splits_share_no_scene():
    spans = sorted((first, first + count) for first, count in data.TABLETOP_SPLITS.values())
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    assert [count for _, count in data.TABLETOP_SPLITS.values()] == [8_000, 200, 300, 4_000]


def test_tabletop_holds_the_scenes_and_is_rendered_once(small_tabletop, monkeypatch):
    first = load("tabletop", "val", 32)
    monkeypatch.setattr(tabletop, "render_split", cannot_render)
    second = load("tabletop", "val", 32)
    scene = tabletop.render_scene(data.TABLETOP_SEED, 1_000_002, 32)
    for split in (first, second):
        assert split.images.shape == (3, 3, 32, 32) and split.classes == tabletop.CLASSES
        np.testing.assert_array_equal(split.images[2].permute(1, 2, 0), scene.image)
        n = len(scene.labels)
        np.testing.assert_array_equal(split.boxes[2, :n], scene.boxes_xyxy)
        np.testing.assert_array_equal(split.labels[2, :n], scene.labels)
        np.testing.assert_array_equal(split.ignore[2, :n], scene.ignore)
        assert (split.labels[2, n:] == -1).all()
    assert len(list(small_tabletop.iterdir())) == 1  # no temporary file is left


def test_each_version_size_and_split_has_a_cache_of_its_own(small_tabletop, monkeypatch):
    load("tabletop", "val", 32)
    load("tabletop", "test", 32)
    load("tabletop", "val", 48)
    monkeypatch.setattr(tabletop, "VERSION", tabletop.VERSION + 1)
    load("tabletop", "val", 32)
    assert len(list(small_tabletop.iterdir())) == 4


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text"])
def test_a_damaged_cache_is_made_anew(small_tabletop, monkeypatch, capsys, damage):
    good = load("tabletop", "val", 32)
    (path,) = small_tabletop.iterdir()
    content = path.read_bytes()
    middle = len(content) // 3  # within the pictures
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    bad = {"cut": content[:-1000], "flipped": flipped, "empty": b"", "text": b"x" * 5000}
    path.write_bytes(bad[damage])
    assert torch.equal(load("tabletop", "val", 32).images, good.images)
    assert "damaged" in capsys.readouterr().err
    monkeypatch.setattr(tabletop, "render_split", cannot_render)
    assert torch.equal(load("tabletop", "val", 32).images, good.images)


def test_a_write_that_fails_leaves_nothing(small_tabletop, monkeypatch):
    def disk_full(file, **arrays):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", disk_full)
    with pytest.raises(OSError, match="disk full"):
        load("tabletop", "val", 32)
    assert not list(small_tabletop.iterdir())


def test_two_at_once(small_tabletop, monkeypatch):
    """Two loaders whose slow writes overlap leave one whole file.

    Threads stand for processes: they share nothing here but the folder, and start in no time.
    """
    writing, savez = threading.Barrier(2, timeout=20), np.savez

    def slow(file, **arrays):
        file.write(b"half")
        file.flush()
        writing.wait()
        time.sleep(0.2)
        file.seek(0)
        savez(file, **arrays)

    monkeypatch.setattr(np, "savez", slow)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(load, "tabletop", "val", 32) for _ in range(2)]
        splits = [future.result() for future in both]
    monkeypatch.setattr(tabletop, "render_split", cannot_render)
    splits.append(load("tabletop", "val", 32))
    assert all(torch.equal(split.images, splits[0].images) for split in splits)
    assert len(list(small_tabletop.iterdir())) == 1


# --- letterbox ---------------------------------------------------------------------------------

sides = st.integers(1, 6000)


@settings(deadline=None)  # a busy machine is no failure
@given(sides, sides, st.integers(16, 640), st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_letterboxed_boxes_map_back(width, height, image_size, shares):
    size, x, y = (width, height), sorted(shares[:2]), sorted(shares[2:])
    box = np.array([x[0] * width, y[0] * height, x[1] * width, y[1] * height])
    square = to_letterbox(box, size, image_size)
    assert (square >= 0).all() and (square <= image_size).all()
    np.testing.assert_allclose(from_letterbox(square, size, image_size), box, atol=1e-6)
    whole = to_letterbox(np.array([0, 0, width, height]), size, image_size)
    assert max(whole[2] - whole[0], whole[3] - whole[1]) == pytest.approx(image_size)
    margins = [whole[0] - (image_size - whole[2]), whole[1] - (image_size - whole[3])]
    assert np.abs(margins).max() < 1.001  # centred


@pytest.mark.parametrize("drawn", ["turned", "stored", "unsaid"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_fit_the_pixels_however_the_photo_is_turned(tmp_path, orientation, drawn):
    """A white box on black must be white inside its letterboxed box and black outside."""
    stored = Image.new("RGB", (300, 200))
    stored.paste((255, 255, 255), (30, 20, 130, 60))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    # Where the box is after turning, by asking Pillow to turn the picture itself.
    turns = dict(zip(range(2, 9), (0, 3, 1, 5, 4, 6, 2), strict=True))
    turned = stored.transpose(Image.Transpose(turns[orientation])) if orientation > 1 else stored
    shown = stored if drawn == "stored" and turned.size != stored.size else turned
    box = np.array(shown.getbbox())
    said = None if drawn == "unsaid" else shown.size
    pixels, size = read_letterboxed(tmp_path / "a.png", 128, said)
    assert size == shown.size
    x1, y1, x2, y2 = to_letterbox(box, size, 128)
    inside = pixels[0, round(y1) + 2 : round(y2) - 2, round(x1) + 2 : round(x2) - 2]
    assert inside.size > 100 and inside.min() > 250
    mask = np.ones((128, 128), bool)
    mask[int(y1) - 2 : int(y2) + 3, int(x1) - 2 : int(x2) + 3] = False
    left, top, right, bottom = to_letterbox(np.array([0, 0, *size]), size, 128).round().astype(int)
    mask[:top], mask[bottom:], mask[:, :left], mask[:, right:] = False, False, False, False
    assert pixels[0][mask].max() < 5
    assert (pixels[:, 0, 0] == GREY).all()  # the padding


# --- COCO folders ------------------------------------------------------------------------------


def write_photo(path: Path, size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (200, 30, 30)).save(path)


def coco_of(names: list[str]) -> dict:
    """Photos of 40x30 with ids 100, 101, ...; a box and a crowd region in each but the first."""
    annotations = []
    for i in range(1, len(names)):
        annotations.append({"image_id": 100 + i, "category_id": 7, "bbox": [4, 6, 8, 12]})
        crowd = {"image_id": 100 + i, "category_id": 900, "bbox": [0, 0, 40, 30], "iscrowd": 1}
        annotations.append(crowd)
    return {
        "images": [
            {"id": 100 + i, "file_name": name, "width": 40, "height": 30}
            for i, name in enumerate(names)
        ],
        "annotations": annotations,
        "categories": [{"id": 900, "name": "cup"}, {"id": 7, "name": "screw"}],
    }


def write_split(annotations: Path, photos: Path, names: list[str]) -> None:
    for name in names:
        write_photo(photos / name)
    annotations.parent.mkdir(parents=True, exist_ok=True)
    annotations.write_text(json.dumps(coco_of(names)))


NAMES = {
    "train": ["a.jpg", "b.jpg", "c.png"],
    "val": ["d.jpg", "e.jpg"],
    "test": ["f.jpg", "g.jpg"],
}


@pytest.mark.parametrize("layout", ["coco", "coco in images", "roboflow", "roboflow val"])
def test_the_usual_layouts(tmp_path, layout):
    for split, names in NAMES.items():
        short = "valid" if split == "val" and layout == "roboflow" else split
        places = {
            "coco": (f"annotations/instances_{split}2017.json", f"{split}2017"),
            "coco in images": (f"annotations/instances_{split}.json", f"images/{split}"),
            "roboflow": (f"{short}/_annotations.coco.json", short),
            "roboflow val": (f"{short}/_annotations.coco.json", short),
        }
        annotations, photos = places[layout]
        write_split(tmp_path / annotations, tmp_path / photos, names)
    for split, names in NAMES.items():
        loaded = load(str(tmp_path), split, 80)
        assert [path.name for path in loaded.files] == names
        assert loaded.image_ids == tuple(range(100, 100 + len(names)))
        assert loaded.classes == ("screw", "cup") and loaded.category_ids == (7, 900)
        assert loaded.sizes == ((40, 30),) * len(names)
        assert loaded.labels.tolist() == [[-1, -1]] + [[0, 1]] * (len(names) - 1)
        assert loaded.ignore.tolist() == [[False, False]] + [[False, True]] * (len(names) - 1)
        # 40x30 fits 80x80 at twice its size with 10 pixels of padding above and below.
        assert loaded.boxes[1].tolist() == [[8, 22, 24, 46], [0, 10, 80, 70]]
        assert not loaded.boxes[0].any()
        assert loaded.images[0, :, 40, 40].tolist() == pytest.approx([200, 30, 30], abs=3)


@pytest.mark.parametrize(
    ("annotations", "photos"),
    [
        ("annotations.json", "images"),
        ("_annotations.coco.json", "."),
        ("annotations/instances_default.json", "images"),
        ("instances_val2017.json", "val2017"),
    ],
)
def test_one_file_is_cut_by_name_and_new_photos_move_no_old_one(tmp_path, annotations, photos):
    def names_by_split(count: int) -> dict[str, set[str]]:
        names = [f"{i}.png" for i in range(count)]
        write_split(tmp_path / annotations, tmp_path / photos, names)
        return {s: {f.name for f in load(str(tmp_path), s, 16).files} for s in NAMES}

    before, after = names_by_split(60), names_by_split(120)
    assert sum(map(len, after.values())) == 120 == len(set.union(*after.values()))
    assert all(before[split] <= after[split] for split in NAMES)
    assert 80 < len(after["train"]) < 110 and len(after["val"]) > 3 and len(after["test"]) > 3


@pytest.mark.parametrize("absent", ["val", "test"])
def test_a_missing_split_is_cut_from_another(tmp_path, absent):
    for split in {"train", "val", "test"} - {absent}:
        names = [f"{split}{i}.png" for i in range(60)]
        write_split(tmp_path / split / "_annotations.coco.json", tmp_path / split, names)
    names = [path.name for split in NAMES for path in load(str(tmp_path), split, 16).files]
    assert len(names) == 120 == len(set(names))
    lender = {"val": "train", "test": "val"}[absent]
    assert {path.name[:3] for path in load(str(tmp_path), absent, 16).files} == {lender[:3]}


# --- bad folders -------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """A good folder of three splits; tests spoil its train split, of photos a, b, c."""
    for split, names in NAMES.items():
        write_split(tmp_path / split / "_annotations.coco.json", tmp_path / split, names)
    return tmp_path


def spoil(folder: Path, **changes) -> None:
    """Applies `key=function of the COCO dict's list` to the training annotations."""
    path = folder / "train/_annotations.coco.json"
    coco = json.loads(path.read_text())
    for key, change in changes.items():
        change(coco[key])
    path.write_text(json.dumps(coco))


def put(index: int, **fields):
    return lambda entries: entries[index].update(fields)


@pytest.mark.parametrize(
    "box",
    [
        [4, 6, 0, 12], [4, 6, -8, 12], [4, 6, 8, 0], [4, 6, 8, -12],
        [4, 6, 8, float("nan")], [float("nan"), 6, 8, 12],
        [4, 6, float("inf"), 12], [4, 6, 1e308, 12], [4, 6, 10**400, 12], [4, 6, 8], [],
        None, "4 6 8 12", ["4", "6", "8", "12"], [4, 6, 8, None], [4, 6, 8, True],
    ],
)  # fmt: skip
def test_boxes_without_area_are_dropped_with_one_line(folder, capsys, box):
    spoil(folder, annotations=put(0, bbox=box))
    loaded = load(str(folder), "train", 80)
    assert loaded.labels[1].tolist() == [1, -1]  # the crowd region is left
    assert loaded.labels[2].tolist() == [0, 1]  # the next photo is as it was
    assert torch.isfinite(loaded.boxes).all()
    err = capsys.readouterr().err
    assert err.count("warning:") == 1 and "1 boxes without area and 0 outside" in err


@pytest.mark.parametrize(
    "box",
    [[50, 6, 8, 12], [-20, 6, 8, 12], [40, 6, 8, 12], [4, 30, 8, 12], [4, 6, 1e-40, 12]],
)
def test_boxes_outside_or_too_thin_are_dropped(folder, capsys, box):
    spoil(folder, annotations=put(0, bbox=box))
    assert load(str(folder), "train", 80).labels[1].tolist() == [1, -1]
    assert "0 boxes without area and 1 outside" in capsys.readouterr().err


def test_boxes_partly_outside_are_clipped(folder, capsys):
    spoil(folder, annotations=put(0, bbox=[-4, 20, 100, 100]))
    assert load(str(folder), "train", 80).boxes[1, 0].tolist() == [0, 50, 80, 70]
    assert "warning" not in capsys.readouterr().err


def test_pictures_without_objects_are_kept(folder):
    spoil(folder, annotations=lambda entries: entries.clear())
    loaded = load(str(folder), "train", 80)
    assert loaded.images.shape == (3, 3, 80, 80) and loaded.boxes.shape == (3, 1, 4)
    assert (loaded.labels == -1).all() and not loaded.boxes.any()


def test_any_whole_number_serves_as_category_id(folder):
    for split in NAMES:
        path = folder / split / "_annotations.coco.json"
        text = path.read_text().replace('"category_id": 7,', '"category_id": 0,')
        text = text.replace('"id": 7,', '"id": 0,').replace("900", str(10**12))
        path.write_text(text)
    loaded = load(str(folder), "train", 80)
    assert loaded.category_ids == (0, 10**12) and loaded.labels[1].tolist() == [0, 1]


@pytest.mark.parametrize("bad", ["cut", "text", "empty", "png named jpg but cut"])
def test_a_broken_photo_is_skipped_and_named(folder, capsys, bad):
    path = folder / "train/b.jpg"
    Image.effect_noise((40, 30), 90).convert("RGB").save(path)
    content = path.read_bytes()
    png = (folder / "train/c.png").read_bytes()
    path.write_bytes(
        {"cut": content[: len(content) // 2], "text": b"hello", "empty": b""}.get(bad, png[:60])
    )
    loaded = load(str(folder), "train", 80)
    assert loaded.image_ids == (100, 102) and len(loaded.images) == 2
    assert [path.name for path in loaded.files] == ["a.jpg", "c.png"]
    assert loaded.labels.tolist() == [[-1, -1], [0, 1]]  # the boxes went with their photo
    err = capsys.readouterr().err
    assert err.count("warning:") == 1 and "b.jpg" in err


def broken_photos(folder: Path) -> None:
    for name in NAMES["train"]:
        (folder / "train" / name).write_bytes(b"hello")


def rewrite(text: str | bytes):
    content = text.encode() if isinstance(text, str) else text
    return lambda folder: (folder / "train/_annotations.coco.json").write_bytes(content)


def two_files(folder: Path) -> None:
    (folder / "annotations").mkdir()
    shutil.copy(
        folder / "train/_annotations.coco.json", folder / "annotations/instances_train.json"
    )


def bad(**changes):
    return lambda folder: spoil(folder, **changes)


BAD_FOLDERS = {
    "empty": (lambda folder: [shutil.rmtree(folder / s) for s in NAMES], "no annotations.*images/"),
    "two annotation files": (two_files, "one annotation file too many"),
    "no train": (lambda folder: shutil.rmtree(folder / "train"), "for val, test only|test, val"),
    "no JSON": (rewrite('{"images": ['), "no readable JSON"),
    "no text": (rewrite(b"\xff\xfe\x00"), "no readable JSON"),
    "too deep": (rewrite("[" * 200_000), "no readable JSON"),
    "a list": (rewrite("[1, 2]"), "no list of 'images'"),
    "no list": (rewrite('{"images": {}}'), "no list of 'images'"),
    "list of text": (rewrite('{"images": ["a.jpg"]}'), "no list of 'images'"),
    "no pictures": (bad(images=lambda e: e.clear()), "lists no images"),
    "no categories": (bad(categories=lambda e: e.clear()), "lists no categories"),
    "text category id": (bad(categories=put(0, id="900")), "id '900' is not a whole number"),
    "fraction of an id": (bad(categories=put(0, id=1.5)), "id 1.5 is not a whole number"),
    "true as id": (bad(images=put(0, id=True)), "id True is not a whole number"),
    "list as id": (bad(images=put(0, id=[1])), "not a whole number"),
    "same category id": (bad(categories=put(0, id=7)), "id 7 is not .* of its own"),
    "same image id": (bad(images=put(0, id=101)), "id 101 is not .* of its own"),
    "same category name": (bad(categories=put(0, name="screw")), "two categories|differ"),
    "no name": (bad(categories=put(0, name=None)), "has no 'name'"),
    "no file name": (bad(images=put(0, file_name=None)), "has no 'file_name'"),
    "unknown image": (bad(annotations=put(0, image_id=5)), "unknown image 5"),
    "list as image": (bad(annotations=put(0, image_id=[5])), r"unknown image \[5\]"),
    "unknown category": (bad(annotations=put(0, category_id=5)), "unknown category 5"),
    "text category": (bad(annotations=put(0, category_id="7")), "unknown category '7'"),
    "missing photo": (lambda folder: (folder / "train/b.jpg").unlink(), "1 of 3 .* 'b.jpg'"),
    "zero byte in name": (bad(images=put(0, file_name="a\0.jpg")), "1 of 3 .* are missing"),
    "endless name": (bad(images=put(0, file_name="a" * 5000)), "1 of 3 .* are missing"),
    "half a letter": (bad(images=put(0, file_name="\ud800.jpg")), "1 of 3 .* are missing"),
    "all photos broken": (broken_photos, "none of the 3 pictures"),
    "resized photo": (
        lambda folder: write_photo(folder / "train/b.jpg", (80, 60)),
        "80x60 .* 40x30",
    ),
    "escape": (bad(images=put(0, file_name="../../etc/passwd")), "leads out of"),
    "escape, absolute": (bad(images=put(0, file_name="/etc/passwd")), "leads out of"),
    "escape, windows": (bad(images=put(0, file_name="..\\..\\..\\secret.jpg")), "leads out of"),
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_a_bad_folder_is_refused_with_one_line(folder, case):
    ruin, message = BAD_FOLDERS[case]
    ruin(folder)
    with pytest.raises(LabError, match=message) as caught:
        load(str(folder), "train", 80)
    assert "\n" not in str(caught.value)


def test_a_photo_outside_is_never_read(folder):
    """Even one that is there, and that a way through the folder leads to."""
    write_photo(folder.parent / "secret.jpg")
    spoil(folder, images=put(0, file_name="../../secret.jpg"))
    with pytest.raises(LabError, match="leads out of"):
        load(str(folder), "train", 80)


def test_a_way_up_that_stays_inside_is_no_escape(folder):
    spoil(folder, images=put(0, file_name="../val/d.jpg"))
    assert load(str(folder / "../" / folder.name), "train", 80).files[0].name == "d.jpg"


def test_splits_must_agree_on_the_categories(folder):
    spoil(folder, categories=put(0, name="mug"))
    with pytest.raises(LabError, match="differ in their categories"):
        load(str(folder), "val", 80)


def test_a_path_that_does_not_exist_names_the_choices(tmp_path):
    with pytest.raises(LabError, match=r"'tabletop'.*instances_train.*_annotations\.coco\.json"):
        load(str(tmp_path / "nothing"), "train")
    (tmp_path / "file.json").write_text("{}")
    with pytest.raises(LabError, match="no folder"):
        load(str(tmp_path / "file.json"), "train")


def test_too_few_photos_for_a_cut_are_named(tmp_path):
    write_split(tmp_path / "annotations.json", tmp_path / "images", ["a.jpg"])  # falls to train
    assert load(str(tmp_path), "train", 80).image_ids == (100,)
    for split in ("val", "test"):
        with pytest.raises(LabError, match=f"falls to '{split}': add pictures"):
            load(str(tmp_path), split, 80)
