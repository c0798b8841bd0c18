"""Shaping keeps what is optimal; a bonus does not; and each reward pays what its name says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl.rewards import POTENTIALS, car_potential, energy, reward_function, shaping
from trainloop import LabError

STATES, ACTIONS, GAMMA = 6, 3, 0.9


def optimal_values(transition, reward, terminal) -> np.ndarray:
    """Q* of a tabular MDP by value iteration: transition (S, A, S), reward (S, A, S)."""
    q = np.zeros((STATES, ACTIONS))
    for _ in range(400):
        q = (transition * (reward + GAMMA * (q.max(1) * ~terminal))).sum(2)
    return q


@pytest.fixture
def mdp():
    """Random, with one terminal state."""
    rng = np.random.default_rng(3)
    transition = rng.dirichlet(np.ones(STATES) / 2, (STATES, ACTIONS))
    reward = rng.standard_normal((STATES, ACTIONS, STATES))
    terminal = np.arange(STATES) == STATES - 1
    return transition, reward, terminal


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=STATES, max_size=STATES))
def test_shaping_moves_q_by_the_potential_and_nothing_else(potential):
    rng = np.random.default_rng(3)
    transition = rng.dirichlet(np.ones(STATES) / 2, (STATES, ACTIONS))
    reward = rng.standard_normal((STATES, ACTIONS, STATES))
    terminal = np.arange(STATES) == STATES - 1
    phi = np.array(potential)
    extra = np.stack(
        [shaping(np.full(STATES, phi[s]), phi, terminal, GAMMA) for s in range(STATES)]
    )
    shaped = optimal_values(transition, reward + extra[:, None], terminal)
    plain = optimal_values(transition, reward, terminal)
    np.testing.assert_allclose(shaped, plain - phi[:, None], atol=1e-6)


def test_a_bonus_for_being_there_changes_the_policy(mdp):
    transition, reward, terminal = mdp
    bonus = 5.0 * (np.arange(STATES) == 2)
    plain = optimal_values(*mdp).argmax(1)
    assert (optimal_values(transition, reward + bonus, terminal).argmax(1) != plain).any()


@pytest.mark.parametrize("env", POTENTIALS)
def test_shaped_rewards_of_an_episode_telescope(env):
    """Whatever one does, discounted shaping sums to minus the first state's potential."""
    rng = np.random.default_rng(0)
    size = {"MountainCar-v0": 2, "CartPole-v1": 4}[env]
    states = rng.uniform(-0.07, 0.07, (30, 1, size))
    gamma, total = 0.97, 0.0
    shaped = reward_function(env, "shaped", gamma)
    for t in range(29):
        over = np.array([t == 28])
        reward = shaped(states[t], None, states[t + 1], np.zeros(1), over, np.zeros(1, bool))
        total += gamma**t * reward[0]
    assert total == pytest.approx(-POTENTIALS[env](states[0])[0])


def test_energy_of_the_car():
    at_rest_below, at_flag = np.array([[-np.pi / 6, 0.0]]), np.array([[0.5, 0.0]])
    assert energy(at_rest_below)[0] == pytest.approx(0)
    assert energy(at_flag)[0] == pytest.approx(1)
    assert car_potential(at_flag)[0] == pytest.approx(0)
    assert car_potential(at_rest_below)[0] == pytest.approx(-100)


def test_energy_is_kept_where_nobody_pushes():
    """The environment's own dynamics without a force: all but its integrator's error."""
    import gymnasium

    env = gymnasium.make("MountainCar-v0").unwrapped
    env.reset(seed=0)
    env.state = np.array([-0.8, 0.0])
    energies = []
    for _ in range(100):
        observation, *_ = env.step(1)
        energies.append(energy(observation[None])[0])
    assert max(energies) - min(energies) < 0.1 * max(energies)


@pytest.mark.parametrize(
    ("env", "name", "after", "terminated", "truncated", "expected"),
    [
        ("MountainCar-v0", "sparse", [0.5, 0.03], True, False, 1),
        ("MountainCar-v0", "sparse", [0.4, 0.03], False, True, 0),
        ("MountainCar-v0", "hacked", [0.5, 0.03], True, False, 0),  # it was past the bottom before
        ("MountainCar-v0", "dense", [-np.pi / 6, 0.0], False, False, 1 - 0.5),
        ("CartPole-v1", "sparse", [0, 0, 0, 0], False, True, 1),
        ("CartPole-v1", "sparse", [3, 0, 0, 0], True, True, 0),
        ("CartPole-v1", "sparse", [0, 0, 0, 0], False, False, 0),
        ("CartPole-v1", "hacked", [0, 0, -0.02, 0], False, False, -1),
        ("CartPole-v1", "hacked", [0, 0, 0.009, 0], False, False, 0),
        ("CartPole-v1", "dense", [2.4, 0, 0, 0], False, False, 0.5),
    ],
)
def test_what_each_reward_pays(env, name, after, terminated, truncated, expected):
    before = np.array([[0.0, 0.0, 0.05, 0.0]])[:, : len(after)]
    paid = reward_function(env, name, 0.99)(
        before, np.array([0]), np.array([after], float), np.ones(1),
        np.array([terminated]), np.array([truncated]),
    )  # fmt: skip
    assert paid[0] == pytest.approx(expected, abs=1e-6)


def test_the_checkpoint_pays_to_the_right_only():
    """A car that rocks about the bottom is paid once a period, whatever it does on the hill."""
    places = np.array([-0.6, -0.53, -0.52, -0.4, -0.53, -0.6, -0.5])
    paid = reward_function("MountainCar-v0", "hacked", 0.99)(
        np.stack([places[:-1], np.zeros(6)], 1), None, np.stack([places[1:], np.zeros(6)], 1),
        -np.ones(6), np.zeros(6, bool), np.zeros(6, bool),
    )  # fmt: skip
    np.testing.assert_array_equal(paid, [0, 1, 0, 0, 0, 1])


def test_no_such_reward():
    with pytest.raises(LabError, match="--reward dense is not known for Acrobot-v1"):
        reward_function("Acrobot-v1", "dense", 0.99)
