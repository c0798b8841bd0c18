"""Precision and recall, balance, neighbours and the energy test, against slower ways."""

import math
import time

import numpy as np
import pytest
import scipy.spatial.distance as spatial
import torch
from scipy import stats

from diffusion.quality import (
    Neighbours,
    class_balance,
    copying,
    energy_test,
    nearest_neighbours,
    precision_recall,
    recognised,
)
from trainloop import LabError


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- precision and recall ------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3])
def test_precision_recall_against_the_papers_definition(k):
    real, fake = normal(60, 3).numpy(), 1.2 * normal(40, 3, seed=1).numpy() + 0.5

    def covered(points: np.ndarray, centres: np.ndarray) -> float:
        hits = 0
        for point in points:
            for centre in centres:
                others = np.sort(np.linalg.norm(centres - centre, axis=1))
                hit = np.linalg.norm(point - centre) <= others[k]  # others[0] is itself
                if hit:
                    hits += 1
                    break
        return hits / len(points)

    found = precision_recall(torch.from_numpy(real), torch.from_numpy(fake), k)
    assert found.precision == covered(fake, real)
    assert found.recall == covered(real, fake)
    assert 0 < found.recall < 1 and 0 < found.precision < 1


def test_precision_and_recall_tell_faults_apart():
    real = torch.cat([normal(1200, 2), normal(1200, 2, seed=1) + 20])  # two modes; > 1 chunk
    one_mode = normal(2400, 2, seed=2)
    noise = 60 * torch.rand(2400, 2, generator=torch.Generator().manual_seed(3)) - 20
    dropped, wild = precision_recall(real, one_mode), precision_recall(real, noise)
    assert dropped.precision > 0.95 and dropped.recall == pytest.approx(0.5, abs=0.05)
    assert wild.precision < 0.2 and wild.recall > 0.9
    assert precision_recall(real, real) == (1, 1)
    assert precision_recall(real, one_mode + 1000) == (0, 0)


def test_identical_samples_cover_nothing():
    """Their balls have no size."""
    real = normal(50, 2)
    assert precision_recall(real, real[:1].expand(50, 2)) == (1.0, 1 / 50)


def test_precision_recall_needs_more_than_k():
    with pytest.raises(LabError, match="more than 3 images, not 3"):
        precision_recall(normal(9, 2), normal(3, 2))


# --- labels --------------------------------------------------------------------------------------


def test_class_balance():
    even = torch.eye(10).repeat(3, 1).mul(5).log_softmax(1)
    found = class_balance(even)
    assert found.shares == pytest.approx([0.1] * 10)
    assert found.entropy == pytest.approx(math.log(10))
    assert found.kl_to_uniform == pytest.approx(0, abs=1e-12)
    collapsed = class_balance(even[:1].expand(7, 10))
    assert collapsed.shares == [1] + [0] * 9
    assert (collapsed.entropy, collapsed.kl_to_uniform) == (0, pytest.approx(math.log(10)))


def test_class_balance_against_scipy():
    log_prob = (2 * normal(500, 10)).log_softmax(1)
    found = class_balance(log_prob)
    assert found.shares == pytest.approx((log_prob.argmax(1).bincount(minlength=10) / 500).tolist())
    assert found.entropy == pytest.approx(stats.entropy(found.shares))
    assert found.kl_to_uniform == pytest.approx(stats.entropy(found.shares, [0.1] * 10))


def test_recognised():
    log_prob = torch.eye(4)[torch.tensor([0, 1, 2, 3, 3])].log_softmax(1)
    assert recognised(log_prob, torch.tensor([0, 1, 2, 3, 0])) == pytest.approx(0.8)


# --- neighbours ----------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3])
def test_neighbours_against_scipy(k):
    images, training = normal(20, 1, 5, 4), normal(130, 1, 5, 4, seed=1)
    found = nearest_neighbours(images, training, k, chunk=50)
    distances = spatial.cdist(images.flatten(1), training.flatten(1)) / math.sqrt(20)
    order = np.argsort(distances, 1)[:, :k]
    assert (found.indices.numpy() == order).all()
    assert np.allclose(found.distances, np.take_along_axis(distances, order, 1), rtol=1e-5)


def test_a_copy_is_found_exactly():
    training = normal(230, 3, 8, 8).clamp(-1, 1)
    picked = torch.tensor([229, 0, 117])
    found = nearest_neighbours(training[picked], training, chunk=100)
    assert found.indices[:, 0].tolist() == picked.tolist()
    assert (found.distances == 0).all()


def test_neighbours_of_too_few():
    with pytest.raises(LabError, match="no 3 nearest"):
        nearest_neighbours(normal(1, 1, 2, 2), normal(2, 1, 2, 2), 3)


def neighbours(distances: torch.Tensor) -> Neighbours:
    return Neighbours(torch.zeros(len(distances), 1, dtype=torch.long), distances[:, None])


