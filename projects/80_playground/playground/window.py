"""The window: a canvas, what the net sees and says, and five panels to look into."""

import os
import sys
import time
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pygame

from playground.config import PlayConfig
from playground.lessons import LESSONS
from playground.panels import PANELS
from playground.preprocess import CANVAS
from playground.session import Session, first_net
from playground.widgets import (
    BLUE,
    GREEN,
    INK,
    LINE,
    ORANGE,
    PANEL,
    PAPER,
    SOFT,
    Number,
    Rect,
    Ui,
    paper,
    stretched,
)
from trainloop import LabError

SIZE = (1280, 800)
CANVAS_RECT: Rect = (20, 72, 400, 400)
LOOK_RECT: Rect = (444, 72, 236, 690)
PANEL_RECT: Rect = (700, 72, 560, 690)
SHARE = 0.45  # of a frame's time for training; the rest is for drawing and for the system


class Window:
    """The session's face. `frame` takes events and draws; `play` calls it sixty times a second."""

    def __init__(self, session: Session, surface: pygame.Surface, frames: int = 60) -> None:
        self.session, self.ui = session, Ui(surface)
        self.panel, self.marked = 0, set()
        self._kept: dict[str, tuple[Hashable, Any]] = {}
        self.budget = 1000 / frames * SHARE  # ms
        self._drawing = False
        self._said, self._said_at = "", 0.0

    def frame(self, events: Sequence[pygame.event.Event], now: Number | None = None) -> bool:
        """One frame: what was done, some training, and all drawn anew. False when it is closed."""
        now = time.perf_counter() if now is None else now
        ui = self.ui
        self.listen(events, now)
        ui.still("background", (0, 0, *SIZE), 0, self._background)
        self._top()
        self._canvas()
        self._look()
        PANELS[self.panel][1](self, PANEL_RECT)
        self._message(now)
        ui.end()
        for name in ui.input.dropped:
            self.session.load(Path(name))
        return not ui.input.quit

    def listen(self, events: Sequence[pygame.event.Event], now: Number) -> None:
        """A frame without its picture: what the pen did, and some training."""
        self.ui.begin(events, now)
        self._pen()
        self.session.tick(self.budget)

    def keep(self, name: str, key: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` gives; it is asked again only when the key is another one."""
        if name not in self._kept or self._kept[name][0] != key:
            self._kept[name] = (key, make())
        return self._kept[name][1]

    def _background(self) -> None:
        """What never changes."""
        ui = self.ui
        ui.surface.fill(PAPER)
        pygame.draw.rect(ui.surface, PANEL, (0, 0, SIZE[0], 56))
        pygame.draw.line(ui.surface, LINE, (0, 56), (SIZE[0], 56))
        ui.panel(LOOK_RECT)
        ui.panel(PANEL_RECT)

    # --- left: the canvas ------------------------------------------------------------------

    def _pen(self) -> None:
        """Every move of the pen since the last frame, not only where it is now."""
        x0, y0, side, _ = CANVAS_RECT
        scale = CANVAS / side
        for kind, x, y in self.ui.input.path:
            inside = pygame.Rect(CANVAS_RECT).collidepoint(x, y)
            place = ((x - x0) * scale, (y - y0) * scale)
            if kind == "down" and inside:
                self._drawing = True
                self.session.pen_down(*place)
            elif kind == "move" and self._drawing:
                self.session.pen_move(*place)
            elif kind == "up" and self._drawing:
                self._drawing = False
                self.session.pen_up()

    def _canvas(self) -> None:
        ui, session = self.ui, self.session
        x, y, w, h = CANVAS_RECT
        drawing = self.keep(
            "drawing", session.drawn, lambda: stretched(paper(session.canvas), (w, h), smooth=True)
        )
        ui.surface.blit(drawing, (x, y))
        pygame.draw.rect(ui.surface, INK, CANVAS_RECT, 2, border_radius=3)
        if session.drawn == 0 or not session.canvas.any():
            middle = CANVAS_RECT[0] + CANVAS_RECT[2] / 2
            ui.text(middle, 250, "Draw a digit here", 20, SOFT, align=0.5)
            ui.text(middle, 280, "large, with the mouse or a finger", 14, SOFT, align=0.5)
        if ui.button((20, 484, 84, 34), "Undo", "Take back the last stroke (Z)", "z"):
            session.undo()
        if ui.button((110, 484, 84, 34), "Clear", "An empty canvas (C)", "c"):
            session.clear()
        tip = "How thick the pen is. MNIST's digits were drawn with about 25."
        label = f"pen {session.pen:.0f}"
        session.pen = ui.slider("pen", (214, 480, 150, 40), session.pen, 6, 50, label, tip)
        pygame.draw.aacircle(ui.surface, INK, (394, 502), max(2, round(session.pen / scale_down())))

        ui.text(20, 532, "This is a ...", 15, INK, bold=True)
        ui.text(420, 534, "click, or press its key: it is saved at once", 12, SOFT, align=1)
        for digit in range(10):
            tip = f"Save the drawing as a {digit} (key {digit})"
            rect = (20 + digit * 40.4, 556, 36, 42)
            if ui.button(rect, str(digit), tip, str(digit), size=20):
                session.label(digit)
        tip = "Cut out, scale and centre each drawing, as MNIST's makers did: see Preparation"
        session.centred = ui.tick_box(
            20, 610, "Centre and scale, as MNIST does", session.centred, tip
        )
        self._lesson_card((20, 644, 400, 118))

    def _lesson_card(self, rect: Rect) -> None:
        """The lesson at hand, in sight whatever panel is open."""
        ui, session = self.ui, self.session
        lesson, done = LESSONS[session.lesson], session.lesson in session.done
        ui.panel(rect)
        x, y, w, h = rect
        title = f"Lesson {session.lesson + 1}: {lesson.title}"
        ui.text(x + 12, y + 9, title, 15, GREEN if done else INK, bold=True)
        progress = lesson.progress(session)
        lines = ui.wrapped(lesson.task, 12, w - 24)[:3]
        for index, line in enumerate(lines):
            ui.text(x + 12, y + 33 + 16 * index, line, 12, SOFT)
        ui.bar((x + 12, y + h - 32, w - 24, 6), 1 if done else progress.share, GREEN)
        said = "done ✓" if done else ui.clipped(progress.text, 12, w - 24)
        ui.text(x + 12, y + h - 22, said, 12, GREEN if done else INK)

    # --- middle: the net's view ------------------------------------------------------------

    def _look(self) -> None:
        ui, look = self.ui, self.session.look()
        x, y, w, _ = LOOK_RECT
        ui.text(x + 14, y + 10, "What the net sees", 15, INK, bold=True)
        square = (x + 20, y + 38, 196, 196)
        image = np.zeros((28, 28), np.uint8) if look is None else look.image.reshape(28, 28)
        ui.picture(square, paper(image))
        pygame.draw.rect(ui.surface, LINE, square, 1)
        ui.tip(square, "28 x 28 pixels: the 784 numbers that go into the net")
        ui.text(x + 14, y + 250, "What it guesses", 15, INK, bold=True)
        for digit in range(10):
            top = y + 282 + digit * 33
            share = 0.0 if look is None else float(look.probabilities[digit])
            best = look is not None and digit == look.answer
            colour = ORANGE if best else BLUE
            ui.text(x + 22, top, str(digit), 18, colour if best else INK, bold=best, align=0.5)
            ui.bar((x + 40, top + 3, 132, 17), share, colour)
            if look is not None:
                ui.text(x + w - 12, top + 3, f"{share:.0%}", 13, SOFT, align=1)
        if look is None:
            said = "Draw something"
        elif not self.session.trainer.classes:
            said = "It has learned nothing yet"
        else:
            said = f"I think it is a {look.answer}"
        ui.text(x + w / 2, y + 624, said, 15, INK, bold=True, align=0.5)
        sizes = "-".join(map(str, self.session.trainer.net.sizes))
        ui.text(x + w / 2, y + 652, f"net {sizes}", 12, SOFT, align=0.5)

    # --- top and bottom --------------------------------------------------------------------

    def _top(self) -> None:
        ui = self.ui
        ui.text(20, 14, "Playground", 22, INK, bold=True)
        tip = f"{self.session.trainer.step:,} steps since the net was new (Space starts and pauses)"
        running = self.session.trainer.running
        label = "Pause training" if running else "Start training"
        if ui.button((444, 11, 150, 34), label, tip, "space", on=running):
            self.session.pause() if running else self.session.start()
        for index, (name, _) in enumerate(PANELS):
            rect = (700 + index * 113, 11, 108, 34)
            if ui.button(rect, name, f"F{index + 1}", f"f{index + 1}", on=index == self.panel):
                self.panel = index

    def _message(self, now: Number) -> None:
        if self.session.message != self._said:
            self._said, self._said_at = self.session.message, now
        if now - self._said_at > 12:
            self.session.message = self._said = ""
        text = self.ui.clipped(self._said, 14, SIZE[0] - 40)
        self.ui.text(20, 773, text, 14, INK)


def scale_down() -> float:
    """Canvas units to the radius on the screen: the canvas is drawn larger than it is."""
    return 2 * CANVAS / CANVAS_RECT[2]


def play(config: PlayConfig) -> None:
    """Open the window, until it is closed."""
    session = Session(config.home, first_net(config))
    try:
        surface = open_window()
        window, clock = Window(session, surface, config.frames), pygame.time.Clock()
        while window.frame(pygame.event.get()):
            pygame.display.flip()
            clock.tick(config.frames)
    finally:
        session.close()
        pygame.quit()


def open_window() -> pygame.Surface:
    """A window of 1280x800 that scales to whatever it is pulled to; LabError without a screen."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    os.environ.setdefault("SDL_AUDIODRIVER", "dummy")  # no sound is made: no device is needed
    try:
        pygame.display.init()
        pygame.font.init()
        flags = pygame.SCALED | pygame.RESIZABLE
        if pygame.display.get_driver() == "dummy":
            flags = 0  # has no renderer that could scale
        surface = pygame.display.set_mode(SIZE, flags)
    except pygame.error as error:
        print(f"(SDL: {error})", file=sys.stderr)
        raise LabError("there is no screen to open a window on: try `play --web`") from None
    pygame.display.set_caption("Playground")
    return surface
