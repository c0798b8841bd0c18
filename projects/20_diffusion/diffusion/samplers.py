"""From noise to data: each sampler is a few lines that use the same denoiser.

A denoiser says of x_t at the step t what it takes for x_0 and eps. A step function goes from t to
s < t; a sampler walks down a list of times T = t_0 > t_1 > .. > 0 and yields what it has after each
step, so that a film of the reverse process is a list of what it yields.

All of them work on any `Process`. Where a paper writes sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t)
stand the signal a_t and the noise s_t; on rectified flow's straight line they are 1 - t/T and t/T.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from diffusion.config import Sampler
from diffusion.process import Pair, Process
from trainloop import check

Denoise = Callable[[Tensor, int], Pair]  # (x_t, t) -> (x_0, eps), each in the shape of x_t
Noise = Callable[[], Tensor]  # fresh N(0, I) in the shape of x_t


class State(NamedTuple):
    """Where a sampler has got to: x_t at t, and the x_0 it last believed in."""

    t: int
    x: Float[Tensor, "B ..."]
    x_0: Float[Tensor, "B ..."]


def spaced(T: int, steps: int) -> list[int]:
    """T = t_0 > t_1 > .. > t_steps = 0, evenly; diffusers calls it "trailing" and counts from 0.

    Raises:
        LabError: there are not so many times.
    """
    check(1 <= steps <= T, f"--steps must be 1 to {T}, the steps of the process, not {steps}")
    return [round(T * (steps - i) / steps) for i in range(steps + 1)]


# --- steps from t to s ---------------------------------------------------------------------------


def posterior(process: Process, t: int, s: int) -> tuple[float, float, float]:
    """q(x_s | x_t, x_0) = N(of_x0 x_0 + of_xt x_t, deviation^2), s < t: Ho 2020, eq. 6 and 7.

    From s to t the signal is multiplied by alpha = a_t / a_s and the variance
    beta = s_t^2 - alpha^2 s_s^2 is added: with s = t - 1 that is their alpha_t = 1 - beta_t.

    Returns:
        of_x0, of_xt, deviation.
    """
    (a_t, s_t), (a_s, s_s) = _at(process, t), _at(process, s)
    alpha = a_t / a_s
    beta = s_t**2 - alpha**2 * s_s**2
    return a_s * beta / s_t**2, alpha * s_s**2 / s_t**2, s_s / s_t * math.sqrt(max(beta, 0.0))


def ddpm_step(
    process: Process,
    x_t: Float[Tensor, "B ..."],
    pair: Pair,
    t: int,
    s: int,
    z: Float[Tensor, "B ..."],
    noise_at_zero: bool = False,
) -> Float[Tensor, "B ..."]:
    """Ancestral sampling, Ho 2020, algorithm 2: a draw from the posterior, with x_0 as believed.

    Args:
        noise_at_zero: the mistake of adding sqrt(beta) z at every step, the last one too.
    """
    of_x0, of_xt, deviation = posterior(process, t, s)
    if noise_at_zero:
        (a_t, s_t), (a_s, s_s) = _at(process, t), _at(process, s)
        deviation = math.sqrt(s_t**2 - (a_t / a_s) ** 2 * s_s**2)
    return of_x0 * pair.x_0 + of_xt * x_t + deviation * z


def ddim_step(
    process: Process,
    x_t: Float[Tensor, "B ..."],
    pair: Pair,
    t: int,
    s: int,
    z: Float[Tensor, "B ..."] | None = None,
    eta: float = 0.0,
) -> Float[Tensor, "B ..."]:
    """Song 2021, eq. 12 and 16: the same marginals with eta times the posterior's deviation.

    eta = 1 is ancestral sampling; eta = 0 is deterministic and needs no z.
    """
    a_s, s_s = _at(process, s)
    sigma = eta * posterior(process, t, s)[2]
    direction = a_s * pair.x_0 + math.sqrt(max(s_s**2 - sigma**2, 0.0)) * pair.eps
    return direction + sigma * z if sigma else direction


def dpm_step(
    process: Process,
    x_t: Float[Tensor, "B ..."],
    pair: Pair,
    t: int,
    s: int,
    before: tuple[int, Float[Tensor, "B ..."]] | None = None,
) -> Float[Tensor, "B ..."]:
    """DPM-Solver++(2M), Lu 2022, algorithm 2: x_0 is extrapolated in lambda = log(a/s).

    Args:
        before: the time before t and the x_0 believed there; without it a step of first order,
            which is DDIM's.
    """
    (a_t, s_t), (a_s, s_s) = _at(process, t), _at(process, s)
    x_0 = pair.x_0
    if s == 0 or a_t == 0:  # lambda is infinite at one end: a step of first order, in its limit
        return ddim_step(process, x_t, pair, t, s)
    h = math.log(a_s / s_s) - math.log(a_t / s_t)
    if before is not None:
        r, x_before = before
        a_r, s_r = _at(process, r)
        if a_r > 0:
            h_before = math.log(a_t / s_t) - math.log(a_r / s_r)
            x_0 = x_0 + h / (2 * h_before) * (x_0 - x_before)
    return s_s / s_t * x_t - a_s * math.expm1(-h) * x_0


def _at(process: Process, t: int) -> tuple[float, float]:
    return process.signal[t].item(), process.noise[t].item()


# --- samplers ------------------------------------------------------------------------------------


def ddpm(
    denoise: Denoise,
    process: Process,
    x: Float[Tensor, "B ..."],
    times: list[int],
    noise: Noise,
    noise_at_zero: bool = False,
) -> Iterator[State]:
    """Ancestral sampling with any number of steps; the last one is the mean, without noise."""
    for t, s in itertools.pairwise(times):
        pair = denoise(x, t)
        z = noise() if s or noise_at_zero else torch.zeros_like(x)
        x = ddpm_step(process, x, pair, t, s, z, noise_at_zero)
        yield State(s, x, pair.x_0)


def ddim(
    denoise: Denoise,
    process: Process,
    x: Float[Tensor, "B ..."],
    times: list[int],
    noise: Noise,
    eta: float = 0.0,
) -> Iterator[State]:
    """DDIM; with eta = 0 the Euler method in sigma = s/a."""
    for t, s in itertools.pairwise(times):
        pair = denoise(x, t)
        x = ddim_step(process, x, pair, t, s, noise() if eta and s else None, eta if s else 0.0)
        yield State(s, x, pair.x_0)


def dpm(
    denoise: Denoise, process: Process, x: Float[Tensor, "B ..."], times: list[int]
) -> Iterator[State]:
    """DPM-Solver++(2M): second order at one evaluation a step; first and last are of first."""
    before = None
    for t, s in itertools.pairwise(times):
        pair = denoise(x, t)
        x = dpm_step(process, x, pair, t, s, before)
        before = (t, pair.x_0)
        yield State(s, x, pair.x_0)


def euler(
    denoise: Denoise, process: Process, x: Float[Tensor, "B ..."], times: list[int]
) -> Iterator[State]:
    """Euler's method for dy/dtau = eps - x_0, on the straight line y = x / (a + s).

    Every process runs on that line, at its own pace tau = s / (a + s): y = (1 - tau) x_0 + tau eps.
    For rectified flow x is y, and this is its sampler (Liu 2022).
    """
    for t, s in itertools.pairwise(times):
        pair = denoise(x, t)
        y, slope, h = _on_line(process, x, pair, t, s)
        x = _off_line(process, y + h * slope, s)
        yield State(s, x, pair.x_0)


def heun(
    denoise: Denoise, process: Process, x: Float[Tensor, "B ..."], times: list[int]
) -> Iterator[State]:
    """Heun's method on the same line: two evaluations a step, as in Karras 2022, algorithm 1.

    Theirs is the same in sigma = s/a, which has no end where the signal is 0; tau ends at 1. The
    last step is Euler's, since there is no denoiser at t = 0.
    """
    for t, s in itertools.pairwise(times):
        pair = denoise(x, t)
        y, slope, h = _on_line(process, x, pair, t, s)
        if s:
            there = denoise(_off_line(process, y + h * slope, s), s)
            slope = (slope + there.eps - there.x_0) / 2
        x = _off_line(process, y + h * slope, s)
        yield State(s, x, pair.x_0)


def _on_line(
    process: Process, x: Tensor, pair: Pair, t: int, s: int
) -> tuple[Tensor, Tensor, float]:
    """y at t, dy/dtau there, and tau_s - tau_t."""
    (a_t, s_t), (a_s, s_s) = _at(process, t), _at(process, s)
    return x / (a_t + s_t), pair.eps - pair.x_0, s_s / (a_s + s_s) - s_t / (a_t + s_t)


def _off_line(process: Process, y: Tensor, s: int) -> Tensor:
    a, noise = _at(process, s)
    return y * (a + noise)


def walk(
    sampler: Sampler,
    denoise: Denoise,
    process: Process,
    x: Float[Tensor, "B ..."],
    times: list[int],
    noise: Noise,
    eta: float = 0.0,
    noise_at_zero: bool = False,
) -> Iterator[State]:
    """The sampler of that name on its way from x at times[0] to times[-1].

    Args:
        eta: of ddim.
        noise_at_zero: of ddpm.
    """
    match sampler:
        case "ddpm":
            return ddpm(denoise, process, x, times, noise, noise_at_zero)
        case "ddim":
            return ddim(denoise, process, x, times, noise, eta)
        case "heun":
            return heun(denoise, process, x, times)
        case "dpm":
            return dpm(denoise, process, x, times)
        case "euler":
            return euler(denoise, process, x, times)


def evaluations(sampler: Sampler, steps: int) -> int:
    """How often a sampler asks the denoiser."""
    return 2 * steps - 1 if sampler == "heun" else steps
