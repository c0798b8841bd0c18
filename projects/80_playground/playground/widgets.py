"""Buttons, sliders, text and pictures, drawn anew each frame: no widget has a state of its own.

What is dear to make (letters, stretched pictures, lines of a paragraph, whole parts of a panel) is
kept for as long as it would come out the same.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pygame

PAPER, PANEL, LINE = (244, 242, 236), (255, 255, 255), (220, 216, 206)
INK, SOFT = (32, 42, 54), (98, 108, 120)
BLUE, ORANGE, GREEN, RED = (43, 104, 214), (226, 110, 32), (34, 139, 94), (206, 62, 50)
PALE = (226, 235, 250)
TIP_AFTER = 0.5  # seconds that the mouse must rest
MOST_KEPT = 1500  # rendered strings, and pictures, and wrapped lines

Number = float | int
Rect = tuple[Number, Number, Number, Number]  # left, top, width, height


@dataclass
class Input:
    """What the person did since the last frame."""

    mouse: tuple[int, int] = (-1, -1)
    down: bool = False
    pressed: bool = False
    released: bool = False
    keys: list[str] = field(default_factory=list)
    path: list[tuple[str, int, int]] = field(default_factory=list)  # every down, move and up
    dropped: list[str] = field(default_factory=list)
    quit: bool = False

    def next(self, events: Sequence[pygame.event.Event], size: tuple[int, int]) -> None:
        """Take in the events of a frame; fingers count as a mouse, and only once."""
        self.pressed = self.released = False
        self.keys, self.path, self.dropped = [], [], []
        for event in events:
            if event.type == pygame.QUIT:
                self.quit = True
            elif event.type == pygame.KEYDOWN:
                self.keys.append(pygame.key.name(event.key).strip("[]"))  # [7] is the keypad's
            elif event.type == pygame.DROPFILE:
                self.dropped.append(event.file)
            elif event.type in (pygame.FINGERDOWN, pygame.FINGERMOTION, pygame.FINGERUP):
                where = (round(event.x * size[0]), round(event.y * size[1]))
                kinds = {pygame.FINGERDOWN: "down", pygame.FINGERMOTION: "move"}
                self._point(kinds.get(event.type, "up"), where)
            elif getattr(event, "touch", False):
                continue  # SDL tells every touch a second time, as a mouse
            elif event.type == pygame.MOUSEMOTION:
                self._point("move", event.pos)
            elif event.type == pygame.MOUSEBUTTONDOWN and event.button == 1:
                self._point("down", event.pos)
            elif event.type == pygame.MOUSEBUTTONUP and event.button == 1:
                self._point("up", event.pos)

    def _point(self, kind: str, where: tuple[int, int]) -> None:
        self.mouse = where
        self.pressed |= kind == "down"
        self.released |= kind == "up"
        self.down = kind == "down" or (self.down and kind != "up")
        self.path.append((kind, *where))


class Kept:
    """What was made once, by a key; the oldest goes when there are too many."""

    def __init__(self, most: int = MOST_KEPT) -> None:
        self.most, self._things = most, {}

    def __len__(self) -> int:
        return len(self._things)

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The thing with this key; `make` makes it if it is not there."""
        if key not in self._things:
            if len(self._things) >= self.most:
                del self._things[next(iter(self._things))]
            self._things[key] = make()
        return self._things[key]


