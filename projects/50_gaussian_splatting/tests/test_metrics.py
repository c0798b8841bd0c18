"""PSNR and SSIM against scikit-image."""

import math

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from splatting import metrics


@pytest.mark.parametrize("shape", [(40, 31, 3), (11, 11, 3), (12, 64, 1)])
def test_ssim_is_scikit_images(shape):
    torch.manual_seed(1)
    truth = torch.rand(shape, dtype=torch.float64)
    image = (truth + 0.2 * torch.randn(shape, dtype=torch.float64)).clamp(0, 1)
    expected = structural_similarity(
        truth.numpy(), image.numpy(), gaussian_weights=True, sigma=1.5, data_range=1,
        use_sample_covariance=False, channel_axis=2,
    )  # fmt: skip
    assert float(metrics.ssim(image, truth)) == pytest.approx(expected, abs=1e-9)
    assert float(metrics.ssim(truth, truth)) == pytest.approx(1)


def test_psnr_is_scikit_images():
    truth, image = torch.rand(9, 8, 3), torch.rand(9, 8, 3)
    expected = peak_signal_noise_ratio(truth.numpy(), image.numpy(), data_range=1)
    assert metrics.psnr(image, truth) == pytest.approx(expected, abs=1e-4)
    assert metrics.psnr(truth, truth) == math.inf


def test_gradcheck_of_ssim():
    truth = torch.rand(12, 13, 1, dtype=torch.float64)
    image = torch.rand(12, 13, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: metrics.ssim(x, truth), image)


def test_lpips_is_left_out_without_its_weights(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    metrics._lpips.cache_clear()
    assert metrics.lpips(torch.rand(16, 16, 3), torch.rand(16, 16, 3)) is None
