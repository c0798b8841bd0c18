"""REINFORCE (Williams 1992): make likelier what was followed by much.

    L = -E[log pi(a_t|s_t) (G_t - b(s_t))],   G_t = r_t + gamma r_{t+1} + gamma^2 r_{t+2} + ...

Whole episodes, no bootstrapping: unbiased and noisy. The baseline b, a learned value, takes out
what the state explains and leaves the expectation as it is. Each environment plays one whole
episode an iteration, so that short ones are no likelier to be seen than long ones.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from rl.adam import Adam
from rl.config import ReinforceConfig
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
from rl.returns import discounted_returns
from rl.session import Session
from trainloop.batches import mix


class Agent(nn.Module):
    """A policy, and the baseline beside it."""

    def __init__(self, observations: int, actions: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.actor = mlp((observations, *hidden, actions), nn.Tanh, last_gain=0.01)
        self.critic = mlp((observations, *hidden, 1), nn.Tanh)

    def policy(self) -> Act:
        """The likeliest action."""
        return greedy(numpy_forward(self.actor))


def reinforce_loss(
    log_prob: Float[Tensor, " B"], advantages: Float[Tensor, " B"]
) -> Float[Tensor, ""]:
    """-E[log pi(a|s) A]: its gradient is the policy gradient."""
    return -(log_prob * advantages).mean()


def build(config: ReinforceConfig, envs: Envs) -> Agent:
    """An agent for these environments; `config` is settled."""
    return Agent(envs.observation_size, envs.actions, config.hidden)


def train(config: ReinforceConfig) -> dict[str, float | int | None]:
    """Train on `config.env`; returns the run's figures."""
    session = Session(config)
    config, envs, device = session.config, session.envs, session.run.device
    agent = build(config, envs).to(device)
    optimizer = Adam(agent.parameters(), config.lr, eps=1e-5)

    start = session.resume(agent=agent, optimizer=optimizer)
    for step in session.steps(start):
        rng = session.rng(step)
        optimizer.lr = config.lr * session.remaining

        # Play one episode each.
        envs.reset(mix(mix(config.seed, step), 1))  # nothing goes on from the last iteration
        logits = numpy_forward(agent.actor)
        playing = np.ones(config.envs, bool)
        rows: list[tuple[np.ndarray, ...]] = []
        while playing.any():
            observation, played = envs.observation, playing.copy()
            uniform = rng.random((config.envs, envs.actions), np.float32)
            action = gumbel_max(logits(observation), uniform)
            reward, terminated, truncated, _ = envs.step(action, playing)
            playing &= ~(terminated | truncated)
            over = ~playing & played
            rows.append((observation, action, reward, over, truncated, envs.observation, played))
        observations, actions, rewards, over, truncated, following, played = map(
            np.stack, zip(*rows, strict=True)
        )  # (T, N, ...); what was played after an environment's first episode does not count

        # What followed?
        after = np.zeros_like(rewards)  # what an episode's end is worth
        if config.baseline and config.bootstrap_truncated:
            cut = truncated & over
            if cut.any():
                with torch.no_grad():
                    ends = torch.from_numpy(following[cut]).to(device)
                    after[cut] = agent.critic(ends)[:, 0].cpu().numpy()
        returns = discounted_returns(rewards, after, over, config.gamma)[played]
        observation = torch.from_numpy(observations[played]).to(device)  # (B, O)
        action = torch.from_numpy(actions[played]).to(device)
        target = torch.from_numpy(returns).to(device)
        value = agent.critic(observation)[:, 0]
        advantage = target - value.detach() if config.baseline else target
        if config.normalise_advantages:
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)

        # Learn from it.
        log_prob, entropy = log_prob_and_entropy(agent.actor(observation), action)
        loss = reinforce_loss(log_prob, advantage) - config.entropy_weight * entropy.mean()
        if config.baseline:
            loss = loss + 0.5 * F.mse_loss(value, target)
        optimizer.zero_grad()
        loss.backward()
        norm = optimizer.step(config.max_grad_norm)

        known = explained_variance(value.detach().cpu().numpy(), returns)
        session.log(
            step,
            len(returns),
            loss=loss,
            entropy=entropy.mean(),
            grad_norm=norm,
            explained_variance=known if config.baseline else None,
            value=float(returns.mean()),
        )
        session.validate(step, agent.policy)
    return session.finish(agent, agent.policy)
