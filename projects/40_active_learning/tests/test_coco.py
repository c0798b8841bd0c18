"""Label files of CVAT and Label Studio, and what is wrong with some."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from active_learning.coco import find_photos, load_folder, make_frames, read_labels, read_photo
from active_learning.config import NextConfig
from active_learning.labelling import next_images
from trainloop import LabError


def cvat(names: list[str], boxes: int = 1) -> dict:
    """As CVAT's "COCO 1.0" has it: ids from 1, paths with folders, sizes."""
    images = [
        {"id": i, "file_name": name, "width": 90, "height": 60 + 5 * int(name[-6:-4]), "license": 0}
        for i, name in enumerate(names, 1)
    ]
    annotations = [
        {"id": 1 + i * boxes + b, "image_id": i + 1, "category_id": 1 + b % 2, "iscrowd": 0,
         "bbox": [10.0, 12.0 + b, 20.0, 18.0], "area": 360.0, "segmentation": [],
         "attributes": {"occluded": False}}
        for i in range(len(names)) for b in range(boxes)
    ]  # fmt: skip
    categories = [{"id": 1, "name": "cat", "supercategory": ""}, {"id": 2, "name": "dog"}]
    return {"licenses": [], "info": {}, "images": images, "annotations": annotations,
            "categories": categories}  # fmt: skip


def label_studio(names: list[str]) -> dict:
    """As its COCO export has it: ids from 0, eight letters before a name, backslashes at times."""
    coco = cvat(names)
    for image in coco["images"]:
        image["id"] -= 1
        image["file_name"] = "images\\1a2b3c4d-" + Path(image["file_name"]).name
    for one in coco["annotations"]:
        one["image_id"] -= 1
        one["category_id"] -= 1
    for category in coco["categories"]:
        category["id"] -= 1
    return coco


def write(folder: Path, coco: dict, name: str = "labels.json") -> Path:
    path = folder.parent / name
    path.write_text(json.dumps(coco))
    return path


@pytest.mark.parametrize("export", [cvat, label_studio])
def test_exports_are_read(export, photos):
    names = find_photos(photos)
    assert len(names) == 12
    assert names[0] == "more/photo10.png"
    some = ["photo01.png", "more/photo10.png"]
    labels = read_labels(write(photos, export(some)), names)
    assert set(labels.photos) == set(some)
    assert labels.classes == ("cat", "dog")
    assert labels.photos["photo01.png"] == [("cat", 10, 12, 30, 30)]
    frames, sizes = make_frames(photos, some, labels, 64)
    assert sizes == [(90, 65), (90, 110)]
    assert frames.images.shape == (2, 3, 64, 64)
    np.testing.assert_allclose(frames.boxes[0, 0], np.array([10, 12, 30, 30]) * 64 / 90, rtol=1e-5)
    np.testing.assert_allclose(frames.boxes[1, 0], np.array([10, 12, 30, 30]) * 64 / 110, rtol=1e-5)
    assert frames.labels.tolist() == [[0], [0]]


