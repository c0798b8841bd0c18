"""Advantage actor-critic (Mnih 2016, played synchronously): one gradient step for each rollout.

    L = -E[log pi(a|s) A] + 0.5 E[(G - V(s))^2] - w E[H(pi(.|s))],   G = A + V(s)

Short rollouts and the critic's opinion of what follows replace REINFORCE's whole episodes. A
rollout is used once, so the gradient is that of the policy which played it, and nothing has to be
clipped.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from rl.adam import Adam
from rl.config import A2cConfig
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


def a2c_loss(
    log_prob: Float[Tensor, " B"],
    advantages: Float[Tensor, " B"],
    values: Float[Tensor, " B"],
    targets: Float[Tensor, " B"],
    entropy: Float[Tensor, " B"],
    entropy_weight: float,
) -> Float[Tensor, ""]:
    """The sum of the three; advantages and targets are constants."""
    loss_policy = -(log_prob * advantages).mean()
    return loss_policy + 0.5 * F.mse_loss(values, targets) - entropy_weight * entropy.mean()


def build(config: A2cConfig, envs: Envs) -> Agent:
    """An agent for these environments; `config` is settled."""
    return Agent(envs.observation_size, envs.actions, config.hidden)


def train(config: A2cConfig) -> dict[str, float | int | None]:
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

        # Play.
        logits = numpy_forward(agent.actor)
        uniform = rng.random((rows, count, envs.actions), np.float32)
        for t in range(rows):
            observations[t] = envs.observation
            actions[t] = gumbel_max(logits(observations[t]), uniform[t])
            rewards[t], terminated[t], truncated[t], is_reset[t] = envs.step(actions[t])
        observations[rows] = envs.observation

        # What was better than expected?
        value = agent.critic(torch.from_numpy(observations).to(device))[..., 0]  # (T+1, N)
        values = value.detach().cpu().numpy()
        if not config.bootstrap_truncated:  # one of the gallery's failures
            terminated, truncated = terminated | truncated, np.zeros_like(truncated)
        advantages = gae(rewards, values, terminated, truncated, config.gamma, config.gae_lambda)
        learned = np.flatnonzero(~is_reset)  # rows of the rollout laid flat
        targets = (advantages + values[:-1]).ravel()[learned]
        advantage = advantages.ravel()[learned]
        if config.normalise_advantages:
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)

        # Learn from it, once.
        picked = torch.from_numpy(learned).to(device)
        flat = observations[:-1].reshape(rows * count, -1)[learned]
        log_prob, entropy = log_prob_and_entropy(
            agent.actor(torch.from_numpy(flat).to(device)),
            torch.from_numpy(actions.ravel()[learned]).to(device),
        )
        loss = a2c_loss(
            log_prob,
            torch.from_numpy(advantage).to(device),
            value[:-1].flatten()[picked],
            torch.from_numpy(targets).to(device),
            entropy,
            config.entropy_weight,
        )
        optimizer.zero_grad()
        loss.backward()
        norm = optimizer.step(config.max_grad_norm)

        session.log(
            step,
            len(learned),
            loss=loss,
            entropy=entropy.mean(),
            grad_norm=norm,
            explained_variance=explained_variance(values[:-1].ravel()[learned], targets),
            value=float(values[:-1].mean()),
        )
        session.validate(step, agent.policy)
    return session.finish(agent, agent.policy)
