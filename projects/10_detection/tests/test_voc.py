"""Pascal VOC's format: photos, boxes, lists, archives, and what may be wrong with them."""

import hashlib
import json
import random
import tarfile
from dataclasses import replace
from pathlib import Path
from xml.sax.saxutils import escape

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets import VOCDetection

from detection.coco import load_coco
from detection.data import load
from detection.split import Split
from detection.voc import CLASSES, read_annotation
from trainloop.datasets import DATASETS
from trainloop.errors import LabError

DOG = ("dog", (5, 7, 12, 18), 0)  # name, (xmin, ymin, xmax, ymax), difficult


def xml_of(*objects, size: tuple[int, int] = (40, 30)) -> str:
    """As the devkit writes it."""
    parts = [
        f"<object><name>{escape(name)}</name><pose>Left</pose><difficult>{difficult}</difficult>"
        f"<bndbox><xmax>{x2}</xmax><xmin>{x1}</xmin><ymin>{y1}</ymin><ymax>{y2}</ymax></bndbox>"
        "</object>"
        for name, (x1, y1, x2, y2), difficult in objects
    ]
    width, height = size
    sides = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation><folder>VOC2007</folder>{sides}{''.join(parts)}</annotation>"


def write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def write_photo(path: Path, size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (200, 30, 30)).save(path)


def write_voc(root: Path, names: list[str], *objects) -> None:
    """Photos of 40x30, the same objects in each: a dog, if nothing is said."""
    for name in names:
        write_photo(root / f"JPEGImages/{name}.jpg")
        write(root / f"Annotations/{name}.xml", xml_of(*(objects or [DOG])))


def write_list(root: Path, split: str, names: list[str]) -> None:
    write(root / f"ImageSets/Main/{split}.txt", "".join(f"{name}\n" for name in names))


def stems(loaded: Split) -> list[str]:
    return [path.stem for path in loaded.files]


@pytest.fixture
def folder(tmp_path):
    """A good folder: photos a, b, c to train on, d to validate, e to test."""
    write_voc(tmp_path, list("abcde"))
    for split, names in (("train", "abc"), ("val", "d"), ("test", "e")):
        write_list(tmp_path, split, list(names))
    return tmp_path


# --- objects -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("voc", "pixels"),
    [
        ((1, 1, 40, 30), [0, 10, 80, 70]),  # the whole photo; 10 pixels of padding above and below
        ((1, 1, 1, 1), [0, 10, 2, 12]),  # its first pixel
        ((40, 30, 40, 30), [78, 68, 80, 70]),  # its last one
        ((5, 7, 12, 18), [8, 22, 24, 46]),
        ((5.5, 7.25, 12.5, 18.75), [9, 22.5, 25, 47.5]),
    ],
)
def test_boxes_count_pixels_from_1_and_hold_both_corners(folder, voc, pixels):
    write(folder / "Annotations/a.xml", xml_of(("dog", voc, 0)))
    loaded = load(str(folder), "train", 80)  # 40x30 at twice its size
    assert loaded.boxes[0, 0].tolist() == pixels
    assert loaded.sizes[0] == (40, 30)
    assert loaded.images[0, :, 40, 40].tolist() == pytest.approx([200, 30, 30], abs=3)


def test_difficult_objects_are_ignored(folder):
    write(folder / "Annotations/b.xml", xml_of(DOG, ("cat", (1, 1, 9, 9), 1)))
    loaded = load(str(folder), "train", 80)
    assert loaded.classes == ("cat", "dog")
    assert loaded.labels[1].tolist() == [1, 0]
    assert loaded.ignore[1].tolist() == [False, True]


def test_parts_of_a_person_are_no_objects(folder):
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    text = xml_of(DOG).replace("</object>", f"{part}</object>")
    write(folder / "Annotations/a.xml", text)
    loaded = load(str(folder), "train", 80)
    assert loaded.classes == ("dog",)
    assert loaded.labels[0].tolist() == [0]


def test_a_photo_without_objects_is_kept(folder):
    write(folder / "Annotations/b.xml", xml_of())
    assert load(str(folder), "train", 80).labels.tolist() == [[0], [-1], [0]]


def test_difficult_and_size_may_be_missing(folder):
    text = xml_of(DOG).replace("<difficult>0</difficult>", "")
    write(folder / "Annotations/a.xml", text.replace("<width>40</width>", ""))
    write(folder / "Annotations/b.xml", xml_of(DOG, size=(0, 0)))
    loaded = load(str(folder), "train", 80)
    assert loaded.sizes == ((40, 30),) * 3
    assert not loaded.ignore.any()


