"""Ends and beginnings of episodes, saving and restoring them, spaces."""

import gymnasium
import numpy as np
import pytest

from rl.envs import Envs, check_supported
from rl.probes import LIMIT
from trainloop import LabError


def roll(envs: Envs, steps: int, seed: int = 0) -> list[np.ndarray]:
    """Everything that comes of random actions."""
    rng, seen = np.random.default_rng(seed), []
    for _ in range(steps):
        if hasattr(envs.action_space, "n"):
            actions = rng.integers(envs.actions, size=envs.count)
        else:
            actions = rng.uniform(-1, 1, (envs.count, envs.actions)).astype(np.float32)
        seen += [*envs.step(actions), envs.observation]
    return seen


@pytest.mark.parametrize("env", ["CartPole-v1", "MountainCar-v0", "probe/Reset-v0"])
def test_the_step_after_an_end_is_a_reset(env):
    envs = Envs(env, 4, seed=0)
    rng, ended = np.random.default_rng(0), np.zeros(4, bool)
    resets = 0
    for _ in range(450):
        step = envs.step(rng.integers(envs.actions, size=4))
        np.testing.assert_array_equal(step.is_reset, ended)
        assert not (step.terminated | step.truncated)[step.is_reset].any()
        assert (step.reward[step.is_reset] == 0).all()
        if env.startswith("CartPole"):  # the last observation is the true one, the next a first one
            fallen = (np.abs(envs.raw[:, 0]) > 2.4) | (np.abs(envs.raw[:, 2]) > 0.2095)
            np.testing.assert_array_equal(fallen, step.terminated)
            assert (np.abs(envs.raw[step.is_reset]) <= 0.05).all()
        ended = step.terminated | step.truncated
        resets += step.is_reset.sum()
    assert resets > 4


def test_lists_follow_the_rule_of_gymnasiums_own_vector_environment():
    ours = Envs("MountainCar-v0", 2, seed=5)
    theirs = gymnasium.vector.SyncVectorEnv([lambda: gymnasium.make("MountainCar-v0")] * 2)
    theirs.reset()
    for inner, outer in zip(theirs.envs, ours._world.envs, strict=True):
        inner.unwrapped.state = np.array(outer.unwrapped.state)
    rng = np.random.default_rng(1)
    for t in range(201):
        actions = rng.integers(3, size=2)
        step = ours.step(actions)
        observation, reward, terminated, truncated, _ = theirs.step(actions)
        np.testing.assert_array_equal(step.terminated, terminated)
        np.testing.assert_array_equal(step.truncated, truncated)
        np.testing.assert_allclose(step.reward, reward)
        if t < 200:  # after that a new episode, with a seed of its own
            np.testing.assert_allclose(ours.raw, observation)
    assert step.is_reset.all()


def test_a_limit_truncates_and_an_end_terminates():
    limit, end = Envs("probe/Limit-v0", 1, 0), Envs("probe/Constant-v0", 1, 0)
    ends = [limit.step(np.array([0])) for _ in range(LIMIT)]
    assert [bool(step.truncated[0]) for step in ends] == [False] * (LIMIT - 1) + [True]
    assert not any(step.terminated[0] for step in ends)
    step = end.step(np.array([0]))
    assert step.terminated[0]
    assert not step.truncated[0]


def test_both_at_once_count_as_an_end():
    envs = Envs("CartPole-v1", 1, 0)
    envs._world.env.state[:] = np.array([2.39, 5, 0, 0])[:, None]
    envs._world.env.steps[:] = 499
    step = envs.step(np.array([1]))
    assert step.terminated[0]
    assert not step.truncated[0]


@pytest.mark.parametrize(
    ("env", "steps"),
    [("CartPole-v1", 37), ("MountainCar-v0", 230), ("Pendulum-v1", 30), ("FrozenLake-v1", 45)],
)
def test_restored_episodes_go_on_alike(env, steps):
    first, second = Envs(env, 3, seed=1), Envs(env, 3, seed=99)
    roll(first, steps)
    second.load_state_dict(first.state_dict())
    for one, other in zip(roll(first, 60, 7), roll(second, 60, 7), strict=True):
        np.testing.assert_array_equal(one, other)
    assert first.finished == second.finished


