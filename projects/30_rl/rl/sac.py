"""Soft actor-critic (Haarnoja 2018): act as randomly as one can while earning much.

The actor squashes a Gaussian, a = tanh(u); two critics learn

    Q(s, a) <- r + d (min Q_target(s', a') - alpha log pi(a'|s')),   a' ~ pi(.|s')

and the actor goes up their smaller one, minus alpha log pi, through its own sample. alpha itself is
moved so that the entropy stays near a target. The smaller of two critics answers the optimism of
one, and the buffer makes it off-policy: every transition is used many times.
"""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor, nn
from torch.nn import functional as F

from rl.adam import Adam
from rl.config import SacConfig
from rl.envs import Envs
from rl.evaluate import Act
from rl.networks import Forward, follow, mlp, numpy_forward
from rl.replay import Batch, Replay
from rl.session import Session

LOG_STD_LOW, LOG_STD_HIGH = -5.0, 2.0
LOG_2, HALF_LOG_2PI = math.log(2), 0.5 * math.log(2 * math.pi)


class Critics(nn.Module):
    """Two networks of (s, a) that share nothing, in one product a layer."""

    def __init__(self, inputs: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        sizes = (inputs, *hidden, 1)
        twins = [mlp(sizes, nn.ReLU), mlp(sizes, nn.ReLU)]
        linears = [[layer for layer in net if isinstance(layer, nn.Linear)] for net in twins]
        self.weights = nn.ParameterList(
            torch.stack([one.weight.T, two.weight.T]).detach()
            for one, two in zip(*linears, strict=True)
        )
        self.biases = nn.ParameterList(torch.zeros(2, 1, size) for size in sizes[1:])

    def forward(
        self, observations: Float[Tensor, "B O"], actions: Float[Tensor, "B A"]
    ) -> Float[Tensor, "2 B"]:
        x = torch.cat([observations, actions], dim=1).expand(2, -1, -1)
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x if index == 0 else x.relu(), weight)  # (2, B, width)
        return x[..., 0]


