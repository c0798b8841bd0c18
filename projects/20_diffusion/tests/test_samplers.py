"""Samplers: step by step against diffusers, and all the way on data whose denoiser is known."""

from itertools import pairwise
from typing import get_args

import pytest
import torch

from diffusion import oracle
from diffusion.config import Sampler, Schedule
from diffusion.process import Pair, make_process
from diffusion.samplers import (
    ddim_step,
    ddpm_step,
    dpm_step,
    evaluations,
    posterior,
    spaced,
    walk,
)
from trainloop import LabError

SCHEDULES, SAMPLERS = get_args(Schedule), get_args(Sampler)


# --- single steps --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "steps"), [("ddpm", 20), ("ddim", 20), ("dpm", 10), ("dpm", 50), ("euler", 20)]
)
def test_every_step_equals_that_of_diffusers(part, steps):
    differences = list(getattr(oracle, f"{part}_differences")(steps))
    assert len(differences) >= steps
    assert max(differences) < 1e-5


def test_posterior_is_ho_eq_7():
    process = make_process("linear")
    alpha_bar = process.alpha_bar
    for t in (2, 500, 1000):
        beta = 1 - alpha_bar[t] / alpha_bar[t - 1]
        of_x0, of_xt, deviation = posterior(process, t, t - 1)
        assert of_x0 == pytest.approx(
            (alpha_bar[t - 1].sqrt() * beta / (1 - alpha_bar[t])).item(), rel=1e-9
        )
        assert of_xt == pytest.approx(
            ((1 - beta).sqrt() * (1 - alpha_bar[t - 1]) / (1 - alpha_bar[t])).item(), rel=1e-9
        )
        variance = (1 - alpha_bar[t - 1]) / (1 - alpha_bar[t]) * beta  # beta tilde
        assert deviation**2 == pytest.approx(variance.item(), rel=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_step_leaves_the_marginals_as_they_are(name):
    """x_t = a x_0 + s eps goes to x_s with the signal a_s and the variance s_s^2, for any eta."""
    process = make_process(name)
    t, s = 700, 300
    one, zero = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    for eta in (0.0, 0.4, 1.0):
        sigma = eta * posterior(process, t, s)[2]
        parts = [
            ddim_step(process, part, Pair(x_0, eps), t, s, zero, eta).item()
            for part, x_0, eps in (
                (process.signal[t] * one, one, zero),
                (process.noise[t] * one, zero, one),
            )
        ]
        assert parts[0] == pytest.approx(process.signal[s].item())
        assert parts[1] ** 2 + sigma**2 == pytest.approx(process.noise[s].item() ** 2)


@pytest.mark.parametrize("name", SCHEDULES)
def test_ddim_with_eta_1_is_ancestral(name):
    process = make_process(name)
    torch.manual_seed(0)
    x_0, eps, z = torch.randn(3, 2, 5, dtype=torch.float64)
    for t, s in ((1000, 900), (500, 499), (20, 0)):
        x_t = process.add_noise(x_0, eps, torch.full((2,), t))
        ancestral = ddpm_step(process, x_t, Pair(x_0, eps), t, s, z)
        assert torch.allclose(ddim_step(process, x_t, Pair(x_0, eps), t, s, z, 1.0), ancestral)


def test_dpm_without_a_past_is_ddim():
    process = make_process("cosine")
    torch.manual_seed(0)
    x_0, eps = torch.randn(2, 2, 5, dtype=torch.float64)
    x_t = process.add_noise(x_0, eps, torch.tensor([600, 600]))
    first = dpm_step(process, x_t, Pair(x_0, eps), 600, 400)
    assert torch.allclose(first, ddim_step(process, x_t, Pair(x_0, eps), 600, 400))


def test_spaced():
    assert spaced(10, 10) == [10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert spaced(1000, 3) == [1000, 667, 333, 0]
    for steps in (1, 7, 50, 999):
        times = spaced(1000, steps)
        assert len(times) == steps + 1
        assert all(t > s for t, s in pairwise(times))
    for steps in (0, 1001):
        with pytest.raises(LabError, match="--steps must be 1 to 1000"):
            spaced(1000, steps)


# --- all the way: Gaussian data ------------------------------------------------------------------
# For x_0 ~ N(mu, Sigma) the best denoiser is linear: E[x_0 | x_t] = mu + a Sigma C^-1 (x_t - a mu)
# with C = a^2 Sigma + s^2 I.

MU = torch.tensor([0.8, -0.5], dtype=torch.float64)
SIGMA = torch.tensor([[0.5, 0.3], [0.3, 0.4]], dtype=torch.float64)


def best_denoiser(process):
    def denoise(x_t, t):
        a, s = process.signal[t], process.noise[t]
        gain = a * SIGMA @ torch.linalg.inv(a**2 * SIGMA + s**2 * torch.eye(2))
        x_0 = MU + (x_t - a * MU) @ gain.T
        return Pair(x_0, (x_t - a * x_0) / s)

    return denoise


def sampled(name, sampler, steps, count=20_000, **options):
    """Samples of the best denoiser, begun with as many noises whose moments are exact."""
    process = make_process(name)
    generator = torch.Generator().manual_seed(0)

    def noise():
        z = torch.randn(count, 2, generator=generator, dtype=torch.float64)
        z = z - z.mean(0)
        return z @ torch.linalg.inv(torch.linalg.cholesky(z.T.cov(correction=0))).T

    states = walk(
        sampler, best_denoiser(process), process, noise(), spaced(1000, steps), noise, **options
    )
    return list(states)[-1].x


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_reproduce_a_gaussian(name, sampler):
    steps = {"ddpm": 500, "ddim": 250, "euler": 250, "heun": 50, "dpm": 50}[sampler]
    x = sampled(name, sampler, steps, 2000)
    assert torch.allclose(x.mean(0), MU, atol=0.005)
    assert torch.allclose(x.T.cov(), SIGMA, atol=0.02 if sampler == "ddpm" else 0.01)


def error(name, sampler, steps):
    """Largest error of the covariance; no chance in it, since the noise has exact moments and the
    samplers without noise are linear here."""
    return (sampled(name, sampler, steps, 500).T.cov(correction=0) - SIGMA).abs().max().item()


@pytest.mark.parametrize(("sampler", "least"), [("ddim", 1.8), ("heun", 3.4), ("dpm", 3.0)])
def test_order_of_the_samplers(sampler, least):
    """Twice the steps: half the error of a first order method, a quarter of a second order one.

    On the straight line; on cosine the single steps of first order at its ends show.
    """
    assert error("flow", sampler, 50) / error("flow", sampler, 100) > least


def test_second_order_beats_first_at_the_same_cost():
    assert error("cosine", "dpm", 20) < error("cosine", "ddim", 20) / 3
    assert error("cosine", "heun", 10) < error("cosine", "ddim", 20) / 2


@pytest.mark.parametrize("name", SCHEDULES)
def test_euler_on_the_line_is_ddim(name):
    assert torch.allclose(sampled(name, "euler", 30, 50), sampled(name, "ddim", 30, 50), atol=1e-9)


def test_noise_at_zero_stays_in_the_samples():
    clean = sampled("cosine", "ddpm", 50)
    grainy = sampled("cosine", "ddpm", 50, noise_at_zero=True)
    assert grainy.T.cov().trace() > clean.T.cov().trace() + 0.003


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_how_often_the_network_is_asked(sampler):
    process = make_process("cosine", 100)
    asked = []

    def denoise(x, t):
        asked.append(t)
        return Pair(torch.zeros_like(x), x)

    x = torch.ones(1, 2)
    states = list(walk(sampler, denoise, process, x, spaced(100, 7), lambda: torch.zeros(1, 2)))
    assert len(asked) == evaluations(sampler, 7)
    assert min(asked) > 0
    assert [state.t for state in states] == spaced(100, 7)[1:]
