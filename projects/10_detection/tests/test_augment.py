"""Boxes against the pixels they have to follow: rectangles of known colours, found again."""

from statistics import mode

import pytest
import torch
from matplotlib.colors import to_rgba
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as T

from detection.augment import AUGMENTATIONS, augment, draw_augmentations, resize_and_move
from detection.evaluate import COLOURS
from detection.letterbox import GREY
from detection.split import Split
from trainloop import LabError

GROUND = torch.tensor(GREY)  # what is outside an image cannot be told from the ground
PAINT = torch.tensor([[r, g, b] for r in (0, 255) for g in (0, 255) for b in (0, 255)])
"""The colour of each label: corners of the cube, so that no mixture with grey is nearer another."""
WIDTH, HEIGHT = 132, 120  # of the scenes, in pixels
SEEDS = 12


def scenes(seed: int, count: int = 4, width: int = WIDTH) -> tuple[Tensor, ...]:
    """Images of eight rectangles, each with its label's colour; some are ignored, some missing.

    The rectangles stand in a 3 x 3 grid with 12 pixels between them, the last cell empty:
    they can be told apart at a quarter of their size.
    """
    generator = torch.Generator().manual_seed(seed)
    cell = torch.tensor([width / 3, HEIGHT / 3])
    low = torch.rand(count, 8, 2, generator=generator) * 8 + 6
    high = cell - 6 - torch.rand(count, 8, 2, generator=generator) * 8
    place = torch.arange(8)
    corner = torch.stack([place % 3, place // 3], 1) * cell
    boxes = torch.cat([corner + low, corner + high], -1).round()
    labels = torch.stack([torch.randperm(8, generator=generator) for _ in range(count)])
    labels[torch.rand(count, 8, generator=generator) < 0.2] = -1
    boxes[labels < 0] = 0
    ignore = (torch.rand(count, 8, generator=generator) < 0.2) & (labels >= 0)

    images = GROUND[:, None, None].expand(count, 3, HEIGHT, width).to(torch.uint8).clone()
    for image, its_boxes, its_labels in zip(images, boxes.int().tolist(), labels, strict=True):
        for (x1, y1, x2, y2), label in zip(its_boxes, its_labels, strict=True):
            image[:, y1:y2, x1:x2] = PAINT[label, :, None, None]
    return images, boxes, labels, ignore


def look(image: Tensor) -> Tensor:
    """The label whose colour each pixel has, 8 for the ground: (H, W)."""
    colours = torch.cat([PAINT, GROUND[None]]).float()
    return torch.cdist(image.flatten(1).T.float(), colours).argmin(1).view(image.shape[1:])


def assert_boxes_fit(batch: tuple[Tensor, ...], within: float = 1) -> None:
    """Each box is that of pixels of its label's colour; no coloured pixel is in no box."""
    for image, boxes, labels, _ in zip(*batch, strict=True):
        seen = look(image)
        explained = seen == 8
        for (x1, y1, x2, y2), label in zip(boxes.tolist(), labels.tolist(), strict=True):
            if label < 0:
                continue
            left, top = max(0, round(x1) - 2), max(0, round(y1) - 2)
            around = slice(top, round(y2) + 2), slice(left, round(x2) + 2)
            if min(x2 - x1, y2 - y1) > 1:  # what is thinner may fall between two pixels
                found = extent(seen[around] == label)
                box = (x1 - left, y1 - top, x2 - left, y2 - top)
                assert found == pytest.approx(box, abs=within)
            explained[around] |= seen[around] == label
        assert explained.all()


def extent(mask: Tensor) -> tuple[int, ...]:
    """x1, y1, x2, y2 of what is set in a mask (H, W)."""
    rows, columns = mask.nonzero(as_tuple=True)
    return tuple(
        int(side) for side in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    )


def no_objects(count: int, slots: int = 0) -> tuple[Tensor, ...]:
    """Boxes, labels and ignore of images without objects."""
    empty = torch.zeros(count, slots, dtype=torch.bool)
    return torch.zeros(count, slots, 4), torch.full((count, slots), -1), empty


def one(box: list[float], label: int = 3, ignore: bool = False) -> tuple[Tensor, ...]:
    """A black image, 40 wide and 20 high, with one object."""
    image = torch.zeros(1, 3, 20, 40, dtype=torch.uint8)
    return image, torch.tensor([[box]]), torch.tensor([[label]]), torch.tensor([[ignore]])


def moved(batch: tuple[Tensor, ...], factor: float, offset: tuple[float, float]) -> tuple:
    """Box, label and ignore of the only object of `one` after `resize_and_move`."""
    _, boxes, labels, ignore = resize_and_move(
        *batch, torch.tensor([factor]), torch.tensor([offset])
    )
    return boxes.flatten().tolist(), labels.item(), ignore.item()


# --- boxes follow the pixels -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "within"),
    [
        (["flip"], 0.01),
        (["mosaic"], 1),
        (["scale"], 1),
        (["crop"], 1),
        (["flip", "mosaic"], 1),
        (["scale", "crop"], 1.5),  # a crop enlarges what scaling had rounded to whole pixels
        (["flip", "mosaic", "scale", "crop"], 1.5),
    ],
)
def test_boxes_are_where_the_rectangles_are(names, within):
    changed = 0
    for seed in range(SEEDS):
        batch = scenes(seed)
        assert_boxes_fit(batch, within=0.01)
        torch.manual_seed(seed)
        augmented = augment(names, *batch)
        assert_boxes_fit(augmented, within)
        changed += not torch.equal(augmented[0], batch[0])
    assert changed > SEEDS / 2


def test_a_box_moved_by_two_pixels_would_be_noticed():
    images, boxes, labels, ignore = scenes(0)
    with pytest.raises(AssertionError):
        assert_boxes_fit((images, boxes + 2, labels, ignore))


@pytest.mark.parametrize("names", [[name] for name in AUGMENTATIONS] + [list(AUGMENTATIONS)])
def test_what_every_augmentation_keeps(names):
    for seed in range(4):
        batch = scenes(seed, count=16)
        before = [part.clone() for part in batch]
        torch.manual_seed(seed)
        images, boxes, labels, ignore = augmented = augment(names, *batch)
        assert all(torch.equal(a, b) for a, b in zip(batch, before, strict=True)), "data are kept"
        assert [part.dtype for part in augmented] == [part.dtype for part in batch]
        assert images.shape == batch[0].shape
        assert boxes.shape[:2] == labels.shape == ignore.shape
        assert (boxes >= 0).all()
        assert (boxes[..., 2] <= WIDTH).all() and (boxes[..., 3] <= HEIGHT).all()
        absent = labels < 0
        assert (boxes[absent] == 0).all() and not ignore[absent].any()
        assert (boxes[~absent][:, 2:] > boxes[~absent][:, :2]).all()
        torch.manual_seed(seed)
        assert all(
            torch.equal(a, b) for a, b in zip(augment(names, *batch), augmented, strict=True)
        )
        torch.manual_seed(seed + 100)
        assert not torch.equal(augment(names, *batch)[0], images)


def test_everything_is_made_on_the_device_of_the_batch():
    batch = scenes(0)
    with torch.device("meta"):  # what is made elsewhere cannot meet the batch
        augmented = augment(list(AUGMENTATIONS), *batch)
    assert {part.device.type for part in augmented} == {"cpu"}


@pytest.mark.parametrize("names", [["flip"], ["scale"], ["crop"], ["scale", "crop"]])
def test_labels_stay_in_their_slots_and_ignored_stays_ignored(names):
    for seed in range(8):
        batch = scenes(seed)
        torch.manual_seed(seed)
        _, _, labels, ignore = augment(names, *batch)
        there = labels >= 0
        assert torch.equal(labels[there], batch[2][there])
        assert ignore[there & batch[3]].all()


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("slots", [0, 1])
@pytest.mark.parametrize("count", [1, 3])
def test_images_without_objects(name, slots, count):
    images = torch.randint(0, 256, (count, 3, 32, 48), dtype=torch.uint8)
    targets = no_objects(count, slots)
    augmented, *after = AUGMENTATIONS[name](images, *targets)
    assert augmented.shape == images.shape
    assert all(torch.equal(a, b) for a, b in zip(after, targets, strict=True))


# --- what left the image -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "expected"),
    [  # a box 16 wide and 10 high, moved out of an image 40 wide
        (24, ([24, 5, 40, 15], 3, False)),  # touches the edge from within
        (35.5, ([35.5, 5, 40, 15], 3, False)),  # 28% left
        (36.5, ([36.5, 5, 40, 15], 3, True)),  # 22% left
        (39.9, ([39.9, 5, 40, 15], 3, True)),
        (40, ([0, 0, 0, 0], -1, False)),  # touches the edge from without
        (60, ([0, 0, 0, 0], -1, False)),
        (-11.5, ([0, 5, 4.5, 15], 3, False)),
        (-12.5, ([0, 5, 3.5, 15], 3, True)),
        (-16, ([0, 0, 0, 0], -1, False)),
    ],
)
def test_slivers_are_ignored_and_what_is_outside_is_gone(left, expected):
    box, label, ignore = moved(one([2.0, 3.0, 18.0, 13.0]), 1.0, (left - 2.0, 2.0))
    assert (box, label, ignore) == (pytest.approx(expected[0], abs=1e-5), *expected[1:])


