"""The buffer's places, and the tree's frequencies."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl.dqn import importance_weights
from rl.replay import Batch, Replay, SumTree


def transitions(first: int, count: int) -> Batch:
    """Numbered ones."""
    numbers = np.arange(first, first + count)
    column = numbers[:, None].astype(np.float32)
    return Batch(column, numbers, column[:, 0], column + 1, column[:, 0])


def test_the_oldest_go_first():
    replay = Replay(10, 1, np.array(0))
    for first in range(0, 28, 4):
        replay.add(transitions(first, 4))
    assert replay.size == 10
    assert sorted(replay.take(np.arange(10)).actions) == list(range(18, 28))


def test_rows_stay_together():
    replay = Replay(7, 1, np.array(0))
    for first in (0, 5, 10):
        replay.add(transitions(first, 5))
    batch = replay.take(np.arange(replay.size))
    np.testing.assert_array_equal(batch.actions, batch.rewards)
    np.testing.assert_array_equal(batch.following[:, 0], batch.rewards + 1)


def test_a_restored_buffer_goes_on_alike():
    first, second = Replay(7, 1, np.array(0)), Replay(7, 1, np.array(0))
    first.add(transitions(0, 5))
    second.load_state_dict(first.state_dict())
    for replay in (first, second):
        replay.add(transitions(5, 4))
    for one, other in zip(first.arrays, second.arrays, strict=True):
        np.testing.assert_array_equal(one, other)
    assert first.place == second.place == 2


@pytest.mark.parametrize("capacity", [1, 2, 5, 64, 100])
def test_frequencies_follow_the_weights(capacity):
    rng = np.random.default_rng(capacity)
    tree, weights = SumTree(capacity), rng.random(capacity) ** 3
    tree.update(np.arange(capacity), weights)
    assert tree.total == pytest.approx(weights.sum())
    draws = 100_000
    found = np.bincount(tree.draw(rng.random(draws)), minlength=capacity)[:capacity]
    expected = draws * weights / weights.sum()
    # Pearson's statistic has mean capacity - 1 and deviation sqrt(2 (capacity - 1)).
    big = expected > 5
    statistic = ((found - expected)[big] ** 2 / expected[big]).sum()
    assert statistic < capacity + 5 * np.sqrt(2 * capacity)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 100), min_size=1, max_size=40), st.data())
def test_the_tree_is_a_cumulative_sum(weights, data):
    if sum(weights) == 0:
        return
    tree = SumTree(len(weights))
    tree.update(np.arange(len(weights)), np.full(len(weights), 7.0))  # overwritten
    tree.update(np.arange(len(weights)), np.array(weights))
    share = data.draw(st.floats(0, 1, exclude_max=True))
    place = int(tree.draw(np.array([share]))[0])
    edges = np.concatenate([[0], np.cumsum(weights)])
    slack = 1e-9 * edges[-1]
    assert edges[place] - slack <= share * edges[-1] <= edges[place + 1] + slack


def test_weight_zero_is_never_drawn():
    tree = SumTree(6)
    tree.update(np.array([1, 4]), np.array([1.0, 3.0]))
    assert set(tree.draw(np.linspace(0, 1, 1001)[:-1])) == {1, 4}


def test_importance_weights_undo_the_drawing():
    """With beta 1 the weighted mean over draws is the plain mean over the buffer."""
    rng = np.random.default_rng(0)
    values, weights = rng.standard_normal(50), rng.random(50) + 0.1
    tree = SumTree(50)
    tree.update(np.arange(50), weights)
    drawn = tree.draw(rng.random(200_000))
    factors = importance_weights(weights[drawn] / tree.total, 50, beta=1.0)
    assert (factors * values[drawn]).sum() / factors.sum() == pytest.approx(values.mean(), abs=0.01)
    assert factors.max() == 1.0
    np.testing.assert_array_equal(importance_weights(weights / tree.total, 50, beta=0.0), 1.0)
