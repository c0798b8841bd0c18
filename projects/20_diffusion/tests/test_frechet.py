"""The Frechet distance against scipy, closed forms, and what it does with few samples."""

import math

import pytest
import scipy.linalg
import torch

from diffusion.frechet import Moments, frechet_distance, mean_and_covariance, symmetric_root
from trainloop import LabError


def draws(count: int, size: int, seed: int) -> torch.Tensor:
    """Correlated features of unequal variance around a mean of their own."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(size, size, generator=generator) * torch.logspace(-2, 1, size)
    return torch.randn(count, size, generator=generator) @ mixing + torch.randn(
        size, generator=generator
    )


def by_scipy(a: Moments, b: Moments) -> float:
    """As the FID's published code has it."""
    root = scipy.linalg.sqrtm(a.covariance.numpy() @ b.covariance.numpy())
    traces = a.covariance.trace() + b.covariance.trace() - 2 * root.real.trace()
    return ((a.mean - b.mean).square().sum() + traces).item()


@pytest.mark.parametrize("size", [1, 2, 17, 64])
def test_against_scipys_root(size):
    a, b = draws(400, size, 0), draws(300, size, 1)
    expected = by_scipy(mean_and_covariance(a), mean_and_covariance(b))
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)


def test_moments_against_torch():
    features = draws(50, 6, 0)
    found = mean_and_covariance(features)
    assert found.mean.dtype == torch.float64
    assert torch.allclose(found.mean, features.double().mean(0))
    assert torch.allclose(found.covariance, torch.cov(features.double().T))
    assert found.count == 50


def test_moments_of_features_far_from_zero():
    features = draws(1000, 3, 0).double()
    far = mean_and_covariance(features + 1e6).covariance
    assert torch.allclose(far, mean_and_covariance(features).covariance, rtol=1e-7, atol=1e-8)


def test_of_diagonal_covariances_it_is_a_sum():
    means = torch.tensor([[1.0, 2, 3], [0, 2, 5]]).double()
    deviations = torch.tensor([[1.0, 2, 0], [3, 2, 4]]).double()
    a, b = (Moments(means[i], deviations[i].square().diag(), 9) for i in (0, 1))
    expected = (means[0] - means[1]).square().sum() + (deviations[0] - deviations[1]).square().sum()
    assert frechet_distance(a, b) == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize(("count", "dead"), [(200, 5), (6, 0)])
def test_singular_covariances(count, dead):
    """Features that are always 0, and fewer samples than features."""
    a, b = draws(count, 12, 0), draws(count, 12, 1)
    for features in (a, b):
        features[:, :dead] = 0
    scale = mean_and_covariance(a).covariance.trace().item()
    assert 0 <= frechet_distance(a, a) < 1e-12 * scale
    ridge = 1e-12 * scale * torch.eye(12, dtype=torch.float64)  # so that scipy gets along
    ridged = [m._replace(covariance=m.covariance + ridge) for m in map(mean_and_covariance, (a, b))]
    assert frechet_distance(a, b) == pytest.approx(by_scipy(*ridged), rel=1e-4)


def test_covariances_of_rank_one():
    """A = u u', B = v v': tr (A B)^1/2 = |u v|. Two samples give such ones."""
    a, b = draws(2, 12, 0).double(), draws(2, 12, 1).double()
    u, v = ((x[0] - x[1]) / math.sqrt(2) for x in (a, b))
    expected = (a.mean(0) - b.mean(0)).square().sum() + u @ u + v @ v - 2 * (u @ v).abs()
    assert frechet_distance(a, b) == pytest.approx(expected.item(), rel=1e-9)


def test_rounding_makes_no_distance_negative():
    """Without the limit half of these are, by 1e-12."""
    for seed in range(8):
        features = draws(200, 12, seed)
        assert 0 <= frechet_distance(features, features) < 1e-9


def test_properties():
    a, b = draws(300, 8, 0), draws(200, 8, 1)
    distance = frechet_distance(a, b)
    assert distance > 0
    assert frechet_distance(b, a) == pytest.approx(distance, rel=1e-12)
    assert frechet_distance(3 * a, 3 * b) == pytest.approx(9 * distance, rel=1e-5)
    turn = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(2)).double()).Q
    turned = frechet_distance(a.double() @ turn, b.double() @ turn)
    assert turned == pytest.approx(distance, rel=1e-9)
    shift = torch.full((8,), 0.5)
    assert frechet_distance(a, a + shift) == pytest.approx(8 * 0.25, rel=1e-4)
    assert frechet_distance(mean_and_covariance(a), b) == distance


def test_fewer_samples_give_a_larger_distance():
    """Both sets are of one distribution, so all there is is bias; it falls about as 1 / N."""
    size, generator = 16, torch.Generator().manual_seed(0)
    truth = Moments(torch.zeros(size).double(), torch.eye(size).double(), 0)
    bias = {
        count: math.fsum(
            frechet_distance(torch.randn(count, size, generator=generator), truth)
            for _ in range(20)
        )
        / 20
        for count in (100, 400, 1600)
    }
    for count, found in bias.items():
        assert found > size / count  # tr(A) / N, the mean's share
        assert found == pytest.approx(size * (1 + (size + 1) / 4) / count, rel=0.2)
    assert bias[100] > 3 * bias[400] > 9 * bias[1600]


def test_the_root_is_symmetric_and_real():
    covariance = mean_and_covariance(draws(5, 9, 0)).covariance  # of rank 4
    root = symmetric_root(covariance)
    assert torch.allclose(root, root.T)
    assert torch.allclose(root @ root, covariance, atol=1e-10 * covariance.trace().item())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_not_finite(bad):
    features = draws(10, 3, 0)
    features[4, 1] = bad
    with pytest.raises(LabError, match="NaN or infinity"):
        frechet_distance(features, draws(10, 3, 1))


def test_wrong_input():
    with pytest.raises(LabError, match="at least 2 images, not 1"):
        mean_and_covariance(draws(1, 3, 0))
    with pytest.raises(ValueError, match="3 and of 4"):
        frechet_distance(draws(9, 3, 0), mean_and_covariance(draws(9, 4, 0)))
