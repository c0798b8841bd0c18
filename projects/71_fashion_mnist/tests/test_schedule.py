"""Learning rates, against torch's own schedule."""

import pytest
import torch

from fashion_mnist import schedule


@pytest.mark.parametrize("steps", [10, 73, 500])
def test_one_cycle_is_torchs(steps):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=2.0, total_steps=steps, pct_start=schedule.RISING, div_factor=25,
        final_div_factor=4000,
    )  # fmt: skip
    for step in range(1, steps + 1):
        rate, momentum = schedule.at("one-cycle", step, steps)
        (group,) = optimizer.param_groups
        assert 2 * rate == pytest.approx(group["lr"])
        assert momentum == pytest.approx(group["betas"][0])
        optimizer.step()
        if step < steps:
            theirs.step()


def test_ends_and_peak():
    assert schedule.at("one-cycle", 1, 100) == (pytest.approx(1 / 25), pytest.approx(0.95))
    assert schedule.at("one-cycle", 30, 100) == (pytest.approx(1.0), pytest.approx(0.85))
    assert schedule.at("one-cycle", 100, 100) == (pytest.approx(1e-5), pytest.approx(0.95))
    assert all(schedule.at("one-cycle", 1, few)[0] > 0 for few in (1, 2, 3, 4)), "no division by 0"


def test_cosine_and_constant():
    assert [schedule.at("constant", s, 100) for s in (1, 50, 100)] == [(1.0, 0.9)] * 3
    rates = [schedule.at("cosine", s, 100)[0] for s in range(1, 101)]
    assert rates[3] == 1.0
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert rates[-1] == pytest.approx(0.02)
