"""Pascal VOC 2007 and 2012, and folders of photos and annotations in their format.

The format is that of the VOC2007 Development Kit (Everingham and Winn, 2007): a photo is
JPEGImages/<name>.jpg, its boxes are in Annotations/<name>.xml, and ImageSets/Main/train.txt (val,
trainval, test) lists names, one a line. Exports of annotation tools often lack the lists.

| data | train | val | test |
|---|---|---|---|
| `voc2007` | train.txt, 2,501 photos | val.txt, 2,510 | test.txt, 4,952 |
| `voc2012` | train.txt, 5,717 | half of val.txt | the other half |
| a folder | its lists; what they lack is cut from the others as for COCO (`coco.SHARES`) | | |

The boxes of VOC 2012's own test set are not public. What is cut is cut by a hash of the names.

Without a network, `voc2007` and `voc2012` stop with the names of the archives to be put into
$LAB_DATA/voc2007 or voc2012 by hand (`trainloop.datasets.fetch`).
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from detection.coco import SHARES, hundredth, read_split
from detection.split import Split, SplitName
from trainloop.errors import LabError

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
"""Of VOC 2007 to 2012."""
PHOTOS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
"""What counts as a photo: tools leave files of their own in JPEGImages."""


def find_voc(folder: Path) -> Path | None:
    """Where Annotations/*.xml is: `folder`, or VOC20xx or VOCdevkit/VOC20xx in it; None if nowhere.

    Raises:
        LabError: in several of these places.
    """
    roots = [folder, *sorted(folder.glob("VOC2*")), *sorted(folder.glob("VOCdevkit/VOC2*"))]
    found = [root for root in roots if any((root / "Annotations").glob("*.xml"))]
    if len(found) > 1:
        raise LabError(f"{found[0]} and {found[1]} both hold Annotations: give one of them")
    return found[0] if found else None


def load_voc(
    root: Path, split: SplitName, image_size: int = 128, classes: tuple[str, ...] | None = None
) -> Split:
    """A split of a folder in VOC's format; see `data.load`.

    Objects marked `difficult` are ignored: the challenge neither asks for them nor punishes who
    finds them. Photos have no ids here, they are known by their `files`.

    Args:
        root: with Annotations and JPEGImages right in it (`find_voc`).
        classes: what may occur. None: the names in the training photos, sorted.

    Raises:
        LabError: lists, XML, names, photos or sizes that do not fit together.
    """
    lists, photos = _read_lists(root), _find_photos(root)
    annotations = _read_annotations(root, split, lists, photos)
    if classes is None:
        training = annotations
        if split != "train":
            training = _read_annotations(root, "train", lists, photos)
        classes = tuple(sorted({one["name"] for a in training.values() for one in a.objects}))
        if not classes:
            raise LabError(f"no training photo of {root} shows any object: annotate some")
    label = {name: i for i, name in enumerate(classes)}
    images, objects = {}, []
    for i, (name, annotation) in enumerate(annotations.items()):
        images[i] = {"id": i, **annotation.size}
        for one in annotation.objects:
            if one["name"] not in label:
                raise LabError(
                    f"{root}/Annotations/{name}.xml: {one['name']!r} is no class of the training "
                    f"photos ({', '.join(classes)}): correct the name, or train on it as well"
                )
            objects.append(one | {"image_id": i, "category_id": label[one["name"]]})
    coco = {"images": list(images.values()), "annotations": objects}
    places = {i: photos[name] for i, name in enumerate(annotations)}
    path, categories = root / "Annotations", dict(enumerate(classes))
    loaded = read_split(coco, path, images, places, categories, split, image_size)
    return replace(loaded, image_ids=(), category_ids=())  # they were numbered here


class Annotation(NamedTuple):
    """What is in a photo, in COCO's terms."""

    size: dict[str, int]
    """width and height in pixels of what the boxes were drawn on, where they are given."""
    objects: list[dict[str, Any]]
    """name; bbox [x, y, width, height] in pixels, NaN for what is missing or no number; iscrowd, 1
    for what VOC marks as difficult."""


def read_annotation(path: Path) -> Annotation:
    """One file of Annotations.

    VOC counts pixels from 1, and both corners belong to the object: xmin = xmax = 1 is a box one
    pixel wide. Here a box is where its pixels begin and end: xmin - 1, ymin - 1, xmax, ymax; with
    fractions too. An export that counts from 0 is off by one at the left and top: nothing in it
    tells.

    Raises:
        LabError: no XML, not of VOC, a document type (which could define entities that grow beyond
            all memory), or an object without a name.
    """
    try:
        content = path.read_bytes()
        if b"<!DOCTYPE" in content.replace(b"\0", b""):  # without the zeros of UTF-16
            raise LabError(f"{path} has a document type, which VOC does not: export it again")
        annotation = ElementTree.fromstring(content)
    except (OSError, ElementTree.ParseError, LookupError, ValueError) as error:
        raise LabError(f"{path} is no readable XML ({error}): export it again") from error
    if annotation.tag != "annotation":
        raise LabError(f"{path} holds <{annotation.tag}>, not <annotation>: export it again")
    sides = {side: _number(annotation, f"size/{side}") for side in ("width", "height")}
    objects = []
    for one in annotation.findall("object"):  # and its own children: its parts have boxes as well
        name = (one.findtext("name") or "").strip()
        if not name:
            raise LabError(f"{path}: an object has no name: add it")
        x1, y1, x2, y2 = (_number(one, f"bndbox/{c}") for c in ("xmin", "ymin", "xmax", "ymax"))
        box = [x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1]
        difficult = (one.findtext("difficult") or "").strip() == "1"
        objects.append({"name": name, "bbox": box, "iscrowd": int(difficult)})
    size = {side: int(length) for side, length in sides.items() if length.is_integer()}
    return Annotation(size, objects)


def _number(element: ElementTree.Element, path: str) -> float:
    """NaN for what is missing or no number."""
    try:
        return float(element.findtext(path) or "nan")
    except ValueError:
        return float("nan")


def _read_lists(root: Path) -> dict[str, dict[str, None]]:
    """The names of each split that is listed (dicts: sets that keep their order).

    If none is, all that is annotated is train. An empty list counts as none: tools write them.
    `trainval` serves as train where that is missing, less what val has.
    """
    lists = {}
    for split in ("train", "val", "trainval", "test"):
        path = root / f"ImageSets/Main/{split}.txt"
        try:
            lines = path.read_text("utf-8-sig").splitlines() if path.is_file() else []
        except (OSError, ValueError) as error:
            raise LabError(f"{path} is no readable text ({error}): export it again") from error
        if names := dict.fromkeys(line.strip() for line in lines if line.strip()):
            lists[split] = names
    if not lists:
        stems = sorted(path.stem for path in (root / "Annotations").glob("*.xml"))
        return {"train": dict.fromkeys(stems)}
    if (both := lists.pop("trainval", None)) and "train" not in lists:
        lists["train"] = dict.fromkeys(name for name in both if name not in lists.get("val", {}))
    if "train" not in lists:
        raise LabError(f"{root}/ImageSets/Main has {', '.join(lists)}.txt only: add train.txt")
    owner = {}
    for split, names in lists.items():
        for name in names:
            if owner.setdefault(name, split) != split:
                raise LabError(
                    f"{root}/ImageSets/Main: {name!r} is in {owner[name]}.txt and in {split}.txt: "
                    "keep it in one"
                )
    return lists


def _find_photos(root: Path) -> dict[str, Path]:
    """The photos in JPEGImages by their names, which are without suffix."""
    photos: dict[str, Path] = {}
    for path in sorted((root / "JPEGImages").glob("*")):
        if path.suffix.lower() in PHOTOS and photos.setdefault(path.stem, path) != path:
            raise LabError(f"{path} and {photos[path.stem].name} share a name: rename one of them")
    return photos


def _read_annotations(
    root: Path, split: SplitName, lists: dict[str, dict[str, None]], photos: dict[str, Path]
) -> dict[str, Annotation]:
    """What is in each photo of a split; a name that no photo has leads to no file either."""
    source, low, high = SHARES.get(tuple(sorted(lists)), {}).get(split, (split, 0, 100))
    missing = [name for name in lists[source] if name not in photos]
    if missing:
        count = f"{len(missing)} of {len(lists[source])}"
        raise LabError(
            f"{count} photos of {source!r} are missing in {root}/JPEGImages, first {missing[0]!r}: "
            "add them"
        )
    return {
        name: read_annotation(root / "Annotations" / f"{name}.xml")
        for name in lists[source]
        if low <= hundredth(photos[name].name) < high  # as in a COCO export of the same photos
    }
