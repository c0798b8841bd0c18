"""The detector: where its points are, what its boxes mean, and what `detect` makes of them."""

from collections import OrderedDict
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision import ops

from detection.backbone import Backbone, SmallBackbone, conv
from detection.model import Detections, Detector, Predictions


def small_model(seed: int = 0, levels: int = 2, **options) -> Detector:
    torch.manual_seed(seed)
    backbone = SmallBackbone((8, 8, 16, 16)) if levels == 2 else three_levels()
    return Detector(**{"classes": 3, "backbone": backbone, "neck": 16, **options})


def three_levels() -> Backbone:
    """Levels of strides 8, 16 and 32, as torchvision's backbones have."""
    widths = (3, 8, 8, 16, 24, 32)
    return Backbone(
        "tiny",
        torch.nn.Sequential(*(conv(a, b, stride=2) for a, b in pairwise(widths))),
        ends=(1, 2, 3, 4, 5),
        channels=widths[3:],
        strides=(8, 16, 32),
        mean=(110.0, 110.0, 110.0),
        std=(60.0, 60.0, 60.0),
    )


def settle(model: Detector, images: Tensor) -> Predictions:
    """Predictions in training mode; the BatchNorms then have this batch's statistics."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        return model.train()(images)


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


# --- points and boxes --------------------------------------------------------------------------


def test_points_of_a_wide_image():
    predictions = small_model()(noise(2, 3, 32, 64))
    assert predictions.logits.shape == (2, 40, 3) and predictions.boxes.shape == (2, 40, 4)
    fine = [[x, y] for y in (4, 12, 20, 28) for x in (4, 12, 20, 28, 36, 44, 52, 60)]
    coarse = [[x, y] for y in (8, 24) for x in (8, 24, 40, 56)]
    assert predictions.points.tolist() == fine + coarse
    assert predictions.strides.tolist() == [8] * 32 + [16] * 8


def test_points_of_three_levels():
    predictions = small_model(levels=3)(noise(2, 3, 32, 64))
    assert predictions.logits.shape == (2, 42, 3) and predictions.boxes.shape == (2, 42, 4)
    assert predictions.points[-2:].tolist() == [[16, 16], [48, 16]]
    assert predictions.strides.tolist() == [8] * 32 + [16] * 8 + [32] * 2


@pytest.mark.parametrize("corner", ["right top", "left bottom"])
@pytest.mark.parametrize("shape", [(64, 320), (320, 64)])
def test_predictions_lie_where_the_pixels_are(shape, corner):
    """Pixels of one corner change predictions near it and none far from it."""
    model, (height, width) = small_model().eval(), shape
    blank = torch.full((1, 3, height, width), 110, dtype=torch.uint8)
    marked, x, y = blank.clone(), slice(0, 8), slice(height - 8, height)
    if corner == "right top":
        x, y = slice(width - 8, width), slice(0, 8)
    marked[:, :, y, x] = 255
    with torch.no_grad():
        before, after = model(blank), model(marked)
    for a, b in ((before.logits, after.logits), (before.boxes, after.boxes)):
        for stride in (8, 16):
            change = ((a - b)[0].abs().amax(-1)) * (before.strides == stride)
            distance = (before.points - torch.tensor([x.start + 4.0, y.start + 4.0])).abs().amax(-1)
            assert distance[change > 0].max() < 160 < distance.max()
            assert distance[change.argmax()] < 40


def test_sides_are_left_top_right_bottom_in_strides():
    model = small_model()
    torch.nn.init.zeros_(model.box_out.weight)
    model.box_out.bias.data = torch.tensor([-1.0, 0.5, 2.0, 3.0])
    model.scales.data = torch.tensor([1.0, 0.7])
    predictions = model(noise(2, 3, 32, 64))
    scales = torch.tensor([1.0, 0.7]).repeat_interleave(torch.tensor([32, 8]))[:, None]
    sides = F.softplus(model.box_out.bias * scales) * predictions.strides[:, None]
    x, y = predictions.points.unbind(-1)
    left, top, right, bottom = sides.unbind(-1)
    expected = torch.stack([x - left, y - top, x + right, y + bottom], -1).expand(2, -1, -1)
    torch.testing.assert_close(predictions.boxes, expected)


@pytest.mark.parametrize("training", [True, False])
def test_every_box_contains_its_point(training):
    model = small_model().train(training)
    torch.nn.init.normal_(model.box_out.weight, std=0.5)
    predictions = model(noise(2, 3, 48, 80))
    assert (predictions.boxes[..., :2] <= predictions.points).all()
    assert (predictions.boxes[..., 2:] >= predictions.points).all()
    assert (predictions.boxes[..., 2:] > predictions.boxes[..., :2]).all()


@pytest.mark.parametrize("prior", [0.01, 0.1])
def test_the_first_guess_is_background(prior):
    options = {} if prior == 0.01 else {"prior": prior}
    probability = small_model(**options)(noise(2, 3, 64, 64)).logits.sigmoid()
    assert probability.median().item() == pytest.approx(prior, rel=0.25)
    assert probability.min() > prior / 4 and probability.max() < prior * 4


# --- network -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(16, 16), (48, 80), (160, 32)])
def test_other_sizes_and_a_batch_is_its_images_one_by_one(height, width):
    model, images = small_model().eval(), noise(3, 3, height, width)
    together = model(images)
    assert together.logits.shape == (3, height * width // 64 + height * width // 256, 3)
    assert not torch.allclose(together.boxes[0], together.boxes[1], atol=1e-3)
    for i in range(3):
        alone = model(images[i : i + 1])
        torch.testing.assert_close(alone.logits[0], together.logits[i], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(alone.boxes[0], together.boxes[i], atol=1e-5, rtol=1e-5)


def test_evaluation_agrees_with_training():
    """Where levels share a BatchNorm, boxes that fit in training do not in evaluation."""
    model, images = small_model(), noise(8, 3, 96, 96)
    torch.nn.init.normal_(model.box_out.weight, std=0.3)
    training = settle(model, images)
    with torch.no_grad():
        evaluation = model.eval()(images)
    pairs = zip(training.boxes, evaluation.boxes, strict=True)
    iou = torch.stack([ops.box_iou(a, b).diagonal() for a, b in pairs])
    assert training.boxes.std(0).mean() > 1  # the boxes depend on the image
    assert iou.mean() > 0.99 and iou.min() > 0.96
    torch.testing.assert_close(training.logits, evaluation.logits, atol=0.02, rtol=0)


@pytest.mark.parametrize("centerness", [False, True])
@pytest.mark.parametrize("levels", [2, 3])
def test_gradients_reach_every_parameter(levels, centerness):
    model = small_model(levels=levels, centerness=centerness)
    predictions = model(noise(2, 3, 32, 64))
    answers = [predictions.logits, predictions.boxes, *([predictions.centerness] * centerness)]
    sum((answer * torch.randn(answer.shape)).sum() for answer in answers).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


def test_the_default_model_is_the_one_whose_results_are_published():
    """Size, and what seed 0 says: another order of the random draws would be another model."""
    torch.manual_seed(0)
    model = Detector(3)
    predictions = model(noise(2, 3, 64, 64))
    widths = predictions.boxes[..., 2] - predictions.boxes[..., 0]
    assert sum(p.numel() for p in model.parameters()) == 426_969
    assert predictions.logits.mean().item() == pytest.approx(-4.7769122, abs=1e-5)
    assert predictions.logits.std().item() == pytest.approx(0.7524542, abs=1e-5)
    assert widths.std().item() == pytest.approx(5.3795843, abs=1e-3)


def test_the_pyramid_is_torchvisions():
    """Which smooths the coarsest level too: all but the smoothing is compared."""
    model, images = small_model(levels=3).eval(), noise(2, 3, 64, 96)
    model.smooth = torch.nn.ModuleList(torch.nn.Identity() for _ in model.smooth)
    oracle = ops.FeaturePyramidNetwork([16, 24, 32], 16)
    for block, lateral in zip(oracle.inner_blocks, model.lateral, strict=True):
        block[0] = lateral
    oracle.layer_blocks = torch.nn.ModuleList(torch.nn.Identity() for _ in range(3))
    wanted = oracle(OrderedDict(enumerate(model.backbone(images))))
    for level, other in zip(model.pyramid(images), wanted.values(), strict=True):
        torch.testing.assert_close(level, other)


def test_all_levels_but_the_coarsest_are_smoothed():
    model, images = small_model(levels=3).eval(), noise(2, 3, 64, 64)
    smoothed = model.pyramid(images)
    model.smooth, smooth = torch.nn.ModuleList(torch.nn.Identity() for _ in range(2)), model.smooth
    fine, middle, coarse = model.pyramid(images)
    for level, other in zip(smoothed, (smooth[0](fine), smooth[1](middle), coarse), strict=True):
        torch.testing.assert_close(level, other)


# --- centerness --------------------------------------------------------------------------------


def test_centerness_is_an_addition():
    """The rest of the model is the same, drawn from the same seed."""
    images = noise(2, 3, 32, 64)
    without, with_it = small_model()(images), small_model(centerness=True)(images)
    assert without.centerness is None and with_it.centerness.shape == (2, 40)
    for a, b in zip(without[:4], with_it[:4], strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("levels", [2, 3])
def test_centerness_is_read_beside_the_box(levels):
    model, images = small_model(levels=levels, centerness=True).eval(), noise(2, 3, 32, 64)
    wanted = []
    for index, level in enumerate(model.pyramid(images)):
        maps = model.centerness_out(model.box_tower(level, index))  # (B, 1, h, w)
        wanted += [maps[:, 0, y, x] for y in range(maps.shape[2]) for x in range(maps.shape[3])]
    torch.testing.assert_close(model(images).centerness, torch.stack(wanted, 1))


# --- detect ------------------------------------------------------------------------------------


def eager_model(**options) -> Detector:
    """Sure of many things: probabilities all over 0..1, boxes that overlap."""
    model = small_model(**options)
    torch.nn.init.normal_(model.class_out.weight, std=1.0)
    torch.nn.init.normal_(model.box_out.weight, std=0.5)
    torch.nn.init.constant_(model.class_out.bias, -1.0)
    if model.centerness_out is not None:
        torch.nn.init.normal_(model.centerness_out.weight, std=1.0)
    settle(model, noise(8, 3, 64, 64, seed=1))
    return model.eval()


@pytest.mark.parametrize("centerness", [False, True])
def test_detections_are_torchvisions(centerness):
    model, images = eager_model(centerness=centerness), noise(3, 3, 48, 64)
    predictions = model(images)
    size = images.shape[2:]
    for i, found in enumerate(model.detect(images, score=0.1, iou=0.3, most=10_000)):
        scores, labels = predictions.logits[i].sigmoid(), torch.arange(3).repeat(60)
        if centerness:
            scores = torch.sqrt(scores * predictions.centerness[i].sigmoid()[:, None])
        scores = scores.flatten()
        boxes = ops.clip_boxes_to_image(predictions.boxes[i], size).repeat_interleave(3, 0)
        sure = scores > 0.1
        scores, labels, boxes = scores[sure], labels[sure], boxes[sure]
        keep = ops.batched_nms(boxes, scores, labels, 0.3)
        assert 10 < len(keep) < sure.sum() < 180  # both the threshold and the NMS drop some
        assert torch.equal(found.labels, labels[keep])
        torch.testing.assert_close(found.scores, scores[keep])
        torch.testing.assert_close(found.boxes, boxes[keep])


def test_detections_are_sorted_within_the_image_and_of_the_right_types():
    for found in eager_model().detect(noise(3, 3, 48, 64)):
        n = len(found.scores)
        assert n > 10 and found.boxes.shape == (n, 4) and found.labels.shape == (n,)
        assert found.labels.dtype == torch.int64 and set(found.labels.tolist()) == {0, 1, 2}
        assert (found.scores.diff() <= 0).all()
        assert (found.scores > 0.02).all() and (found.scores <= 1).all()
        assert (found.boxes >= 0).all() and (found.boxes[:, 2:] >= found.boxes[:, :2]).all()
        assert found.boxes[:, [0, 2]].max() == 64 and found.boxes[:, [1, 3]].max() == 48
        assert not found.scores.requires_grad


def test_most_keeps_the_best():
    model, images = eager_model(), noise(2, 3, 48, 64)
    for few, many in zip(model.detect(images, most=5), model.detect(images), strict=True):
        assert len(few.scores) == 5
        for a, b in zip(few, many, strict=True):
            assert torch.equal(a, b[:5])


def test_only_the_best_thousand_go_into_nms():
    model, images = eager_model(classes=8), noise(1, 3, 96, 96)
    best = model(images).logits.sigmoid().flatten().sort(descending=True).values
    (found,) = model.detect(images, score=0.0, iou=1.0, most=10_000)
    assert len(best) == 1440 and torch.equal(found.scores, best[:1000])


@pytest.mark.parametrize("options", [{}, {"centerness": True}, {"levels": 3}])
def test_nothing_found(options):
    for found in eager_model(**options).detect(noise(2, 3, 32, 64), score=1.0):
        assert isinstance(found, Detections)
        assert found.boxes.shape == (0, 4) and found.boxes.dtype == torch.float32
        assert found.scores.shape == (0,) and found.scores.dtype == torch.float32
        assert found.labels.shape == (0,) and found.labels.dtype == torch.int64


def test_a_point_far_from_every_centre_is_not_shown():
    """However sure it is of the class."""
    model, images = eager_model(centerness=True), noise(2, 3, 48, 64)
    torch.nn.init.constant_(model.centerness_out.bias, -30.0)
    assert model(images).logits.sigmoid().max() > 0.9
    assert all(len(found.scores) == 0 for found in model.detect(images))


@pytest.mark.parametrize(("height", "width"), [(32, 160), (160, 32)])
def test_detections_of_long_images_stay_inside(height, width):
    for found in eager_model(levels=3).detect(noise(2, 3, height, width)):
        assert found.boxes[:, [0, 2]].max() == width and found.boxes[:, [1, 3]].max() == height
        assert found.boxes.min() == 0 and len(found.scores) > 10


def test_an_image_gives_the_same_detections_in_any_batch():
    model, images = eager_model(), noise(4, 3, 48, 64)
    together = model.detect(images)
    backwards = model.detect(images.flip(0))[::-1]
    alone = [model.detect(image[None])[0] for image in images]
    for a, b, c in zip(together, backwards, alone, strict=True):
        for other in (b, c):
            assert torch.equal(a.labels, other.labels)
            torch.testing.assert_close(a.scores, other.scores, atol=1e-5, rtol=0)
            torch.testing.assert_close(a.boxes, other.boxes, atol=1e-3, rtol=0)