@pytest.mark.parametrize("x", [(12, 5), (6, 5), ("", 9), ("5 px", 9), ("nan", 9), (5, "inf")])
def test_boxes_without_area_are_dropped_with_one_line(folder, capsys, x):
    write(folder / "Annotations/a.xml", xml_of(("dog", (x[0], 7, x[1], 18), 0), DOG))
    assert load(str(folder), "train", 80).labels[0].tolist() == [0]
    err = capsys.readouterr().err
    assert err.count("warning:") == 1
    assert "dropped 1 boxes without area" in err


def test_a_broken_photo_is_left_out_with_its_boxes(folder, capsys):
    (folder / "JPEGImages/b.jpg").write_bytes(b"hello")
    loaded = load(str(folder), "train", 80)
    assert stems(loaded) == ["a", "c"]
    assert len(loaded.images) == len(loaded.labels) == 2
    err = capsys.readouterr().err
    assert err.count("warning:") == 1
    assert "b.jpg is skipped" in err


def test_photos_may_have_other_suffixes_and_strange_names(folder):
    for name in ("ä ö.JPG", "x.y.png"):
        write_photo(folder / "JPEGImages" / name)
        write(folder / f"Annotations/{Path(name).stem}.xml", xml_of(DOG))
    write(folder / "JPEGImages/a.json", "{}")  # as labelme leaves them
    write(folder / "ImageSets/Main/train.txt", "\ufeffa\r\n\r\nä ö \r\nx.y")
    assert stems(load(str(folder), "train", 16)) == ["a", "ä ö", "x.y"]


def test_torchvision_reads_the_same(tmp_path):
    draw, root = random.Random(0), tmp_path / "VOCdevkit/VOC2007"
    sets = {"train": ["000001", "000005"], "val": ["000002", "000004"], "test": ["000003"]}
    for split, names in sets.items():
        write_list(root, split, names)
        for name in names:
            size = draw.randrange(20, 60), draw.randrange(20, 60)
            objects = []
            for _ in range(draw.randrange(1, 6)):
                x1, x2 = sorted(draw.choices(range(1, size[0] + 1), k=2))
                y1, y2 = sorted(draw.choices(range(1, size[1] + 1), k=2))
                objects.append((draw.choice(CLASSES), (x1, y1, x2, y2), draw.randrange(2)))
            write_photo(root / f"JPEGImages/{name}.jpg", size)
            write(root / f"Annotations/{name}.xml", xml_of(*objects, size=size))
    for split in sets:
        expected = VOCDetection(tmp_path, year="2007", image_set=split, download=False)
        assert len(expected) == len(sets[split])
        for path, (photo, target) in zip(expected.annotations, expected, strict=True):
            size, objects = read_annotation(Path(path))
            assert (size["width"], size["height"]) == photo.size
            assert [(one["name"], one["iscrowd"]) for one in objects] == [
                (one["name"], int(one["difficult"])) for one in target["annotation"]["object"]
            ]
            for ours, theirs in zip(objects, target["annotation"]["object"], strict=True):
                x, y, width, height = ours["bbox"]
                corners = {"xmin": x + 1, "ymin": y + 1, "xmax": x + width, "ymax": y + height}
                assert corners == {key: int(value) for key, value in theirs["bndbox"].items()}


# --- splits --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lists",
    [
        {"train": "abc", "val": "de", "test": "fg"},
        {"train": "ab", "val": "de", "test": "fg", "trainval": "abcde"},
        {"trainval": "abcde", "val": "de", "test": "fg"},
    ],
)
def test_listed_splits_are_taken_as_they_are(tmp_path, lists):
    write_voc(tmp_path, list("abcdefgh"))  # h is in no list
    for split, names in lists.items():
        write_list(tmp_path, split, list(names))
    for split, names in {"train": "abc", **lists}.items():
        if split != "trainval":
            assert stems(load(str(tmp_path), split, 16)) == list(names)


@pytest.mark.parametrize(
    ("lists", "lenders"),
    [
        (["train"], ["train", "train", "train"]),
        (["trainval"], ["trainval", "trainval", "trainval"]),
        (["train", "val"], ["train", "val", "val"]),
        (["train", "val", "trainval"], ["train", "val", "val"]),
        (["train", "test"], ["train", "train", "test"]),
        (["trainval", "test"], ["trainval", "trainval", "test"]),
    ],
)
def test_missing_splits_are_cut_from_others(tmp_path, lists, lenders):
    names = {split: [f"{split}{i}" for i in range(40)] for split in lists}
    if "val" in names and "trainval" in names:
        names["trainval"] = names["train"] + names["val"]
    write_list(tmp_path, "test", [])  # an empty list is as good as none
    for split in lists:
        write_voc(tmp_path, names[split])
        write_list(tmp_path, split, names[split])
    loaded = {split: stems(load(str(tmp_path), split, 16)) for split in ("train", "val", "test")}
    everything = [name for part in loaded.values() for name in part]
    assert len(everything) == len(set(everything)), "splits share a photo"
    assert set(everything) == {name for part in names.values() for name in part}
    for split, lender in zip(loaded, lenders, strict=True):
        assert set(loaded[split]) <= set(names[lender])


