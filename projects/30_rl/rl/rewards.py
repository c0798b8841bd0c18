"""The reward lab's rewards: what one asks for, and what one gets.

Each is a function of whole arrays: observations before and after (N, O) as the environment gives
them, actions (N,), its own reward (N,), terminated (N,), truncated (N,).
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Shaped
from numpy import ndarray

from trainloop import LabError

Observations = Shaped[ndarray, "N O"]
RewardFunction = Callable[..., Float[ndarray, " N"]]


def reward_function(env_id: str, name: str, gamma: float) -> RewardFunction | None:
    """The reward of that name; None for the environment's own.

    Raises:
        LabError: the environment has no such reward.
    """
    if name == "env":
        return None
    if name == "shaped" and env_id in POTENTIALS:
        potential = POTENTIALS[env_id]

        def shaped(before, actions, after, reward, terminated, truncated):
            return reward + shaping(potential(before), potential(after), terminated, gamma)

        return shaped
    if (env_id, name) not in REWARDS:
        known = ", ".join(sorted(POTENTIALS))
        raise LabError(f"--reward {name} is not known for {env_id}: it is for {known}")
    return REWARDS[env_id, name]


def shaping(
    before: Float[ndarray, " N"],
    after: Float[ndarray, " N"],
    terminated: Bool[ndarray, " N"],
    gamma: float,
) -> Float[ndarray, " N"]:
    """F(s, s') = gamma Phi(s') - Phi(s): the one form that keeps every optimal policy (Ng 1999).

    Nothing follows a terminal state, so its potential counts as 0: else what an episode's end is
    worth would depend on where it ended. A state that a time limit cut off keeps its own.
    """
    return gamma * np.where(terminated, 0.0, after) - before


# --- MountainCar: a weak car in a valley, -1 a step until it is on the hill ----------------------

GRAVITY = 0.0025  # of the environment
BOTTOM = -np.pi / 6  # the valley's


def energy(observation: Observations) -> Float[ndarray, " N"]:
    """Of MountainCar, kinetic and potential, 0 at rest in the valley, 1 at rest at the flag."""
    position, velocity = observation.T.astype(np.float64)
    height = (1 + np.sin(3 * position)) / 3 * GRAVITY
    at_flag = (1 + np.sin(3 * 0.5)) / 3 * GRAVITY
    return (velocity**2 / 2 + height) / at_flag


def car_potential(observation: Observations) -> Float[ndarray, " N"]:
    """In steps: a car without energy is some 100 steps from the flag."""
    return 100 * (np.minimum(energy(observation), 1.0) - 1.0)


def car_sparse(before, actions, after, reward, terminated, truncated):
    """1 at the flag, 0 elsewhere."""
    return terminated.astype(np.float64)


def car_dense(before, actions, after, reward, terminated, truncated):
    """-1 a step, less for being high: looks like help, and pays for resting on a slope."""
    return reward + np.sin(3 * after[:, 0]) / 2


def car_hacked(before, actions, after, reward, terminated, truncated):
    """ "Pass the checkpoint": 1 whenever the car passes the valley's bottom to the right.

    On the way to the flag there is no way around it, and none is as quick as there and back again.
    """
    return ((before[:, 0] < BOTTOM) & (after[:, 0] >= BOTTOM)).astype(np.float64)


# --- CartPole: a pole on a cart, 1 a step until it falls or the cart leaves ----------------------


def pole_potential(observation: Observations) -> Float[ndarray, " N"]:
    """0 when the pole is upright and the cart in the middle, below it elsewhere."""
    position, _, angle, _ = observation.T.astype(np.float64)
    return -10 * ((position / 2.4) ** 2 + (angle / 0.2095) ** 2)


def pole_sparse(before, actions, after, reward, terminated, truncated):
    """1 for having kept the pole up to the time limit, 0 before."""
    return (truncated & ~terminated).astype(np.float64)


def pole_dense(before, actions, after, reward, terminated, truncated):
    """1 a step, less the further the cart is from the middle and the pole from upright."""
    position, _, angle, _ = after.T.astype(np.float64)
    return reward - (position / 2.4) ** 2 / 2 - (angle / 0.2095) ** 2 / 2


def pole_hacked(before, actions, after, reward, terminated, truncated):
    """ "Do not lean": -1 for each step with the pole off the upright by more than half a degree.

    Nobody said that it should last: who falls at once pays least.
    """
    return -(np.abs(after[:, 2]) > 0.01).astype(np.float64)


POTENTIALS = {"MountainCar-v0": car_potential, "CartPole-v1": pole_potential}
REWARDS: dict[tuple[str, str], RewardFunction] = {
    ("MountainCar-v0", "sparse"): car_sparse,
    ("MountainCar-v0", "dense"): car_dense,
    ("MountainCar-v0", "hacked"): car_hacked,
    ("CartPole-v1", "sparse"): pole_sparse,
    ("CartPole-v1", "dense"): pole_dense,
    ("CartPole-v1", "hacked"): pole_hacked,
}
