"""Small networks in torch, and the same ones in NumPy for playing.

Of a forward pass of eight observations through torch most is overhead; in NumPy it is a few matrix
products. Playing needs no gradients, so it is done there.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy import ndarray
from torch import Tensor, nn

Forward = Callable[[Float[ndarray, "N I"]], Float[ndarray, "N O"]]


def mlp(sizes: Sequence[int], activation: type[nn.Module], last_gain: float = 1.0) -> nn.Sequential:
    """Linear layers with an activation between them.

    Weights are orthogonal with gain sqrt(2), the last ones with `last_gain`: small for a policy, so
    that it begins by trying everything alike. Biases are 0.
    """
    layers: list[nn.Module] = []
    for index, (width, following) in enumerate(pairwise(sizes)):
        last = index == len(sizes) - 2
        linear = nn.Linear(width, following)
        nn.init.orthogonal_(linear.weight, last_gain if last else math.sqrt(2))
        nn.init.zeros_(linear.bias)
        layers += [linear] if last else [linear, activation()]
    return nn.Sequential(*layers)


def numpy_forward(net: nn.Sequential) -> Forward:
    """The same function of NumPy arrays.

    On a CPU it shares the weights' memory and follows every update; else it is a copy of now.
    """
    layers: list[tuple[ndarray, ndarray] | Callable] = []
    for layer in net:
        if isinstance(layer, nn.Linear):
            layers.append((as_numpy(layer.weight).T, as_numpy(layer.bias)))
        else:
            layers.append({nn.Tanh: np.tanh, nn.ReLU: relu}[type(layer)])

    return partial(through, layers)


def through(
    layers: list[tuple[ndarray, ndarray] | Callable], x: Float[ndarray, "N _"]
) -> Float[ndarray, "N _"]:
    """Weights with their biases, and functions, one after the other."""
    for layer in layers:
        x = x @ layer[0] + layer[1] if isinstance(layer, tuple) else layer(x)
    return x


def relu(x: ndarray) -> ndarray:
    """max(x, 0)."""
    return np.maximum(x, 0)


def as_numpy(tensor: Tensor) -> ndarray:
    """A view of a CPU tensor, a copy of another."""
    return tensor.detach().cpu().numpy()


def greedy(scores: Forward) -> Callable[[Float[ndarray, "N O"]], Int64[ndarray, " N"]]:
    """The action with the highest score, be it a logit or a value."""
    return lambda observations: scores(observations).argmax(axis=1)


def gumbel_max(
    logits: Float[ndarray, "N A"], uniform: Float[ndarray, "N A"]
) -> Int64[ndarray, " N"]:
    """Draw from softmax(logits): argmax(logits - log(-log u)) with u uniform in (0, 1)."""
    return (logits - np.log(-np.log(uniform))).argmax(axis=1)


def log_prob_and_entropy(
    logits: Float[Tensor, "B A"], actions: Int64[Tensor, " B"]
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """Of the actions taken, and of the distributions, in nats."""
    log_p = logits.log_softmax(dim=1)
    return log_p.gather(1, actions[:, None])[:, 0], -(log_p.exp() * log_p).sum(dim=1)


def explained_variance(
    predicted: Float[ndarray, " B"], truth: Float[ndarray, " B"]
) -> float | None:
    """1: the values know the returns; 0: no better than their mean; below: worse than it."""
    variance = truth.var()
    return float(1 - (truth - predicted).var() / variance) if variance > 0 else None


def follow(target: nn.Module, source: nn.Module, tau: float) -> None:
    """target += tau (source - target), parameter by parameter."""
    with torch.no_grad():
        torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), tau)