def test_without_lists_the_photos_fall_as_in_a_coco_export(tmp_path):
    names = [f"{i:03d}" for i in range(100)]
    write_voc(tmp_path, names)
    images = [{"id": i, "file_name": f"{name}.jpg"} for i, name in enumerate(names)]
    coco = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "dog"}]}
    write(tmp_path / "annotations.json", json.dumps(coco))
    (tmp_path / "images").symlink_to(tmp_path / "JPEGImages")
    for split in ("train", "val", "test"):
        ours = stems(load(str(tmp_path), split, 16))
        assert 0 < len(ours) < 100
        assert ours == stems(load_coco(tmp_path, split, 16))


def test_classes_are_the_sorted_names_of_the_training_photos(folder):
    write(
        folder / "Annotations/c.xml", xml_of(("zebra", (1, 1, 9, 9), 0), ("cat", (1, 1, 9, 9), 1))
    )
    for split in ("train", "val", "test"):
        assert load(str(folder), split, 16).classes == ("cat", "dog", "zebra")


def test_a_class_that_only_validation_has_is_refused(folder):
    write(folder / "Annotations/d.xml", xml_of(("dgo", (1, 1, 9, 9), 0)))
    load(str(folder), "train", 16)
    with pytest.raises(LabError, match=r"d\.xml: 'dgo' is no class of the training photos \(dog\)"):
        load(str(folder), "val", 16)


@pytest.mark.parametrize("nesting", ["", "VOC2007", "VOCdevkit/VOC2012"])
def test_the_folder_above_may_be_given(tmp_path, nesting):
    write_voc(tmp_path / nesting, ["a"])
    write_list(tmp_path / nesting, "train", ["a"])
    assert stems(load(str(tmp_path), "train", 16)) == ["a"]


def test_two_years_in_a_folder_must_be_told_apart(tmp_path):
    for year in ("VOC2007", "VOC2012"):
        write_voc(tmp_path / "VOCdevkit" / year, ["a"])
    with pytest.raises(LabError, match=r"VOC2007 and .*VOC2012 both hold Annotations"):
        load(str(tmp_path), "train", 16)


@pytest.mark.parametrize("where", [".", "nowhere"])
def test_a_folder_of_neither_format_is_told_both(tmp_path, where):
    write(tmp_path / "Annotations/notes.txt", "for later")
    with pytest.raises(LabError, match=r"instances_train\*\.json.*Annotations/\*\.xml") as caught:
        load(str(tmp_path / where), "train", 16)
    assert "\n" not in str(caught.value)


# --- VOC 2007 and 2012 ---------------------------------------------------------------------------


def put_archives(monkeypatch, tmp_path: Path, name: str, lists: dict[str, list[str]]) -> None:
    """A tiny data set of that name, its archives in $LAB_DATA as if put there by hand.

    A photo shows what its name begins with. The test list is in the last archive, as in 2007's.
    """
    monkeypatch.setenv("LAB_DATA", str(tmp_path / "data"))
    digests = {}
    for archive in DATASETS[name].files:
        root = tmp_path / archive / "VOCdevkit" / name.upper()
        for split, names in lists.items():
            if (split == "test") != ("test" in archive):
                continue
            write_list(root, split, names)
            for one in names:
                write_voc(root, [one], (one.rstrip("0123456789"), (1, 1, 9, 9), 0))
        path = tmp_path / "data" / name / archive
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w") as tar:
            tar.add(tmp_path / archive / "VOCdevkit", "VOCdevkit")
        digests[archive] = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setitem(DATASETS, name, replace(DATASETS[name], files=digests, sources=()))


def test_voc2007_has_its_own_three_splits(monkeypatch, tmp_path):
    lists = {"train": ["cow1", "dog2"], "val": ["dog3"], "test": ["cow4", "person5"]}
    lists["trainval"] = lists["train"] + lists["val"]
    put_archives(monkeypatch, tmp_path, "voc2007", lists)
    for split in ("train", "val", "test"):
        loaded = load("voc2007", split, 16)
        assert stems(loaded) == lists[split]
        assert loaded.classes == CLASSES == tuple(sorted(CLASSES))
        assert len(CLASSES) == 20
        assert loaded.image_ids == loaded.category_ids == ()  # VOC has none
    assert [CLASSES[i] for i in loaded.labels[:, 0]] == ["cow", "person"]


