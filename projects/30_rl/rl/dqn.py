"""Deep Q-learning (Mnih 2015): learn what actions are worth from a memory of old transitions.

    L = E[huber(R + d Q_target(s', a*) - Q(s, a))]

with R the discounted sum of n rewards and d = gamma^n, or 0 after a terminal step. a* is the
target's own best action (Mnih 2015) or, with --double, the network's (van Hasselt 2016). What keeps
it from running after itself: the replay buffer, and a target that follows slowly. Each is a switch.
"""

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from rl.adam import Adam
from rl.config import DqnConfig
from rl.envs import Envs
from rl.evaluate import Act
from rl.networks import Forward, follow, greedy, mlp, numpy_forward
from rl.replay import Batch, Replay, SumTree
from rl.returns import n_step
from rl.session import Session

PRIORITY_POWER, PRIORITY_FLOOR = 0.6, 1e-3  # alpha of Schaul 2016, and the least error
WEIGHT_POWER = 0.4  # beta at the start of the run; 1 at its end


class Agent(nn.Module):
    """Values of all actions; `dueling` splits them into V(s) and A(s, a) - mean A (Wang 2016)."""

    def __init__(
        self, observations: int, actions: int, hidden: tuple[int, ...], dueling: bool
    ) -> None:
        super().__init__()
        self.dueling = dueling
        # One more output is V; sharing the last layer's input is what makes it a dueling network.
        self.net = mlp((observations, *hidden, actions + dueling), nn.ReLU)

    def forward(self, observations: Float[Tensor, "B O"]) -> Float[Tensor, "B A"]:
        return combine(self.net(observations)) if self.dueling else self.net(observations)

    def values(self) -> Forward:
        """The same in NumPy."""
        forward = numpy_forward(self.net)
        return (lambda x: combine(forward(x))) if self.dueling else forward

    def policy(self) -> Act:
        """The action of the highest value."""
        return greedy(self.values())


def combine(heads):
    """Q(s, a) = V(s) + A(s, a) - mean A(s, .), of (B, A + 1) with V last, in torch or NumPy."""
    value, advantage = heads[:, -1:], heads[:, :-1]
    return value + advantage - advantage.mean(1)[:, None]


def td_targets(
    rewards: Float[Tensor, " B"],
    discounts: Float[Tensor, " B"],
    following: Float[Tensor, "B A"],
    chooser: Float[Tensor, "B A"],
) -> Float[Tensor, " B"]:
    """R + d Q_target(s', argmax of the chooser): its own values, or the network's for double."""
    best = chooser.argmax(dim=1, keepdim=True)
    return rewards + discounts * following.gather(1, best)[:, 0]


def dqn_loss(
    values: Float[Tensor, "B A"],
    actions: Int64[Tensor, " B"],
    targets: Float[Tensor, " B"],
    weights: Float[Tensor, " B"] | None = None,
) -> tuple[Float[Tensor, ""], Float[Tensor, " B"]]:
    """Huber loss of the actions taken, its mean, and the errors Q - target."""
    taken = values.gather(1, actions[:, None])[:, 0]
    losses = F.smooth_l1_loss(taken, targets, reduction="none")
    return (losses if weights is None else weights * losses).mean(), (taken - targets).detach()


def importance_weights(
    shares: Float[np.ndarray, " B"], size: int, beta: float
) -> Float[np.ndarray, " B"]:
    """(1 / (size p))^beta over their largest: undoes the bias of drawing by priority (eq. 1)."""
    weights = (size * shares) ** -beta
    return weights / weights.max()


def build(config: DqnConfig, envs: Envs) -> Agent:
    """An agent for these environments; `config` is settled."""
    return Agent(envs.observation_size, envs.actions, config.hidden, config.dueling)


