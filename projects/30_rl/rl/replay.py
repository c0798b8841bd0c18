"""A replay buffer in NumPy, and the tree that draws by priority."""

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, Shaped
from numpy import ndarray


class Batch(NamedTuple):
    """B transitions."""

    observations: Float32[ndarray, "B O"]
    actions: Shaped[ndarray, "B ..."]
    rewards: Float32[ndarray, " B"]  # sums of n, discounted
    following: Float32[ndarray, "B O"]  # observations after them
    discounts: Float32[ndarray, " B"]  # of the following one's value; 0 after a terminal step


class Replay:
    """The last `capacity` transitions, the oldest overwritten first."""

    def __init__(self, capacity: int, observation_size: int, action: ndarray) -> None:
        """`action`: one, for its shape and type."""
        self.capacity, self.size, self.place = capacity, 0, 0
        self.arrays = Batch(
            np.zeros((capacity, observation_size), np.float32),
            np.zeros((capacity, *action.shape), action.dtype),
            np.zeros(capacity, np.float32),
            np.zeros((capacity, observation_size), np.float32),
            np.zeros(capacity, np.float32),
        )

    def add(self, batch: Batch) -> Int64[ndarray, " B"]:
        """Store B transitions, at most `capacity` of them; returns their places."""
        count = len(batch.rewards)
        places = (self.place + np.arange(count)) % self.capacity
        for array, values in zip(self.arrays, batch, strict=True):
            array[places] = values
        self.place = (self.place + count) % self.capacity
        self.size = min(self.size + count, self.capacity)
        return places

    def take(self, places: Int64[ndarray, "..."]) -> Batch:
        """The transitions at these places."""
        return Batch(*(array[places] for array in self.arrays))

    def state_dict(self) -> dict[str, Any]:
        """What is filled; the rest is zeros."""
        return {
            "place": self.place,
            "size": self.size,
            "arrays": [torch.from_numpy(array[: self.size].copy()) for array in self.arrays],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.place, self.size = state["place"], state["size"]
        for array, saved in zip(self.arrays, state["arrays"], strict=True):
            array[: self.size] = saved.numpy()


class SumTree:
    """Draws places with probability proportional to their weights, in O(log n) (Schaul 2016).

    A binary tree in one array: node i has children 2i and 2i + 1 and holds their sum, leaves are
    the weights. A draw goes down from the root: left if what is left of u is less than the left
    child's sum, else right with that sum taken off.
    """

    def __init__(self, capacity: int) -> None:
        self.leaves = 1 << (capacity - 1).bit_length()  # a power of two
        self.nodes = np.zeros(2 * self.leaves)  # float64: sums of 100,000 weights; node 0 unused

    @property
    def total(self) -> float:
        return float(self.nodes[1])

    @property
    def largest(self) -> float:
        return float(self.nodes[self.leaves :].max())

    def weights(self, places: Int64[ndarray, " B"]) -> Float[ndarray, " B"]:
        return self.nodes[self.leaves + places]

    def update(self, places: Int64[ndarray, " B"], weights: Float[ndarray, " B"]) -> None:
        """Set weights, at least 0; of a place that comes twice the last one counts."""
        self.nodes[self.leaves + places] = weights
        nodes = np.unique(self.leaves + places)
        while nodes[0] > 1:
            nodes = np.unique(nodes >> 1)
            self.nodes[nodes] = self.nodes[2 * nodes] + self.nodes[2 * nodes + 1]

    def draw(self, uniform: Float[ndarray, " B"]) -> Int64[ndarray, " B"]:
        """The place at each share of the total; `uniform` in [0, 1)."""
        left_over = uniform * self.total
        nodes = np.ones(len(uniform), np.int64)
        while nodes[0] < self.leaves:
            nodes = 2 * nodes
            right = left_over >= self.nodes[nodes]
            left_over = left_over - np.where(right, self.nodes[nodes], 0)
            nodes += right
        return nodes - self.leaves

    def state_dict(self) -> dict[str, Any]:
        return {"nodes": torch.from_numpy(self.nodes.copy())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.nodes[:] = state["nodes"].numpy()
