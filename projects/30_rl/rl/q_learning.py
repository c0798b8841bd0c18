"""Q-learning (Watkins 1989) without a network: a table, or weights of tile-coded features.

    Q(s, a) += lr (r + gamma max Q(s', .) - Q(s, a))

Values are linear in features that are 0 or 1. One-hot states make a table of it; where observations
are continuous, `tilings` grids are laid over the space, each shifted a little, and an observation
has one active cell in each (Sutton and Barto, ch. 9.5). Start here: DQN is this with a network, and
all that DQN adds is there because the network is not linear.
"""

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy import ndarray
from torch import nn

from rl.config import QLearningConfig
from rl.envs import Envs
from rl.evaluate import Act
from rl.session import Session


class Features:
    """Active cells of observations as `Envs` gives them: one-hot, or in [-1, 1]."""

    def __init__(self, observations: int, discrete: bool, tilings: int, tiles: int) -> None:
        self.discrete, self.tilings, self.tiles = discrete, 1 if discrete else tilings, tiles
        self.cells = observations if discrete else tilings * (tiles + 1) ** observations
        # Odd multiples shift each dimension differently, else cells line up along the diagonal.
        multiples = 2 * np.arange(observations) + 1
        self.shifts = np.arange(self.tilings)[:, None] * multiples % self.tilings / self.tilings
        self.strides = (tiles + 1) ** np.arange(observations)

    def __call__(self, observations: Float[ndarray, "N O"]) -> Int64[ndarray, "N tilings"]:
        """Indices of the active cells, one of each tiling."""
        if self.discrete:
            return observations.argmax(axis=1)[:, None]
        scaled = (observations.clip(-1, 1) + 1) / 2 * self.tiles  # 0 .. tiles
        cells = (scaled[:, None] + self.shifts).astype(np.int64).clip(0, self.tiles)
        tiling = np.arange(self.tilings) * (self.tiles + 1) ** observations.shape[1]
        return cells @ self.strides + tiling


class Agent(nn.Module):
    """Weights (cells, actions); Q(s, a) is the sum over the active cells."""

    def __init__(self, features: Features, actions: int) -> None:
        super().__init__()
        self.features = features
        self.register_buffer("weights", torch.zeros(features.cells, actions, dtype=torch.float64))

    def values(self, observations: Float[ndarray, "N O"]) -> Float[ndarray, "N A"]:
        """Q of all actions."""
        return self.weights.numpy()[self.features(observations)].sum(axis=1)

    def policy(self) -> Act:
        """The action of the highest value."""
        return lambda observations: self.values(observations).argmax(axis=1)


def build(config: QLearningConfig, envs: Envs) -> Agent:
    """An agent for these environments; `config` is settled."""
    discrete = envs.discrete_observations
    features = Features(envs.observation_size, discrete, config.tilings, config.tiles)
    return Agent(features, envs.actions)


def train(config: QLearningConfig) -> dict[str, float | int | None]:
    """Train on `config.env`; returns the run's figures."""
    session = Session(config)
    config, envs = session.config, session.envs
    agent = build(config, envs)
    weights = agent.weights.numpy()

    start = session.resume(agent=agent)
    for step in session.steps(start):
        rng = session.rng(step)
        rate = config.lr * session.remaining / agent.features.tilings  # to 0, so that it settles
        epsilon = max(config.epsilon_end, 1 - 2 * (1 - session.remaining))
        at_random = rng.random((config.horizon, config.envs)) < epsilon
        random_actions = rng.integers(envs.actions, size=at_random.shape)
        ties = rng.random((config.horizon, config.envs, envs.actions))
        played, errors = 0, 0.0

        cells = agent.features(envs.observation)  # (N, tilings)
        for t in range(config.horizon):
            values = weights[cells].sum(axis=1)  # (N, A)
            # Equal values are common in a table that begins with zeros: draw among the best.
            best = np.where(values == values.max(1, keepdims=True), ties[t], -1).argmax(axis=1)
            actions = np.where(at_random[t], random_actions[t], best)
            reward, terminated, truncated, is_reset = envs.step(actions)
            following = agent.features(envs.observation)

            over = terminated if config.bootstrap_truncated else terminated | truncated
            later = config.gamma * weights[following].sum(axis=1).max(axis=1) * ~over
            taken = values[np.arange(len(actions)), actions]
            error = np.where(is_reset, 0.0, reward + later - taken)
            np.add.at(weights, (cells, actions[:, None]), rate * error[:, None])

            cells = following
            played += int((~is_reset).sum())
            errors += float(np.abs(error).sum())

        session.log(
            step,
            played,
            epsilon=epsilon,
            td_error=errors / max(1, played),
            value=float(weights[cells].sum(axis=1).max(axis=1).mean()),
        )
        session.validate(step, agent.policy)
    return session.finish(agent, agent.policy)