class Ui:
    """Draws into a surface and says what was clicked.

    Args:
        surface: of the window.
    """

    def __init__(self, surface: pygame.Surface) -> None:
        self.surface, self.input = surface, Input()
        self._fonts, self._texts, self._lines, self._pictures = (Kept() for _ in range(4))
        self._still: dict[str, tuple[Hashable, pygame.Surface]] = {}
        self._held: str | None = None  # the slider that the mouse went down on
        self._tip: tuple[str, Rect] | None = None
        self._tip_since: tuple[str, float] = ("", 0.0)
        self._now = 0.0

    def begin(self, events: Sequence[pygame.event.Event], now: Number) -> None:
        """Start a frame at `now` (s)."""
        self.input.next(events, self.surface.get_size())
        self._now, self._tip = now, None
        if not self.input.down:
            self._held = None

    def end(self) -> None:
        """Draw what lies on top: the tip of what the mouse rests on."""
        text = self._tip[0] if self._tip else ""
        if text != self._tip_since[0]:
            self._tip_since = (text, self._now)
        if not text or self.input.down or self._now - self._tip_since[1] < TIP_AFTER:
            return
        lines = self.wrapped(text, 14, 300)
        width = max(self.font(14).size(line)[0] for line in lines) + 20
        height = 19 * len(lines) + 14
        x, y, w, h = self._tip[1]
        left = min(max(x + w / 2 - width / 2, 8), self.surface.get_width() - width - 8)
        below = y + h + 6
        top = below if below + height < self.surface.get_height() - 8 else y - height - 6
        pygame.draw.rect(self.surface, INK, (left, top, width, height), border_radius=6)
        for index, line in enumerate(lines):
            self.text(left + 10, top + 7 + 19 * index, line, 14, PANEL)

    # --- text ------------------------------------------------------------------------------

    def font(self, size: int, bold: bool = False) -> pygame.font.Font:
        """DejaVu Sans, which matplotlib brings along (found without importing it)."""
        return self._fonts.get((size, bold), lambda: _load_font(size, bold))

    def text(
        self,
        x: Number,
        y: Number,
        text: str,
        size: int = 15,
        colour: tuple = INK,
        bold: bool = False,
        align: Number = 0.0,
    ) -> int:
        """One line, its top at y; align 0: begins at x, 0.5: centred, 1: ends there. Its width."""
        image = self._texts.get(
            (text, size, colour, bold), lambda: self.font(size, bold).render(text, True, colour)
        )
        self.surface.blit(image, (round(x - align * image.get_width()), round(y)))
        return image.get_width()

    def wrapped(self, text: str, size: int, width: Number) -> list[str]:
        """The text in lines that are no wider than that."""
        return self._lines.get((text, size, width), lambda: self._wrapped(text, size, width))

    def _wrapped(self, text: str, size: int, width: Number) -> list[str]:
        lines, line = [], ""
        for word in text.split():
            longer = f"{line} {word}".strip()
            if line and self.font(size).size(longer)[0] > width:
                lines.append(line)
                longer = word
            line = longer
        return [*lines, line]

    def paragraph(
        self, x: Number, y: Number, width: Number, text: str, size: int = 15, colour: tuple = INK
    ) -> float:
        """Text in lines; returns the y below it."""
        for line in self.wrapped(text, size, width):
            self.text(x, y, line, size, colour)
            y += size * 1.4
        return y

    def clipped(self, text: str, size: int, width: Number) -> str:
        """The text, or as much of its beginning as fits, with dots."""
        key = ("clipped", text, size, width)
        return self._lines.get(key, lambda: self._clipped(text, size, width))

    def _clipped(self, text: str, size: int, width: Number) -> str:
        if self.font(size).size(text)[0] <= width:
            return text
        while text and self.font(size).size(text + "…")[0] > width:
            text = text[:-1]
        return text + "…"

    # --- things to click -------------------------------------------------------------------

    def over(self, rect: Rect) -> bool:
        return pygame.Rect(rect).collidepoint(self.input.mouse)

    def tip(self, rect: Rect, text: str) -> None:
        """Explain what is there to a mouse that rests on it."""
        if text and self.over(rect):
            self._tip = (text, rect)

    def clicked(self, rect: Rect) -> bool:
        return self.input.pressed and self.over(rect)

    def panel(self, rect: Rect, colour: tuple = PANEL) -> None:
        pygame.draw.rect(self.surface, colour, rect, border_radius=8)
        pygame.draw.rect(self.surface, LINE, rect, 1, border_radius=8)

    def button(
        self, rect: Rect, label: str, tip: str = "", key: str = "", on: bool = False, size: int = 14
    ) -> bool:
        """True if it was clicked, or its key pressed, since the last frame."""
        place, over = pygame.Rect(rect), self.over(rect)
        plate = self._pictures.get(("plate", place.size, on, over), lambda: _plate(place, on, over))
        self.surface.blit(plate, place)
        high = self.font(size).get_height()
        left, top = place.centerx, place.y + (place.height - high) / 2
        self.text(left, top, label, size, PANEL if on else INK, align=0.5)
        self.tip(rect, tip)
        return self.clicked(rect) or (key != "" and key in self.input.keys)

    def choice(
        self,
        rect: Rect,
        options: Sequence[str],
        chosen: Sequence[int],
        tip: str = "",
        size: int = 14,
    ) -> int | None:
        """A row of options; the index of the one that was clicked."""
        x, y, w, h = rect
        gap = 4
        width = (w - gap * (len(options) - 1)) / len(options)
        clicked = None
        for index, option in enumerate(options):
            place = (x + index * (width + gap), y, width, h)
            if self.button(place, option, tip, on=index in chosen, size=size):
                clicked = index
        return clicked

    def slider(
        self,
        name: str,
        rect: Rect,
        value: Number,
        low: Number,
        high: Number,
        label: str,
        tip: str = "",
        log: bool = False,
    ) -> float:
        """A value to drag, its label above; returns the new value."""
        x, y, w, h = rect
        self.text(x, y, label, 13, SOFT)
        track = (x, y + h - 14, w, 6)
        if self.input.pressed and self.over((x - 6, y + h - 22, w + 12, 24)):
            self._held = name
        share = np.log(value / low) / np.log(high / low) if log else (value - low) / (high - low)
        if self._held == name and self.input.down:
            share = min(1.0, max(0.0, (self.input.mouse[0] - x) / w))
            value = low * (high / low) ** share if log else low + share * (high - low)
        share = min(1.0, max(0.0, float(share)))
        pygame.draw.rect(self.surface, LINE, track, border_radius=3)
        pygame.draw.rect(self.surface, BLUE, (x, track[1], w * share, 6), border_radius=3)
        knob = (round(x + w * share), round(track[1] + 3))
        pygame.draw.aacircle(self.surface, PANEL, knob, 9)
        pygame.draw.aacircle(self.surface, BLUE, knob, 9, 2)
        self.tip((x, y, w, h), tip)
        return float(value)

    def tick_box(self, x: Number, y: Number, label: str, on: bool, tip: str = "") -> bool:
        """A switch with its label; returns the new state."""
        rect = (x, y, 30 + self.font(14).size(label)[0], 24)
        box = (x, y + 2, 20, 20)
        pygame.draw.rect(self.surface, BLUE if on else PANEL, box, border_radius=5)
        pygame.draw.rect(self.surface, BLUE if on else SOFT, box, 1, border_radius=5)
        if on:
            points = [(x + 5, y + 12), (x + 9, y + 16), (x + 15, y + 7)]
            pygame.draw.lines(self.surface, PANEL, False, points, 3)
        self.text(x + 28, y + 3, label, 14)
        self.tip(rect, tip)
        return on != self.clicked(rect)

    # --- pictures --------------------------------------------------------------------------

    def picture(
        self, rect: Rect, image: np.ndarray, key: tuple | None = None, smooth: bool = False
    ) -> None:
        """Greys (h, w) or colours (h, w, 3) of uint8, stretched over the rectangle.

        A picture with a key is kept under it and its size, and not looked at again.
        """
        place = pygame.Rect(rect)
        if key is None:
            made = stretched(image, place.size, smooth)
        else:
            full = (key, place.size)
            made = self._pictures.get(full, lambda: stretched(image, place.size, smooth))
        self.surface.blit(made, place)

    def still(self, name: str, rect: Rect, key: Hashable, draw: Callable[[], None]) -> None:
        """A part that seldom changes: while its key is the last one, its pixels are copied.

        The key says all that `draw` depends on. Clicks and tips belong beside it, not into it.
        """
        place = pygame.Rect(rect)
        if name in self._still and self._still[name][0] == key:
            self.surface.blit(self._still[name][1], place)
        else:
            draw()
            self._still[name] = (key, self.surface.subsurface(place).copy())

    def dot(self, centre: tuple[Number, Number], share: float) -> None:
        """A round lamp, pale for 0 and orange for 1."""
        level = round(64 * min(1.0, max(0.0, share)))
        made = self._pictures.get(("lamp", level), lambda: _lamp(level / 64))
        self.surface.blit(made, (round(centre[0]) - 12, round(centre[1]) - 12))

    def bar(self, rect: Rect, share: Number, colour: tuple = BLUE) -> None:
        """A horizontal bar, filled to a share of 0..1."""
        x, y, w, h = rect
        pygame.draw.rect(self.surface, LINE, rect, border_radius=4)
        if share > 0.004:
            filled = (x, y, max(3, w * min(1.0, share)), h)
            pygame.draw.rect(self.surface, colour, filled, border_radius=4)

    def curves(
        self,
        rect: Rect,
        title: str,
        steps: Sequence[int],
        lines: Sequence[tuple[str, Sequence[Number], tuple]],
        high: Number,
        percent: bool = False,
    ) -> None:
        """Lines over steps on an axis from 0 to `high`, each named in its colour."""
        self.panel(rect)
        x, y, w, h = rect
        self.text(x + 10, y + 6, title, 13, INK, bold=True)
        left, top, width, height = x + 42, y + 30, w - 54, h - 50
        for share in (0, 0.5, 1):
            level = top + height * (1 - share)
            pygame.draw.line(self.surface, LINE, (left, level), (left + width, level))
            value = share * high
            self.text(
                left - 5,
                level - 8,
                f"{value:.0%}" if percent else f"{value:.1f}",
                11,
                SOFT,
                align=1,
            )
        end = x + w - 10
        for name, values, colour in reversed(lines):
            end -= self.text(end, y + 7, name, 12, colour, bold=True, align=1) + 12
            step, value = np.array([steps, values], float)
            step, value = step[np.isfinite(value)], value[np.isfinite(value)]
            if len(step) > 1:
                across = left + width * step / step[-1]
                down = top + height * (1 - np.minimum(value, high) / high)
                points = np.stack([across, down], 1).tolist()
                pygame.draw.lines(self.surface, colour, False, points, 2)
        if steps:
            self.text(left + width, y + h - 18, f"{steps[-1]:,} steps", 11, SOFT, align=1)
        else:
            self.text(left + width / 2, top + height / 2 - 8, "press Start", 13, SOFT, align=0.5)