def test_voc2012_tests_on_half_of_its_validation_photos(monkeypatch, tmp_path):
    lists = {"train": ["cow1"], "val": [f"dog{i}" for i in range(40)]}
    put_archives(monkeypatch, tmp_path, "voc2012", lists)
    train, val, test = (stems(load("voc2012", split, 16)) for split in ("train", "val", "test"))
    assert train == ["cow1"]
    assert sorted(val + test) == sorted(lists["val"])
    assert min(len(val), len(test)) > 10


def test_voc2007_knows_no_other_class(monkeypatch, tmp_path):
    lists = {"train": ["zebra1"], "val": ["dog2"], "test": ["dog3"]}
    put_archives(monkeypatch, tmp_path, "voc2007", lists)
    with pytest.raises(LabError, match="'zebra' is no class"):
        load("voc2007", "train", 16)


# --- bad folders ---------------------------------------------------------------------------------

BOMB = '<!DOCTYPE a [<!ENTITY b "ha">]><annotation><object><name>&b;</name></object></annotation>'


def annotation(content: str | bytes):
    return lambda folder: write(folder / "Annotations/b.xml", content)


def listed(split: str, content: str | bytes):
    return lambda folder: write(folder / f"ImageSets/Main/{split}.txt", content)


def without(*paths: str):
    return lambda folder: [(folder / path).unlink() for path in paths]


