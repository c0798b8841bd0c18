"""The whole playground without a window: what is drawn, known, trained, and asked.

The window, the web page, the lessons and the tests all act on this.
"""

import json
import queue
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from playground.config import PlayConfig
from playground.data import Labelled, mnist, read_samples, unit, write_samples
from playground.lessons import LESSONS
from playground.net import Net, load_net, save_net
from playground.preprocess import (
    CANVAS,
    Prepared,
    Stroke,
    add_segment,
    as_bytes,
    prepare,
    rasterise,
    shrunk,
)
from playground.samples import Sample, Samples
from playground.trainer import Trainer
from trainloop import LabError, atomic_write
from trainloop.paths import run_folders

DATA, DATA_JSON, MODEL, DONE = "my-digits.npz", "data.json", "model.npz", "lessons.json"
IMPORT_AT_ONCE = 500
MOST_POINTS = 20_000  # of a drawing: a pen held down for five minutes


@dataclass(frozen=True)
class Look:
    """A drawing through the net's eyes.

    Attributes:
        prepared: the steps to `with_steps`.
        image: what the net sees, 0..255; with the steps, or `smaller`.
        smaller: the canvas only made smaller, 0..255.
        layers: what each layer says to it; the last are the probabilities.
        with_steps, without: the probabilities either way.
    """

    prepared: Prepared
    image: UInt8[np.ndarray, " 784"]
    smaller: UInt8[np.ndarray, " 784"]
    layers: list[np.ndarray]
    with_steps: Float[np.ndarray, " 10"]
    without: Float[np.ndarray, " 10"]

    @property
    def probabilities(self) -> Float[np.ndarray, " 10"]:
        return self.layers[-1]

    @property
    def answer(self) -> int:
        return int(self.probabilities.argmax())


@dataclass(frozen=True)
class Labelling:
    """What held when a drawing got its label; lessons ask for it.

    Attributes:
        answer, with_steps, without: what the net took it for: as it was shown, and either way.
        size: of the ink, its longer side in canvas pixels.
        centred, augmented: whether drawings were prepared, and the training had noise.
        classes: what the net had been trained on.
    """

    label: int
    answer: int
    with_steps: int
    without: int
    size: int
    centred: bool
    augmented: bool
    classes: frozenset[int]


