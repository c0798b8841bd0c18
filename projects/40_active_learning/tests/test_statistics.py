"""Costs, areas and intervals of curves that were made to have them."""

import numpy as np
import pytest

from active_learning.statistics import (
    Curves,
    compare_curves,
    default_target,
    pair,
    reach,
    reliability,
    sentence,
    spearman,
    verdict,
)


def made(
    slope: float, seeds: int = 10, boxes: float = 1.0, noise: float = 0.0, start=0.2
) -> Curves:
    """AP50 = start + slope x frames / 100, at 60, 120 .. 300 frames; so many boxes a frame."""
    rng = np.random.default_rng(0)
    frames = np.tile(np.arange(60.0, 301, 60), (seeds, 1))
    ap50 = start + slope * frames / 100 + rng.normal(0, noise, (seeds, 1))
    return Curves(tuple(range(seeds)), frames, boxes * frames, ap50)


def test_reach():
    cost = np.array([[60.0, 120, 180]] * 3)
    ap50 = np.array([[0.1, 0.3, 0.2], [0.5, 0.6, 0.7], [0.1, 0.2, 0.25]])
    assert reach(cost, ap50, 0.3).tolist() == [120, 60, np.inf]
    assert reach(cost, ap50, 0.2).tolist() == [90, 60, 120]


def test_a_strategy_twice_as_fast_needs_half():
    a, b = made(0.2, start=0), made(0.1, start=0)
    found = compare_curves(a, b, "frames", target=0.24)
    assert found.ratio == pytest.approx((0.5, 0.5, 0.5))
    assert found.wins == 1
    assert found.area.value == pytest.approx(0.18)
    assert found.target == 0.24
    reverse = compare_curves(b, a, "frames", target=0.24)
    assert reverse.ratio.value == pytest.approx(2.0)
    assert reverse.area.value == pytest.approx(-0.18)


def test_boxes_are_another_cost():
    """Twice as fast by frames, with three times as many boxes: dearer by boxes."""
    a, b = made(0.2, boxes=3.0, start=0), made(0.1, boxes=1.0, start=0)
    assert compare_curves(a, b, "frames", 0.24).ratio.value == pytest.approx(0.5)
    assert compare_curves(a, b, "boxes", 0.24).ratio.value == pytest.approx(1.5)


def test_intervals_are_paired():
    """A seed moves both curves by the same: the difference is certain, the curves are not."""
    a, b = made(0.1, noise=0.1, start=0.25), made(0.1, noise=0.1)
    found = compare_curves(a, b, "frames")
    assert (found.area.low, found.area.high) == pytest.approx((0.05, 0.05))
    assert np.std(a.ap50[:, 0]) > 0.05


def test_the_interval_covers_the_truth():
    """Ten seeds without a difference, 60 times: 1 lies within about as often as promised."""
    inside = 0
    for trial in range(60):
        rng = np.random.default_rng(trial)
        a, b = made(0.1), made(0.1)
        a, b = (
            Curves(c.seeds, c.frames, c.boxes, c.ap50 + rng.normal(0, 0.03, c.ap50.shape))
            for c in (a, b)
        )
        ratio = compare_curves(a, b, "frames", 0.4).ratio
        inside += ratio.low <= 1 <= ratio.high
    assert 48 <= inside <= 60


def test_a_target_that_is_missed():
    slow, fast = made(0.05), made(0.2)
    assert compare_curves(slow, fast, "frames", 0.6).ratio.value == np.inf
    assert "does not reach AP50 0.60" in sentence(
        "a", "b", compare_curves(slow, fast, "frames", 0.6)
    )
    generous = compare_curves(fast, slow, "frames", 0.6).ratio
    assert generous.value == pytest.approx(200 / 300), "b's cost counts as its last round's"


def test_default_target_is_reached_by_both():
    a, b = made(0.2), made(0.1)
    target = default_target(a, b)
    assert target == 0.49, "the next hundredth below 0.5"
    assert np.isfinite(compare_curves(b, a, "frames").ratio.value)


def test_pairs_are_of_the_same_seeds():
    a, b = made(0.1, 3), made(0.1, 5)
    a = Curves((4, 1, 9), a.frames, a.boxes, a.ap50 + np.arange(3)[:, None])
    ours, theirs = pair(a, b)
    assert ours.seeds == theirs.seeds == (4, 1)
    assert ours.ap50[:, 0].tolist() == pytest.approx([0.26, 1.26])


def test_sentences():
    found = compare_curves(made(0.2), made(0.1), "frames")
    said = sentence("entropy", "random", found)
    assert said.startswith("entropy needs 0.5")
    assert "x the frames of random for AP50 0.49 [" in said
    assert said.endswith(": fewer frames")
    assert sentence("a", "b", compare_curves(made(0.1), made(0.2), "boxes")).endswith("more boxes")
    assert sentence("a", "b", compare_curves(made(0.1), made(0.1), "boxes")).endswith("not shown")


def test_verdicts():
    fewer, same = (compare_curves(made(s), made(0.1), "frames") for s in (0.2, 0.1))
    assert "saves boxes against both" in verdict("x", [fewer, fewer], [fewer, fewer])
    assert "but not boxes" in verdict("x", [fewer, fewer], [fewer, same])
    assert "nothing shown for uncertainty itself" in verdict("x", [fewer, same], [same, same])
    assert "label at random" in verdict("x", [same, same], [same, same])


def test_spearman_against_scipy():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    a = rng.integers(0, 8, 200).astype(float)
    b = a + rng.integers(0, 9, 200)
    assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert np.isnan(spearman(a, np.ones(200)))


def test_reliability():
    """A net that is sure to 0.25 and right in half of the cases, and to 0.95 and always right."""
    scores = np.array([0.25, 0.25, 0.95, 0.95])
    said, true, count, error = reliability(scores, np.array([1, 0, 1, 1]))
    assert said.tolist() == pytest.approx([0.25, 0.95])
    assert true.tolist() == [0.5, 1.0]
    assert count.tolist() == [2, 2]
    assert error == pytest.approx(0.15)