BAD_FOLDERS = {
    "cut XML": (annotation("<annotation><object>"), r"b\.xml is no readable XML"),
    "empty XML": (annotation(""), r"b\.xml is no readable XML"),
    "bytes": (annotation(b"\xff\x00\x80"), r"b\.xml is no readable XML"),
    "unknown encoding": (annotation('<?xml version="1.0" encoding="x"?><a/>'), "no readable XML"),
    "two bytes a letter": (
        annotation('<?xml version="1.0" encoding="gbk"?><a/>'),
        "no readable XML",
    ),
    "no such XML": (without("Annotations/b.xml"), r"b\.xml is no readable XML"),
    "other XML": (annotation("<html/>"), "<html>, not <annotation>"),
    "entities": (annotation(BOMB), "document type"),
    "entities in UTF-16": (annotation(BOMB.encode("utf-16")), "document type"),
    "entities in UTF-16, no mark": (annotation(BOMB.encode("utf-16-be")), "document type"),
    "outside entity": (
        annotation('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>'),
        "document type",
    ),
    "no name": (annotation("<annotation><object/></annotation>"), "an object has no name"),
    "blank name": (annotation(xml_of((" ", (1, 1, 9, 9), 0))), "an object has no name"),
    "resized photo": (
        lambda folder: write_photo(folder / "JPEGImages/b.jpg", (80, 60)),
        "80x60 .* 40x30",
    ),
    "missing photo": (without("JPEGImages/b.jpg"), "1 of 3 photos of 'train' .* 'b': add them"),
    "two photos": (
        lambda folder: write_photo(folder / "JPEGImages/b.png"),
        r"b\.png and b\.jpg share a name",
    ),
    "way out": (listed("train", "a\n../a\n"), r"1 of 2 photos .* first '\.\./a'"),
    "no train": (without("ImageSets/Main/train.txt"), r"has val, test\.txt only"),
    "shared": (listed("val", "d\nb\n"), r"'b' is in train\.txt and in val\.txt"),
    "no text": (listed("val", b"\xff\xfe\x00"), r"val\.txt is no readable text"),
    "no objects": (
        lambda folder: [write(folder / f"Annotations/{name}.xml", xml_of()) for name in "abc"],
        "no training photo of .* shows any object",
    ),
    "all photos broken": (
        lambda folder: [write(folder / f"JPEGImages/{name}.jpg", b"x") for name in "abc"],
        "none of the 3 pictures for 'train'",
    ),
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_a_bad_folder_is_refused_with_one_line(folder, case):
    ruin, message = BAD_FOLDERS[case]
    ruin(folder)
    with pytest.raises(LabError, match=message) as caught:
        load(str(folder), "train", 80)
    assert "\n" not in str(caught.value)


def test_utf16_without_entities_is_read(folder):
    write(folder / "Annotations/a.xml", xml_of(DOG).encode("utf-16"))
    assert load(str(folder), "train", 16).labels[0].tolist() == [0]


# --- fewer photos --------------------------------------------------------------------------------


def split_of(shown: list[list[int]], files: list[str] | None = None) -> Split:
    """Pictures of one pixel, its value their index, with objects of the classes that they show."""
    labels = torch.full((len(shown), max(1, *map(len, shown))), -1)
    for row, classes in zip(labels, shown, strict=True):
        row[: len(classes)] = torch.tensor(classes)
    return Split(
        images=torch.arange(len(shown), dtype=torch.uint8).view(-1, 1, 1, 1).repeat(1, 3, 1, 1),
        boxes=torch.arange(len(shown)).view(-1, 1, 1).repeat(1, labels.shape[1], 4).float(),
        labels=labels,
        ignore=torch.zeros_like(labels, dtype=torch.bool),
        classes=("a", "b", "c"),
        category_ids=(3, 5, 9),
        files=tuple(map(Path, files or [f"{i}.jpg" for i in range(len(shown))])),
        sizes=tuple((i + 1, 1) for i in range(len(shown))),
    )


shown = st.lists(st.lists(st.integers(0, 2), max_size=3), min_size=2, max_size=20)


@settings(max_examples=50, deadline=None)  # a busy machine is no failure
@given(shown, st.integers(1, 4))
def test_each_class_is_shown_so_often_and_more_only_adds(shown, count):
    few, more = split_of(shown).per_class(count), split_of(shown).per_class(count + 1)
    assert set(few.files) <= set(more.files)
    assert list(few.files) == [file for file in split_of(shown).files if file in few.files]
    for label in range(3):
        there = sum(label in one for one in shown)
        kept = int((few.labels == label).any(1).sum())
        assert kept >= min(count, there)
    assert len(few.images) <= 3 * count


@settings(max_examples=50, deadline=None)  # a busy machine is no failure
@given(shown, st.integers(1, 4), st.randoms())
def test_what_is_chosen_depends_on_names_not_on_order(shown, count, draw):
    order = draw.sample(range(len(shown)), len(shown))
    shuffled = split_of([shown[i] for i in order], [f"{i}.jpg" for i in order])
    assert set(shuffled.per_class(count).files) == set(split_of(shown).per_class(count).files)


def test_all_of_a_picture_is_taken_along():
    whole = split_of([[0], [1], [], [2, 1]])
    few = whole.per_class(2)
    assert few.images[:, 0, 0, 0].tolist() == [0, 1, 3]
    assert few.boxes[:, 0, 0].tolist() == [0, 1, 3]
    assert few.labels.tolist() == [[0, -1], [1, -1], [2, 1]]
    assert few.sizes == ((1, 1), (2, 1), (4, 1))
    assert (few.classes, few.category_ids, few.image_ids) == (("a", "b", "c"), (3, 5, 9), ())


def test_the_first_pictures_are_taken():
    whole = split_of([[0], [1], [2]])
    assert whole.first(2).images[:, 0, 0, 0].tolist() == [0, 1]
    assert stems(whole.first(2)) == ["0", "1"]
    assert len(whole.first(9).images) == 3


def test_ignored_objects_do_not_count():
    whole = split_of([[0, 1, 2], [0, 1, 2]])
    whole.ignore[0] = True
    assert stems(whole.per_class(1)) == ["1"]


def test_too_few_pictures_of_a_class_are_told(capsys):
    assert stems(split_of([[0, 1], [0]]).per_class(2)) == ["0", "1"]
    assert capsys.readouterr().err == "warning: fewer than 2 pictures show b, c\n"
    split_of([[0, 1, 2]]).per_class(1)
    assert capsys.readouterr().err == ""


def test_at_least_one_picture_is_asked_for(folder):
    with pytest.raises(LabError, match="at least 1, not 0"):
        load(str(folder), "train", 16, per_class=0)


def test_load_takes_so_many_of_each_class(folder):
    write(folder / "Annotations/c.xml", xml_of(("cat", (1, 1, 9, 9), 0)))
    few = load(str(folder), "train", 16, per_class=1)
    assert len(few.images) == 2
    assert sorted(few.labels[:, 0].tolist()) == [0, 1]
    assert len(load(str(folder), "train", 16).images) == 3


def test_tabletop_has_ids_for_names():
    named = split_of([[0], [0], [0], [0]], ["5", "6", "7", "8"])
    numbered = replace(named, files=(), image_ids=(5, 6, 7, 8))
    kept = {int(path.name) for path in named.per_class(2).files}
    assert set(numbered.per_class(2).image_ids) == kept
