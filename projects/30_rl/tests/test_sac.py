"""SAC's density against integrals, its twin critics against two networks."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import nn
from torch.distributions import Normal, TanhTransform, TransformedDistribution
from torch.nn import functional as F

from rl.sac import Agent, Critics, squashed_log_prob


def density(action: float, mean: float, log_std: float) -> float:
    """pi(a) of a one-dimensional squashed Gaussian."""
    u = math.atanh(action)
    noise = (u - mean) / math.exp(log_std)
    tensors = (torch.tensor([[x]], dtype=torch.float64) for x in (u, noise, log_std))
    return squashed_log_prob(*tensors).exp().item()


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, 0.0), (1.0, -1.0), (-0.7, 0.5), (2.0, -2.0)])
def test_the_density_is_one(mean, log_std):
    """It integrates to 1, and to the Gaussian's own probability of any part."""
    whole, _ = quad(density, -1, 1, (mean, log_std), limit=200)
    assert whole == pytest.approx(1, abs=1e-6)
    part, _ = quad(density, math.tanh(-0.3), math.tanh(1.2), (mean, log_std), limit=200)
    gaussian = Normal(mean, math.exp(log_std))
    expected = gaussian.cdf(torch.tensor(1.2)) - gaussian.cdf(torch.tensor(-0.3))
    assert part == pytest.approx(expected.item(), abs=1e-6)


def test_the_mean_log_prob_is_the_integral():
    """What SAC calls entropy, -E[log pi], against the integral of -pi log pi."""
    mean, log_std = 0.4, -0.5
    integral, _ = quad(
        lambda a: -density(a, mean, log_std) * math.log(density(a, mean, log_std)), -1, 1
    )
    torch.manual_seed(0)
    noise = torch.randn(200_000, 1)
    log_stds = torch.full_like(noise, log_std)
    sampled = -squashed_log_prob(mean + math.exp(log_std) * noise, noise, log_stds).mean().item()
    assert sampled == pytest.approx(integral, abs=0.005)


def test_log_prob_against_torch_and_far_out():
    mean, log_std, noise = torch.randn(50, 3), torch.randn(50, 3) / 2, torch.randn(50, 3)
    u = mean + log_std.exp() * noise
    theirs = TransformedDistribution(Normal(mean, log_std.exp()), TanhTransform(cache_size=1))
    cached = theirs.transforms[0](u)  # its inverse needs the cache to be exact
    expected = theirs.log_prob(cached).sum(1)
    torch.testing.assert_close(squashed_log_prob(u, noise, log_std), expected, atol=1e-3, rtol=1e-3)
    far = squashed_log_prob(torch.full((1, 1), 40.0), torch.zeros(1, 1), torch.zeros(1, 1))
    assert far.item() == pytest.approx(-0.5 * math.log(2 * math.pi) + 80 - 2 * math.log(2))


def test_gradients_of_the_log_prob():
    u, noise, log_std = (torch.randn(4, 2, dtype=torch.float64, requires_grad=True) for _ in "123")
    assert torch.autograd.gradcheck(squashed_log_prob, (u, noise, log_std))


def test_twin_critics_are_two_networks():
    torch.manual_seed(0)
    critics = Critics(5, (16, 16))
    with torch.no_grad():
        for bias in critics.biases:
            bias.normal_()
    observations, actions = torch.randn(7, 3), torch.randn(7, 2)
    found = critics(observations, actions)
    for twin in range(2):
        x = torch.cat([observations, actions], 1)
        for layer in range(3):
            weight, bias = critics.weights[layer][twin], critics.biases[layer][twin, 0]
            x = F.linear(x, weight.T, bias)
            x = x.relu() if layer < 2 else x
        torch.testing.assert_close(found[twin], x[:, 0])
    assert not torch.equal(found[0], found[1])
    found[0].sum().backward()
    assert all(p.grad[1].abs().sum() == 0 for p in critics.parameters())


def test_actions_in_numpy_and_in_torch_and_within_bounds():
    low, high = np.array([-2.0, 0.0], np.float32), np.array([2.0, 10.0], np.float32)
    agent = Agent(3, low, high, (8, 8))
    with torch.no_grad():
        nn.init.normal_(agent.actor[-1].weight, std=2.0)
    x = torch.randn(500, 3)
    mean, log_std = agent.actor(x).chunk(2, 1)
    noise = torch.randn(500, 2)
    expected = (mean + log_std.clamp(-5, 2).exp() * noise).tanh().detach().numpy()
    found = agent.explorer()(x.numpy(), noise.numpy())
    np.testing.assert_allclose(found, expected, atol=1e-5)
    played = agent.policy()(x.numpy())
    assert (played >= low).all()
    assert (played <= high).all()
    np.testing.assert_allclose(
        played, (low + high) / 2 + (high - low) / 2 * mean.tanh().detach().numpy(), atol=1e-4
    )
    sampled, _ = agent.sample(x)
    assert (sampled.abs() <= 1).all()
