"""The table against dynamic programming, the tiles against what they should tell apart."""

import gymnasium
import numpy as np
import pytest

from rl.q_learning import Features

pytestmark = pytest.mark.usefixtures("unchecked")

GAMMA = 0.95


def model(env: str) -> tuple[np.ndarray, np.ndarray]:
    """Transition (S, A, S) and expected reward (S, A) of a tabular environment; ends lead to 0."""
    dynamics = gymnasium.make(env).unwrapped.P
    count = len(dynamics)
    transition, reward = np.zeros((count, 4, count)), np.zeros((count, 4))
    for state, actions in dynamics.items():
        for action, outcomes in actions.items():
            for share, following, paid, over in outcomes:
                reward[state, action] += share * paid
                transition[state, action, following] += share * (not over)
    return transition, reward


def value_of(policy: np.ndarray, transition: np.ndarray, reward: np.ndarray) -> np.ndarray:
    """V of a policy, by solving its linear equations."""
    rows = np.arange(len(policy))
    return np.linalg.solve(
        np.eye(len(policy)) - GAMMA * transition[rows, policy], reward[rows, policy]
    )


def test_the_greedy_policy_is_nearly_optimal(trained):
    """On the slippery lake, from the first square: within 5% of value iteration's."""
    transition, reward = model("FrozenLake-v1")
    q = np.zeros_like(reward)
    for _ in range(500):
        q = reward + GAMMA * (transition @ q.max(1))
    best = value_of(q.argmax(1), transition, reward)[0]
    assert best == pytest.approx(q.max(1)[0], abs=1e-6)
    agent = trained("q-learning", "FrozenLake-v1", env_steps=40_000, gamma=GAMMA, eval_every=1000)
    found = value_of(agent.policy()(np.eye(16, dtype=np.float32)), transition, reward)[0]
    assert 0.95 * best <= found <= best + 1e-9
    learned = agent.values(np.eye(16, dtype=np.float32)).max(1)
    assert np.abs(learned - q.max(1)).max() < 0.12


def test_near_observations_share_tiles_and_far_ones_do_not():
    features = Features(2, False, tilings=8, tiles=4)
    x = np.array([[0.1, 0.1], [0.12, 0.1], [0.9, -0.9]])
    cells = [set(row) for row in features(x)]
    assert all(len(row) == 8 for row in cells)
    assert len(cells[0] & cells[1]) >= 6
    assert not cells[0] & cells[2]


def test_tiles_stay_within_the_table_and_apart_by_tiling():
    features = Features(2, False, tilings=4, tiles=3)
    corners = np.array([[-1, -1], [1, 1], [-1, 1], [2.0, -5.0]])
    cells = features(corners)
    assert cells.min() >= 0
    assert cells.max() < features.cells == 4 * 16
    np.testing.assert_array_equal(cells // 16, [[0, 1, 2, 3]] * 4)


def test_tilings_are_finer_together_than_alone():
    """Each tiling has 4 cells on [-1, 1]; eight of them tell some 32 places apart."""
    features = Features(1, False, tilings=8, tiles=4)
    line = np.linspace(-1, 0.999, 400)[:, None]
    assert len({tuple(row) for row in features(line)}) == 32
