"""What came after: returns, advantages, n-step sums. Rows are time, columns environments.

Values of observation t+1 after the end of an episode are those of its true last observation (see
`rl.envs`): so the value to bootstrap with is always the next row's.
"""

import numpy as np
from jaxtyping import Bool, Float, Int64
from numpy import ndarray


def gae(
    rewards: Float[ndarray, "T N"],
    values: Float[ndarray, "T+1 N"],
    terminated: Bool[ndarray, "T N"],
    truncated: Bool[ndarray, "T N"],
    gamma: float,
    gae_lambda: float,
) -> Float[ndarray, "T N"]:
    """Generalised advantage estimates (Schulman 2016, eq. 16).

    delta_t = r_t + gamma V(s_{t+1}) - V(s_t), A_t = delta_t + gamma lambda A_{t+1}. After a
    terminal step the next value is 0; after any end the sum stops. Advantages of reset steps mean
    nothing, and no other row reads them.
    """
    deltas = rewards + gamma * values[1:] * ~terminated - values[:-1]
    go_on = gamma * gae_lambda * ~(terminated | truncated)
    advantages = np.empty_like(deltas)
    later = np.zeros_like(deltas[0])
    for t in range(len(rewards) - 1, -1, -1):
        later = advantages[t] = deltas[t] + go_on[t] * later
    return advantages


def discounted_returns(
    rewards: Float[ndarray, "T N"],
    after: Float[ndarray, "T N"],
    over: Bool[ndarray, "T N"],
    gamma: float,
) -> Float[ndarray, "T N"]:
    """G_t = r_t + gamma G_{t+1}; where an episode is over, G_{t+1} is `after`: 0 or a value."""
    returns = np.empty_like(rewards)
    later = after[-1]
    for t in range(len(rewards) - 1, -1, -1):
        later = returns[t] = rewards[t] + gamma * np.where(over[t], after[t], later)
    return returns


def n_step(
    rewards: Float[ndarray, "T N"],
    terminated: Bool[ndarray, "T N"],
    truncated: Bool[ndarray, "T N"],
    gamma: float,
    n: int,
) -> tuple[Float[ndarray, "T N"], Float[ndarray, "T N"], Int64[ndarray, "T N"]]:
    """Sums of up to n rewards, as far as the episode and the rows reach.

    Returns:
        The discounted sums; what the value of the observation after them is multiplied by (gamma^k,
        0 after a terminal step); and the row of that observation, 1 .. T.
    """
    count = len(rewards)
    sums, discounts = np.zeros_like(rewards), np.ones_like(rewards)
    last = np.broadcast_to(np.arange(count)[:, None], rewards.shape).copy()
    running = np.ones(rewards.shape, bool)
    for k in range(min(n, count)):
        rows = slice(0, count - k)  # those that have a row k later
        now = running[rows]
        sums[rows] += np.where(now, gamma**k * rewards[k:], 0)
        last[rows] += now
        discounts[rows] = np.where(now, gamma ** (k + 1) * ~terminated[k:], discounts[rows])
        running[rows] &= ~(terminated[k:] | truncated[k:])
    return sums, discounts, last
