"""Three ways to step, each on the one vector that holds all parameters of a net."""

import math
from typing import Literal

import numpy as np

Method = Literal["gradient-descent", "momentum", "adam"]
METHODS: tuple[Method, ...] = ("gradient-descent", "momentum", "adam")
USUAL_LR: dict[Method, float] = {"gradient-descent": 0.1, "momentum": 0.05, "adam": 0.003}


class Optimizer:
    """Gradient descent with clipping, plain, with momentum, or Adam.

    Args:
        method: by name.
        size: number of parameters.
        clip: longest gradient (Euclidean norm); a longer one keeps its direction. inf: no clipping.
        dtype: of the parameters.
    """

    MOMENTUM, BETA1, BETA2, EPSILON = 0.9, 0.9, 0.999, 1e-8

    def __init__(
        self, method: Method, size: int, clip: float = np.inf, dtype: type = np.float32
    ) -> None:
        self.method, self.clip, self.steps = method, clip, 0
        self.first, self.second = np.zeros(size, dtype), np.zeros(size, dtype)
        self._scratch = np.zeros(size, dtype)

    def step(self, parameters: np.ndarray, gradient: np.ndarray, lr: float) -> float:
        """Change `parameters` in place; returns the gradient's norm before clipping."""
        self.steps += 1
        norm = math.sqrt(np.dot(gradient, gradient))
        if norm > self.clip:
            gradient *= self.clip / norm
        scratch, first, second = self._scratch, self.first, self.second
        if self.method == "gradient-descent":
            np.multiply(gradient, lr, out=scratch)
        elif self.method == "momentum":  # v <- 0.9 v + g (Sutskever 2013, eq. 1, with lr outside)
            first *= self.MOMENTUM
            first += gradient
            np.multiply(first, lr, out=scratch)
        else:  # Kingma 2015, algorithm 1, in the order of its last remark in section 2
            first *= self.BETA1
            np.multiply(gradient, 1 - self.BETA1, out=scratch)
            first += scratch
            second *= self.BETA2
            np.multiply(gradient, gradient, out=scratch)
            scratch *= 1 - self.BETA2
            second += scratch
            correction = np.sqrt(1 - self.BETA2**self.steps)
            np.sqrt(second, out=scratch)
            scratch += self.EPSILON * correction
            np.divide(first, scratch, out=scratch)
            scratch *= lr * correction / (1 - self.BETA1**self.steps)
        parameters -= scratch
        return norm