def test_copying_against_mann_whitney():
    samples = normal(80).abs().mul(8).round()  # with ties
    test = normal(120, seed=1).abs().mul(9).round()
    found = copying(neighbours(samples), neighbours(test))
    u = stats.mannwhitneyu(test.numpy(), samples.numpy()).statistic
    assert found.nearer == pytest.approx(u / (80 * 120))
    assert found.samples == samples.median()
    assert found.test == test.median()
    untied, other = normal(80), normal(120, seed=1)
    p = stats.mannwhitneyu(
        other.numpy(), untied.numpy(), alternative="greater", method="asymptotic",
        use_continuity=False,
    ).pvalue  # fmt: skip
    z = copying(neighbours(untied), neighbours(other)).z
    assert stats.norm.sf(z) == pytest.approx(p, rel=1e-6)


def test_copying_is_told_from_drawing_anew():
    training, test, fresh = normal(900, 1, 3, 3).split([300, 300, 300])
    copies = training + 0.05 * normal(300, 1, 3, 3, seed=1)
    reference = nearest_neighbours(test, training)
    honest, copied = (copying(nearest_neighbours(x, training), reference) for x in (fresh, copies))
    assert abs(honest.z) < 3
    assert honest.nearer == pytest.approx(0.5, abs=0.07)
    assert copied.z > 15
    assert copied.nearer > 0.95
    assert copied.samples < copied.test / 3


# --- energy test ---------------------------------------------------------------------------------


def energy_by_loops(x: np.ndarray, y: np.ndarray) -> float:
    """Szekely & Rizzo's statistic as they print it."""
    n, m = len(x), len(y)
    between, within_x, within_y = (spatial.cdist(a, b).mean() for a, b in ((x, y), (x, x), (y, y)))
    return n * m / (n + m) * (2 * between - within_x - within_y)


def test_energy_against_its_definition():
    x, y = normal(31, 3).double().numpy(), normal(47, 3, seed=1).double().numpy() + 0.3
    found = energy_test(torch.from_numpy(x), torch.from_numpy(y), permutations=99)
    assert found.statistic == pytest.approx(energy_by_loops(x, y), rel=1e-9)
    one = energy_test(torch.from_numpy(x[:, :1]), torch.from_numpy(y[:, :1]), permutations=1)
    squared = stats.energy_distance(x[:, 0], y[:, 0]) ** 2  # scipy's is the root of the bracket
    assert one.statistic == pytest.approx(31 * 47 / 78 * squared, rel=1e-6)


def test_p_value_against_every_permutation():
    """Of 4 + 4 points all 70 splits can be counted."""
    from itertools import combinations

    x, y = normal(4, 2), normal(4, 2, seed=1) + 0.8
    points = torch.cat([x, y]).numpy()
    observed = energy_by_loops(points[:4], points[4:])
    splits = [list(one) for one in combinations(range(8), 4)]
    other = [
        energy_by_loops(points[one], np.delete(points, one, axis=0)) >= observed - 1e-9
        for one in splits
    ]
    exact = np.mean(other)
    assert 0.02 < exact < 0.98
    assert energy_test(x, y, permutations=20_000).p_value == pytest.approx(exact, abs=0.012)


def test_false_alarms_are_as_rare_as_promised():
    """p <= alpha in at most a share alpha of the tests of equal distributions; 300 tests."""
    p = np.array([
        energy_test(normal(30, 2, seed=2 * i), normal(40, 2, seed=2 * i + 1), 99, seed=i).p_value
        for i in range(300)
    ])  # fmt: skip
    for alpha in (0.05, 0.2, 0.5):
        deviation = math.sqrt(alpha * (1 - alpha) / len(p))
        assert abs((p <= alpha).mean() - alpha) < 3.5 * deviation


def test_differences_that_moments_do_not_see():
    """A ring and a Gaussian of the same mean and covariance; and shifts and scales."""
    angle = 2 * math.pi * torch.rand(400, generator=torch.Generator().manual_seed(0))
    ring = math.sqrt(2) * torch.stack([angle.cos(), angle.sin()], 1)
    for other in (ring, normal(400, 2, seed=1) + 0.3, 1.3 * normal(400, 2, seed=1)):
        found = energy_test(normal(400, 2, seed=2), other, 199)
        assert found.p_value == 1 / 200, "the least there is"


def test_energy_is_seeded_and_symmetric():
    x, y = normal(50, 2), normal(60, 2, seed=1)
    assert energy_test(x, y, 99, seed=4) == energy_test(x, y, 99, seed=4)
    assert len({energy_test(x, y, 99, seed=s).p_value for s in range(5)}) > 1
    assert energy_test(y, x, 9).statistic == pytest.approx(energy_test(x, y, 9).statistic, rel=1e-9)
    same = energy_test(x, x, 99)
    assert same.statistic == pytest.approx(0, abs=1e-12)
    assert same.p_value > 0.9


def test_the_default_run_is_quick():
    """A thousand points each, 500 permutations; about 0.5 s of CPU, so ten are a wide berth."""
    begin = time.process_time()
    energy_test(normal(1000, 2), normal(1000, 2, seed=1), 500)
    assert time.process_time() - begin < 10


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_bad_points(bad):
    points = normal(5, 2)
    points[3, 0] = bad
    with pytest.raises(LabError, match="NaN or infinite"):
        energy_test(points, normal(5, 2))
    with pytest.raises(LabError, match="points of both kinds"):
        energy_test(normal(0, 2), normal(5, 2))
