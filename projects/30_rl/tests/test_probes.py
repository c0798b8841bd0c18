# ruff: noqa: C408  dict(..) needs no quotes
"""Every algorithm on environments whose values are known on paper."""

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.usefixtures("unchecked")

QUICK = {
    "ppo": dict(steps=25, envs=4, horizon=8, minibatch=32, epochs=4, lr=0.02),
    "a2c": dict(steps=120, envs=4, horizon=6, lr=0.02, gae_lambda=0.8),
    "reinforce": dict(steps=100, envs=8, lr=0.03),
    "dqn": dict(steps=10, envs=4, horizon=8, updates=40, warmup=1, lr=0.01, tau=0.2,
                epsilon_steps=200, batch_size=32, hidden=(32, 32)),
    "sac": dict(steps=12, envs=4, horizon=8, updates=40, warmup=64, lr=5e-3, tau=0.2,
                batch_size=32, hidden=(32, 32)),
    "q-learning": dict(steps=4, horizon=300),
}  # fmt: skip
ACTOR_CRITIC = ("ppo", "a2c", "reinforce")


def value(agent, algo: str, observation: float) -> float:
    """V(s): the critic's, or of the best action. Observations of probes are scaled by 2."""
    x = torch.tensor([[observation / 2]])
    with torch.no_grad():
        if algo in ACTOR_CRITIC:
            return agent.critic(x).item()
        if algo == "dqn":
            return agent(x).max().item()
    return float(agent.values(x.numpy()).max())


def acts(agent, observation: float) -> int:
    return int(agent.policy()(np.array([[observation / 2]], np.float32))[0])


SEEN_BY = {  # the last one holds the others' lessons too
    "Observation": ("ppo", "q-learning"),
    "Discount": ("ppo", "q-learning"),
    "Reset": ("ppo", "a2c", "reinforce", "dqn", "q-learning"),
}
VALUES = {
    "Observation": {-1.0: -1.0, 1.0: 1.0},
    "Discount": {0.0: 0.5, 1.0: 1.0},
    "Reset": {0.0: 0.25, 1.0: 0.5, 2.0: 1.0},
}


@pytest.mark.parametrize(("env", "algo"), [(env, algo) for env in SEEN_BY for algo in SEEN_BY[env]])
def test_values(trained, env, algo):
    extra = {"normalise_advantages": False} if algo in ACTOR_CRITIC else {}
    agent = trained(algo, f"probe/{env}-v0", gamma=0.5, **QUICK[algo], **extra)
    for observation, expected in VALUES[env].items():
        assert value(agent, algo, observation) == pytest.approx(expected, abs=0.12), observation


@pytest.mark.parametrize("algo", [*ACTOR_CRITIC, "dqn", "q-learning"])
def test_actions_that_depend_on_the_observation(trained, algo):
    agent = trained(algo, "probe/Match-v0", **QUICK[algo])
    assert [acts(agent, -1.0), acts(agent, 1.0)] == [0, 1]


@pytest.mark.parametrize("switch", ["dueling", "prioritised"])
def test_switches_of_dqn(trained, switch):
    agent = trained("dqn", "probe/Match-v0", **{switch: True}, **QUICK["dqn"])
    assert [acts(agent, -1.0), acts(agent, 1.0)] == [0, 1]
    assert value(agent, "dqn", 1.0) == pytest.approx(1.0, abs=0.12)


def test_reinforce_without_a_baseline(trained):
    agent = trained("reinforce", "probe/Bandit-v0", baseline=False, **QUICK["reinforce"])
    assert acts(agent, 0.0) == 1


@pytest.mark.parametrize(
    ("algo", "bootstrap"),
    [(algo, True) for algo in (*ACTOR_CRITIC, "dqn", "q-learning")]
    + [("ppo", False), ("q-learning", False)],
)
def test_a_time_limit_is_no_end(trained, algo, bootstrap):
    """1 a step for ever is worth 1 / (1 - 0.5) = 2; five steps and an end are worth less."""
    agent = trained(algo, "probe/Limit-v0", gamma=0.5, bootstrap_truncated=bootstrap, **QUICK[algo])
    # The state is always the same, so its value is the mean over an episode: 2, or sum 2 - 0.5^k.
    found = value(agent, algo, 0.0)
    if bootstrap:
        assert found == pytest.approx(2.0, abs=0.12)
    else:
        assert found < 1.9


def test_sac_aims_through_its_critic(trained):
    agent = trained("sac", "probe/Aim-v0", target_entropy=-2.5, **QUICK["sac"])
    aimed = agent.policy()(np.zeros((1, 1), np.float32))[0, 0]
    assert aimed == pytest.approx(0.5, abs=0.15)
