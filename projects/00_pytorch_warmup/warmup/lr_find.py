"""A learning-rate range test: raise the rate at every step until the training breaks.

Smith, "Cyclical Learning Rates for Training Neural Networks", 2017, section 3.3. The rate grows by
the same factor each step, low (high / low)^((i - 1) / (n - 1)). Where the smoothed loss is lowest,
the rate is about to be too high; a tenth of it is a good peak for a schedule (fastai's rule). The
point where the loss falls fastest is drawn, too, but it is misled where a net begins worse than
guessing: unlearning wrong confidence is quick, and says nothing about the rate to learn with.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from torch.nn import functional as F

from trainloop import Batches, Run, check
from trainloop.curves import read_metrics
from warmup.config import LrFindConfig
from warmup.data import MIRRORED, augment, load
from warmup.model import build
from warmup.train import make_optimizer

EXPLODED = 4.0  # times the best smoothed loss: nothing is learned beyond


class Found(NamedTuple):
    """What a sweep says.

    Attributes:
        steepest: the rate at which the smoothed loss falls fastest per factor of the rate.
        lowest: the rate of the lowest smoothed loss, about the edge of what is stable.
    """

    steepest: float
    lowest: float

    @property
    def suggestion(self) -> float:
        """A peak for the schedule."""
        return self.lowest / 10


class Smoothing:
    """A running mean whose first values are not biased towards 0 (Kingma, Ba 2014, section 3)."""

    def __init__(self, decay: float = 0.9) -> None:
        self.decay, self.total, self.weight, self.best = decay, 0.0, 0.0, math.inf

    def update(self, value: float) -> float:
        """Take a value in; returns the mean so far, of which `best` is the least."""
        self.total = self.decay * self.total + (1 - self.decay) * value
        self.weight = self.decay * self.weight + (1 - self.decay)
        self.best = min(self.best, self.total / self.weight)
        return self.total / self.weight

    def state_dict(self) -> dict[str, float]:
        return vars(self).copy()

    def load_state_dict(self, state: dict[str, float]) -> None:
        vars(self).update(state)


def lr_find(config: LrFindConfig) -> dict[str, float | int | None]:
    """Sweep the rate in the open, draw the curve, print a suggestion for `train --lr`."""
    config = Run.options("warmup", config, "lr-find")
    train_set, _, _ = load(config.data)
    run = Run.open("warmup", config, "lr-find")
    train_set = train_set.to(run.device)

    model = build(config.model, train_set.images, config.width, config.dropout).to(run.device)
    optimizer = make_optimizer(model, config.low, config.weight_decay)
    batches = Batches(len(train_set.images), config.batch_size, config.seed)
    smoothing = Smoothing()

    start = run.resume(model=model, optimizer=optimizer, smoothing=smoothing)
    for step in run.steps(start):
        lr = config.low * (config.high / config.low) ** ((step - 1) / (config.steps - 1))
        for group in optimizer.param_groups:
            group["lr"] = lr
        picked = batches.at(step).to(run.device)
        images = augment(train_set.images[picked], config.shift, config.data in MIRRORED)
        loss = F.cross_entropy(model(images), train_set.labels[picked])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

        recent = smoothing.update(loss.item())
        if not recent < EXPLODED * smoothing.best:  # true for NaN: the sweep's end, not a failure
            break
        run.log(step, lr=lr, loss=loss)
    run.save(step)

    curves = read_metrics(run.folder / "metrics.jsonl")
    rates, losses = curves["lr"][1], curves["loss"][1]
    smooth = smoothed(losses)
    found = read_off(rates, smooth)
    run.picture("lr_find", draw_sweep(rates, losses, smooth, found))
    print(
        f"the loss falls fastest at {found.steepest:.1e} and is lowest at {found.lowest:.1e}: "
        f"try `train --lr {found.suggestion:.1g}`, a tenth of the latter"
    )
    run.log(step, steepest=found.steepest, lowest=found.lowest, suggestion=found.suggestion)
    return run.finish()


def smoothed(losses: list[float]) -> Float[np.ndarray, " steps"]:
    """A mean over neighbours on both sides, a Gaussian of deviation steps / 40.

    The running mean of the loop looks back only, and would move the curve to higher rates.

    Raises:
        LabError: fewer than ten steps, so the sweep exploded at its beginning.
    """
    check(len(losses) >= 10, f"the loss exploded at once ({len(losses)} steps): try a lower --low")
    steps = np.arange(len(losses))
    weights = np.exp(-0.5 * ((steps[:, None] - steps) / max(1.0, len(losses) / 40)) ** 2)
    return weights @ np.array(losses) / weights.sum(1)


def read_off(rates: list[float], smooth: Float[np.ndarray, " steps"]) -> Found:
    """The two rates that matter, from a sweep's rates and smoothed losses."""
    lowest = int(smooth.argmin())
    slope = np.gradient(smooth, np.log(rates))[: max(lowest, 1)]
    return Found(rates[int(slope.argmin())], rates[lowest])


def draw_sweep(
    rates: list[float], losses: list[float], smooth: Float[np.ndarray, " steps"], found: Found
) -> Figure:
    """Loss against rate, with the two points and the suggestion."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axis = figure.subplots()
    axis.semilogx(rates, losses, color="C0", alpha=0.3, linewidth=1, label="each batch")
    axis.semilogx(rates, smooth, color="C0", label="smoothed")
    for rate, name, colour in (
        (found.steepest, "falls fastest", "C2"),
        (found.lowest, "lowest", "C3"),
        (found.suggestion, "suggestion", "black"),
    ):
        style = "-" if name == "suggestion" else "--"
        label = f"{name}, {rate:.1e}"
        axis.axvline(rate, color=colour, linestyle=style, linewidth=1, label=label)
    low, high = smooth.min(), smooth[: smooth.argmin() + 1].max()
    axis.set_ylim(max(0, low - 0.1 * (high - low)), high + 0.25 * (high - low))
    axis.set(xlabel="learning rate", ylabel="loss, nats")
    axis.grid(alpha=0.25, which="both")
    axis.legend(fontsize=9)
    return figure