@pytest.mark.parametrize(
    ("box", "ignore"),
    [([4.0, 4.0, 8.2, 12.0], False), ([4.0, 4.0, 7.8, 12.0], True), ([4.0, 4.0, 12.0, 7.8], True)],
)
def test_what_became_narrower_than_two_pixels_is_ignored(box, ignore):
    half = [side / 2 for side in box]
    assert moved(one(box), 0.5, (0.0, 0.0)) == (pytest.approx(half), 3, ignore)


def test_an_ignored_object_is_ignored_until_it_is_gone():
    batch = one([2.0, 3.0, 18.0, 13.0], ignore=True)
    assert moved(batch, 1.0, (0.0, 0.0))[1:] == (3, True)
    assert moved(batch, 1.0, (36.0, 0.0))[1:] == (3, True)
    assert moved(batch, 1.0, (50.0, 0.0))[1:] == (-1, False)


@pytest.mark.parametrize("left_over", [[0.0, 0.0, 0.0, 0.0], [2.0, 3.0, 18.0, 13.0]])
def test_an_empty_slot_is_empty_wherever_it_is_moved(left_over):
    batch = one(left_over, label=-1, ignore=True)
    assert moved(batch, 1.0, (10.0, 5.0)) == ([0] * 4, -1, False)


def test_a_box_without_area_is_gone():
    assert moved(one([5.0, 5.0, 5.0, 15.0]), 1.0, (1.0, 1.0)) == ([0] * 4, -1, False)