def test_restored_just_after_an_end():
    first, second = Envs("probe/Reset-v0", 1, 0), Envs("probe/Reset-v0", 1, 0)
    roll(first, 3)  # an episode is over, the next call is the reset step
    second.load_state_dict(first.state_dict())
    assert second.step(np.array([0])).is_reset[0]


def test_an_environment_that_does_not_repeat_itself_is_refused():
    class Moody(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-9, 9, (1,), np.float32)
        action_space = gymnasium.spaces.Discrete(2)
        mood = 0

        def reset(self, *, seed=None, options=None):
            Moody.mood += 1
            return np.array([Moody.mood], np.float32), {}

        def step(self, action):
            return np.array([Moody.mood], np.float32), 0.0, False, False, {}

    gymnasium.register("probe/Moody-v0", Moody)
    envs = Envs("probe/Moody-v0", 1, 0)
    state = envs.state_dict()
    with pytest.raises(LabError, match="cannot be resumed"):
        envs.load_state_dict(state)


def test_other_seeds_other_episodes():
    a, b, c = (Envs("Acrobot-v1", 2, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a.observation, b.observation)
    assert (a.observation != c.observation).any()
    assert (a.observation[0] != a.observation[1]).any()


def test_returns_are_the_environments_own():
    envs = Envs("MountainCar-v0", 2, 0, reward="hacked", reward_scale=7.0)
    steps = [envs.step(np.array([1, 1])) for _ in range(200)]
    assert envs.pop_finished() == -200.0
    assert envs.pop_finished() is None
    assert all((step.reward >= 0).all() for step in steps)


def test_scaling_and_shaping_leave_reset_steps_at_nothing():
    envs = Envs("MountainCar-v0", 1, 0, reward="shaped", gamma=0.9)
    steps = [envs.step(np.array([0])) for _ in range(201)]
    assert steps[-1].is_reset[0]
    assert steps[-1].reward[0] == 0
    assert steps[-2].reward[0] != 0


def test_observations_are_scaled_or_one_hot():
    pendulum, lake, pole = (Envs(e, 2, 0) for e in ("Pendulum-v1", "FrozenLake-v1", "CartPole-v1"))
    roll(pendulum, 30)
    np.testing.assert_allclose(pendulum.observation, pendulum.raw / [1, 1, 8], rtol=1e-6)
    np.testing.assert_array_equal(lake.observation, np.eye(16)[lake.raw])
    np.testing.assert_array_equal(pole.observation, pole.raw)


def test_who_is_not_playing_stands_still():
    envs = Envs("MountainCar-v0", 2, 0)
    before = envs.raw.copy()
    envs.step(np.array([2, 2]), np.array([True, False]))
    assert (envs.raw[0] != before[0]).any()
    np.testing.assert_array_equal(envs.raw[1], before[1])


@pytest.mark.parametrize(
    ("algo", "env", "said"),
    [
        ("ppo", "Pendulum-v1", "ppo needs discrete actions, Pendulum-v1 has Box"),
        ("dqn", "MountainCarContinuous-v0", "dqn needs discrete actions, MountainCarContinuous"),
        ("sac", "CartPole-v1", "sac needs bounded continuous actions, CartPole-v1 has Discrete"),
        ("q-learning", "CartPole-v1", "q-learning needs discrete or bounded observations, CartP"),
        ("ppo", "Blackjack-v1", "Blackjack-v1 has observations Tuple"),
        ("ppo", "Nonsense-v3", "--env Nonsense-v3: gymnasium says"),
        ("ppo", "CartPole-v7", "--env CartPole-v7: gymnasium says"),
        ("ppo", "not an id", "--env not an id: gymnasium says"),
    ],
)
def test_what_does_not_fit_is_one_line(algo, env, said):
    with pytest.raises(LabError) as caught:
        check_supported(algo, env)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("algo", "env"),
    [("ppo", "Acrobot-v1"), ("sac", "Pendulum-v1"), ("q-learning", "FrozenLake-v1"),
     ("q-learning", "MountainCar-v0"), ("dqn", "Taxi-v3"), ("ppo", "CartPole-v1")],
)  # fmt: skip
def test_what_fits(algo, env):
    check_supported(algo, env)
