"""Eight short tasks; each knows by itself whether it was done."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from playground.augment import Augment
from playground.preprocess import CANVAS

if TYPE_CHECKING:
    from playground.session import Session

TURNED = Augment(rotate=35.0)  # lesson 5's exam: every image turned by up to so much


@dataclass(frozen=True)
class Progress:
    """How far a task has come: a share of 1, and the same in words."""

    share: float
    text: str

    @property
    def done(self) -> bool:
        return self.share >= 1


@dataclass(frozen=True)
class Lesson:
    """A task, how to do it, what it shows, and its check."""

    title: str
    task: str
    why: str
    progress: Callable[["Session"], Progress]


def first_data_set(session: "Session") -> Progress:
    drawn = session.samples.labelled(source="drawn").labels
    zeros, ones = (min(int(np.count_nonzero(drawn == digit)), 5) for digit in (0, 1))
    return Progress((zeros + ones) / 10, f"{zeros} of 5 zeros, {ones} of 5 ones")


def never_saw_a_seven(session: "Session") -> Progress:
    trainer = session.trainer
    if not trainer.classes or not trainer.classes <= {0, 1}:
        return Progress(0.0, "the net must be new and train on 0 and 1 only")
    good = trainer.curves.accuracy[-1:] and trainer.curves.accuracy[-1] >= 0.95
    if not good:
        return Progress(0.3, "train until it gets 95% of them right")
    for past in session.labellings:
        if past.label == 7 and past.classes and past.classes <= {0, 1}:
            return Progress(1.0, f"it called your 7 a {past.answer}")
    return Progress(0.6, "now draw a 7, read its answer, and label it 7")


def more_handwriting(session: "Session") -> Progress:
    others = len(session.samples.labelled(source="mnist").labels)
    if others < 500 or np.bincount(session.trainer.train_set.labels, minlength=10).min() == 0:
        return Progress(0.3 * min(1, others / 500), f"{others} of 500 digits of other people")
    scores = session.trainer.curves.held_accuracy[-1:]
    best = scores[0] if scores and np.isfinite(scores[0]) else 0.0
    return Progress(min(1.0, 0.3 + 0.7 * best / 0.8), f"held out: {best:.0%} of 80% right")


def small_in_a_corner(session: "Session") -> Progress:
    if session.centred:
        return Progress(0.0, "switch off “Centre and scale” below the canvas")
    if session.trainer.augment:
        return Progress(0.2, "set the noise (Train) to nothing")
    for past in session.labellings:
        small, read = past.size < 0.45 * CANVAS, past.with_steps == past.label
        misread = past.without != past.label
        if small and misread and read and not past.centred and not past.augmented:
            return Progress(1.0, "misread as it lay, right when centred and scaled")
    return Progress(0.5, "draw small in a corner until it is misread; label what it is")


def hard_to_fool(session: "Session") -> Progress:
    """The exam: held-out digits turned by up to 35 degrees, before and after."""
    trainer = session.trainer
    if trainer.curves.held_accuracy[-1:] == [] or len(trainer.held_out.labels) < 20:
        return Progress(0.0, "train first, with 20 or more samples held out")
    # Once a point of the curves: turning a thousand images takes longer than a frame.
    if session.exam is None or session.exam[0] != trainer.curves.steps[-1]:
        session.exam = (trainer.curves.steps[-1], trainer.held_scores(TURNED, most=200)[1])
    score = session.exam[1]
    if session.baseline is None:
        session.baseline = score
    gain = score - session.baseline
    text = f"turned digits: {session.baseline:.0%} before, {score:.0%} now (10 points more)"
    return Progress(min(1.0, max(0.1, gain / 0.1)) if trainer.augment.rotate else 0.1, text)


def by_heart(session: "Session") -> Progress:
    trainer, count = session.trainer, len(session.trainer.train_set.labels)
    if not 1 <= count <= 50 or len(trainer.held_out.labels) < 20:
        return Progress(0.0, f"trains on {count}; choose 50 or fewer, and have 20 held out")
    if not trainer.curves.steps:
        return Progress(0.1, "start the training with a new net")
    known, new = trainer.curves.accuracy[-1], trainer.curves.held_accuracy[-1]
    share = min(known / 0.99, 1.0) * (1.0 if known - new >= 0.15 else 0.8)
    return Progress(share, f"{known:.0%} of what it trains on, {new:.0%} of what it does not")


def too_fast(session: "Session") -> Progress:
    trainer = session.trainer
    if trainer.lr < 1:
        return Progress(0.1, f"the learning rate is {trainer.lr:.3g}: make it 1 or more")
    if trainer.trouble.startswith("The loss"):
        return Progress(1.0, "the loss is no number any more")
    if trainer.step < 50 or not trainer.curves.loss:
        return Progress(0.3, "now train for 50 steps or more")
    loss = trainer.curves.loss[-1]
    return Progress(1.0 if loss > 2 else 0.6, f"loss {loss:.2f}; guessing costs 2.30")


def change_its_mind(session: "Session") -> Progress:
    if session.changed_minds:
        return Progress(1.0, f"it now calls it a {max(session.changed_minds)}")
    return Progress(0.0, "draw, choose a digit under “Why not”, then add ink")


LESSONS = (
    Lesson(
        "Your first data set",
        "Draw five zeros and five ones. After each, press 0 or 1 to say what it is.",
        "A net knows nothing but its examples. Every one of yours is on the disk already.",
        first_data_set,
    ),
    Lesson(
        "It never saw a 7",
        "In Train, choose only 0 and 1 under “Digits”, press “New net”, then Start. At 95% pause, "
        "draw a 7 and label it 7.",
        "It has no words for “something else”. It shares 100% among what it knows, and may be very "
        "sure of nonsense.",
        never_saw_a_seven,
    ),
    Lesson(
        "More handwriting",
        "Choose all digits again, mix in 500 of MNIST (My digits), and train with a new net to 80% "
        "of the held-out ones.",
        "Held-out samples are never trained on. Only they tell whether it learned or remembered.",
        more_handwriting,
    ),
    Lesson(
        "Small, in a corner",
        "Switch “Centre and scale” off and all noise to nothing. Draw small in a corner until the "
        "net is wrong, and label it with what it is.",
        "The net has weights for places. Ink in another place is another picture: so every drawing "
        "is centred first, as MNIST's were.",
        small_in_a_corner,
    ),
    Lesson(
        "Hard to fool",
        "Set “turn” in Train to 30 degrees or so and go on training, until digits that are turned "
        "are read better than before.",
        "Noise makes new examples out of old ones. The net learns what does not matter.",
        hard_to_fool,
    ),
    Lesson(
        "Learned by heart",
        "Choose 20 or 50 samples under “Samples”, press “New net”, set noise to nothing, and train "
        "until it knows them all.",
        "100% on what it trains on says little. Look at the gap to the held-out curve.",
        by_heart,
    ),
    Lesson(
        "Too fast",
        "Raise the learning rate to 1 or more and train. Watch the loss.",
        "Each step goes downhill, but so far that it lands on the other side of the valley.",
        too_fast,
    ),
    Lesson(
        "Change its mind",
        "Pause and draw a digit. In See through, choose another digit under “Why not”. Add ink "
        "where it is red until the net says that digit.",
        "The heat map is the gradient on the input: the same derivative that training uses, "
        "asked for the pixels instead of the weights.",
        change_its_mind,
    ),
)
