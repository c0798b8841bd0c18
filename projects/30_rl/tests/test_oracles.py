"""The same data through stable-baselines3: advantages and losses must be its own."""

import numpy as np
import pytest
import torch
from torch import nn

from rl.dqn import Agent as QAgent
from rl.dqn import dqn_loss, td_targets
from rl.networks import log_prob_and_entropy
from rl.ppo import policy_loss, value_loss
from rl.returns import gae

stable_baselines3 = pytest.importorskip("stable_baselines3")


@pytest.fixture(scope="module")
def ppo():
    """SB3's PPO with one rollout in its buffer, and weights that have moved since."""
    model = stable_baselines3.PPO(
        "MlpPolicy", "CartPole-v1", n_steps=128, batch_size=128, n_epochs=1, gamma=0.97,
        gae_lambda=0.85, clip_range=0.1, ent_coef=0.01, vf_coef=0.5, seed=0, device="cpu",
        normalize_advantage=True,
    )  # fmt: skip
    _, callback = model._setup_learn(128, None)
    model.collect_rollouts(model.env, callback, model.rollout_buffer, 128)
    torch.manual_seed(1)
    with torch.no_grad():
        for p in model.policy.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model


def test_advantages(ppo):
    """Its `episode_starts` say of the next row what our `terminated` says of this one."""
    buffer = ppo.rollout_buffer
    rng = np.random.default_rng(0)
    rewards, values = rng.standard_normal((2, 128, 1)).astype(np.float32)
    over = rng.random((128, 1)) < 0.1
    last_value = np.float32(0.7)
    buffer_type = type(buffer)
    theirs = buffer_type(
        128, buffer.observation_space, buffer.action_space, "cpu", gae_lambda=0.85, gamma=0.97
    )
    theirs.rewards, theirs.values = rewards, values
    theirs.episode_starts = np.concatenate([[[False]], over[:-1]]).astype(np.float32)
    theirs.compute_returns_and_advantage(torch.tensor([last_value]), over[-1])
    all_values = np.concatenate([values, [[last_value]]])
    ours = gae(rewards, all_values, over, np.zeros_like(over), 0.97, 0.85)
    np.testing.assert_allclose(ours, theirs.advantages, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours + values, theirs.returns, rtol=1e-4, atol=1e-5)


def test_ppo_losses_and_what_is_logged(ppo, monkeypatch):
    logged = {}
    monkeypatch.setattr(
        ppo.logger, "record", lambda name, value, *a, **k: logged.update({name: value})
    )
    data = next(iter(ppo.rollout_buffer.get(None)))  # all rows; train() below flattens no more
    policy = ppo.policy
    with torch.no_grad():
        logits = policy.action_net(policy.mlp_extractor.forward_actor(data.observations))
        values = policy.predict_values(data.observations)[:, 0]
        log_prob, entropy = log_prob_and_entropy(logits, data.actions.long().flatten())
        log_ratio = log_prob - data.old_log_prob
        advantages = data.advantages
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        ours = {
            "train/policy_gradient_loss": policy_loss(log_ratio, advantages, 0.1),
            "train/value_loss": value_loss(values, data.old_values, data.returns, None),
            "train/entropy_loss": -entropy.mean(),
            "train/approx_kl": (log_ratio.exp() - 1 - log_ratio).mean(),
            "train/clip_fraction": ((log_ratio.exp() - 1).abs() > 0.1).float().mean(),
        }
        clipped = value_loss(values, data.old_values, data.returns, 0.05)
    ppo.train()
    assert logged["train/clip_fraction"] > 0.02, "the clip must act, else nothing is compared"
    for name, value in ours.items():
        assert logged[name] == pytest.approx(value.item(), rel=1e-4), name
    loss = (
        ours["train/policy_gradient_loss"]
        + 0.5 * ours["train/value_loss"]
        + 0.01 * ours["train/entropy_loss"]
    )
    assert logged["train/loss"] == pytest.approx(loss.item(), rel=1e-4)
    kept = data.old_values + (values - data.old_values).clamp(-0.05, 0.05)
    assert clipped.item() == pytest.approx(nn.functional.mse_loss(data.returns, kept).item())


def test_dqn_loss(monkeypatch):
    model = stable_baselines3.DQN(
        "MlpPolicy", "CartPole-v1", learning_starts=0, batch_size=64, gamma=0.97, seed=0,
        policy_kwargs={"net_arch": [16, 16]}, device="cpu",
    )  # fmt: skip
    model._setup_learn(1, None)
    rng = np.random.default_rng(0)
    for _ in range(100):
        observation, following = rng.standard_normal((2, 1, 4)).astype(np.float32)
        action, reward = rng.integers(2, size=(1, 1)), rng.standard_normal(1)
        model.replay_buffer.add(observation, following, action, reward, rng.random(1) < 0.2, [{}])
    with torch.no_grad():
        for p in model.q_net_target.parameters():
            p.add_(0.1 * torch.randn_like(p))
    data = model.replay_buffer.sample(64)
    monkeypatch.setattr(model.replay_buffer, "sample", lambda *_, **__: data)
    agents = []
    for net in (model.q_net, model.q_net_target):
        agent = QAgent(4, 2, (16, 16), dueling=False)
        agent.net.load_state_dict(net.q_net.state_dict())
        agents.append(agent)
    agent, target = agents
    discounts = 0.97 * (1 - data.dones[:, 0])
    with torch.no_grad():
        following = target(data.next_observations)
        targets = td_targets(data.rewards[:, 0], discounts, following, following)
        loss, errors = dqn_loss(agent(data.observations), data.actions[:, 0], targets)
    logged = {}
    monkeypatch.setattr(
        model.logger, "record", lambda name, value, *a, **k: logged.update({name: value})
    )
    model.train(1, 64)
    assert logged["train/loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert errors.shape == (64,)


def test_double_chooses_by_one_and_values_by_the_other():
    following, chooser = torch.tensor([[1.0, 5.0]]), torch.tensor([[3.0, 2.0]])
    one, half = torch.ones(1), torch.full((1,), 0.5)
    assert td_targets(one, half, following, following).item() == 1 + 0.5 * 5
    assert td_targets(one, half, following, chooser).item() == 1 + 0.5 * 1


def test_weights_of_a_loss_are_a_weighted_mean():
    values, targets = torch.zeros(2, 2), torch.tensor([0.5, 3.0])
    actions, weights = torch.tensor([0, 1]), torch.tensor([1.0, 0.25])
    loss, errors = dqn_loss(values, actions, targets, weights)
    assert loss.item() == pytest.approx((0.5 * 0.5**2 + 0.25 * 2.5) / 2)
    assert errors.tolist() == [-0.5, -3.0]


def test_dueling_keeps_values_and_their_differences():
    agent = QAgent(3, 4, (8,), dueling=True)
    x = torch.randn(5, 3)
    heads = agent.net(x)
    values = agent(x)
    torch.testing.assert_close(values.mean(1), heads[:, -1])  # V
    torch.testing.assert_close(values - values[:, :1], heads[:, :4] - heads[:, :1])
    np.testing.assert_allclose(agent.values()(x.numpy()), values.detach().numpy(), atol=1e-5)
