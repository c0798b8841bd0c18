"""The forward process: how data becomes noise, and what a network may be asked to predict of it.

Ho, Jain & Abbeel 2020 count t = 1..T and give x_0 some of its signal away at each step; here t = 0
is the data itself. Every process, theirs or rectified flow's straight line, is

    x_t = a_t x_0 + s_t eps,    eps ~ N(0, I)                                    (their eq. 4)

with signal a_t falling from 1 and noise s_t rising from 0. Every prediction is a line through the
same two unknowns, p = p_x x_0 + p_e eps; with x_t that makes two equations for x_0 and eps. So each
prediction is any other one, written differently, and one formula converts them all.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from diffusion.config import Prediction, Schedule, Weighting

MAX_BETA = 0.999  # Nichol & Dhariwal 2021: beyond it the last steps would leave no signal at all


class Pair(NamedTuple):
    """The two unknowns of a noisy sample, in the shape of the sample."""

    x_0: Float[Tensor, "B ..."]
    eps: Float[Tensor, "B ..."]


@dataclass(frozen=True)
class Process:
    """Signal and noise at t = 0..T, in float64: index by t.

    Attributes:
        signal: a_t; sqrt(alpha_bar_t) where variance is preserved, 1 - t/T on the straight line.
        noise: s_t; sqrt(1 - alpha_bar_t), or t/T.
    """

    signal: Float[Tensor, " times"]
    noise: Float[Tensor, " times"]

    @property
    def T(self) -> int:
        """The number of steps."""
        return len(self.signal) - 1

    @property
    def alpha_bar(self) -> Float[Tensor, " times"]:
        """Share of the signal in the variance: of a process that preserves it, prod(1 - beta)."""
        return self.signal**2 / (self.signal**2 + self.noise**2)

    @property
    def snr(self) -> Float[Tensor, " times"]:
        """Signal-to-noise ratio a^2 / s^2: infinite at t = 0."""
        return self.signal**2 / self.noise**2

    def to(self, device: torch.device) -> "Process":
        return Process(self.signal.to(device), self.noise.to(device))

    def at(
        self, t: Int64[Tensor, " B"], like: Float[Tensor, "B ..."]
    ) -> tuple[Float[Tensor, "B ..."], Float[Tensor, "B ..."]]:
        """(a_t, s_t) of each sample, in the dtype of `like` and ready to be multiplied with it."""
        shape = (-1,) + (1,) * (like.ndim - 1)
        signal, noise = self.signal[t], self.noise[t]
        return signal.to(like.dtype).view(shape), noise.to(like.dtype).view(shape)

    # --- q(x_t | x_0), and back ----------------------------------------------------------------

    def add_noise(
        self, x_0: Float[Tensor, "B ..."], eps: Float[Tensor, "B ..."], t: Int64[Tensor, " B"]
    ) -> Float[Tensor, "B ..."]:
        """x_t = a_t x_0 + s_t eps: a sample of q(x_t | x_0), Ho 2020, eq. 4."""
        a, s = self.at(t, x_0)
        return a * x_0 + s * eps

    def target(
        self,
        kind: Prediction,
        x_0: Float[Tensor, "B ..."],
        eps: Float[Tensor, "B ..."],
        t: Int64[Tensor, " B"],
    ) -> Float[Tensor, "B ..."]:
        """What a perfect network would answer at (x_t, t)."""
        a, s = self.at(t, x_0)
        p_x, p_e = coefficients(kind, a, s)
        return p_x * x_0 + p_e * eps

    def solve(
        self,
        kind: Prediction,
        prediction: Float[Tensor, "B ..."],
        x_t: Float[Tensor, "B ..."],
        t: Int64[Tensor, " B"],
    ) -> Pair:
        """x_0 and eps out of a prediction: Cramer's rule on x_t = a x_0 + s eps and p = ....

        Of eps the determinant is a_t, of x_0 it is -s_t: the one says nothing of x_0 in pure noise
        (t = T on the straight line, infinite or NaN), the other nothing of eps in pure data. v and
        flow can be solved everywhere.
        """
        a, s = self.at(t, x_t)
        p_x, p_e = coefficients(kind, a, s)
        determinant = a * p_e - s * p_x
        return Pair(
            (p_e * x_t - s * prediction) / determinant,
            (a * prediction - p_x * x_t) / determinant,
        )

    def convert(
        self,
        prediction: Float[Tensor, "B ..."],
        x_t: Float[Tensor, "B ..."],
        t: Int64[Tensor, " B"],
        *,
        given: Prediction,
        wanted: Prediction,
    ) -> Float[Tensor, "B ..."]:
        """The same statement about x_t as another kind of prediction."""
        return self.target(wanted, *self.solve(given, prediction, x_t, t), t)

    # --- the loss's weight ---------------------------------------------------------------------

    def weight(
        self, weighting: Weighting, kind: Prediction, gamma: float = 5.0
    ) -> Float[Tensor, " times"]:
        """What the squared error of a prediction is multiplied with at each t; 0 at t = 0.

        `simple` is 1 (Ho 2020, eq. 14). `min-snr` (Hang 2023) asks for min(SNR, gamma) on the
        error of x_0. The error of a prediction is that of x_0 times (p_x - p_e a/s)^2, since x_t
        is known and pins eps to x_0; so it is divided by that: for eps min(SNR, gamma) / SNR, for
        v min(SNR, gamma) / (SNR + 1), as in the paper.
        """
        if weighting == "simple":
            weight = torch.ones_like(self.signal)
        else:
            p_x, p_e = coefficients(kind, self.signal, self.noise)
            weight = self.snr.clamp(max=gamma) / (p_x - p_e * self.signal / self.noise) ** 2
        return torch.cat([torch.zeros_like(weight[:1]), weight[1:]])


def coefficients(
    kind: Prediction, a: Float[Tensor, "*shape"], s: Float[Tensor, "*shape"]
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """(p_x, p_e) of a prediction p = p_x x_0 + p_e eps.

    eps: Ho 2020. x0: the data. v = a eps - s x_0: Salimans & Ho 2022, the derivative of x_t by the
    angle arctan(s/a). flow = eps - x_0: Liu 2022, the derivative along the straight line.
    """
    one, zero = torch.ones_like(a), torch.zeros_like(a)
    return {"eps": (zero, one), "x0": (one, zero), "v": (-s, a), "flow": (-one, one)}[kind]


# --- schedules -----------------------------------------------------------------------------------


def make_process(schedule: Schedule, T: int = 1000) -> Process:
    """The process of a schedule's name, with T steps.

    linear: beta from 1e-4 to 0.02 (Ho 2020, section 4). cosine: alpha_bar = cos^2 with an offset of
    0.008 (Nichol & Dhariwal 2021, eq. 17). sigmoid: beta climbs between the same two as a sigmoid
    from -6 to 6 (Xu 2022, GeoDiff). flow: the straight line from data to noise, which needs no beta
    (Liu 2022). linear and sigmoid were made for T = 1000: for other T their betas are scaled by
    1000/T, so that they end in as much noise.
    """
    if schedule == "flow":
        time = torch.arange(T + 1, dtype=torch.float64) / T
        return Process(1 - time, time)
    if schedule == "cosine":
        return from_betas(cosine_betas(T))
    climb = torch.linspace(0, 1, T, dtype=torch.float64)
    if schedule == "sigmoid":
        climb = torch.linspace(-6, 6, T, dtype=torch.float64).sigmoid()
    low, high = 1e-4 * 1000 / T, 0.02 * 1000 / T
    return from_betas((low + (high - low) * climb).clamp(max=MAX_BETA))


def from_betas(beta: Float[Tensor, " T"]) -> Process:
    """The process that adds variance beta_t at step t = 1..T."""
    alpha_bar = (1 - beta.double()).cumprod(0)  # Ho 2020, before eq. 4
    alpha_bar = torch.cat([alpha_bar.new_ones(1), alpha_bar])
    return Process(alpha_bar.sqrt(), (1 - alpha_bar).sqrt())


def cosine_betas(T: int) -> Float[Tensor, " T"]:
    """beta_t = 1 - alpha_bar_t / alpha_bar_(t-1), cut where it would leave no signal at all."""
    time = torch.arange(T + 1, dtype=torch.float64) / T
    alpha_bar = ((time + 0.008) / 1.008 * math.pi / 2).cos() ** 2  # up to a factor
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=MAX_BETA)