# --- pixels ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factor", "shift"),
    [(0.5, [3, -2]), (0.8, [-9, 4]), (1.0, [7, -5]), (1.4, [2, 1]), (1.6, [0, -20])],
)
def test_pixels_are_torchvisions(factor, shift):
    """torchvision scales about the centre, and mixes the image's outermost pixels with its fill."""
    images = torch.randint(0, 256, (2, 3, 24, 40), dtype=torch.uint8)
    centre = torch.tensor([20.0, 12.0])
    offset = (1 - factor) * centre + torch.tensor(shift)
    ours, *_ = resize_and_move(
        images, *no_objects(2), torch.full((2,), factor), offset.expand(2, 2)
    )

    def theirs(images: Tensor, fill: int) -> Tensor:
        bilinear = InterpolationMode.BILINEAR
        return T.affine(images, 0.0, shift, factor, [0.0, 0.0], bilinear, fill=[fill] * 3)

    share = theirs(torch.ones(2, 3, 24, 40), fill=0)  # of the image in each pixel
    mixed = (share > 0.001) & (share < 0.999)
    assert mixed.float().mean() < 0.2
    assert (ours.int() - theirs(images, fill=GREY[0]).int())[~mixed].abs().max() <= 1


def test_nothing_is_changed_by_a_move_to_the_same_place():
    images, boxes, labels, ignore = scenes(0)
    images.random_(0, 256)
    still = resize_and_move(images, boxes, labels, ignore, torch.ones(4), torch.zeros(4, 2))
    assert all(
        torch.equal(a, b) for a, b in zip(still, (images, boxes, labels, ignore), strict=True)
    )


def test_a_crop_is_full_of_image():
    white = torch.full((64, 3, 32, 32), 255, dtype=torch.uint8)
    assert (AUGMENTATIONS["crop"](white, *no_objects(64))[0] == 255).all()


def test_a_smaller_image_has_a_grey_frame():
    white = torch.full((64, 3, 32, 32), 255, dtype=torch.uint8)
    torch.manual_seed(0)
    scaled, *_ = AUGMENTATIONS["scale"](white, *no_objects(64))
    assert set(scaled.unique().tolist()) == {GREY[0], 255}, "no mixture at its edge"
    assert torch.equal(scaled, scaled.flip(2)) and torch.equal(scaled, scaled.flip(3))
    framed = (scaled[:, :, 0] == GREY[0]).all(2).all(1)
    assert 12 < framed.sum() < 52, "about half"


