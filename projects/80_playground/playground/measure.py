"""What the window promises, measured: frames while training, guesses, samples after SIGKILL."""

import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from playground.config import MeasureConfig
from playground.data import mnist
from playground.net import Net
from playground.preprocess import CANVAS, Stroke, prepare, rasterise
from playground.samples import Samples
from playground.session import Session, look
from trainloop import Run

SAMPLES = 2000  # of MNIST in the data set while the window is watched
GUESSES = 500
FRAMES = 60  # a second, that the window aims at


def measure(config: MeasureConfig) -> dict[str, float | int | None]:
    """Measure all three; frame times are wall-clock, CPU seconds of the process stand beside."""
    run = Run.open("playground", config, command="measure")
    with tempfile.TemporaryDirectory() as folder:
        wall, cpu, steps = frame_times(Path(folder), config.steps, run)
        guesses = guess_times(config.seed)
        lost, kept = killed(Path(folder), config.kills, config.seed)
    run.log(
        run.total,
        frame_ms_p50=float(np.percentile(wall, 50)),
        frame_ms_p99=float(np.percentile(wall, 99)),
        frame_cpu_ms_p99=float(np.percentile(cpu, 99)),
        steps_a_frame=steps / config.steps,
        guess_ms_p50=float(np.percentile(guesses, 50)),
        guess_ms_max=float(guesses.max()),
        samples_lost=lost,
    )
    found = run.finish(samples_kept=kept)
    for name in ("frame_ms_p50", "frame_ms_p99", "frame_cpu_ms_p99", "guess_ms_max"):
        print(f"{name:<18} {found[name]:.2f}")
    return found


def frame_times(home: Path, frames: int, run: Run) -> tuple[np.ndarray, np.ndarray, int]:
    """Wall and CPU milliseconds of each frame, all panels in turn, and the steps trained meanwhile.

    A person draws all the while; what is not counted is the wait for the next sixtieth of a second.
    """
    os.environ["SDL_VIDEODRIVER"] = "dummy"  # no screen: what SDL draws into is memory
    import pygame

    from playground.panels import PANELS
    from playground.window import CANVAS_RECT, Window, open_window

    session = Session(home / "frames")
    session.samples.add_all(mnist("train").take(slice(SAMPLES)), "mnist")
    window = Window(session, open_window(), FRAMES)
    session.start()
    wall, cpu = np.zeros(frames), np.zeros(frames)
    x, y, side, _ = CANVAS_RECT
    for frame in run.steps(0):
        window.panel = frame * len(PANELS) // (frames + 1)
        angle = frame / 15
        place = (
            round(x + side * (0.5 + 0.3 * math.cos(angle))),
            round(y + side * (0.5 + 0.35 * math.sin(angle))),
        )
        kind = pygame.MOUSEBUTTONDOWN if frame % 95 == 1 else pygame.MOUSEMOTION
        if frame % 95 == 0:
            kind = pygame.MOUSEBUTTONUP
        events = [pygame.event.Event(kind, pos=place, button=1, touch=False)]
        if frame % 95 == 94:  # once a turn is complete
            session.clear()
        begin, begin_cpu = time.perf_counter(), time.process_time()
        window.frame(events)
        pygame.display.flip()
        wall[frame - 1] = 1000 * (time.perf_counter() - begin)
        cpu[frame - 1] = 1000 * (time.process_time() - begin_cpu)
    steps = session.trainer.step
    session.close()
    pygame.quit()
    return wall, cpu, steps


def guess_times(seed: int) -> np.ndarray:
    """Milliseconds from a finished canvas to the ten probabilities, both ways, of each drawing."""
    rng, net = np.random.default_rng(seed), Net(seed=seed)
    times = np.zeros(GUESSES + 5)
    for index in range(len(times)):
        canvas = scribble(rng)
        begin = time.perf_counter()
        look(canvas, net)
        times[index] = 1000 * (time.perf_counter() - begin)
    return times[5:]  # the first ones load code


def scribble(rng: np.random.Generator) -> np.ndarray:
    """A canvas with a random line of a few bends: of any size, anywhere."""
    middle, size = rng.uniform(60, CANVAS - 60, 2), rng.uniform(20, 130)
    points = middle + size * rng.uniform(-1, 1, (rng.integers(2, 8), 2))
    canvas = rasterise([Stroke(tuple(map(tuple, points.tolist())), float(rng.uniform(8, 40)))])
    return canvas if prepare(canvas) is not None else scribble(rng)


def killed(home: Path, kills: int, seed: int) -> tuple[int, int]:
    """(samples lost, samples there) after SIGKILL at random moments.

    A process labels drawings as fast as it can and prints the number of each once the call has
    returned; whatever was printed must be there when the data set is opened again.
    """
    rng, told = np.random.default_rng(seed), set()
    folder = home / "killed"
    command = [sys.executable, "-m", "playground.labeller", str(folder)]
    for _ in range(kills):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        told.add(int(process.stdout.readline()))  # it has begun
        time.sleep(float(rng.uniform(0.0, 0.3)))
        process.send_signal(signal.SIGKILL)
        lines = process.stdout.read().split("\n")[:-1]  # a line without an end was not told
        process.wait()
        process.stdout.close()
        told |= set(map(int, lines))
    samples = Samples(folder)
    there = {sample.number for sample in samples}
    samples.close()
    return len(told - there), len(there)
