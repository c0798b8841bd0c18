"""The net, its targets, its loss, its training."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from active_learning import detector as detector_module
from active_learning.config import DetectorOptions
from active_learning.detector import augment, detect, fit, score
from active_learning.loss import detection_losses, focal_loss, make_targets
from active_learning.model import STRIDE, Detector, Output, boxes_at, decode, peaks
from trainloop import NonFiniteError
from trainloop.testing import same

CPU = torch.device("cpu")


def test_size_of_the_net():
    assert 70_000 < sum(p.numel() for p in Detector(10).parameters()) < 110_000


def test_shapes():
    out = Detector(10, width=4)(torch.zeros(2, 1, 64, 96, dtype=torch.uint8))
    assert out.heat.shape == (2, 16, 24)
    assert out.logits.shape == (2, 10, 16, 24)
    assert out.box.shape == (2, 4, 16, 24)


def test_every_parameter_gets_a_gradient(pool):
    model = Detector(10, width=4)
    some = pool.take((pool.objects > 0).nonzero()[:8, 0])
    targets = make_targets(some.boxes, some.labels, (16, 16))
    sum(detection_losses(model(some.images), targets)).backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())


def test_targets_by_a_slow_loop(pool):
    """Every cell, object by object, as the paper writes it."""
    some = pool.take((pool.objects > 1).nonzero()[:5, 0])
    targets = make_targets(some.boxes, some.labels, (16, 16))
    for n in range(5):
        for y in range(16):
            for x in range(16):
                bumps = []
                for (x1, y1, x2, y2), label in zip(
                    some.boxes[n].tolist(), some.labels[n].tolist(), strict=True
                ):
                    if label >= 0:
                        cx, cy = int((x1 + x2) / 2 / STRIDE), int((y1 + y2) / 2 / STRIDE)
                        sigma = max(math.sqrt((x2 - x1) * (y2 - y1)) / STRIDE / 6, 0.7)
                        gap = (x - cx) ** 2 + (y - cy) ** 2
                        bumps.append((math.exp(-gap / (2 * sigma**2)), label))
                heat, label = max(bumps)
                assert targets.heat[n, y, x] == pytest.approx(heat, abs=1e-6)
                if heat > 0.3:
                    assert targets.label[n, y, x] == label
    assert (targets.heat == 1).flatten(1).sum(1).tolist() == some.objects.tolist()


def test_a_net_that_says_the_targets_finds_the_boxes(pool):
    """Targets, loss and decoding agree on what a box is: said exactly, AP is 1 and the loss 0."""
    targets = make_targets(pool.boxes, pool.labels, (16, 16))
    box = torch.zeros(len(pool), 4, 256)
    box.scatter_(2, targets.cell[:, None].expand(-1, 4, -1), targets.box.transpose(1, 2))
    where = nn.functional.one_hot(targets.label, 10).permute(0, 3, 1, 2) * 40.0
    heat = torch.where(targets.heat == 1, 20.0, -20.0)
    said = Output(heat, where, box.view(-1, 4, 16, 16), torch.zeros(len(pool), 1, 16, 16))
    seldom = pool.objects == 1  # cell 0 of empty slots overwrites nothing there
    ap50, ap = score(decode(said), pool)
    assert np.nanmean(ap50) > 0.99
    assert np.nanmean(ap) > 0.99
    losses = detection_losses(said, targets)
    assert losses.box < 1e-5
    assert losses.label < 1e-5
    assert losses.heat < 1e-5
    assert seldom.any()


def test_boxes_without_objects_cost_nothing():
    """Empty frames: no class, no box, and a heatmap loss that is finite."""
    targets = make_targets(torch.zeros(2, 3, 4), torch.full((2, 3), -1), (16, 16))
    losses = detection_losses(Detector(10, width=4)(torch.zeros(2, 1, 64, 64)), targets)
    assert losses.label == losses.box == 0
    assert 0 < losses.heat < 100
    assert (targets.heat == 0).all()


def test_empty_slots_do_not_matter(pool):
    some = pool.take(torch.arange(8))
    rubbish = torch.where(some.labels[..., None] < 0, 33.0, some.boxes)
    one, other = (make_targets(boxes, some.labels, (16, 16)) for boxes in (some.boxes, rubbish))
    out = Detector(10, width=4).eval()(some.images)
    assert detection_losses(out, one) == detection_losses(out, other)


def test_gradient_of_the_focal_loss():
    logits = torch.randn(12, dtype=torch.double, requires_grad=True)
    target = torch.rand(12, dtype=torch.double)
    target[:4] = 1
    assert torch.autograd.gradcheck(lambda x: focal_loss(x, target), logits)


def test_focal_loss_by_the_formula():
    p, y = torch.tensor([0.3, 0.3, 0.9]), torch.tensor([1.0, 0.5, 0.0])
    said = focal_loss(p.logit(), y)
    expected = [-(0.7**2) * math.log(0.3), -(0.5**4) * 0.3**2 * math.log(0.7),
                -(0.9**2) * math.log(0.1)]  # fmt: skip
    assert said.tolist() == pytest.approx(expected, rel=1e-4)


def test_peaks_and_boxes():
    heat = torch.full((1, 16, 16), -9.0)
    heat[0, 5, 7], heat[0, 5, 8], heat[0, 12, 1] = 3.0, 2.0, 1.0
    logits = torch.zeros(1, 3, 16, 16)
    logits[0, 2] = 10.0
    box = torch.zeros(1, 4, 16, 16)
    box[0, :2], box[0, 2:] = 0.5, math.log(4)
    found = decode(Output(heat, logits, box, heat[:, None]), most=2)
    assert found.labels.tolist() == [[2, 2]]
    assert found.boxes[0].tolist() == [[22, 14, 38, 30], [0, 42, 14, 58]]  # cut at the edge
    assert found.scores[0, 0] == pytest.approx(torch.sigmoid(torch.tensor(3.0)).item(), abs=1e-3)
    assert (peaks(Output(heat, logits, box, heat[:, None])) > 0.5).sum() == 2
    assert boxes_at(box, torch.zeros(1, 2, dtype=torch.long)).shape == (1, 2, 4)


def test_augmentation_moves_boxes_with_the_image():
    images = torch.full((16, 1, 64, 64), 110, dtype=torch.uint8)
    boxes = torch.tensor([[20.0, 24, 30, 40]]).expand(16, 1, 4).clone()
    images[:, :, 24:40, 20:30] = 210
    torch.manual_seed(0)
    moved, where = augment(images, boxes)
    light = moved - moved[:, :, :1, :1]
    assert (where[:, 0, :2] != boxes[:, 0, :2]).any()
    for image, box in zip(light, where[:, 0].int(), strict=True):
        x1, y1, x2, y2 = box.tolist()
        assert (image[0, y1:y2, x1:x2] > 50).all()
        assert (image > 50).sum() == 160


def test_it_learns_four_frames_by_heart(pool):
    """A few dozen steps: every object is found, where and what it is."""
    some = pool.take((pool.objects > 0).nonzero()[[0, 8, 16, 24], 0])
    config = DetectorOptions(steps=120, batch_size=4, width=8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detector_module, "augment", lambda images, boxes: (images.float(), boxes))
        losses = []
        net = fit(some, config, CPU, 0, lambda step, loss: losses.append(loss))
    ap50, _ = score(detect(net, some, CPU), some)
    assert np.nanmean(ap50) > 0.95
    assert losses[-1] < 0.1 * losses[0]
    assert len(losses) == 120


def test_training_is_decided_by_seed_and_frames(pool):
    config = DetectorOptions(steps=3, batch_size=4, width=4)
    some = pool.take(torch.arange(10))
    torch.manual_seed(1)
    one = fit(some, config, CPU, 7)
    torch.manual_seed(2)
    two, other = fit(some, config, CPU, 7), fit(some, config, CPU, 8)
    assert same(one.state_dict(), two.state_dict())
    assert not same(one.state_dict(), other.state_dict())


def test_detections_do_not_depend_on_the_batch(pool):
    net = fit(pool.take(torch.arange(10)), DetectorOptions(steps=3, batch_size=4, width=4), CPU, 0)
    whole, parts = detect(net, pool, CPU), detect(net, pool, CPU, batch=7)
    assert torch.allclose(whole.scores, parts.scores, atol=1e-5)
    assert whole.boxes.shape == (90, 20, 4)


def test_a_loss_that_is_not_finite_stops(pool):
    with pytest.raises(NonFiniteError, match="the loss is nan at step"):
        fit(pool, DetectorOptions(steps=9, batch_size=8, width=4, lr=1e37), CPU, 0)
