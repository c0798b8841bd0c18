"""The pools are what their knobs say."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from active_learning.pools import POOLS, Knobs, knobs
from active_learning.scenes import SPLITS, Things, all_digits, clip_lengths, draw, render


def test_the_same_arguments_give_the_same_frames(pool):
    again, other = render("pool", Knobs(frames=90)), render("pool", Knobs(frames=90), seed=1)
    assert torch.equal(pool.images, again.images)
    assert torch.equal(pool.boxes, again.boxes)
    assert not torch.equal(pool.images, other.images)
    assert pool.images.shape == (90, 1, 64, 64)
    assert render("pool", Knobs(frames=8), size=96).images.shape == (8, 1, 96, 96)


def test_no_digit_is_in_two_splits():
    ranges = [set(range(*part)) for part in SPLITS.values()]
    assert sum(map(len, ranges)) == len(set.union(*ranges)) == 1797


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.9])
def test_share_of_empty_frames(share):
    frames = render("pool", Knobs(frames=600, clip=3, empty=share))
    assert float((frames.objects == 0).float().mean()) == pytest.approx(share, abs=0.01)
    assert int(frames.objects.max()) <= 3


def test_share_of_empty_frames_where_clips_differ():
    """What counts is the share of frames, not of clips."""
    frames = render("pool", replace(POOLS["parked"], frames=1200))
    assert float((frames.objects == 0).float().mean()) == pytest.approx(0.5, abs=0.1)


def test_clips_are_nearly_equal_frames():
    frames = render("pool", Knobs(frames=60, clip=6, empty=0.0))
    images = frames.images.float()
    within = (images[0] - images[1]).abs().mean()
    across = (images[0] - images[6]).abs().mean()
    assert within < 0.5 * across
    assert frames.clips.tolist() == [i // 6 for i in range(60)]
    assert (frames.labels[0] == frames.labels[5]).all()
    moved = (frames.boxes[0::6] - frames.boxes[5::6]).abs()
    assert 0 < moved.max() <= 7


def test_lengths_of_clips():
    equal = clip_lengths(Knobs(frames=60, clip=6))
    assert equal.tolist() == [6] * 10
    parked = clip_lengths(POOLS["parked"])
    assert parked.sum() == 2400
    assert 1 <= parked.min() < 4
    assert 0.12 < parked[0] / 2400 < 0.2


def test_rare_classes_are_rare_in_the_pool_and_not_in_the_test():
    count = {
        split: np.bincount(frames.labels[frames.labels >= 0].numpy(), minlength=10)
        for split in ("pool", "test")
        for frames in [render(split, POOLS["rare"])]
    }
    ratio = count["pool"][:5].mean() / count["pool"][5:].mean()
    assert 9 < ratio < 16
    assert count["test"].max() < 2.2 * count["test"].min()


def test_dark_scenes():
    light = render("pool", Knobs(frames=300, clip=1, dark=0.1)).images.float().mean((1, 2, 3))
    assert float((light < 40).float().mean()) == pytest.approx(0.1, abs=0.05)
    light = render("test", Knobs(frames=300, dark=0.1)).images.float().mean((1, 2, 3))
    assert float((light < 40).float().mean()) == pytest.approx(0.5, abs=0.07)


def test_boxes_hold_the_ink():
    """A digit drawn in the middle: its box is where its ink is, to the pixel."""
    digits, _ = all_digits()
    one = Things(np.zeros(1, int), np.array([3]), np.array([[20.0, 30.0]]), np.array([20.0]),
                 np.zeros(1), np.ones(1))  # fmt: skip
    masks, boxes = draw(one, digits)
    inked = np.argwhere(masks[0] > 1 / 3) + np.array([30 - 16, 20 - 16])  # y, x
    assert boxes[0].tolist() == [*inked.min(0)[::-1], *(inked.max(0)[::-1] + 1)]
    middle = (boxes[0, :2] + boxes[0, 2:]) / 2
    assert np.abs(middle - [20, 30]).max() < 3, "ink is not quite in the middle of its 8x8"


def test_boxes_lie_within_the_image(pool):
    assert (pool.boxes >= 0).all()
    assert (pool.boxes <= 64).all()
    size = (pool.boxes[..., 2:] - pool.boxes[..., :2])[pool.labels >= 0]
    assert size.min() > 2
    assert (pool.boxes[pool.labels < 0] == 0).all()
    parked = render("pool", replace(POOLS["parked"], frames=800))
    size = (parked.boxes[..., 2:] - parked.boxes[..., :2])[parked.labels >= 0]
    assert size.min() > 2, "a long clip's things stay in sight"


def test_knobs_of_a_pool_can_be_changed():
    assert knobs("rare", empty=None, frames=7) == replace(POOLS["rare"], frames=7)


def test_taking_frames(pool):
    some = pool.take(torch.tensor([5, 2]))
    assert torch.equal(some.images, pool.images[[5, 2]])
    assert some.objects.tolist() == [int(pool.objects[5]), int(pool.objects[2])]
    assert len(some) == 2
