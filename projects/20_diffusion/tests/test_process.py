"""The forward process: its schedules, its predictions, its weights."""

from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffusion import oracle
from diffusion.config import Prediction, Schedule
from diffusion.process import coefficients, from_betas, make_process

SCHEDULES, KINDS = get_args(Schedule), get_args(Prediction)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("T", [2, 50, 1000])
def test_signal_falls_from_all_to_almost_nothing(name, T):
    process = make_process(name, T)
    assert T == process.T
    assert (process.signal[0], process.noise[0]) == (1, 0)
    assert (process.alpha_bar.diff() < 0).all()
    assert process.alpha_bar[-1] < 0.03 if T > 2 else True
    assert process.signal.isfinite().all() and process.noise.isfinite().all()


@pytest.mark.parametrize("name", ["linear", "cosine", "sigmoid"])
def test_variance_is_preserved(name):
    process = make_process(name)
    one = torch.ones(1001, dtype=torch.float64)
    assert torch.allclose(process.signal**2 + process.noise**2, one, atol=1e-15)


def test_betas_add_up_as_ho_says():
    beta = torch.tensor([0.1, 0.3, 0.5])
    alpha_bar = from_betas(beta).alpha_bar
    assert alpha_bar.tolist() == pytest.approx([1, 0.9, 0.9 * 0.7, 0.9 * 0.7 * 0.5])


def test_flow_is_a_straight_line():
    process = make_process("flow", 4)
    assert process.signal.tolist() == [1, 0.75, 0.5, 0.25, 0]
    assert process.noise.tolist() == [0, 0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize("name", oracle.THEIRS)
def test_schedules_and_noise_equal_those_of_diffusers(name):
    assert oracle.schedule_difference(name) < 1e-6
    assert oracle.add_noise_difference(name) < 1e-5


def test_add_noise_has_the_moments_of_eq_4():
    process = make_process("cosine")
    torch.manual_seed(0)
    x_0, t = torch.full((200_000, 1), 0.7), torch.full((200_000,), 300)
    x_t = process.add_noise(x_0, torch.randn_like(x_0), t)
    assert x_t.mean().item() == pytest.approx(0.7 * process.alpha_bar[300].sqrt().item(), abs=5e-3)
    assert x_t.var().item() == pytest.approx(1 - process.alpha_bar[300].item(), rel=0.02)


# --- predictions ---------------------------------------------------------------------------------


@given(
    name=st.sampled_from(SCHEDULES),
    given_=st.sampled_from(KINDS),
    wanted=st.sampled_from(KINDS),
    t=st.integers(1, 999),
    seed=st.integers(0, 99),
)
def test_a_perfect_predictor_of_one_is_a_perfect_predictor_of_the_others(
    name, given_, wanted, t, seed
):
    process = make_process(name)
    x_0, eps = torch.randn(
        2, 3, 1, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    times = torch.full((3,), t)
    x_t = process.add_noise(x_0, eps, times)
    perfect = process.target(given_, x_0, eps, times)
    converted = process.convert(perfect, x_t, times, given=given_, wanted=wanted)
    assert torch.allclose(converted, process.target(wanted, x_0, eps, times), atol=1e-8)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("kind", ["v", "flow"])
def test_v_and_flow_are_solved_at_both_ends(name, kind):
    """In float32, where eps fails for want of signal: at t = T, and at the first step."""
    process = make_process(name)
    torch.manual_seed(0)
    x_0, eps = torch.randn(2, 2, 8)
    t = torch.tensor([1, process.T])
    x_t = process.add_noise(x_0, eps, t)
    pair = process.solve(kind, process.target(kind, x_0, eps, t), x_t, t)
    assert torch.allclose(pair.x_0, x_0, atol=1e-4)
    assert torch.allclose(pair.eps, eps, atol=1e-3)


def test_v_is_the_derivative_by_the_angle():
    """Salimans & Ho 2022: x = cos(phi) x_0 + sin(phi) eps, v = dx/dphi."""
    phi = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)
    x_0, eps = 0.3, -1.7
    x = phi.cos() * x_0 + phi.sin() * eps
    (derivative,) = torch.autograd.grad(x, phi)
    p_x, p_e = coefficients("v", phi.detach().cos(), phi.detach().sin())
    assert (p_x * x_0 + p_e * eps).item() == pytest.approx(derivative.item())


def test_flow_is_the_derivative_along_the_line():
    process = make_process("flow", 10)
    x_0, eps = torch.randn(2, 1, 3, dtype=torch.float64)
    at = [process.add_noise(x_0, eps, torch.tensor([t])) for t in (4, 5)]
    slope = (at[1] - at[0]) * 10  # by t/T
    assert torch.allclose(slope, process.target("flow", x_0, eps, torch.tensor([4])))


# --- weights -------------------------------------------------------------------------------------


def test_min_snr_as_the_paper_writes_it():
    """Hang 2023, section 3.4: of eps min(SNR, gamma)/SNR, of v min(SNR, gamma)/(SNR + 1)."""
    process = make_process("cosine")
    snr = process.snr[1:]
    least = snr.clamp(max=5)
    for kind, expected in {"x0": least, "eps": least / snr, "v": least / (snr + 1)}.items():
        assert torch.allclose(process.weight("min-snr", kind)[1:], expected, rtol=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("kind", KINDS)
def test_weighted_errors_agree_whatever_is_predicted(name, kind):
    """min-SNR is a weight on x_0's error: it must not matter which prediction carried it."""
    process = make_process(name)
    x_0, eps, wrong = torch.randn(3, 1, 6, dtype=torch.float64)
    t = torch.tensor([400])
    x_t = process.add_noise(x_0, eps, t)
    answer = process.convert(wrong, x_t, t, given="x0", wanted=kind)
    error = (answer - process.target(kind, x_0, eps, t)).square().mean()
    expected = process.weight("min-snr", "x0")[400] * (wrong - x_0).square().mean()
    weighted = process.weight("min-snr", kind)[400] * error
    assert weighted.item() == pytest.approx(expected.item(), rel=1e-6)


def test_no_weight_without_noise():
    for kind in KINDS:
        for weighting in ("simple", "min-snr"):
            weight = make_process("flow").weight(weighting, kind)
            assert weight[0] == 0
            assert weight[1:-1].isfinite().all()