def broken(change) -> dict:
    coco = cvat(["photo01.png", "photo02.png"])
    change(coco)
    return coco


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda c: c["images"][0].update(file_name="other.png"),
            "labels 'other.png', which is not",
        ),
        (lambda c: c["images"][1].update(file_name="photo01.png"), "lists photo01.png twice"),
        (lambda c: c["images"][1].update(id=1), "id 1 is not a whole number of its own"),
        (lambda c: c["images"][0].pop("file_name"), "has no 'file_name'"),
        (lambda c: c["annotations"].clear(), "claims 2 labelled photos and has not one box"),
        (lambda c: c["annotations"][0].update(image_id=9), "is of image 9, which is not listed"),
        (lambda c: c["annotations"][0].update(category_id=9), "is of category 9, which is not"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 0, 4]), "has no box with an area"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, None, 4]), "has no box with an area"),
        (lambda c: c["annotations"][0].update(score=0.9), "was proposed by a net"),
        (lambda c: c["categories"][1].update(name="cat"), "two categories have one name"),
        (lambda c: c.pop("annotations"), "has no list of 'annotations'"),
        (lambda c: c["images"].clear(), "lists no images"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(change, said, photos):
    with pytest.raises(LabError) as caught:
        read_labels(write(photos, broken(change)), find_photos(photos))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_json_no_photo_no_folder(photos, tmp_path):
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(LabError, match="no readable JSON"):
        read_labels(tmp_path / "bad.json", [])
    with pytest.raises(LabError, match="no label file"):
        read_labels(tmp_path / "none.json", [])
    (photos / "photo00.png").write_bytes(b"PNG")
    with pytest.raises(LabError, match=r"photo00.png is no readable photo"):
        read_photo(photos / "photo00.png", 64)
    with pytest.raises(LabError, match=r"is 90 x 65 pixels, its labels are for \(90, 60\)"):
        read_photo(photos / "photo01.png", 64, (90, 60))
    with pytest.raises(LabError, match="no folder"):
        find_photos(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(LabError, match="holds no photo"):
        find_photos(tmp_path / "empty")


def test_duplicated_names_are_not_guessed(photos):
    """Two photos of one name in two folders: the path decides, the name alone does not."""
    Image.new("RGB", (90, 65)).save(photos / "more/photo01.png")
    names = find_photos(photos)
    labels = read_labels(write(photos, cvat(["more/photo01.png"])), names)
    assert set(labels.photos) == {"more/photo01.png"}
    with pytest.raises(LabError, match="duplicated file names"):
        read_labels(write(photos, label_studio(["photo01.png"])), names)


def test_photos_are_shown_upright(tmp_path):
    image = Image.new("RGB", (40, 20), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    image.save(tmp_path / "a.jpg", exif=exif)
    pixels, size = read_photo(tmp_path / "a.jpg", 64)
    assert size == (20, 40)
    assert (pixels[:, :32, 0] > 200).all()
    assert (pixels[:, 32:] == 110).all()


def test_the_labelling_loop(photos, tmp_path, capsys):
    """Nothing labelled; then six; then the rest: no photo is asked for twice, boxes go back."""
    out = tmp_path / "next"
    options = {"data": photos, "out": out, "steps": 2, "image_size": 64}
    first = next_images(NextConfig(n=6, **options))
    assert (out / "next.txt").read_text().splitlines() == first
    assert "nothing is labelled yet" in capsys.readouterr().err
    labels = write(photos, cvat(first, boxes=2))
    second = next_images(NextConfig(n=6, labelled=(labels,), strategy="entropy", **options))
    assert set(first) | set(second) == set(find_photos(photos))
    coco = json.loads((out / "next.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == second
    assert [c["name"] for c in coco["categories"]] == ["cat", "dog"]
    sizes = {image["id"]: (image["width"], image["height"]) for image in coco["images"]}
    for one in coco["annotations"]:
        x, y, width, height = one["bbox"]
        assert x >= 0
        assert x + width <= sizes[one["image_id"]][0] + 0.1
        assert y + height <= sizes[one["image_id"]][1] + 0.1
    assert (out / "next.png").stat().st_size > 5_000
    with pytest.raises(LabError, match="-n 7 photos to label next, and only 6 of 12 are without"):
        next_images(NextConfig(n=7, labelled=(labels,), **options))
    with pytest.raises(LabError, match=r"labels .* again"):
        next_images(NextConfig(n=1, labelled=(labels, labels), **options))


@pytest.mark.parametrize("strategy", ["bald", "committee", "core-set", "diverse-class-entropy"])
def test_any_strategy_chooses_photos(strategy, photos, tmp_path, capsys):
    labels = write(photos, cvat(["photo01.png", "photo02.png", "photo03.png"], boxes=2))
    config = NextConfig(data=photos, labelled=(labels,), n=3, strategy=strategy, steps=2,
                        image_size=64, out=tmp_path / "next")  # fmt: skip
    assert len(set(next_images(config))) == 3


def test_photos_without_boxes_are_counted(photos, tmp_path, capsys):
    coco = cvat(["photo01.png", "photo02.png"])
    coco["annotations"] = coco["annotations"][:1]
    config = NextConfig(data=photos, labelled=(write(photos, coco),), n=1, steps=1, image_size=64,
                        out=tmp_path / "next")  # fmt: skip
    next_images(config)
    assert "1 of 2 labelled photos have no box" in capsys.readouterr().err


def test_a_folder_as_a_pool(photos):
    """Splits follow from the names; every photo needs its label."""
    names = find_photos(photos)
    (photos / "annotations").mkdir()
    path = photos / "annotations/instances_default.json"
    path.write_text(json.dumps(cvat(names)))
    parts = [load_folder(photos, split, 64) for split in ("pool", "val", "test")]
    together = [name for part in parts for name in part.names]
    assert sorted(together) == names
    assert parts[0].images.shape[1:] == (3, 64, 64)
    path.write_text(json.dumps(cvat(names[:-1])))
    with pytest.raises(LabError, match=r"does not list 1 of 12 photos, first photo09.png"):
        load_folder(photos, "pool", 64)
    path.unlink()
    with pytest.raises(LabError, match="needs one label file in COCO format"):
        load_folder(photos, "pool", 64)
