"""Proximal policy optimisation (Schulman 2017): go as far as one rollout can be trusted.

A rollout is used for several epochs. The further the policy moves from the one that played it, the
less the rollout says about it, so the gain from moving a probability is cut off at a ratio of
1 ± clip:

    L = -E[min(r A, clip(r, 1 - c, 1 + c) A)],  r = pi(a|s) / pi_old(a|s)          (eq. 7)

`approx_kl` and `clip_fraction` tell how far it went, `explained_variance` what the values know.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from rl.adam import Adam
from rl.config import PpoConfig
from rl.envs import Envs
from rl.evaluate import Act
from rl.networks import (
    explained_variance,
    greedy,
    gumbel_max,
    log_prob_and_entropy,
    mlp,
    numpy_forward,
)
from rl.returns import gae
from rl.session import Session


class Agent(nn.Module):
    """A policy and a value network that share nothing."""

    def __init__(self, observations: int, actions: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.actor = mlp((observations, *hidden, actions), nn.Tanh, last_gain=0.01)
        self.critic = mlp((observations, *hidden, 1), nn.Tanh)

    def policy(self) -> Act:
        """The likeliest action."""
        return greedy(numpy_forward(self.actor))


def policy_loss(
    log_ratio: Float[Tensor, " B"], advantages: Float[Tensor, " B"], clip: float
) -> Float[Tensor, ""]:
    """The clipped surrogate, to be minimised (eq. 7)."""
    ratio = log_ratio.exp()
    return -torch.min(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages).mean()


def value_loss(
    values: Float[Tensor, " B"],
    old_values: Float[Tensor, " B"],
    returns: Float[Tensor, " B"],
    clip: float | None,
) -> Float[Tensor, ""]:
    """Mean squared error; with `clip`, of values kept within `clip` of the old ones."""
    if clip is not None:
        values = old_values + (values - old_values).clamp(-clip, clip)
    return F.mse_loss(values, returns)


def build(config: PpoConfig, envs: Envs) -> Agent:
    """An agent for these environments; `config` is settled."""
    return Agent(envs.observation_size, envs.actions, config.hidden)


def train(config: PpoConfig) -> dict[str, float | int | None]:
    """Train on `config.env`; returns the run's figures."""
    session = Session(config)
    config, envs, device = session.config, session.envs, session.run.device
    agent = build(config, envs).to(device)
    optimizer = Adam(agent.parameters(), config.lr, eps=1e-5)

    rows, count = config.horizon, config.envs
    observations = np.zeros((rows + 1, count, envs.observation_size), np.float32)
    actions = np.zeros((rows, count), np.int64)
    rewards = np.zeros((rows, count), np.float32)
    terminated, truncated, is_reset = (np.zeros((rows, count), bool) for _ in range(3))

    start = session.resume(agent=agent, optimizer=optimizer)
    for step in session.steps(start):
        rng = session.rng(step)
        optimizer.lr = config.lr * session.remaining
        clip = config.clip * session.remaining

        # Play.
        logits = numpy_forward(agent.actor)
        uniform = rng.random((rows, count, envs.actions), np.float32)
        for t in range(rows):
            observations[t] = envs.observation
            actions[t] = gumbel_max(logits(observations[t]), uniform[t])
            rewards[t], terminated[t], truncated[t], is_reset[t] = envs.step(actions[t])
        observations[rows] = envs.observation

        # What was better than expected?
        with torch.no_grad():
            seen = torch.from_numpy(observations).to(device)  # (T+1, N, O)
            values = agent.critic(seen)[..., 0].cpu().numpy()  # (T+1, N)
        if not config.bootstrap_truncated:  # one of the gallery's failures
            terminated, truncated = terminated | truncated, np.zeros_like(truncated)
        advantages = gae(rewards, values, terminated, truncated, config.gamma, config.gae_lambda)
        learned = np.flatnonzero(~is_reset)  # rows of the rollout laid flat
        targets = (advantages + values[:-1]).ravel()[learned]

        observation, action, advantage, target, old_value = (
            torch.from_numpy(array).to(device)
            for array in (
                observations[:-1].reshape(rows * count, -1)[learned],
                actions.ravel()[learned],
                advantages.ravel()[learned],
                targets,
                values[:-1].ravel()[learned],
            )
        )
        with torch.no_grad():
            old_log_prob, _ = log_prob_and_entropy(agent.actor(observation), action)

        # Learn from it, several times.
        parts = max(1, round(len(learned) / config.minibatch))
        sums = torch.zeros(6)  # of the last epoch
        for epoch in range(config.epochs):
            order = torch.from_numpy(rng.permutation(len(learned))).to(device)
            for part in order.tensor_split(parts):
                log_prob, entropy = log_prob_and_entropy(
                    agent.actor(observation[part]), action[part]
                )
                log_ratio = log_prob - old_log_prob[part]
                goodness = advantage[part]
                if config.normalise_advantages:
                    goodness = (goodness - goodness.mean()) / (goodness.std() + 1e-8)
                loss_policy = policy_loss(log_ratio, goodness, clip)
                value = agent.critic(observation[part])[:, 0]
                loss_value = value_loss(value, old_value[part], target[part], config.clip_value)
                # The networks share nothing, so the value's weight is only a learning rate: 0.5.
                loss = loss_policy + 0.5 * loss_value - config.entropy_weight * entropy.mean()

                optimizer.zero_grad()
                loss.backward()
                norm = optimizer.step(config.max_grad_norm)

                if epoch == config.epochs - 1:
                    with torch.no_grad():
                        ratio = log_ratio.exp()
                        sums += torch.stack([
                            loss, loss_value, entropy.mean(), norm,
                            (ratio - 1 - log_ratio).mean(),  # >= 0, estimates KL(old, new)
                            ((ratio - 1).abs() > clip).float().mean(),
                        ]).cpu()  # fmt: skip

        names = ("loss", "loss_value", "entropy", "grad_norm", "approx_kl", "clip_fraction")
        session.log(
            step,
            len(learned),
            **dict(zip(names, (sums / parts).tolist(), strict=True)),
            explained_variance=explained_variance(old_value.cpu().numpy(), targets),
            value=float(old_value.mean()),
        )
        session.validate(step, agent.policy)
    return session.finish(agent, agent.policy)