class Agent(nn.Module):
    """The actor: mean and log standard deviation of u, and log alpha."""

    def __init__(
        self,
        observations: int,
        low: Float[ndarray, " A"],
        high: Float[ndarray, " A"],
        hidden: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.actor = mlp((observations, *hidden, 2 * len(low)), nn.ReLU, last_gain=0.01)
        self.log_alpha = nn.Parameter(torch.zeros(()))
        # Of the environment's bounds: actions are in (-1, 1) everywhere else.
        self.register_buffer("centre", torch.from_numpy((high + low) / 2))
        self.register_buffer("scale", torch.from_numpy((high - low) / 2))

    def sample(
        self, observations: Float[Tensor, "B O"]
    ) -> tuple[Float[Tensor, "B A"], Float[Tensor, " B"]]:
        """Actions in (-1, 1) and their log probability, both with gradients."""
        mean, log_std = self.actor(observations).chunk(2, dim=1)
        log_std = log_std.clamp(LOG_STD_LOW, LOG_STD_HIGH)
        noise = torch.randn_like(mean)
        u = mean + log_std.exp() * noise
        return u.tanh(), squashed_log_prob(u, noise, log_std)

    def explorer(self) -> Callable[[ndarray, ndarray], ndarray]:
        """Actions in (-1, 1) of observations and standard normal noise."""
        return partial(explore, numpy_forward(self.actor))

    def policy(self) -> Act:
        """tanh of the mean, within the environment's bounds."""
        forward = numpy_forward(self.actor)
        centre, scale = self.centre.cpu().numpy(), self.scale.cpu().numpy()
        return lambda x: centre + scale * np.tanh(np.split(forward(x), 2, axis=1)[0])


def explore(
    forward: Forward, observations: Float[ndarray, "N O"], noise: Float[ndarray, "N A"]
) -> Float[ndarray, "N A"]:
    """tanh(mean + std noise), in NumPy."""
    mean, log_std = np.split(forward(observations), 2, axis=1)
    return np.tanh(mean + np.exp(log_std.clip(LOG_STD_LOW, LOG_STD_HIGH)) * noise)


def squashed_log_prob(
    u: Float[Tensor, "B A"], noise: Float[Tensor, "B A"], log_std: Float[Tensor, "B A"]
) -> Float[Tensor, " B"]:
    """log pi(tanh u) = log N(u) - sum log(1 - tanh(u)^2) (appendix C, eq. 21).

    log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2u)) does not underflow where tanh(u) is 1.
    """
    gaussian = -0.5 * noise**2 - log_std - HALF_LOG_2PI
    return (gaussian - 2 * (LOG_2 - u - F.softplus(-2 * u))).sum(dim=1)


def build(config: SacConfig, envs: Envs) -> Agent:
    """An agent for these environments; `config` is settled."""
    space = envs.action_space
    return Agent(envs.observation_size, space.low, space.high, config.hidden)


def train(config: SacConfig) -> dict[str, float | int | None]:
    """Train on `config.env`; returns the run's figures."""
    session = Session(config)
    config, envs, device = session.config, session.envs, session.run.device
    size, dimensions = envs.observation_size, envs.actions
    agent = build(config, envs).to(device)
    centre, scale = agent.centre.cpu().numpy(), agent.scale.cpu().numpy()
    critics = Critics(size + dimensions, config.hidden).to(device)
    target = Critics(size + dimensions, config.hidden).to(device)
    target.load_state_dict(critics.state_dict())
    actor_optimizer = Adam(agent.actor.parameters(), config.lr)
    critic_optimizer = Adam(critics.parameters(), config.lr)
    alpha_optimizer = Adam([agent.log_alpha], config.lr)
    target_entropy = -dimensions if config.target_entropy is None else config.target_entropy

    rows, count = config.horizon, config.envs
    replay = Replay(config.capacity, size, np.zeros(dimensions, np.float32))
    observations = np.zeros((rows + 1, count, size), np.float32)
    actions = np.zeros((rows, count, dimensions), np.float32)
    rewards = np.zeros((rows, count), np.float32)
    terminated, truncated, is_reset = (np.zeros((rows, count), bool) for _ in range(3))

    start = session.resume(
        agent=agent, critics=critics, target=target, actor_optimizer=actor_optimizer,
        critic_optimizer=critic_optimizer, alpha_optimizer=alpha_optimizer, replay=replay,
    )  # fmt: skip
    for step in session.steps(start):
        rng = session.rng(step)

        # Play.
        act = agent.explorer()
        noise = rng.standard_normal((rows, count, dimensions), np.float32)
        if session.env_steps < config.warmup:
            actions[:] = rng.uniform(-1, 1, actions.shape)
        for t in range(rows):
            observations[t] = envs.observation
            if session.env_steps >= config.warmup:
                actions[t] = act(observations[t], noise[t])
            rewards[t], terminated[t], truncated[t], is_reset[t] = envs.step(
                centre + scale * actions[t]
            )
        observations[rows] = envs.observation

        # Remember all but the reset steps.
        over = terminated if config.bootstrap_truncated else terminated | truncated
        t, column = np.nonzero(~is_reset)
        discounts = (config.gamma * ~over[t, column]).astype(np.float32)
        replay.add(
            Batch(
                observations[t, column],
                actions[t, column],
                rewards[t, column],
                observations[t + 1, column],
                discounts,
            )
        )

        # Learn.
        metrics = {}
        if session.env_steps + len(t) >= config.warmup:
            totals = torch.zeros(5)
            drawn = replay.take(rng.integers(replay.size, size=(config.updates, config.batch_size)))
            batches = [torch.from_numpy(array).to(device) for array in drawn]
            for update in range(config.updates):
                observation, action, reward, following, discount = (b[update] for b in batches)
                alpha = agent.log_alpha.detach().exp()

                with torch.no_grad():
                    next_action, next_log_prob = agent.sample(following)
                    next_value = target(following, next_action).amin(dim=0)
                    goal = reward + discount * (next_value - alpha * next_log_prob)
                values = critics(observation, action)  # (2, B)
                loss_critic = F.mse_loss(values, goal.expand(2, -1))
                critic_optimizer.zero_grad()
                loss_critic.backward()
                norm = critic_optimizer.step()

                critics.requires_grad_(False)
                own_action, log_prob = agent.sample(observation)
                value = critics(observation, own_action).amin(dim=0)
                loss_actor = (alpha * log_prob - value).mean()
                loss_alpha = -agent.log_alpha * (log_prob.detach().mean() + target_entropy)
                actor_optimizer.zero_grad()
                alpha_optimizer.zero_grad()
                (loss_actor + loss_alpha).backward()
                actor_optimizer.step()
                alpha_optimizer.step()
                critics.requires_grad_(True)

                follow(target, critics, config.tau)
                with torch.no_grad():
                    figures = [loss_critic, values.mean(), -log_prob.mean(), alpha, norm]
                    totals += torch.stack(figures).cpu()
            names = ("loss", "value", "entropy", "alpha", "grad_norm")
            metrics = dict(zip(names, (totals / config.updates).tolist(), strict=True))

        session.log(step, len(t), **metrics)
        session.validate(step, agent.policy)
    return session.finish(agent, agent.policy)
