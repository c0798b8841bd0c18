"""Environments side by side: gymnasium's, with episodes that can be saved and gone on with.

All follow gymnasium's NEXT_STEP rule of starting anew: the step that ends an episode returns its
true last observation, and the step after it ignores the action and returns the next episode's first
observation with reward 0. Such a reset step is no transition, so nothing is learned from it:

    row   observation   action   reward   observation after   terminated or truncated   is_reset
    t     s             a        r        s_last              yes                       no
    t+1   s_last        ignored  0        s_first             no                        yes
    t+2   s_first       a        ...
"""

import json
from functools import cached_property
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.spaces import Box, Discrete
from jaxtyping import Bool, Float, Shaped
from numpy import ndarray

import rl.probes  # noqa: F401  registers probe/...
from rl.rewards import reward_function
from trainloop import LabError
from trainloop.batches import mix


class Step(NamedTuple):
    """What came of one action in each environment."""

    reward: Float[ndarray, " N"]  # what is learned from: shaped and scaled
    terminated: Bool[ndarray, " N"]  # the environment ended; the value of what follows is 0
    truncated: Bool[ndarray, " N"]  # a time limit ended it; what follows has a value
    is_reset: Bool[ndarray, " N"]  # no transition: the action was ignored


class Envs:
    """N environments and what of their episodes has to be known.

    Args:
        env_id: a gymnasium id.
        count: N.
        seed: all randomness of the environments follows from it.
        reward: a reward of the lab (`rl.rewards`) or "env".
        reward_scale: factor of the rewards that `step` returns.
        gamma: what potential-based shaping discounts with.

    Attributes:
        observation: (N, O) float32, now. Bounded spaces are scaled to [-1, 1], discrete ones are
            one-hot.
        raw: the same as the environment gives it.
        finished: the returns of episodes since `pop_finished`, in the environment's own reward.
    """

    def __init__(
        self,
        env_id: str,
        count: int,
        seed: int,
        reward: str = "env",
        reward_scale: float = 1.0,
        gamma: float = 1.0,
    ) -> None:
        self.env_id, self.count, self.seed = env_id, count, seed
        spec = find_spec(env_id)
        # Of the vector environments that come with gymnasium this is the one that needs no JAX.
        vector = str(spec.vector_entry_point or "").endswith(":CartPoleVectorEnv")
        self._world = (ArrayWorld if vector else ListWorld)(env_id, count)
        self.action_space = self._world.action_space
        self._encode = encoder(env_id, self._world.observation_space)
        self._reward = reward_function(env_id, reward, gamma)
        self._scale = reward_scale
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """Begin an episode in each of them; those that were running are forgotten."""
        self.raw = self._world.reset(seed)
        self.observation = self._encode(self.raw)
        self._returns = np.zeros(self.count)
        self._ended = np.zeros(self.count, bool)
        self.finished: list[float] = []

    def step(
        self, actions: Shaped[ndarray, "N ..."], playing: Bool[ndarray, " N"] | None = None
    ) -> Step:
        """Act in each; `observation` moves on.

        Args:
            playing: environments that somebody still looks at; the others may stand still.
        """
        before, is_reset = self.raw, self._ended
        self.raw, reward, terminated, truncated = self._world.step(actions, playing)
        self.observation = self._encode(self.raw)
        self._returns += reward
        self._ended = terminated | truncated
        if self._ended.any():
            counted = self._ended if playing is None else self._ended & playing
            self.finished += self._returns[counted].tolist()
            self._returns[self._ended] = 0.0
        if self._reward is not None:
            reward = self._reward(before, actions, self.raw, reward, terminated, truncated)
            reward = np.where(is_reset, 0.0, reward)
        return Step(
            (self._scale * reward).astype(np.float32), terminated, truncated & ~terminated, is_reset
        )

    def pop_finished(self) -> float | None:
        """Mean return of the episodes that ended since the last call; None if none did."""
        returns, self.finished = self.finished, []
        return float(np.mean(returns)) if returns else None

    @property
    def observation_size(self) -> int:
        """O."""
        return self.observation.shape[1]

    @property
    def discrete_observations(self) -> bool:
        """Whether observations are one-hot."""
        return isinstance(self._world.observation_space, Discrete)

    @cached_property
    def actions(self) -> int:
        """Number of actions, or of their components where they are continuous."""
        space = self.action_space
        return int(space.n) if isinstance(space, Discrete) else int(space.shape[0])

    def state_dict(self) -> dict[str, Any]:
        return {
            "world": self._world.state_dict(),
            "raw": torch.from_numpy(self.raw.copy()),
            "returns": self._returns.tolist(),
            "ended": self._ended.tolist(),
            "finished": list(self.finished),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was called.

        Raises:
            LabError: the environment's episodes do not follow from their seeds and actions.
        """
        self._world.load_state_dict(state["world"])
        raw = state["raw"].numpy().copy()
        replayed = self._world.observe()
        if replayed is not None and not np.array_equal(raw, replayed):
            raise LabError(
                f"{self.env_id} did not repeat its episodes from their seeds and actions: "
                "a run of it cannot be resumed"
            )
        self.raw, self.observation = raw, self._encode(raw)
        self._returns, self._ended = np.array(state["returns"]), np.array(state["ended"], bool)
        self.finished = list(state["finished"])


class ArrayWorld:
    """gymnasium's own vector environment: its state is an array and a generator."""

    def __init__(self, env_id: str, count: int) -> None:
        env = gymnasium.make_vec(env_id, count, vectorization_mode="vector_entry_point")
        self.env: CartPoleVectorEnv = env.unwrapped
        self.observation_space = self.env.single_observation_space
        self.action_space = self.env.single_action_space

    def reset(self, seed: int) -> ndarray:
        return self.env.reset(seed=seed)[0]

    def step(
        self, actions: ndarray, playing: ndarray | None
    ) -> tuple[ndarray, ndarray, ndarray, ndarray]:
        return self.env.step(actions)[:4]

    def observe(self) -> ndarray:
        return self.env.state.T.astype(np.float32)

    def state_dict(self) -> dict[str, Any]:
        return {
            "state": torch.from_numpy(self.env.state.copy()),
            "steps": self.env.steps.tolist(),
            "ended": self.env.prev_done.tolist(),
            "generator": json.dumps(self.env.np_random.bit_generator.state),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.env.state = state["state"].numpy().copy()
        self.env.steps = np.array(state["steps"], self.env.steps.dtype)
        self.env.prev_done = np.array(state["ended"], bool)
        self.env.np_random.bit_generator.state = json.loads(state["generator"])


class ListWorld:
    """Any environment, N times, each episode with a seed of its own.

    An episode follows from its seed and its actions, so these are what is saved, and playing them
    again is how a running episode is restored: exact for any environment whose randomness comes
    from the seed that `reset` was given.
    """

    def __init__(self, env_id: str, count: int) -> None:
        self.envs = [gymnasium.make(env_id, disable_env_checker=True) for _ in range(count)]
        self.observation_space = self.envs[0].observation_space
        self.action_space = self.envs[0].action_space
        # Actions are counted from 0 everywhere else.
        discrete = isinstance(self.action_space, Discrete)
        self._first_action = int(self.action_space.start) if discrete else 0
        self._seed, self._last = 0, [None] * count

    def reset(self, seed: int) -> ndarray:
        self._seed = seed
        self._episode = [0] * len(self.envs)
        self._ended = [False] * len(self.envs)
        self._actions: list[list[Any]] = [[] for _ in self.envs]
        self._last = [self._begin(index) for index in range(len(self.envs))]
        return np.stack(self._last)

    def step(
        self, actions: ndarray, playing: ndarray | None
    ) -> tuple[ndarray, ndarray, ndarray, ndarray]:
        results = [
            self._step(index, action)
            if playing is None or playing[index]
            else (self._last[index], 0.0, False, False)
            for index, action in enumerate(actions)
        ]
        observations, rewards, terminated, truncated = zip(*results, strict=True)
        self._last = list(observations)
        return (
            np.stack(observations),
            np.array(rewards, np.float64),
            np.array(terminated, bool),
            np.array(truncated, bool),
        )

    def _step(self, index: int, action: Any) -> tuple[Any, float, bool, bool]:
        if self._ended[index]:
            self._ended[index] = False
            self._episode[index] += 1
            return self._begin(index), 0.0, False, False
        self._actions[index].append(action)
        if np.ndim(action) == 0:
            action = int(action) + self._first_action
        observation, reward, terminated, truncated, _ = self.envs[index].step(action)
        self._ended[index] = terminated or truncated
        return observation, float(reward), terminated, truncated

    def _begin(self, index: int) -> Any:
        self._actions[index] = []
        seed = mix(mix(self._seed, index), self._episode[index])
        return self.envs[index].reset(seed=seed)[0]

    def observe(self) -> ndarray:
        return np.stack(self._last)

    def state_dict(self) -> dict[str, Any]:
        return {
            "seed": self._seed,
            "episode": list(self._episode),
            "actions": [torch.from_numpy(np.array(actions)) for actions in self._actions],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._seed, self._episode = state["seed"], list(state["episode"])
        for index, actions in enumerate(state["actions"]):
            self._ended[index] = False
            self._last[index] = self._begin(index)
            for action in actions.numpy():
                self._last[index] = self._step(index, action)[0]


# --- spaces --------------------------------------------------------------------------------------


def find_spec(env_id: str) -> gymnasium.envs.registration.EnvSpec:
    """What gymnasium knows of an id.

    Raises:
        LabError: no such id, in gymnasium's words.
    """
    try:
        return gymnasium.spec(env_id)
    except gymnasium.error.Error as error:
        said = " ".join(str(error).split())
        raise LabError(f"--env {env_id}: gymnasium says: {said}") from None


def check_supported(algo: str, env_id: str) -> None:
    """Raise LabError where an algorithm cannot work on an environment's spaces; it names both."""
    find_spec(env_id)
    try:
        env = gymnasium.make(env_id, disable_env_checker=True)
    except (gymnasium.error.Error, ImportError) as error:
        said = " ".join(str(error).split())
        raise LabError(f"--env {env_id} cannot be made here: {said}") from None
    encoder(env_id, env.observation_space)
    actions, observations = env.action_space, env.observation_space
    env.close()
    if algo == "sac":
        bounded = isinstance(actions, Box) and actions.is_bounded() and len(actions.shape) == 1
        if not bounded:
            raise LabError(
                f"sac needs bounded continuous actions, {env_id} has {actions}: "
                "try --algo ppo or dqn"
            )
    elif not isinstance(actions, Discrete):
        raise LabError(f"{algo} needs discrete actions, {env_id} has {actions}: try --algo sac")
    if algo == "q-learning" and isinstance(observations, Box) and not finite(observations).all():
        raise LabError(
            f"q-learning needs discrete or bounded observations, {env_id} has {observations}: "
            "try --algo dqn"
        )


def encoder(env_id: str, space: gymnasium.Space):
    """A function of the raw observations (N, ...) that returns (N, O) float32.

    Raises:
        LabError: neither discrete nor a vector.
    """
    if isinstance(space, Discrete):
        rows = np.eye(int(space.n), dtype=np.float32)
        first = int(space.start)
        return lambda raw: rows[raw - first]
    if not isinstance(space, Box) or len(space.shape) != 1:
        raise LabError(
            f"--env {env_id} has observations {space}: only vectors and discrete ones are supported"
        )
    if not finite(space).all():
        return lambda raw: raw.astype(np.float32)
    middle = ((space.high + space.low) / 2).astype(np.float32)
    half = ((space.high - space.low) / 2).astype(np.float32)
    return lambda raw: ((raw - middle) / half).astype(np.float32)


def finite(space: Box) -> Bool[ndarray, " O"]:
    """Where a space has bounds that mean something: float32's largest number is none."""
    return (np.abs(space.low) < 1e6) & (np.abs(space.high) < 1e6) & (space.high > space.low)
