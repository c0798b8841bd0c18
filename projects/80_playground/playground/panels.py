"""The five panels on the right: digits, training, insight, preparation, lessons."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pygame

from playground.augment import Augment, augmented
from playground.data import unit
from playground.insight import Neighbours, confusion, weight_pictures, why_not
from playground.lessons import LESSONS
from playground.optimise import METHODS
from playground.preprocess import CANVAS
from playground.samples import Sample, Samples
from playground.session import DATA, IMPORT_AT_ONCE, MODEL
from playground.widgets import (
    BLUE,
    GREEN,
    INK,
    LINE,
    ORANGE,
    PALE,
    PANEL,
    RED,
    SOFT,
    Number,
    Rect,
    heat,
    paper,
)

if TYPE_CHECKING:
    from playground.window import Window

LAYERS: dict[str, tuple[int, ...]] = {
    "none": (),
    "16": (16,),
    "16-16": (16, 16),
    "32-32": (32, 32),
    "64": (64,),
    "128-32": (128, 32),
}
BATCHES = (8, 32, 64, 256)
LIMITS = (0, 500, 100, 50, 20)
NEIGHBOURS = 2000  # samples that are compared with the drawing


def digits(window: "Window", rect: Rect) -> None:
    """Your samples by digit, to look at and to delete; files."""
    ui, session = window.ui, window.session
    x, y, w, _ = rect
    ui.text(x + 16, y + 12, "My digits", 17, INK, bold=True)
    held = len(session.samples.labelled(held_out=True).labels)
    said = f"{len(session.samples):,} samples, {held:,} of them held out (blue line)"
    ui.text(x + w - 16, y + 15, said, 12, SOFT, align=1)
    version = session.samples.version
    rows = window.keep("newest", version, lambda: _newest(session.samples, 9))
    place = (x + 1, y + 46, w - 2, 512)
    key = (version, frozenset(window.marked))
    ui.still("samples", place, key, lambda: _draw_samples(window, rows, x, y + 46))
    source = {"drawn": "drawn here", "mnist": "from MNIST", "file": "from a file"}
    for sample, cell in _cells(rows, x, y + 46):
        if ui.over(cell):
            said = f"A {sample.label}, {source[sample.source]}. Click to mark it for deletion."
            ui.tip(cell, said)
            if ui.clicked(cell):
                window.marked ^= {sample.number}
    top = y + 566
    label = f"Delete {len(window.marked)} marked" if window.marked else "Delete marked"
    if ui.button((x + 16, top, 170, 34), label, "Click samples to mark them (Del)", "delete"):
        if window.marked:
            session.remove(window.marked)
            window.marked = set()
        else:
            session.message = "Click on samples to mark them first."
    tip = "Other people's digits, as many of each of the digits you train on"
    if ui.button((x + 194, top, 170, 34), f"Mix in {IMPORT_AT_ONCE} of MNIST", tip):
        session.import_mnist()
    tip = f"Writes {DATA} and data.json to {session.home}, to share. (Yours are safe without it.)"
    if ui.button((x + 16, top + 42, 126, 34), "Save data", tip):
        session.save_data()
    tip = f"Adds the samples of {DATA}. Or drop any .npz or data.json onto the window."
    if ui.button((x + 150, top + 42, 126, 34), "Load data", tip):
        session.load(session.home / DATA)
    if ui.button((x + 284, top + 42, 126, 34), "Save model", f"Writes {MODEL}"):
        session.save_model()
    tip = f"Goes on from {MODEL}. Or drop any model onto the window."
    if ui.button((x + 418, top + 42, 126, 34), "Load model", tip):
        session.load(session.home / MODEL)
    ui.text(x + 16, top + 90, f"Kept in {ui.clipped(str(session.home), 12, 470)}", 12, SOFT)


Rows = list[tuple[int, list[Sample]]]  # of each digit how many there are, and the newest


def _newest(samples: Samples, most: int) -> Rows:
    rows: list[list[Sample]] = [[] for _ in range(10)]
    for sample in samples:
        rows[sample.label].append(sample)
    return [(len(row), row[: -most - 1 : -1]) for row in rows]


def _cells(rows: Rows, x: Number, y: Number) -> Iterator[tuple[Sample, Rect]]:
    """Each sample that is shown, and where."""
    for digit, (_, row) in enumerate(rows):
        for place, sample in enumerate(row):
            yield sample, (x + 90 + place * 51, y + digit * 51, 46, 46)


def _draw_samples(window: "Window", rows: Rows, x: Number, y: Number) -> None:
    ui = window.ui
    for digit, (count, _) in enumerate(rows):
        top = y + digit * 51
        ui.text(x + 28, top + 10, str(digit), 20, INK, bold=True, align=0.5)
        ui.text(x + 76, top + 14, f"{count:,}", 13, SOFT, align=1)
    for sample, cell in _cells(rows, x, y):
        # Kept by its number: numbers never come again, and the oldest pictures go.
        ui.picture(cell, paper(sample.image.reshape(28, 28)), ("sample", sample.number))
        marked = sample.number in window.marked
        pygame.draw.rect(ui.surface, RED if marked else LINE, cell, 3 if marked else 1)
        if sample.held_out and not marked:
            left, low = cell[0], cell[1] + 46
            pygame.draw.line(ui.surface, BLUE, (left, low), (left + 45, low), 3)


def train(window: "Window", rect: Rect) -> None:
    """Curves, and everything that can be set."""
    ui, session = window.ui, window.session
    trainer = session.trainer
    x, y, w, _ = rect
    if ui.button((x + 16, y + 12, 90, 34), "Step", "One batch, to watch it slowly (S)", "s"):
        session.step()
    tip = "Forget all that it learned: random weights again (N)"
    if ui.button((x + 114, y + 12, 90, 34), "New net", tip, "n"):
        trainer.renew()
    known, new = len(trainer.train_set.labels), len(trainer.held_out.labels)
    epochs = trainer.step * min(trainer.batch_size, known) / known if known else 0
    ui.text(x + w - 16, y + 14, f"step {trainer.step:,}, epoch {epochs:,.1f}", 13, INK, align=1)
    said = f"trains on {known:,}, looks at {new:,} held out"
    ui.text(x + w - 16, y + 32, said, 12, SOFT, align=1)

    curves, width = trainer.curves, (w - 40) / 2
    high = max([1.0, *curves.loss[-200:], *(v for v in curves.held_loss[-200:] if v == v)])
    lines = [("train", curves.loss, BLUE), ("held out", curves.held_loss, ORANGE)]
    ui.curves((x + 16, y + 58, width, 158), "Loss", curves.steps, lines, min(high, 10.0))
    lines = [("train", curves.accuracy, BLUE), ("held out", curves.held_accuracy, ORANGE)]
    place = (x + 24 + width, y + 58, width, 158)
    ui.curves(place, "Right", curves.steps, lines, 1.0, percent=True)

    tip = "How far each step goes. Too small: nothing happens. Too large: it explodes."
    label = f"learning rate {trainer.lr:.3g}"
    place = (x + 20, y + 228, w - 40, 40)
    trainer.lr = ui.slider("lr", place, trainer.lr, 1e-4, 10.0, label, tip, log=True)
    _noise(window, (x + 20, y + 276, w - 40, 150))

    row = partial(_row, window, rect)
    names, layers = list(LAYERS), list(LAYERS.values())
    chosen = [index for index, one in enumerate(layers) if one == tuple(trainer.layers)]
    tip = "Units of the hidden layers between 784 pixels and 10 digits. Starts a new net."
    if (picked := row(0, "Layers", names, chosen, tip)) is not None:
        trainer.renew(layers[picked])
    tip = "Down the slope; with momentum, like a ball; Adam: each weight at its own pace"
    labels = [method.replace("-", " ") for method in METHODS]
    if (picked := row(1, "Optimiser", labels, [METHODS.index(trainer.method)], tip)) is not None:
        trainer.choose(METHODS[picked])
    tip = "Samples that are looked at before each step"
    chosen = [index for index, size in enumerate(BATCHES) if size == trainer.batch_size]
    if (picked := row(2, "Batch", [str(size) for size in BATCHES], chosen, tip)) is not None:
        trainer.batch_size = BATCHES[picked]
    tip = "Which digits are trained on"
    picked = row(3, "Digits", [str(d) for d in range(10)], sorted(session.digits), tip)
    if picked is not None:
        session.digits ^= {picked}
    tip = "How many samples are trained on, at most"
    labels = ["all" if limit == 0 else str(limit) for limit in LIMITS]
    chosen = [LIMITS.index(session.limit)]
    if (picked := row(4, "Samples", labels, chosen, tip)) is not None:
        session.limit = LIMITS[picked]
    ui.text(x + 16, y + 652, ui.clipped(trainer.trouble, 13, w - 32), 13, RED)


def _row(
    window: "Window",
    rect: Rect,
    line: int,
    label: str,
    options: list[str],
    chosen: list[int],
    tip: str,
) -> int | None:
    """A label and its options, one line below the other; the index of what was clicked."""
    x, y, w, _ = rect
    top = y + 434 + line * 42
    window.ui.text(x + 16, top + 8, label, 13, SOFT)
    return window.ui.choice((x + 110, top, w - 126, 32), options, chosen, tip, 13)


def _noise(window: "Window", rect: Rect) -> None:
    """Four sliders, and what they do to eight samples."""
    ui, trainer = window.ui, window.session.trainer
    x, y, w, _ = rect
    how, width = trainer.augment, (w - 60) / 4
    sliders = (
        ("noise", 0.3, f"specks {how.noise:.0%}", "Share of the pixels that get a random grey"),
        ("shift", 4.0, f"shift {how.shift:.1f} px", "Moved by up to so many pixels"),
        ("rotate", 45.0, f"turn {how.rotate:.0f}°", "Turned by up to so many degrees"),
        ("width", 1.0, f"stroke ± {how.width:.1f}", "Strokes thicker and thinner"),
    )
    for index, (name, high, label, tip) in enumerate(sliders):
        place = (x + index * (width + 20), y, width, 40)
        value = ui.slider(name, place, getattr(how, name), 0.0, high, label, tip)
        value = 0.0 if value < high / 50 else value  # the end of the slider is nothing at all
        how = replace(how, **{name: value})
    trainer.augment = how
    ui.text(x, y + 54, "what it trains on:", 12, SOFT)
    images = trainer.train_set.images
    if len(images) == 0:
        ui.text(x + 130, y + 54, "nothing yet: draw and label, or mix in MNIST", 12, SOFT)
        return
    # Samples spread over the set; new noise every 700 ms, so that the eye can follow.
    moment = pygame.time.get_ticks() // 700
    draw = partial(_draw_noisy, window, images, how, moment, x, y + 76)
    ui.still("noise", (x, y + 76, w, 58), (moment, how, id(images)), draw)


def _draw_noisy(
    window: "Window", images: np.ndarray, how: Augment, seed: int, x: Number, y: Number
) -> None:
    chosen = images[np.linspace(0, len(images) - 1, 8).astype(int)]
    for index, image in enumerate(augmented(chosen, how, np.random.default_rng(seed))):
        cell = (x + index * 66, y, 58, 58)
        window.ui.picture(cell, paper(image.reshape(28, 28)))
        pygame.draw.rect(window.ui.surface, LINE, cell, 1)


def insight(window: "Window", rect: Rect) -> None:
    """Weights, activations, why not, confusion, neighbours."""
    ui, session = window.ui, window.session
    net, look = session.trainer.net, session.look()
    x, y, w, _ = rect
    ui.text(x + 16, y + 10, "First layer", 15, INK, bold=True)
    ui.text(
        x + w - 16, y + 12, "ink where it is red excites a unit, blue calms it", 12, SOFT, align=1
    )
    pictures = heat(weight_pictures(net)[:16])
    active = None if look is None else look.layers[0] / max(float(look.layers[0].max()), 1e-9)
    for index, picture in enumerate(pictures):
        cell = (x + 16 + index % 8 * 67, y + 36 + index // 8 * 74, 60, 60)
        ui.picture(cell, picture)
        share = 0.0 if active is None else float(active[index])
        ui.bar((cell[0], cell[1] + 62, 60, 6), share, ORANGE)
        ui.tip(cell, f"Unit {index + 1}; the bar below is how much your drawing excites it")

    ui.text(x + 16, y + 184, "Activations", 15, INK, bold=True)
    layers = [] if look is None else look.layers
    for depth in range(len(net.sizes) - 1):
        last = depth == len(net.sizes) - 2
        units, top = (
            net.sizes[depth + 1],
            y + 222 + min(depth, 4) * (32 if len(net.sizes) < 5 else 25),
        )
        shown = min(units, 16)
        ui.text(x + 16, top - 8, "answer" if last else f"layer {depth + 1}", 12, SOFT)
        values = layers[depth] if layers else np.zeros(units)
        scale = 1.0 if last else max(float(values.max()), 1e-9)
        for place in range(shown):
            centre = (x + 100 + place * 28.5, top)
            ui.dot(centre, float(values[place]) / scale)
            if last:
                ui.text(centre[0], top - 8, str(place), 12, INK, align=0.5)

    top, middle = y + 336, x + w / 2 + 6
    _why_not(window, (x + 16, top, 250, 260))
    _confusion(window, (middle, top, 250, 260))
    ui.text(x + 16, y + 614, "Most alike", 15, INK, bold=True)
    ui.text(x + 16, y + 636, "of your samples", 12, SOFT)
    samples = session.samples.labelled().take(slice(-NEIGHBOURS, None))
    if look is None or len(samples.labels) == 0:
        ui.text(x + 150, y + 636, "draw, and have some samples", 12, SOFT)
        return
    version = session.samples.version
    neighbours = window.keep("neighbours", version, lambda: Neighbours(samples))
    key = (version, look.image.tobytes())
    nearest = window.keep("nearest", key, lambda: neighbours.nearest(look.image))
    for place, (index, distance) in enumerate(nearest):
        cell = (x + 150 + place * 80, y + 612, 56, 56)
        ui.picture(cell, paper(samples.images[index].reshape(28, 28)))
        pygame.draw.rect(ui.surface, LINE, cell, 1)
        ui.text(cell[0] + 61, cell[1] + 20, str(samples.labels[index]), 16, INK, bold=True)
        ui.tip(cell, f"A {samples.labels[index]}; {distance:.2f} away (0: the same picture)")


def _why_not(window: "Window", rect: Rect) -> None:
    """The gradient on the input, for a digit of one's choice."""
    ui, session, look = window.ui, window.session, window.session.look()
    x, y, w, _ = rect
    ui.text(x, y, f"Why not a {session.target}?", 15, INK, bold=True)
    tip = "More ink where it is red speaks for that digit, where it is blue against it"
    if (
        picked := ui.choice((x, y + 24, w, 24), [*"0123456789"], [session.target], tip, 12)
    ) is not None:
        session.ask_why_not(picked)
    square = (x, y + 56, 196, 196)
    if look is None:
        ui.panel(square)
        ui.text(x + 98, y + 146, "draw a digit", 13, SOFT, align=0.5)
        return
    answer, towards = why_not(session.trainer.net, look.image, session.target)
    ink = look.image.reshape(28, 28, 1) / 255 * 0.35
    ui.picture(square, (heat(towards) * (1 - ink)).astype(np.uint8))
    pygame.draw.rect(ui.surface, LINE, square, 1)
    ui.tip(square, tip)
    if answer == session.target:
        ui.panel((x + 28, y + 62, 140, 26))  # above the digit, which ends 4 pixels from the edge
        ui.text(x + 98, y + 67, f"it is a {answer} already", 13, INK, align=0.5)


