"""Against slow loops, and against what one can work out on paper."""

import numpy as np
import pytest

from rl.returns import discounted_returns, gae, n_step

GAMMA, LAMBDA = 0.9, 0.8


@pytest.fixture
def rollout():
    """12 rows of 3 environments with ends of both kinds."""
    rng = np.random.default_rng(0)
    rewards = rng.standard_normal((12, 3)).astype(np.float32)
    values = rng.standard_normal((13, 3)).astype(np.float32)
    terminated, truncated = np.zeros((12, 3), bool), np.zeros((12, 3), bool)
    terminated[4, 0] = terminated[11, 1] = truncated[6, 1] = truncated[8, 2] = True
    return rewards, values, terminated, truncated


def test_gae_is_the_weighted_sum_of_all_n_step_advantages(rollout):
    rewards, values, terminated, truncated = rollout
    found = gae(*rollout, GAMMA, LAMBDA)
    for column in range(3):
        for t in range(12):
            total, weight = 0.0, 1.0
            for k in range(t, 12):
                following = 0.0 if terminated[k, column] else values[k + 1, column]
                total += weight * (rewards[k, column] + GAMMA * following - values[k, column])
                weight *= GAMMA * LAMBDA
                if terminated[k, column] or truncated[k, column]:
                    break
            assert found[t, column] == pytest.approx(total, abs=1e-5)


def test_gae_ends(rollout):
    rewards, values, _, _ = rollout
    found = gae(*rollout, GAMMA, LAMBDA)
    # A terminal step: its reward and nothing else. A time limit: the value of what was cut off.
    assert found[4, 0] == pytest.approx(rewards[4, 0] - values[4, 0])
    assert found[6, 1] == pytest.approx(rewards[6, 1] + GAMMA * values[7, 1] - values[6, 1])


def test_gae_at_its_ends_of_lambda(rollout):
    rewards, values, terminated, truncated = rollout
    one_step = rewards + GAMMA * values[1:] * ~terminated - values[:-1]
    np.testing.assert_allclose(gae(*rollout, GAMMA, 0.0), one_step, rtol=1e-5)
    after = np.where(terminated, 0, values[1:]).astype(np.float32)
    over = terminated | truncated
    over[-1] = True
    whole = discounted_returns(rewards, after, over, GAMMA) - values[:-1]
    np.testing.assert_allclose(gae(*rollout, GAMMA, 1.0), whole, rtol=1e-4, atol=1e-5)


def test_a_reset_row_reaches_no_other(rollout):
    rewards, values, _, _ = rollout
    before = gae(*rollout, GAMMA, LAMBDA)
    rewards[5, 0], values[5, 0] = 100.0, 0.0  # row 5 is the reset step; its value is the end's
    np.testing.assert_array_equal(gae(*rollout, GAMMA, LAMBDA)[:5, 0], before[:5, 0])


def test_discounted_returns_on_paper():
    rewards = np.array([[1], [2], [4], [8]], np.float32)
    over = np.array([[False], [True], [False], [True]])
    after = np.array([[0], [0], [0], [10]], np.float32)
    found = discounted_returns(rewards, after, over, 0.5)
    np.testing.assert_allclose(found[:, 0], [2, 2, 4 + 0.5 * 13, 13])


@pytest.mark.parametrize("n", [1, 2, 3, 20])
def test_n_step_against_a_loop(rollout, n):
    rewards, _, terminated, truncated = rollout
    sums, discounts, last = n_step(rewards, terminated, truncated, GAMMA, n)
    for column in range(3):
        for t in range(12):
            total, k = 0.0, 0
            while True:
                total += GAMMA**k * rewards[t + k, column]
                stop = terminated[t + k, column] or truncated[t + k, column]
                k += 1
                if stop or k == n or t + k == 12:
                    break
            assert sums[t, column] == pytest.approx(total, abs=1e-5)
            assert last[t, column] == t + k
            expected = 0.0 if terminated[t + k - 1, column] else GAMMA**k
            assert discounts[t, column] == pytest.approx(expected)