def _load_font(size: int, bold: bool) -> pygame.font.Font:
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    path = Path(find_spec("matplotlib").origin).parent / "mpl-data/fonts/ttf" / name
    return pygame.font.Font(str(path), size)


def _plate(place: pygame.Rect, on: bool, over: bool) -> pygame.Surface:
    """A button without its label."""
    made, whole = pygame.Surface(place.size, pygame.SRCALPHA), (0, 0, *place.size)
    fill, border = BLUE if on else (PALE if over else PANEL), BLUE if on or over else LINE
    pygame.draw.rect(made, fill, whole, border_radius=7)
    pygame.draw.rect(made, border, whole, 1, border_radius=7)
    return made


def _lamp(share: float) -> pygame.Surface:
    """24x24, drawn four times as large first: its edge is smooth then."""
    large = pygame.Surface((96, 96), pygame.SRCALPHA)
    mix = [round(p + (o - p) * share) for p, o in zip(PALE, ORANGE, strict=True)]
    pygame.draw.circle(large, LINE, (48, 48), 46)
    pygame.draw.circle(large, mix, (48, 48), 42)
    return pygame.transform.smoothscale(large, (24, 24))


def paper(grey: np.ndarray) -> np.ndarray:
    """Ink of 0..1 or 0..255 as a picture of dark ink on white paper, uint8."""
    if grey.dtype != np.uint8:
        grey = (grey * np.float32(255)).astype(np.uint8)
    return 255 - grey


_SHARE = np.linspace(-1, 1, 511)[:, None]
HEAT = (255 + np.abs(_SHARE) * (np.where(_SHARE > 0, RED, BLUE) - 255.0)).astype(np.uint8)


def heat(signed: np.ndarray) -> np.ndarray:
    """[-1, 1] as blue over white to red, (..., 3) uint8."""
    return HEAT.take(np.rint(signed * 255).astype(np.int16) + 255, axis=0)


def stretched(image: np.ndarray, size: tuple[int, int], smooth: bool = False) -> pygame.Surface:
    """Greys (h, w) or colours (h, w, 3) of uint8, made as large as `size`.

    With 32 bits a pixel, as the window has them: SDL stretches and copies those 4 to 6 times as
    quickly as 24 bits.
    """
    height, width = image.shape[:2]
    if image.ndim == 2:
        pixels = image * np.uint32(0x00010101)
    else:
        pixels = np.zeros((height, width, 4), np.uint8)
        pixels[..., :3] = image
    surface = pygame.image.frombuffer(pixels, (width, height), "RGBX")
    return (pygame.transform.smoothscale if smooth else pygame.transform.scale)(surface, size)
