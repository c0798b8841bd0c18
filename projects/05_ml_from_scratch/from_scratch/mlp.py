"""The multilayer perceptron on MNIST, twice: in NumPy on `autograd.Tensor`, and in PyTorch.

Model        h₀ = x, hₗ₊₁ = relu(hₗ Wₗ + bₗ), the last layer without relu: logits z, (B, 10).
He           W ~ N(0, 2 / fan-in), b = 0: relu drops half of the second moment, the 2 restores it,
             so that signals neither die nor grow with depth (He et al. 2015, eq. 10).
Loss         mean of −log softmax(z)_y over a minibatch.
Adam         m ← β₁m + (1 − β₁)g, v ← β₂v + (1 − β₂)g², and with m̂ = m / (1 − β₁ᵗ),
             v̂ = v / (1 − β₂ᵗ): p ← p − η m̂ / (√v̂ + ε) (Kingma, Ba 2015, algorithm 1).
Schedule     η climbs over the first 4% of the steps, then falls along half a cosine.
The twin     PyTorch starts from the same weights and sees the same batches: a wrong gradient
             anywhere would drive the losses apart within a few steps. In float64 they agree to
             1e-15. In float32 they do to 1e-6, until for one image the input of one relu is so near
             to 0 that rounding puts it on different sides. That gradient is there in one library
             and 0 in the other; more relus follow, and the two part for good.

Sources: He, Zhang, Ren, Sun, "Delving Deep into Rectifiers", ICCV 2015; Kingma, Ba, "Adam: A Method
for Stochastic Optimization", ICLR 2015.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import batched, pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

from from_scratch.autograd import Tensor, cross_entropy, topological_order
from trainloop import check, load_images, warmup_cosine

VALIDATION = 5000  # the last ones of the 60,000 training images


@dataclass(frozen=True, kw_only=True)
class Config:
    """Train a multilayer perceptron in NumPy, and compare it with PyTorch step by step."""

    seed: int = 0
    """Initial weights and the order of the batches."""
    hidden: tuple[int, ...] = (256, 128)
    """Units of each hidden layer."""
    epochs: int = 10
    """Passes over the 55,000 training images."""
    batch_size: int = 128
    """Images a step."""
    lr: float = 2e-3
    """Adam's η at its highest."""
    compared: int = 200
    """Steps that PyTorch takes, too."""

    def __post_init__(self) -> None:
        check(self.seed >= 0, f"--seed must not be negative, not {self.seed}")
        units = bool(self.hidden) and min(self.hidden) >= 1
        check(units, f"--hidden needs at least one layer, of at least 1 unit, not {self.hidden}")
        check(self.epochs >= 1, f"--epochs must be at least 1, not {self.epochs}")
        check(self.batch_size >= 1, f"--batch-size must be at least 1, not {self.batch_size}")
        rate = self.lr
        check(0 < rate <= 1, f"--lr must be in (0, 1], not {rate}")
        check(self.compared >= 1, f"--compared must be at least 1, not {self.compared}")

    def steps(self, images: int) -> int:
        """Optimiser steps of the whole training."""
        return max(1, self.epochs * images // self.batch_size)


# --- the model -----------------------------------------------------------------------------------


def he_init(sizes: tuple[int, ...], rng: np.random.Generator, dtype=np.float32) -> list[Tensor]:
    """[W₀, b₀, W₁, b₁, ...] of layers of these sizes; W (in, out), b (out,)."""
    parameters = []
    for fan_in, fan_out in pairwise(sizes):
        W = rng.standard_normal((fan_in, fan_out)) * np.sqrt(2 / fan_in)
        parameters += [Tensor(W.astype(dtype)), Tensor(np.zeros(fan_out, dtype))]
    return parameters


def forward(parameters: list[Tensor], X: Float[np.ndarray, "B d"]) -> Float[Tensor, "B K"]:
    """Logits. X is a constant: no time goes into its gradient."""
    *hidden, (W_last, b_last) = batched(parameters, 2)
    h = X
    for W, b in hidden:
        h = (h @ W + b).relu()
    return h @ W_last + b_last


class Adam:
    """Adam with bias correction, as torch.optim.Adam, in place: a step allocates nothing."""

    def __init__(
        self,
        parameters: list[Tensor],
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        self.parameters, self.betas, self.eps, self.t = parameters, betas, eps, 0
        self.m, self.v, self.scratch = (
            [np.zeros_like(p.value) for p in parameters] for _ in range(3)
        )

    def step(self, rate: float | int) -> None:
        """Move every parameter by its gradient, and set that to None."""
        self.t += 1
        beta1, beta2 = self.betas
        correct1, correct2 = 1 - beta1**self.t, 1 - beta2**self.t
        for p, m, v, s in zip(self.parameters, self.m, self.v, self.scratch, strict=True):
            m *= beta1
            m += np.multiply(p.grad, 1 - beta1, out=s)
            v *= beta2
            np.multiply(p.grad, p.grad, out=s)
            s *= 1 - beta2
            v += s
            np.sqrt(v, out=s)
            s /= correct2**0.5
            s += self.eps  # √v̂ + ε
            np.divide(m, s, out=s)
            s *= rate / correct1
            p.value -= s
            p.grad = None


def scaled(images: UInt8[np.ndarray, "n 784"], dtype=np.float32) -> Float[np.ndarray, "n 784"]:
    """Pixels less MNIST's mean, over its standard deviation."""
    X = images.astype(dtype)
    X *= 1 / (255 * 0.3081)
    X -= 0.1307 / 0.3081
    return X


def probabilities(
    parameters: list[Tensor], images: UInt8[np.ndarray, "n 784"]
) -> Float[np.ndarray, "n K"]:
    """softmax of the logits, in blocks that stay in the cache; constants keep no graph."""
    fixed = [Tensor(p.value, requires_grad=False) for p in parameters]
    blocks = (images[i : i + 500] for i in range(0, len(images), 500))
    return np.exp(np.concatenate([forward(fixed, scaled(b)).log_softmax().value for b in blocks]))


# --- training ------------------------------------------------------------------------------------


def train(
    config: Config,
    X: UInt8[np.ndarray, "n 784"],
    y: Int[np.ndarray, " n"],
    X_val: UInt8[np.ndarray, "m 784"],
    y_val: Int[np.ndarray, " m"],
) -> tuple[list[Tensor], list[float], list[float]]:
    """The trained parameters, the loss of each step, and each epoch's validation accuracy."""
    from trainloop import Batches  # brings torch, which takes seconds

    parameters = he_init((784, *config.hidden, 10), np.random.default_rng(config.seed))
    optimiser = Adam(parameters)
    batches = Batches(len(X), config.batch_size, config.seed)
    steps = config.steps(len(X))
    losses, accuracies = [], []
    for step in range(1, steps + 1):
        rows = batches.at(step).numpy()
        loss = cross_entropy(forward(parameters, scaled(X[rows])), y[rows])
        loss.backward()
        optimiser.step(config.lr * warmup_cosine(step, steps))
        losses.append(float(loss.value))
        if step * config.epochs // steps > len(accuracies):  # an epoch is over
            right = probabilities(parameters, X_val).argmax(1) == y_val
            accuracies.append(float(right.mean()))
            print(f"epoch {len(accuracies):2d}  validation accuracy {accuracies[-1]:.4f}")
    return parameters, losses, accuracies


class Comparison(NamedTuple):
    """The first steps of `train`, by NumPy (row 0) and by PyTorch (row 1)."""

    losses: Float[np.ndarray, "2 steps"]
    seconds: Float[np.ndarray, "2 steps"]  # CPU time
    flips: Int[np.ndarray, " steps"]  # relus that are on in one and off in the other

    @property
    def difference(self) -> Float[np.ndarray, " steps"]:
        return np.abs(self.losses[0] - self.losses[1])


def compare(
    config: Config, X: UInt8[np.ndarray, "n 784"], y: Int[np.ndarray, " n"], dtype=np.float32
) -> Comparison:
    """Take the same steps in both libraries in turn."""
    import torch
    from torch import nn

    from trainloop import Batches

    parameters = he_init((784, *config.hidden, 10), np.random.default_rng(config.seed), dtype)
    optimiser = Adam(parameters)
    model = torch_twin(parameters)
    torch_optimiser = torch.optim.Adam(model.parameters())
    torch_relus = []  # outputs in this step
    for layer in model:
        if isinstance(layer, nn.ReLU):
            layer.register_forward_hook(lambda _layer, _input, output: torch_relus.append(output))

    batches = Batches(len(X), config.batch_size, config.seed)
    steps = config.steps(len(X))
    compared = min(config.compared, steps)
    losses, seconds = np.empty((2, 2, compared))
    flips = np.zeros(compared, int)
    for i in range(compared):
        rate = config.lr * warmup_cosine(i + 1, steps)
        rows = batches.at(i + 1).numpy()
        images, labels = scaled(X[rows], dtype), y[rows]
        start = time.process_time()
        loss = cross_entropy(forward(parameters, images), labels)
        loss.backward()
        optimiser.step(rate)
        seconds[0, i] = time.process_time() - start
        losses[0, i] = loss.value
        relus = [node for node in topological_order(loss) if node.op == "relu"]

        images, labels = torch.from_numpy(images), torch.from_numpy(labels)
        torch_optimiser.param_groups[0]["lr"] = rate
        torch_relus.clear()
        start = time.process_time()
        loss = nn.functional.cross_entropy(model(images), labels)
        torch_optimiser.zero_grad()
        loss.backward()
        torch_optimiser.step()
        seconds[1, i] = time.process_time() - start
        losses[1, i] = loss.item()
        for ours, theirs in zip(relus, torch_relus, strict=True):
            flips[i] += ((ours.value > 0) != (theirs.detach().numpy() > 0)).sum()
    return Comparison(losses, seconds, flips)


def torch_twin(parameters: list[Tensor]):
    """The torch.nn.Sequential of the same model, with a copy of its weights."""
    import torch
    from torch import nn

    layers = []
    for W, b in batched(parameters, 2):
        linear = nn.Linear(*W.shape)
        linear.weight.data = torch.tensor(W.value.T)  # torch's are (out, in)
        linear.bias.data = torch.tensor(b.value)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def run(config: Config, picture: Callable[[str, Figure], None]) -> dict[str, float]:
    """Compare with PyTorch, train in NumPy, and read the test images once. Figures:

    greatest_loss_difference: between NumPy and PyTorch over the compared steps, in float64.
    greatest_loss_difference_float32: the same in float32, in which the training is done.
    first_flip_float32: first of these steps in which a relu is on in one and off in the other;
        absent if there is none.
    numpy_ms_per_step, torch_ms_per_step: median CPU time of these float32 steps, on one thread.
    validation_accuracy, test_accuracy: shares of right answers after the last step.
    train_seconds: CPU time of the NumPy training, with a look at the validation images each epoch.
    """
    (X, X_val), (y, y_val) = (np.split(array, [-VALIDATION]) for array in load_mnist("train"))
    # Threads that wait for each other spin. With matrices this small and another program on one of
    # two cores, a second thread took NumPy 5 to 30 times the CPU time (measured).
    with threadpool_limits(1):
        in64 = compare(config, X, y, np.float64)
        in32 = compare(config, X, y, np.float32)
        start = time.process_time()
        parameters, losses, accuracies = train(config, X, y, X_val, y_val)
        train_seconds = time.process_time() - start
        X_test, y_test = load_mnist("test")
        P = probabilities(parameters, X_test)

    picture("losses", draw_losses(in64, in32, losses, accuracies))
    picture("weights", draw_weights(parameters[0].value))
    picture("mistakes", draw_mistakes(X_test, y_test, P))
    numpy_ms, torch_ms = 1e3 * np.median(in32.seconds, axis=1)
    figures = {
        "greatest_loss_difference": float(in64.difference.max()),
        "greatest_loss_difference_float32": float(in32.difference.max()),
        "numpy_ms_per_step": float(numpy_ms),
        "torch_ms_per_step": float(torch_ms),
        "validation_accuracy": accuracies[-1],
        "test_accuracy": float((P.argmax(1) == y_test).mean()),
        "train_seconds": train_seconds,
    }
    if in32.flips.any():
        figures["first_flip_float32"] = float(np.flatnonzero(in32.flips)[0] + 1)
    return figures


def load_mnist(split: str) -> tuple[UInt8[np.ndarray, "n 784"], Int[np.ndarray, " n"]]:
    """Images as rows of pixels, 0..255, and their labels."""
    images, labels = load_images("mnist", split)
    return images.flatten(1).numpy(), labels.numpy()


# --- pictures ------------------------------------------------------------------------------------


def draw_losses(
    in64: Comparison, in32: Comparison, losses: list[float], accuracies: list[float]
) -> Figure:
    """The compared steps, NumPy over PyTorch; their differences; the whole training."""
    figure = Figure(figsize=(13, 4), layout="constrained")
    both, apart, whole = figure.subplots(1, 3)
    steps = np.arange(1, len(in64.flips) + 1)
    both.plot(steps, in64.losses[1], color="tab:orange", lw=5, alpha=0.5, label="PyTorch")
    both.plot(steps, in64.losses[0], color="black", lw=1, label="NumPy")
    both.set(xlabel="step", ylabel="loss, nats", title="The same weights, the same batches")
    both.legend()
    for name, run, colour in (("float32", in32, "tab:blue"), ("float64", in64, "black")):
        apart.semilogy(steps, run.difference, ".", ms=4, color=colour, label=name)
    for step in np.flatnonzero(in32.flips)[:1] + 1:
        apart.axvline(step, color="tab:red", lw=1, label="float32: a relu differs")
    apart.set(xlabel="step", ylabel="nats; no dot: none", title="Difference of the losses")
    apart.grid(alpha=0.3)
    apart.legend(markerscale=2)
    per_epoch = len(losses) / len(accuracies)
    pieces = np.array_split(losses, min(len(losses), 20 * len(accuracies)))
    epochs = np.cumsum([len(piece) for piece in pieces]) / per_epoch
    whole.semilogy(epochs, [piece.mean() for piece in pieces], color="black", label="loss, nats")
    errors = 100 * (1 - np.array(accuracies))
    whole.semilogy(
        range(1, len(errors) + 1), errors, "o-", color="tab:red", label="validation error, %"
    )
    whole.set(xlabel="epoch", title="The NumPy training")
    whole.grid(alpha=0.3)
    whole.legend()
    return figure


def draw_weights(W: Float[np.ndarray, "784 units"]) -> Figure:
    """What the first layer's units look for: those with the largest weights, as images."""
    side = min(8, int(W.shape[1] ** 0.5))
    chosen = np.argsort(-(W**2).sum(0), kind="stable")[: side * side]
    tiles = np.full((side, 30, side, 30), np.nan)  # each 28x28 with a frame
    tiles[:, 1:-1, :, 1:-1] = W[:, chosen].T.reshape(side, side, 28, 28).swapaxes(1, 2)
    most = float(np.quantile(np.abs(W[:, chosen]), 0.995))
    figure = Figure(figsize=(8, 7), layout="constrained")
    axis = figure.subplots()
    image = tiles.reshape(side * 30, side * 30)
    shown = axis.imshow(image, cmap="RdBu_r", vmin=-most, vmax=most, interpolation="nearest")
    axis.axis("off")
    figure.colorbar(shown, label="weight of the pixel", shrink=0.6, extend="both")
    axis.set_title(f"{side * side} of the first layer's {W.shape[1]} units")
    return figure


def draw_mistakes(
    X: UInt8[np.ndarray, "n 784"], y: Int[np.ndarray, " n"], P: Float[np.ndarray, "n 10"]
) -> Figure:
    """The test images whose true class got the least probability."""
    surest = np.argsort(P[np.arange(len(y)), y], kind="stable")[:24]
    figure = Figure(figsize=(9.6, 4.4), layout="constrained")
    axes = figure.subplots(3, 8)
    for axis, i in zip(axes.flat, surest, strict=True):
        guess = P[i].argmax()
        axis.imshow(X[i].reshape(28, 28), cmap="gray_r")
        axis.set_title(f"{y[i]} as {guess}, {P[i, guess]:.0%}", fontsize=9)
        axis.axis("off")
    figure.suptitle("The surest mistakes among the test images")
    return figure


if __name__ == "__main__":
    from from_scratch.lesson import main

    main("mlp")