def _confusion(window: "Window", rect: Rect) -> None:
    """Your own drawings: what they are against what the net says, counted anew twice a second."""
    ui, session = window.ui, window.session
    x, y, _, _ = rect
    own = session.samples.labelled(source="drawn").take(slice(-1000, None))
    net, training = session.trainer.net, session.trainer.running
    moment = pygame.time.get_ticks() // 500 if training else (session.trainer.step, id(net))
    table = window.keep(
        "confusion",
        (session.samples.version, moment),
        lambda: confusion(own.labels, net.probabilities(unit(own.images)).argmax(1)),
    )
    ui.text(x, y, "Your drawings", 15, INK, bold=True)
    said = f"{np.trace(table)} of {table.sum()} right" if len(own.labels) else "none yet"
    ui.text(x + 244, y + 2, said, 12, SOFT, align=1)
    draw = partial(_draw_confusion, window, table, x, y + 28)
    ui.still("confusion", (x, y + 28, 244, 240), table.tobytes(), draw)
    ui.tip((x + 40, y + 66, 200, 200), "Rows: what it is. Columns: what the net says.")


def _draw_confusion(window: "Window", table: np.ndarray, x: Number, y: Number) -> None:
    ui = window.ui
    side, left, top = 20, x + 40, y + 22
    ui.text(left + 100, y, "the net says", 11, SOFT, align=0.5)
    for digit in range(10):
        ui.text(left + digit * side + 10, top - 1, str(digit), 12, SOFT, align=0.5)
        ui.text(left - 8, top + 17 + digit * side, str(digit), 12, SOFT, align=1)
    for (digit, answer), count in np.ndenumerate(table):
        cell = (left + answer * side, top + 16 + digit * side, side - 1, side - 1)
        share = count / max(1, int(table[digit].sum()))
        target = GREEN if digit == answer else RED
        colour = tuple(round(p + (c - p) * share) for p, c in zip(PANEL, target, strict=True))
        pygame.draw.rect(ui.surface, colour, cell)
        pygame.draw.rect(ui.surface, LINE, cell, 1)
        if count:
            ui.text(cell[0] + 9.5, cell[1] + 2, str(count), 11, INK, align=0.5)


