"""The flat optimiser against torch's, which is the oracle."""

import math

import pytest
import torch
from torch import nn

from rl.adam import Adam
from rl.networks import mlp


@pytest.mark.parametrize("max_norm", [math.inf, 0.05])
def test_equal_to_torch(max_norm):
    torch.manual_seed(0)
    ours, theirs = mlp((3, 8, 2), nn.Tanh), mlp((3, 8, 2), nn.Tanh)
    theirs.load_state_dict(ours.state_dict())
    our_optimizer = Adam(ours.parameters(), lr=1e-2, eps=1e-5)
    their_optimizer = torch.optim.Adam(theirs.parameters(), lr=1e-2, eps=1e-5)
    for step in range(20):
        x = torch.randn(16, 3)
        for net, optimizer in ((ours, our_optimizer), (theirs, their_optimizer)):
            optimizer.zero_grad()
            net(x).square().mean().backward()
        if step == 10:
            our_optimizer.lr = their_optimizer.param_groups[0]["lr"] = 3e-3
        norm = our_optimizer.step(max_norm)
        their_norm = nn.utils.clip_grad_norm_(theirs.parameters(), max_norm)
        their_optimizer.step()
        torch.testing.assert_close(norm, their_norm, rtol=1e-5, atol=1e-8)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_parameters_are_views_and_stay_so():
    net = mlp((2, 3, 1), nn.ReLU)
    before = [p.clone() for p in net.parameters()]
    optimizer = Adam(net.parameters(), lr=0.1)
    assert all(torch.equal(p, old) for p, old in zip(net.parameters(), before, strict=True))
    optimizer.zero_grad()
    net(torch.ones(4, 2)).sum().backward()
    assert optimizer.gradient.abs().sum() > 0
    net.load_state_dict(net.state_dict())
    optimizer.step()
    flat = torch.cat([p.detach().ravel() for p in net.parameters()])
    assert torch.equal(flat, optimizer.flat)


def test_a_restored_one_goes_on_alike():
    nets = [mlp((2, 3, 1), nn.ReLU) for _ in range(2)]
    optimizers = [Adam(net.parameters(), lr=0.1) for net in nets]

    def step(net, optimizer):
        optimizer.zero_grad()
        net(torch.ones(4, 2)).square().sum().backward()
        optimizer.step()

    for _ in range(3):
        step(nets[0], optimizers[0])
    nets[1].load_state_dict(nets[0].state_dict())
    optimizers[1].load_state_dict(optimizers[0].state_dict())
    for net, optimizer in zip(nets, optimizers, strict=True):
        step(net, optimizer)
    assert torch.equal(optimizers[0].flat, optimizers[1].flat)