@pytest.mark.parametrize(("name", "low", "high"), [("scale", 0.5, 1.5), ("crop", 1.0, 1 / 0.6)])
def test_factors_are_drawn_from_the_whole_range(name, low, high):
    images = torch.zeros(400, 3, 64, 64, dtype=torch.uint8)
    middle = torch.tensor([30.0, 30.0, 34.0, 34.0])  # never clipped, so its size is the factor
    boxes = middle.expand(400, 1, 4)
    labels, ignore = torch.zeros(400, 1).long(), torch.zeros(400, 1).bool()
    torch.manual_seed(0)
    _, after, _, _ = AUGMENTATIONS[name](images, boxes, labels, ignore)
    factor = (after[..., 2:] - after[..., :2]) / 4
    torch.testing.assert_close(factor[..., 0], factor[..., 1], msg="a ball stays round")
    assert low - 1e-4 <= factor.min() < low + 0.02 and high - 0.02 < factor.max() <= high + 1e-4


def test_a_crop_is_anywhere_in_the_image():
    """A ramp from left to right and one from top to bottom tell which part is seen."""
    ramp = torch.arange(64).expand(64, 64)
    image = torch.stack([ramp, ramp.T, ramp]).to(torch.uint8)
    torch.manual_seed(0)
    cropped, *_ = AUGMENTATIONS["crop"](image.expand(400, 3, 64, 64), *no_objects(400))
    left, right = cropped[:, 0, 0, 0].int(), 63 - cropped[:, 0, 0, -1].int()
    top, bottom = cropped[:, 1, 0, 0].int(), 63 - cropped[:, 1, -1, 0].int()
    for lost in (left, right, top, bottom):
        assert lost.min() == 0 and 20 <= lost.max() <= 26, "at most 40% of 64"
    assert (left + right - top - bottom).abs().max() <= 2, "a square"
    assert torch.stack([left, top]).float().corrcoef()[0, 1] < 0.5, "each axis on its own"


# --- mosaic ------------------------------------------------------------------------------------


def test_a_mosaic_is_four_different_images_at_half_size_around_a_point():
    colours = torch.arange(8) * 20  # of one colour each, and none of them grey
    images = colours[:, None, None, None].expand(8, 3, 32, 32).to(torch.uint8)
    torch.manual_seed(0)
    points = []
    for _ in range(40):
        augmented, *_ = AUGMENTATIONS["mosaic"](images, *no_objects(8))
        for image in augmented[(augmented != images).flatten(1).any(1)]:
            shown = set(image.unique().tolist()) - {GREY[0]}
            tiles = sorted(extent(image[0] == colour) for colour in shown)
            x = mode(side for x1, _, x2, _ in tiles for side in (x1, x2))  # where they meet
            y = mode(side for _, y1, _, y2 in tiles for side in (y1, y2))
            assert tiles == [
                (max(x - 16, 0), max(y - 16, 0), x, y),
                (max(x - 16, 0), y, x, min(y + 16, 32)),
                (x, max(y - 16, 0), min(x + 16, 32), y),
                (x, y, min(x + 16, 32), min(y + 16, 32)),
            ]
            points.append((x, y))
    assert 120 < len(points) < 200, "half of 320 images"
    for sides in zip(*points, strict=True):
        assert (min(sides), max(sides)) == (8, 24), "the middle half"


def test_half_size_is_the_mean_of_two_by_two_pixels():
    image = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    half = image.float().unfold(1, 2, 2).unfold(2, 2, 2).mean((-1, -2)).round()  # (3, 16, 16)
    torch.manual_seed(0)
    augmented, *_ = AUGMENTATIONS["mosaic"](image.expand(16, 3, 32, 32), *no_objects(16))
    mosaics = augmented[(augmented != image).flatten(1).any(1)]
    assert len(mosaics) > 0
    windows = mosaics.float().unfold(2, 16, 1).unfold(3, 16, 1)  # (n, 3, 17, 17, 16, 16)
    same = (windows == half[:, None, None]).all(-1).all(-1).all(1)
    assert same.flatten(1).any(1).all(), "one of the four is always seen whole"


def test_a_mosaic_of_one_image_is_that_image_four_times():
    images, boxes, labels, _ = scenes(3, count=1)
    ignore = (labels >= 0) & (torch.arange(8) % 2 == 0)  # every other one
    known = {-1: False} | dict(zip(labels[0].tolist(), ignore[0].tolist(), strict=True))
    objects = int((labels >= 0).sum())
    counts = set()
    for seed in range(16):
        torch.manual_seed(seed)
        augmented = AUGMENTATIONS["mosaic"](images, boxes, labels, ignore)
        assert_boxes_fit(augmented)
        _, after, its_labels, its_ignore = (part[0] for part in augmented)
        for box, label, ignored in zip(after, its_labels.tolist(), its_ignore, strict=True):
            cut = box[:2].min() == 0 or box[2] == WIDTH or box[3] == HEIGHT
            assert ignored if known[label] else not ignored or cut
        counts.add(int((its_labels >= 0).sum()))
    assert objects in counts and max(counts) > 2 * objects and max(counts) <= 4 * objects