def preparation(window: "Window", rect: Rect) -> None:
    """A drawing's way into the net, step by step, and what is lost without the steps."""
    ui, session, look = window.ui, window.session, window.session.look()
    x, y, w, h = rect
    ui.text(x + 16, y + 12, "Preparation", 17, INK, bold=True)
    intro = (
        "MNIST's makers cut out every digit, scaled it into a box of 20 x 20 pixels and moved its "
        "centre of mass to the middle of 28 x 28. The net knows no other pictures: without these "
        "steps it fails on good drawings that lie off the centre."
    )
    ui.paragraph(x + 16, y + 42, w - 32, intro, 13, SOFT)
    if look is None:
        ui.text(x + w / 2, y + h / 2, "Draw a digit to see its way", 17, SOFT, align=0.5)
        return
    steps = look.prepared
    top, bottom, left, right = steps.box
    side = 162
    places = [
        (x + 16 + column * (side + 21), y + 150 + row * 248, side, side)
        for row in range(2)
        for column in range(3)
    ]
    captions = [
        ("1  Your drawing", f"the ink is {right - left} x {bottom - top} large"),
        ("2  Cut out", "only the ink counts"),
        ("3  Scaled", f"into 20 x 20: {steps.scaled.shape[1]} x {steps.scaled.shape[0]}"),
        ("4  Framed", "cross: the centre of mass"),
        ("5  Moved", "that centre to the middle"),
        ("6  Without all this", "only ten times smaller"),
    ]
    smaller = look.smaller.reshape(28, 28)
    pictures = [session.canvas, steps.cropped, steps.scaled, steps.boxed, steps.image, smaller]
    for (px, py, pw, ph), (title, said), picture in zip(places, captions, pictures, strict=True):
        ui.text(px, py - 24, title, 14, INK, bold=True)
        pygame.draw.rect(ui.surface, PALE, (px, py, pw, ph))
        high, wide = picture.shape
        scale = pw / max(high, wide)
        if title.startswith("3"):
            scale = pw / 28  # as large as it will be in the frame
        inner = (
            px + (pw - wide * scale) / 2,
            py + (ph - high * scale) / 2,
            wide * scale,
            high * scale,
        )
        ui.picture(inner, paper(picture), smooth=high > 28)
        pygame.draw.rect(ui.surface, LINE, (px, py, pw, ph), 1)
        ui.text(px, py + ph + 5, said, 12, SOFT)
    scale = side / CANVAS
    px, py, *_ = places[0]
    box = (px + left * scale, py + top * scale, (right - left) * scale, (bottom - top) * scale)
    pygame.draw.rect(ui.surface, ORANGE, box, 2)
    for place, (row, column) in ((places[3], steps.centre), (places[4], _centre(steps.image))):
        cx, cy = place[0] + (column + 0.5) * side / 28, place[1] + (row + 0.5) * side / 28
        pygame.draw.line(ui.surface, RED, (cx - 8, cy), (cx + 8, cy), 2)
        pygame.draw.line(ui.surface, RED, (cx, cy - 8), (cx, cy + 8), 2)
    for place, p in ((places[4], look.with_steps), (places[5], look.without)):
        said = f"the net: {p.argmax()}, {p.max():.0%} sure"
        ui.text(place[0], place[1] + side + 24, said, 13, INK, bold=True)