def train(config: DqnConfig) -> dict[str, float | int | None]:
    """Train on `config.env`; returns the run's figures."""
    session = Session(config)
    config, envs, device = session.config, session.envs, session.run.device
    agent, target = build(config, envs).to(device), build(config, envs).to(device)
    target.load_state_dict(agent.state_dict())
    optimizer = Adam(agent.parameters(), config.lr)
    # Without replay it holds the last iteration's transitions and nothing else.
    rows, count = config.horizon, config.envs
    capacity = config.capacity if config.replay else rows * count
    replay = Replay(capacity, envs.observation_size, np.array(0))
    tree = SumTree(capacity)

    observations = np.zeros((rows + 1, count, envs.observation_size), np.float32)
    actions = np.zeros((rows, count), np.int64)
    rewards = np.zeros((rows, count), np.float32)
    terminated, truncated, is_reset = (np.zeros((rows, count), bool) for _ in range(3))

    start = session.resume(
        agent=agent, target=target, optimizer=optimizer, replay=replay, tree=tree
    )
    for step in session.steps(start):
        rng = session.rng(step)
        optimizer.lr = config.lr * max(0.1, session.remaining)

        # Play, at random with probability epsilon.
        decay = min(1.0, session.env_steps / config.epsilon_steps)
        epsilon = 1 + (config.epsilon_end - 1) * decay
        policy = agent.policy()
        at_random = rng.random((rows, count)) < epsilon
        random_actions = rng.integers(envs.actions, size=(rows, count))
        for t in range(rows):
            observations[t] = envs.observation
            actions[t] = np.where(at_random[t], random_actions[t], policy(observations[t]))
            rewards[t], terminated[t], truncated[t], is_reset[t] = envs.step(actions[t])
        observations[rows] = envs.observation

        # Remember all but the reset steps.
        over = terminated | truncated if not config.bootstrap_truncated else terminated
        sums, discounts, last = n_step(rewards, over, truncated, config.gamma, config.n_step)
        t, column = np.nonzero(~is_reset)
        places = replay.add(
            Batch(
                observations[t, column],
                actions[t, column],
                sums[t, column],
                observations[last[t, column], column],
                discounts[t, column],
            )
        )
        if config.prioritised:  # as urgent as the most urgent, so that each is seen once
            tree.update(places, np.full(len(places), tree.largest or 1.0))

        # Learn.
        metrics = {}
        if session.env_steps + len(t) >= config.warmup:
            totals = torch.zeros(4)
            for _ in range(config.updates):
                weights = None
                if config.prioritised:
                    chosen = tree.draw(rng.random(config.batch_size))
                    beta = 1 - (1 - WEIGHT_POWER) * session.remaining
                    shares = tree.weights(chosen) / tree.total
                    weights = importance_weights(shares, replay.size, beta).astype(np.float32)
                    weights = torch.from_numpy(weights).to(device)
                else:
                    chosen = rng.integers(replay.size, size=config.batch_size)
                batch = Batch(*(torch.from_numpy(a).to(device) for a in replay.take(chosen)))
                with torch.no_grad():
                    following = (target if config.target_network else agent)(batch.following)
                    chooser = agent(batch.following) if config.double else following
                    targets = td_targets(batch.rewards, batch.discounts, following, chooser)
                values = agent(batch.observations)
                loss, errors = dqn_loss(values, batch.actions, targets, weights)

                optimizer.zero_grad()
                loss.backward()
                norm = optimizer.step(config.max_grad_norm)
                if config.target_network:
                    follow(target, agent, config.tau)
                if config.prioritised:
                    size = errors.abs().cpu().numpy().astype(np.float64) + PRIORITY_FLOOR
                    tree.update(chosen, size**PRIORITY_POWER)
                with torch.no_grad():
                    totals += torch.stack(
                        [loss, values.max(1).values.mean(), errors.abs().mean(), norm]
                    ).cpu()
            names = ("loss", "value", "td_error", "grad_norm")
            metrics = dict(zip(names, (totals / config.updates).tolist(), strict=True))

        session.log(step, len(t), epsilon=epsilon, **metrics)
        session.validate(step, agent.policy)
    return session.finish(agent, agent.policy)