class Session:
    """All state and all actions.

    What may go wrong for a reason that the person can mend becomes `message`; it never raises.

    Attributes:
        strokes, canvas: the drawing; the canvas is 280x280, 0 paper, 1 ink.
        centred: whether drawings are centred and scaled as MNIST is.
        samples, trainer: the data set on disk; the net and its training.
        digits, limit: what of the data set is trained on; limit 0: all.
        target: the digit of "why not a 7?".
        lesson: index of the one at hand, done: those that were done.
        message: the last thing to say.
    """

    def __init__(self, home: Path, net: Net | None = None) -> None:
        """Raises LabError as `Samples` does."""
        self.samples = Samples(home)
        self.home = home
        self.message = self.samples.notes[0] if self.samples.notes else ""
        self.pen, self.centred = 22.0, True
        self.strokes: list[Stroke] = []
        self.canvas = np.zeros((CANVAS, CANVAS), np.float32)
        self.drawn = 0  # counts changes of the canvas
        self._pen_at: tuple | None = None
        self._points: list[tuple[float, float]] = []
        self.trainer = Trainer()
        if net is not None:
            self.trainer.use(net)
        self.digits, self.limit = frozenset(range(10)), 0
        self._studied: tuple | None = None
        self.target = 7
        self.labellings: deque[Labelling] = deque(maxlen=50)
        self.changed_minds: set[int] = set()
        self._mind: tuple[int, int] | None = None  # (strokes, answer) when a target was asked for
        self.imported = queue.SimpleQueue()
        self._importing = 0
        self.lesson, self.done = 0, self._read_done()
        self.baseline: float | None = None  # lesson 5: the score on turned digits before,
        self.exam: tuple[int, float] | None = None  # and now, with the step that it was taken at
        self._prepared: tuple[int, tuple | None] = (-1, None)  # (drawn, what `both_ways` says)
        self._seen: tuple | None = None
        self._look: Look | None = None

    def close(self) -> None:
        self.samples.close()

    def attempt(self, action: Callable[[], str | None]) -> bool:
        """Do it; what it returns, or why it failed, becomes the message. True if it worked."""
        try:
            said = action()
        except LabError as error:
            self.message = str(error)
            return False
        except OSError as error:
            self.message = f"{error.strerror}: {error.filename or self.home}"
            return False
        self.message = said or self.message
        return True

    # --- drawing ---------------------------------------------------------------------------

    def pen_down(self, x: float | int, y: float | int) -> None:
        """Begin a stroke; canvas pixels, 0..280 from the top left."""
        self.pen_up()
        if sum(len(stroke.points) for stroke in self.strokes) < MOST_POINTS:
            self._pen_at, self._points = (x, y), [(x, y)]
            add_segment(self.canvas, (x, y), (x, y), self.pen)
            self.drawn += 1

    def pen_move(self, x: float | int, y: float | int) -> None:
        """Go on with the stroke, if there is one."""
        if self._pen_at is None or self._pen_at == (x, y) or len(self._points) >= MOST_POINTS:
            return
        add_segment(self.canvas, self._pen_at, (x, y), self.pen)
        self._pen_at = (x, y)
        self._points.append((x, y))
        self.drawn += 1

    def pen_up(self) -> None:
        if self._pen_at is not None:
            self.strokes.append(Stroke(tuple(self._points), self.pen))
        self._pen_at, self._points = None, []

    def undo(self) -> None:
        """Take back the last stroke."""
        self.pen_up()
        self._redraw(self.strokes[:-1])

    def clear(self) -> None:
        self._pen_at, self._points = None, []
        self._redraw([])

    def _redraw(self, strokes: list[Stroke]) -> None:
        self.strokes, self.canvas, self._mind = strokes, rasterise(strokes), None
        self.drawn += 1

    def look(self) -> Look | None:
        """The drawing and what the net says to it now; None for an empty canvas."""
        now = (self.drawn, self.centred, self.trainer.step, id(self.trainer.net))
        if now != self._seen:
            if self._prepared[0] != self.drawn:  # while it trains, only the net is another one
                self._prepared = (self.drawn, both_ways(self.canvas))
            found = self._prepared[1]
            seen = None if found is None else answered(*found, self.trainer.net, self.centred)
            self._seen, self._look = now, seen
            self._watch_mind()
        return self._look

    # --- data ------------------------------------------------------------------------------

    def label(self, digit: int) -> Sample | None:
        """Say what the drawing is: it is on disk when this returns, and the canvas is empty."""
        self.pen_up()
        seen = self.look()
        if seen is None:
            self.message = "Draw a digit first, then say which one it is."
            return None
        added: list[Sample] = []

        def keep() -> str:
            added.append(self.samples.add(seen.image, digit))
            return f"Saved as a {digit}. You have {len(self.samples):,} samples."

        if not self.attempt(keep):
            return None
        top, bottom, left, right = seen.prepared.box
        self.labellings.append(
            Labelling(
                label=digit,
                answer=seen.answer,
                with_steps=int(seen.with_steps.argmax()),
                without=int(seen.without.argmax()),
                size=max(bottom - top, right - left),
                centred=self.centred,
                augmented=bool(self.trainer.augment),
                classes=frozenset(self.trainer.classes),
            )
        )
        self.clear()
        return added[0]

    def remove(self, numbers: set[int]) -> None:
        """Delete samples that were a mistake."""
        self.attempt(lambda: f"Deleted {self.samples.remove(numbers)}.")

    def import_mnist(self, count: int = IMPORT_AT_ONCE) -> None:
        """Mix in other people's digits, as many of each; read in the background (`tick`)."""
        if self._importing:
            return
        self._importing, self.message = 1, "Getting MNIST ..."
        wanted, seed = self.digits, len(self.samples)

        def read() -> None:
            try:
                self.imported.put(_pick(mnist("train"), count, wanted, seed))
            except Exception as error:  # whatever it is, the window must go on and say so
                self.imported.put(str(error).splitlines()[0])

        threading.Thread(target=read, daemon=True).start()

    def save_data(self) -> None:
        """Write the data set in both forms beside the journals."""

        def save() -> str:
            if len(self.samples) == 0:
                raise LabError("There are no samples to save yet.")
            for name in (DATA, DATA_JSON):
                write_samples(self.home / name, self.samples.labelled())
            return f"Wrote {DATA} and {DATA_JSON} to {self.home}"

        self.attempt(save)

    def load(self, path: Path) -> None:
        """Add the samples of a file, or go on from a model: whatever the file is."""

        def read() -> str:
            try:
                net = load_net(path) if path.suffix == ".npz" else None
            except LabError:  # no model; if it is no data set either, that message counts
                net = None
            if net is not None:
                self.trainer.use(net)
                return f"Using the model {path.name}: {'-'.join(map(str, net.sizes))}"
            added = self.samples.add_all(read_samples(path), "file")
            return f"Added {len(added):,} samples of {path.name}."

        self.attempt(read)

    def save_model(self) -> None:
        def save() -> str:
            save_net(self.home / MODEL, self.trainer.net)
            return f"Wrote {MODEL} to {self.home}"

        self.attempt(save)

    # --- training --------------------------------------------------------------------------

    def start(self) -> None:
        """Begin or go on to train."""
        self._study()
        self.trainer.running = True
        if len(self.trainer.train_set.labels) == 0:
            self.trainer.one_step()  # says why not
            self.message = self.trainer.trouble

    def pause(self) -> None:
        self.trainer.running = False

    def step(self) -> None:
        """One batch, to watch it slowly."""
        self.pause()
        self._study()
        self.trainer.one_step()
        self.message = self.trainer.trouble or self.message

    def tick(self, milliseconds: float | int = 8.0) -> None:
        """What happens between two frames: train for so long, take in what was read, check."""
        while not self.imported.empty():
            self._importing, found = 0, self.imported.get()
            if isinstance(found, str):
                self.message = f"MNIST could not be read: {found}"
            else:
                self.attempt(
                    lambda found=found: (
                        f"Added {len(self.samples.add_all(found, 'mnist'))} digits of other people."
                    )
                )
        self._study()
        if self.trainer.running:
            self.trainer.work(milliseconds)
            self.message = self.trainer.trouble or self.message
        self._check_lesson()

    def _study(self) -> None:
        """Tell the trainer what the data set is now."""
        now = (self.samples.version, self.digits, self.limit)
        if now == self._studied:
            return
        self._studied = now
        wanted = list(self.digits)
        parts = []
        for held_out in (False, True):
            part = self.samples.labelled(held_out)
            parts.append(part.take(np.isin(part.labels, wanted)))
        if self.limit:  # some of every digit, whatever the order in which they came
            order = np.random.default_rng(0).permutation(len(parts[0].labels))[: self.limit]
            parts[0] = parts[0].take(np.sort(order))
        self.trainer.study(*parts)

    # --- questions and lessons -------------------------------------------------------------

    def ask_why_not(self, digit: int) -> None:
        """Remember what the answer was, so that a changed mind can be told."""
        self.target, seen = digit, self.look()
        self._mind = None
        if seen is not None and seen.answer != digit:
            self._mind = (len(self.strokes), seen.answer)

    def _watch_mind(self) -> None:
        """A drawing that was no 7 and, with more ink and the same net, is one."""
        if self._mind is None or self._look is None or self.trainer.running:
            return
        strokes = len(self.strokes) + (self._pen_at is not None)
        if strokes > self._mind[0] and self._look.answer == self.target:
            self.changed_minds.add(self.target)
            self._mind = None

    def go_to_lesson(self, index: int) -> None:
        self.lesson, self.baseline, self.exam = index, None, None

    def _check_lesson(self) -> None:
        lesson = LESSONS[self.lesson]
        if self.lesson in self.done or not lesson.progress(self).done:
            return
        self.done.add(self.lesson)
        self.message = f"Lesson {self.lesson + 1} done: {lesson.title}"
        content = json.dumps(sorted(self.done)).encode()
        try:
            atomic_write(self.home / DONE, lambda file: file.write(content))
        except OSError as error:
            self.message = f"{error.strerror}: {self.home / DONE}"

    def _read_done(self) -> set[int]:
        """Lessons done before; a file that is no list of them counts as none."""
        try:
            known = set(json.loads((self.home / DONE).read_bytes()))
        except (OSError, ValueError, TypeError):
            return set()
        return known & set(range(len(LESSONS)))


