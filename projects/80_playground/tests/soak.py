"""Half an hour at the window, compressed: `python tests/soak.py 108000` (test_window runs fewer).

Sixty frames are a second of the window's clock: somebody draws a digit in four seconds and labels
it, changes panels, clicks anywhere, while the net trains. Each frame takes events, trains and
checks the lesson; every thirtieth, and each with a key or a click, is drawn as well. The last line
is a JSON object: memory, objects and files after each quarter, and the CPU milliseconds of a frame.
"""

import gc
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pygame
from conftest import _drawn, _points

from playground import session as sessions
from playground.augment import Augment
from playground.session import Session
from playground.widgets import Kept
from playground.window import CANVAS_RECT, Window, open_window

DRAWING = 240  # frames from one digit to the next
DRAWN = 30  # of so many frames one is drawn
KEPT = 150  # letters, lines and pictures in a cache


def event(kind: int, place: tuple[float, float]) -> pygame.event.Event:
    return pygame.event.Event(kind, pos=tuple(map(round, place)), button=1, touch=False)


def key(name: str) -> pygame.event.Event:
    return pygame.event.Event(pygame.KEYDOWN, key=pygame.key.key_code(name), mod=0, unicode="")


def visit(rng: np.random.Generator) -> dict[int, list[pygame.event.Event]]:
    """The events of four seconds, by frame: a digit, its label or another try, a look around."""
    digit, frame, found = int(rng.integers(10)), 10, {}
    x, y, side, _ = CANVAS_RECT
    for stroke in _points(digit, rng=rng):
        places = [(x + side / 280 * px, y + side / 280 * py) for px, py in stroke]
        kinds = [pygame.MOUSEBUTTONDOWN, *[pygame.MOUSEMOTION] * len(places), pygame.MOUSEBUTTONUP]
        for kind, place in zip(kinds, [*places, places[-1], places[-1]], strict=False):
            found[frame] = [event(kind, place)]
            frame += 2
    found[180] = [key(str(digit) if rng.random() < 0.8 else "c")]
    if rng.random() < 0.5:
        found[190] = [key(f"f{rng.integers(1, 6)}")]
    if rng.random() < 0.5:
        place = rng.uniform(700, 1260), rng.uniform(72, 700)
        found[200] = [event(pygame.MOUSEBUTTONDOWN, place)]
        found[201] = [event(pygame.MOUSEBUTTONUP, place)]
    return found


def kept_by(window: Window) -> list[Kept]:
    return [window.ui._texts, window.ui._lines, window.ui._pictures]


def state(window: Window, home: Path) -> dict[str, int]:
    """What is there now; memory in kB."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "memory_kb": pages * os.sysconf("SC_PAGE_SIZE") // 1024,
        "objects": len(gc.get_objects()),
        "samples": len(window.session.samples),
        "kept": max(map(len, kept_by(window))),
        "files": len(list(home.iterdir())),
        "open_files": len(list(Path("/proc/self/fd").iterdir())),
        "journal_kb": sum(path.stat().st_size for path in home.glob("samples.*")) // 1024,
        "threads": threading.active_count(),
        "points": len(window.session.trainer.curves.steps),
        "labellings": len(window.session.labellings),
    }


def soak(frames: int, home: Path) -> dict[str, object]:
    digits = _drawn()
    sessions.mnist = lambda split: digits + digits  # what the button for MNIST mixes in
    session = Session(home)
    session.samples.add_all(digits, "mnist")
    window = Window(session, open_window())
    window.budget = 0  # one step a frame
    for kept in kept_by(window):
        kept.most = KEPT  # is full after a quarter: what grows later is no cache
    rng, states, trained = np.random.default_rng(0), [], 0
    spent: dict[str, list[float]] = {"not drawn": [], "drawn": []}
    for frame in range(frames):
        if frame % DRAWING == 0:
            events = visit(rng)
            settle(session)
        now, before = events.get(frame % DRAWING, []), session.trainer.step
        begin = time.process_time()
        if frame % DRAWN == 0 or any(one.type != pygame.MOUSEMOTION for one in now):
            assert window.frame(now, frame / 60)
            kind = "drawn"
        else:
            window.listen(now, frame / 60)
            session.look()
            kind = "not drawn"
        spent[kind].append(1000 * (time.process_time() - begin))
        trained += session.trainer.step != before
        if frame % (frames // 4) == frames // 4 - 1:
            states.append(state(window, home))
    assert np.isfinite(session.trainer.net.parameters).all()
    session.close()
    return {
        "states": states,  # after each quarter
        "trained": trained,
        "drawn": len(spent["drawn"]),
        "ms": {kind: quarters(times) for kind, times in spent.items()},
    }


def settle(session: Session) -> None:
    """Put back what was clicked, so that the frames can be compared, and train on."""
    trainer = session.trainer
    if trainer.layers != (16, 16):
        trainer.renew((16, 16))
    trainer.choose("momentum", 0.05)
    trainer.batch_size, trainer.augment = 64, Augment()
    session.digits, session.limit = frozenset(range(10)), 0
    session.start()


def quarters(times: list[float]) -> list[float]:
    """The mean of each quarter, rounded."""
    length = len(times) // 4
    return [round(statistics.mean(times[k * length : (k + 1) * length]), 3) for k in range(4)]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(soak(int(sys.argv[1]), Path(folder))))