def test_a_mosaic_has_as_many_slots_as_its_fullest_image_needs():
    for seed in range(8):
        torch.manual_seed(seed)
        _, _, labels, _ = AUGMENTATIONS["mosaic"](*scenes(seed))
        there = labels >= 0
        assert there.sum(1).max() == labels.shape[1]
        assert torch.equal(there, there.sort(dim=1, descending=True).values), "no gaps"


# --- the default training ----------------------------------------------------------------------


def test_colour_and_flip_draw_and_compute_what_the_published_runs_did():
    """Image by image: three ranks, one brightness, three tints; then one coin each."""
    images, boxes, labels, ignore = scenes(5, count=6)
    torch.manual_seed(0)
    ranks, brightness = torch.rand(6, 3), torch.randn(6, 1, 1, 1)
    tint, coins = torch.randn(6, 3, 1, 1), torch.rand(6)
    torch.manual_seed(0)
    augmented = augment(["flip", "colour"], images, boxes, labels, ignore)  # applied as ever
    for i in range(6):
        gain = (0.15 * brightness[i] + 0.1 * tint[i]).exp()
        image = (images[i][ranks[i].argsort()] * gain).clamp(0, 255).to(torch.uint8)
        wanted = boxes[i].clone()
        if coins[i] < 0.5:
            image = image.flip(2)
            x1, y1, x2, y2 = boxes[i].unbind(-1)
            mirrored = torch.stack([WIDTH - x2, y1, WIDTH - x1, y2], dim=1)
            wanted[labels[i] >= 0] = mirrored[labels[i] >= 0]
        assert torch.equal(augmented[0][i], image)
        assert torch.equal(augmented[1][i], wanted)
    assert 0 < (coins < 0.5).sum() < 6
    assert torch.equal(augmented[2], labels) and torch.equal(augmented[3], ignore)


def test_an_unknown_name_is_one_line():
    with pytest.raises(LabError, match=r"'mixup'.*colour, flip, mosaic, scale, crop") as caught:
        augment(["flip", "mixup"], *scenes(0))
    assert "\n" not in str(caught.value)


# --- picture -----------------------------------------------------------------------------------


def split(count: int) -> Split:
    images, boxes, labels, ignore = scenes(7, count, width=HEIGHT)
    classes = tuple(f"class {label}" for label in range(8))
    return Split(images=images, boxes=boxes, labels=labels, ignore=ignore, classes=classes)


def test_the_picture_has_a_row_for_each_augmentation_and_a_column_for_each_scene(tmp_path):
    data = split(5)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    figure = draw_augmentations(data, ["crop", "mosaic"], count=3, seed=4)
    assert torch.equal(torch.get_rng_state(), before), "drawing does not disturb a training"
    figure.savefig(tmp_path / "augmentations.png")
    axes = figure.axes
    assert len(axes) == 9
    assert [axis.get_ylabel() for axis in axes[::3]] == ["original", "crop", "mosaic"]

    torch.manual_seed(4)
    first = data.first(3)
    images, boxes, labels, ignore = augment(
        ["crop"], first.images, first.boxes, first.labels, first.ignore
    )
    for axis, image, *objects in zip(axes[3:6], images, boxes, labels, ignore, strict=True):
        shown = torch.from_numpy(axis.get_images()[0].get_array().data)
        assert torch.equal(shown, image.permute(1, 2, 0))
        wanted = [
            (box[:2] - 0.5, "lightgrey" if ignored else COLOURS[label % len(COLOURS)], ignored)
            for box, label, ignored in zip(*objects, strict=True)
            if label >= 0
        ]
        for patch, (corner, colour, ignored) in zip(axis.patches, wanted, strict=True):
            assert patch.get_xy() == pytest.approx(corner.tolist())
            assert patch.get_edgecolor() == to_rgba(colour)
            assert (patch.get_linestyle() != "solid") == bool(ignored)


def test_a_picture_of_one_scene_and_one_that_asks_for_more_than_there_are():
    assert len(draw_augmentations(split(1)).axes) == 6
    assert len(draw_augmentations(split(2), ["flip"], count=9).axes) == 4
