# ruff: noqa: C408  dict(..) needs no quotes
"""Settings that work, by algorithm and environment; options left out take these.

Found on validation episodes. Where there is no entry for an
environment, an algorithm's "default" is a start, not a promise.
"""

import math
from typing import Any

ALGORITHMS = ("ppo", "dqn", "a2c", "reinforce", "sac", "q-learning")

TARGETS = {
    "CartPole-v1": 475.0,
    "Acrobot-v1": -85.0,
    "MountainCar-v0": -130.0,
    "Pendulum-v1": -180.0,
    "FrozenLake-v1": 0.70,
}
"""Mean return of 100 episodes, played without exploration, that counts as solved."""

STOP_AT = {
    "CartPole-v1": 490.0,
    "Acrobot-v1": -82.0,
    "MountainCar-v0": -122.0,
    "Pendulum-v1": -165.0,
    "FrozenLake-v1": math.inf,
}
"""Validation mean that stops a training: a margin above the target, for the test is another 100."""

COMMON = {"reward_scale": 1.0, "stop_at": math.inf}

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "ppo": {
        "default": dict(
            env_steps=100_000, envs=8, horizon=128, epochs=10, minibatch=256, gamma=0.99,
            gae_lambda=0.95, clip=0.2, lr=1e-3, entropy_weight=0.0, max_grad_norm=0.5,
            hidden=(64, 64), eval_every=10,
        ),
        "CartPole-v1": dict(
            env_steps=40_000, horizon=64, gamma=0.98, gae_lambda=0.8, lr=3e-3, eval_every=2
        ),
        "Acrobot-v1": dict(
            env_steps=200_000, gae_lambda=0.94, lr=3e-3, reward_scale=0.1, eval_every=10
        ),
        "MountainCar-v0": dict(env_steps=60_000, envs=16, eval_every=3),
    },
    "a2c": {
        "default": dict(
            env_steps=200_000, envs=16, horizon=16, gamma=0.99, gae_lambda=0.95, lr=2e-3,
            entropy_weight=0.0, max_grad_norm=0.5, hidden=(64, 64), eval_every=50,
        ),
        "CartPole-v1": dict(eval_every=20),
    },
    "reinforce": {
        "default": dict(
            env_steps=200_000, envs=16, gamma=0.99, lr=5e-3, entropy_weight=0.0,
            max_grad_norm=0.5, hidden=(64, 64), eval_every=5,
        ),
    },
    "dqn": {
        "default": dict(
            env_steps=50_000, envs=8, horizon=32, updates=128, batch_size=128, capacity=50_000,
            warmup=1_000, tau=0.01, n_step=3, gamma=0.99, lr=1e-3, epsilon_end=0.04,
            epsilon_steps=8_000, max_grad_norm=10.0, hidden=(128, 128), eval_every=2,
        ),
        "CartPole-v1": dict(
            batch_size=64, tau=0.02, lr=2.3e-3, hidden=(256, 256), eval_every=1
        ),
    },
    "sac": {
        "default": dict(
            env_steps=20_000, envs=4, horizon=16, updates=64, batch_size=128, capacity=100_000,
            warmup=1_000, tau=0.005, gamma=0.99, lr=1e-3, hidden=(64, 64), eval_every=16,
        ),
    },
    "q-learning": {
        "default": dict(
            env_steps=100_000, envs=8, horizon=250, gamma=0.99, lr=0.2, hidden=(), tilings=8,
            tiles=8, epsilon_end=0.05, eval_every=10,
        ),
    },
}  # fmt: skip


def preset(algo: str, env: str) -> dict[str, Any]:
    """The values of an algorithm on an environment."""
    table = PRESETS[algo]
    stop = {"stop_at": STOP_AT[env]} if env in STOP_AT else {}
    return {**COMMON, **stop, **table["default"], **table.get(env, {})}
