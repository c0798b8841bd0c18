"""How good an agent is, and how sure one can be of it."""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int64, Shaped
from numpy import ndarray

from rl.envs import Envs

Act = Callable[[Float[ndarray, "N O"]], Shaped[ndarray, "N ..."]]
"""A policy without exploration: observations as `Envs` gives them to actions."""

VALIDATION, TEST, WATCHED = 1_000_003, 2_000_003, 3_000_017
"""Seeds of episodes to choose by, to report, and to look at; trainings have others."""
LONGEST = 100_000  # steps, for environments that never end


class Episodes(NamedTuple):
    """Whole episodes."""

    returns: Float[ndarray, " E"]
    lengths: Int64[ndarray, " E"]


def play(act: Act, env_id: str, episodes: int, seed: int, reward: str = "env") -> Episodes:
    """Play that many episodes side by side, each to its end; `reward` is what scores them."""
    envs = _arena(env_id, episodes, reward)
    envs.reset(seed)
    returns, lengths = np.zeros(episodes), np.zeros(episodes, np.int64)
    playing = np.ones(episodes, bool)
    for _ in range(LONGEST):
        if not playing.any():
            break
        step = envs.step(act(envs.observation), playing)
        returns[playing] += step.reward[playing]
        lengths += playing
        playing &= ~(step.terminated | step.truncated)
    return Episodes(returns, lengths)


@cache
def _arena(env_id: str, episodes: int, reward: str) -> Envs:
    """Made once: a hundred environments take as long to make as to play an episode in."""
    return Envs(env_id, episodes, seed=0, reward=reward)


def interquartile_mean(values: Float[ndarray, "*rest E"]) -> Float[ndarray, "*rest"]:
    """The mean of the middle half, along the last axis: no lucky and no lost run rules it.

    A quarter of the values is cut off each end, a fraction of a value by its weight.
    """
    ordered = np.sort(values, axis=-1)
    count = ordered.shape[-1]
    # Value i covers [i, i + 1]; what of it lies within the middle half is its weight.
    edges = np.clip(np.arange(count + 1), count / 4, 3 * count / 4)
    return np.asarray(ordered @ np.diff(edges) / (count / 2))


class Estimate(NamedTuple):
    """A figure and its 95% interval."""

    value: float
    low: float
    high: float


def stratified_bootstrap(
    returns: Float[ndarray, "S E"],
    statistic: Callable[[ndarray], ndarray] = interquartile_mean,
    draws: int = 2_000,
    seed: int = 0,
) -> Estimate:
    """A statistic over seeds, with the percentile interval of the bootstrap (Agarwal 2021).

    What is drawn with replacement are whole seeds, then episodes within each drawn one: episodes of
    one agent are no independent evidence of what the algorithm does.

    Args:
        returns: of S seeds, E episodes each.
        statistic: of values along the last axis.
    """
    rng = np.random.default_rng(seed)
    count, episodes = returns.shape
    found = np.empty(draws)
    for draw in range(draws):
        seeds = rng.integers(count, size=count)
        columns = rng.integers(episodes, size=(count, episodes))
        found[draw] = statistic(returns[seeds[:, None], columns].ravel())
    low, high = np.percentile(found, [2.5, 97.5])
    return Estimate(float(statistic(returns.ravel())), float(low), float(high))


def performance_profile(
    returns: Float[ndarray, " M"], thresholds: Float[ndarray, " K"]
) -> Float[ndarray, " K"]:
    """The share of episodes with at least each return: the whole distribution, not its mean."""
    return (returns[:, None] >= thresholds).mean(axis=0)
