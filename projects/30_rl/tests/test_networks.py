"""NumPy against torch, and draws against their probabilities."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Categorical

from rl.networks import (
    explained_variance,
    follow,
    gumbel_max,
    log_prob_and_entropy,
    mlp,
    numpy_forward,
)


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
def test_numpy_computes_the_same_and_follows_updates(activation):
    net = mlp((4, 16, 16, 3), activation)
    forward = numpy_forward(net)
    x = torch.randn(7, 4)
    for _ in range(2):
        np.testing.assert_allclose(
            forward(x.numpy()), net(x).detach().numpy(), rtol=1e-4, atol=1e-5
        )
        with torch.no_grad():
            for p in net.parameters():
                p.add_(torch.randn_like(p))


def test_a_new_policy_tries_everything_alike():
    logits = mlp((4, 64, 64, 3), nn.Tanh, last_gain=0.01)(torch.randn(100, 4))
    assert (logits.softmax(1) - 1 / 3).abs().max() < 0.02


def test_gumbel_max_draws_from_the_softmax():
    rng = np.random.default_rng(0)
    logits = np.array([[0.0, 1.0, -1.0]], np.float32).repeat(100_000, 0)
    drawn = gumbel_max(logits, rng.random(logits.shape, np.float32))
    shares = np.bincount(drawn, minlength=3) / len(drawn)
    np.testing.assert_allclose(shares, np.exp([0, 1, -1]) / np.exp([0, 1, -1]).sum(), atol=0.006)


def test_gumbel_max_with_the_least_uniform():
    """random() may return 0, whose double logarithm is infinite: that action is just not drawn."""
    with np.errstate(divide="ignore"):
        assert gumbel_max(np.zeros((1, 2)), np.array([[0.0, 0.5]]))[0] == 1


def test_log_prob_and_entropy_against_torch():
    logits, actions = torch.randn(20, 5), torch.randint(5, (20,))
    log_prob, entropy = log_prob_and_entropy(logits, actions)
    theirs = Categorical(logits=logits)
    torch.testing.assert_close(log_prob, theirs.log_prob(actions))
    torch.testing.assert_close(entropy, theirs.entropy())


def test_explained_variance():
    truth = np.arange(10, dtype=np.float32)
    assert explained_variance(truth, truth) == 1
    assert explained_variance(truth.mean() + 0 * truth, truth) == pytest.approx(0)
    assert explained_variance(-truth, truth) < 0
    assert explained_variance(truth, 0 * truth) is None


def test_follow():
    source, target = mlp((2, 2, 1), nn.ReLU), mlp((2, 2, 1), nn.ReLU)
    expected = [
        0.9 * t + 0.1 * s for s, t in zip(source.parameters(), target.parameters(), strict=True)
    ]
    follow(target, source, 0.1)
    for p, value in zip(target.parameters(), expected, strict=True):
        torch.testing.assert_close(p.detach(), value.detach())