def look(canvas: Float[np.ndarray, "280 280"], net: Net, centred: bool = True) -> Look | None:
    """Prepare a canvas and ask the net, both ways; None where nothing is drawn."""
    found = both_ways(canvas)
    return None if found is None else answered(*found, net, centred)


def both_ways(
    canvas: Float[np.ndarray, "280 280"],
) -> tuple[Prepared, UInt8[np.ndarray, "2 784"]] | None:
    """The steps, and the images with and without them; None where nothing is drawn."""
    prepared = prepare(canvas)
    if prepared is None:
        return None
    return prepared, np.stack([as_bytes(prepared.image), as_bytes(shrunk(canvas))])


def answered(
    prepared: Prepared, images: UInt8[np.ndarray, "2 784"], net: Net, centred: bool
) -> Look:
    """What the net says to both images."""
    with np.errstate(all="ignore"):
        layers = net.activations(unit(images))
    mine = 0 if centred else 1
    return Look(prepared, images[mine], images[1], [layer[mine] for layer in layers], *layers[-1])


def _pick(samples: Labelled, count: int, digits: frozenset[int], seed: int) -> Labelled:
    """`count` samples at random, the same number of each digit."""
    rng = np.random.default_rng((seed, 1))
    each = max(1, count // max(1, len(digits)))
    chosen = [rng.choice(np.flatnonzero(samples.labels == d), each, replace=False) for d in digits]
    return samples.take(rng.permutation(np.concatenate(chosen)) if chosen else slice(0))


def first_net(config: PlayConfig) -> Net | None:
    """The model to begin with: the one named, that of the folder, that of the newest run, or none.

    Raises:
        LabError: a model was named and cannot be read.
    """
    if config.model:
        return load_net(Path(config.model))
    for folder in (config.home, *run_folders("playground")):
        try:
            return load_net(folder / MODEL)
        except LabError:
            continue
    return None
