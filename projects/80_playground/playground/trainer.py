"""Training in slices between frames, with curves that never outgrow the screen."""

import time
from dataclasses import dataclass, field

import numpy as np

from playground.augment import Augment, augmented
from playground.data import EMPTY, Labelled, Shuffles, unit
from playground.net import CLASSES, PIXELS, Net
from playground.optimise import USUAL_LR, Method, Optimizer

CLIP = 5.0
MOST_POINTS = 400  # of a curve; beyond, every other one goes
MOST_HELD_OUT = 1000  # images looked at for one point: 2 ms
FIRST_EVERY = 10  # steps between points, at first


@dataclass
class Curves:
    """What was learned, step by step: each list holds one value a point."""

    steps: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    held_loss: list[float] = field(default_factory=list)
    held_accuracy: list[float] = field(default_factory=list)
    every: int = FIRST_EVERY

    def add(self, step: int, *values: float) -> None:
        """A point; NaN where there is nothing held out."""
        lists = (self.steps, self.loss, self.accuracy, self.held_loss, self.held_accuracy)
        for one, value in zip(lists, (step, *values), strict=True):
            one.append(value)
        if len(self.steps) > MOST_POINTS:
            for one in lists:
                del one[::2]
            self.every *= 2


class Trainer:
    """A net, its optimiser, what it trains on, and the curves.

    Attributes:
        running: whether `work` trains.
        lr, augment: used from the next step on.
        classes: digits that the net has been trained on since it was new.
        trouble: why it stopped by itself, in words; empty if it did not.
    """

    def __init__(self, layers: tuple[int, ...] = (16, 16), seed: int = 0) -> None:
        self.layers, self.seed = layers, seed
        self.method: Method = "momentum"
        self.lr, self.batch_size = USUAL_LR[self.method], 64
        self.augment = Augment()
        self.train_set, self.held_out = EMPTY, EMPTY
        self.running = False
        self.renew()

    # --- what can be changed ---------------------------------------------------------------

    def renew(self, layers: tuple[int, ...] | None = None) -> None:
        """A net that has learned nothing, with these hidden layers or those it had."""
        self.layers = self.layers if layers is None else layers
        self.use(Net((PIXELS, *self.layers, CLASSES), self.seed))
        self.classes = set()

    def use(self, net: Net) -> None:
        """Go on from a net that was loaded: nobody knows what it has seen."""
        self.net, self.layers = net, net.sizes[1:-1]
        self.step, self.curves, self.trouble = 0, Curves(), ""
        self.classes = set(range(CLASSES))
        self._recent = np.zeros(3)  # sums since the last point: loss, share of right ones, steps
        self._good = net.parameters.copy()
        self.choose(self.method)

    def choose(self, method: Method, lr: float | None = None) -> None:
        """Another optimiser, without memory; its usual learning rate where it is a new one."""
        if method != self.method:
            self.lr = USUAL_LR[method]
        self.method, self.lr = method, self.lr if lr is None else lr
        self.optimizer = Optimizer(method, self.net.parameters.size, CLIP)

    def study(self, train_set: Labelled, held_out: Labelled) -> None:
        """What to train on from now on, and what to look at but never train on."""
        self.train_set = train_set
        self.held_out = held_out.take(slice(-MOST_HELD_OUT, None))

    # --- training --------------------------------------------------------------------------

    def work(self, milliseconds: float | int) -> int:
        """Train for about so long, if it is running; returns the steps made, at least one."""
        if not self.running:
            return 0
        end, begun = time.perf_counter() + milliseconds / 1000, self.step
        while self.running:
            self.one_step()
            if time.perf_counter() >= end:
                break
        return self.step - begun

    def one_step(self) -> None:
        """One batch; a loss that is no number stops the training and takes back the damage."""
        if len(self.train_set.labels) == 0:
            self.running, self.trouble = False, "Nothing to train on yet: draw and label first."
            return
        size = min(self.batch_size, len(self.train_set.labels))
        shuffles = self._shuffles(size)
        self.step += 1
        images, labels = self.train_set.batch(shuffles.at(self.step))
        if self.augment:
            rng = np.random.default_rng((self.seed, self.step))
            images = augmented(images, self.augment, rng)
        with np.errstate(all="ignore"):  # a rate that is far too high overflows: told below
            loss, right = self.net.loss_and_gradient(images, labels)
            if np.isfinite(loss):
                self.optimizer.step(self.net.parameters, self.net.gradient, self.lr)
        if not np.isfinite(loss) or not np.isfinite(self.net.parameters).all():
            self.net.parameters[:] = self._good
            self.choose(self.method)
            self.running = False
            self.trouble = "The loss is no number any more: the learning rate is too high."
            return
        self.trouble = ""
        self.classes |= set(labels.tolist()) if len(self.classes) < CLASSES else set()
        self._recent += (loss, right / size, 1)
        if self.step % self.curves.every == 0:
            self._point()

    def _shuffles(self, size: int) -> Shuffles:
        count = len(self.train_set.labels)
        kept = getattr(self, "_order", None)
        if kept is None or (kept.count, kept.batch_size) != (count, size):
            self._order = Shuffles(count, size, self.seed)
        return self._order

    def _point(self) -> None:
        loss, accuracy = (self._recent[:2] / self._recent[2]).tolist()
        self._recent[:] = 0
        self.curves.add(self.step, loss, accuracy, *self.held_scores())
        self._good = self.net.parameters.copy()

    def held_scores(
        self, augment: Augment | None = None, most: int = MOST_HELD_OUT
    ) -> tuple[float, float]:
        """Loss and accuracy on the newest held-out samples, made harder by `augment`; or NaN."""
        images, labels = self.held_out.take(slice(-most, None))
        if len(labels) == 0:
            return float("nan"), float("nan")
        if augment:
            images = augmented(images, augment, np.random.default_rng(self.seed))
        with np.errstate(all="ignore"):
            p = self.net.probabilities(unit(images))
            loss = -np.log(np.maximum(p[np.arange(len(p)), labels], 1e-12)).mean()
        return float(loss), float((p.argmax(1) == labels).mean())