def _centre(image: np.ndarray) -> tuple[float, float]:
    total = max(float(image.sum()), 1e-9)
    return float(image.sum(1) @ np.arange(28)) / total, float(image.sum(0) @ np.arange(28)) / total


def lessons(window: "Window", rect: Rect) -> None:
    """The eight tasks; the one at hand with what it teaches."""
    ui, session = window.ui, window.session
    x, y, w, _ = rect
    ui.text(x + 16, y + 12, "Lessons", 17, INK, bold=True)
    said = f"{len(session.done)} of {len(LESSONS)} done"
    ui.text(x + w - 16, y + 15, said, 13, SOFT, align=1)
    for index, lesson in enumerate(LESSONS):
        row = (x + 16, y + 46 + index * 44, w - 32, 38)
        if ui.button(row, "", "Choose this lesson", on=index == session.lesson):
            session.go_to_lesson(index)
        colour = PANEL if index == session.lesson else INK
        ui.text(row[0] + 14, row[1] + 9, f"{index + 1}   {lesson.title}", 15, colour)
        if index in session.done:
            mark = PANEL if index == session.lesson else GREEN
            ui.text(row[0] + w - 50, row[1] + 8, "✓", 17, mark, bold=True, align=1)
    lesson = LESSONS[session.lesson]
    top = y + 46 + 8 * 44 + 10
    ui.text(x + 16, top, lesson.title, 16, INK, bold=True)
    below = ui.paragraph(x + 16, top + 28, w - 32, lesson.task, 15)
    below = ui.paragraph(x + 16, below + 10, w - 32, lesson.why, 14, SOFT)
    progress = lesson.progress(session)
    done = session.lesson in session.done
    ui.bar((x + 16, below + 14, w - 32, 12), 1 if done else progress.share, GREEN)
    said = "Done ✓  On to the next one." if done else progress.text
    ui.text(x + 16, below + 34, said, 14, GREEN if done else INK, bold=True)


PANELS: tuple[tuple[str, Callable[["Window", Rect], None]], ...] = (
    ("My digits", digits),
    ("Train", train),
    ("See through", insight),
    ("Preparation", preparation),
    ("Lessons", lessons),
)
