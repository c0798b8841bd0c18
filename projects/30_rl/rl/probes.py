"""Environments whose values are known on paper; each fails for one reason.

| id | what is right | what is broken if it is not |
|---|---|---|
| probe/Constant-v0 | V = 1 | the value's loss or optimiser |
| probe/Observation-v0 | V(-1) = -1, V(+1) = +1 | the network's path from the observation |
| probe/Discount-v0 | V(first) = gamma, V(second) = 1 | discounting, bootstrapping |
| probe/Bandit-v0 | action 1; Q = (-1, +1) | advantages, the policy's loss |
| probe/Match-v0 | the action that the observation names | both at once, batches in order |
| probe/Limit-v0 | V = 1 / (1 - gamma) | bootstrapping where a time limit cuts |
| probe/Reset-v0 | V(first) = 1 for every episode | learning from the reset step |
| probe/Aim-v0 | continuous action 0.5 | the gradient through the critic |

The first idea is Andy Jones's: debugging RL without the agonising pain (2020).
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, Space
from numpy import ndarray

LIMIT = 5  # steps of an episode of probe/Limit-v0
VECTOR = Box(-2.0, 2.0, (1,), np.float32)


class Probe(gymnasium.Env):
    """One step: observation 0, then the end."""

    observation_space: Space = VECTOR
    action_space: Space = Discrete(2)
    first: tuple[float, ...] = (0.0,)  # observations to begin with, drawn evenly

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        super().reset(seed=seed)
        self.now, self.time = self.first[self.np_random.integers(len(self.first))], 0
        return self._observe(), {}

    def step(self, action: Any):
        self.time += 1
        reward, over = self.react(action)
        return self._observe(), reward, over, False, {}

    def react(self, action: Any) -> tuple[float, bool]:
        """Reward, and whether that is the end; `now` becomes the next observation."""
        raise NotImplementedError

    def _observe(self) -> ndarray:
        return np.array([self.now], np.float32)


class Constant(Probe):
    """Reward 1 whatever one sees or does."""

    def react(self, action: Any) -> tuple[float, bool]:
        return 1.0, True


class Observation(Probe):
    """The reward is the observation."""

    first = (-1.0, 1.0)

    def react(self, action: Any) -> tuple[float, bool]:
        return self.now, True


class Discount(Probe):
    """Two steps; the second one pays 1."""

    def react(self, action: Any) -> tuple[float, bool]:
        self.now = 1.0
        return float(self.time == 2), self.time == 2


class Bandit(Probe):
    """The second arm pays 1, the first takes 1."""

    def react(self, action: Any) -> tuple[float, bool]:
        return (1.0 if action == 1 else -1.0), True


class Match(Probe):
    """Pays 1 for action 1 at +1 and for action 0 at -1, else takes 1."""

    first = (-1.0, 1.0)

    def react(self, action: Any) -> tuple[float, bool]:
        return (1.0 if (action == 1) == (self.now > 0) else -1.0), True


class Limit(Probe):
    """Pays 1 a step for ever; the time limit, not the environment, ends an episode."""

    def react(self, action: Any) -> tuple[float, bool]:
        return 1.0, False


class Reset(Probe):
    """Three observations in a row, 0 1 2, paying 0, 0, 1; only what follows an end may be -2.

    Whoever takes the step from an episode's last observation to the next one's first for a
    transition learns that the end is worth something.
    """

    def react(self, action: Any) -> tuple[float, bool]:
        self.now = float(self.time) if self.time < 3 else -2.0
        return float(self.time == 3), self.time == 3


class Aim(Probe):
    """Pays 1 less the squared distance of the action to 0.5."""

    action_space = Box(-1.0, 1.0, (1,), np.float32)

    def react(self, action: Any) -> tuple[float, bool]:
        return 1.0 - float((action[0] - 0.5) ** 2), True


PROBES = (Constant, Observation, Discount, Bandit, Match, Limit, Reset, Aim)
for probe in PROBES:
    gymnasium.register(
        f"probe/{probe.__name__}-v0",
        probe,
        max_episode_steps=LIMIT if probe is Limit else None,
    )
