"""Where a training step's time goes: by part with a stopwatch, by operator with torch.profiler.

The stopwatch comes first and alone, since a profiler slows down what it watches. It waits for a GPU
at the end of each part: kernels run behind the program's back, and without waiting their time would
be booked to whatever asks for a result.
"""

import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from matplotlib.figure import Figure
from torch.autograd.profiler_util import EventList
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, record_function

from trainloop import Batches, Ema, Run
from warmup.config import ProfileConfig
from warmup.data import MIRRORED, augment, load
from warmup.model import build
from warmup.train import make_optimizer

RECORDED = 5  # steps in the trace: more would only make the file larger
PARTS = ("batch", "augment", "forward", "backward", "optimizer", "ema", "log")


class Stopwatch:
    """Seconds spent in each named part of a step."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds = device, defaultdict(list)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time what happens inside; the profiler sees the name, too."""
        with record_function(name):
            start = time.perf_counter()
            yield
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            self.seconds[name].append(time.perf_counter() - start)


def profile(config: ProfileConfig) -> dict[str, float | int | None]:
    """Run the training step of `train` with each part named; leaves profile.png and trace.json."""
    train_set, _, _ = load(config.data)
    run = Run.open("warmup", config, "profile")
    train_set = train_set.to(run.device)
    model = build(config.model, train_set.images, config.width, config.dropout).to(run.device)
    optimizer = make_optimizer(model, config.lr, config.weight_decay)
    ema = Ema(model, 0.99)
    batches = Batches(len(train_set.images), config.batch_size, config.seed)
    watch = Stopwatch(run.device)
    on_gpu = run.device.type == "cuda"
    profiler = torch.profiler.profile(
        activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
    )
    recorded = min(RECORDED, config.steps // 3)

    for step in run.steps(run.resume()):
        if step == config.steps - recorded + 1:
            profiler.start()
        with watch.part("batch"):
            picked = batches.at(step).to(run.device)
            images, labels = train_set.images[picked], train_set.labels[picked]
        with watch.part("augment"):
            images = augment(images, config.shift, config.data in MIRRORED)
        with watch.part("forward"), run.autocast():
            loss = F.cross_entropy(model(images), labels)
        with watch.part("backward"):
            optimizer.zero_grad()
            run.scaler.scale(loss).backward()
        with watch.part("optimizer"):
            run.scaler.step(optimizer)
            run.scaler.update()
        with watch.part("ema"):
            ema.update()
        with watch.part("log"):
            run.log(step, loss=loss)
    profiler.stop()

    timed = slice(config.steps // 3, config.steps - recorded)
    parts = {name: statistics.median(times[timed]) for name, times in watch.seconds.items()}
    profiler.export_chrome_trace(str(run.folder / "trace.json"))
    averages = profiler.key_averages()
    operators = operator_times(averages, recorded, on_gpu)
    run.picture("profile", draw_profile(parts, operators))

    by = "self_cuda_time_total" if on_gpu else "self_cpu_time_total"
    print(averages.table(sort_by=by, row_limit=12, max_name_column_width=40))
    total = sum(parts.values())
    for name, seconds in parts.items():
        print(f"{name:<10} {1000 * seconds:8.3f} ms  {seconds / total:6.1%}")
    print(f"{'step':<10} {1000 * total:8.3f} ms  {config.batch_size / total:,.0f} images a second")
    print(f"trace: {run.folder / 'trace.json'} (open it at ui.perfetto.dev)")
    run.log(
        config.steps,
        ms_per_step=1000 * total,
        images_per_second=config.batch_size / total,
        **{f"ms/{name}": 1000 * seconds for name, seconds in parts.items()},
    )
    return run.finish()


def operator_times(averages: EventList, steps: int, on_gpu: bool) -> dict[str, float]:
    """Seconds a step that each operator spent itself, without what it called; the largest first.

    On a GPU the time of its kernels, else the processor's. The parts of `Stopwatch` are left out:
    what they spent themselves is Python.
    """
    spent = {
        event.key: (event.self_device_time_total if on_gpu else event.self_cpu_time_total)
        for event in averages
        if event.key not in PARTS
    }
    order = sorted(spent, key=spent.get, reverse=True)
    return {key: spent[key] * 1e-6 / steps for key in order}


def draw_profile(parts: dict[str, float], operators: dict[str, float], most: int = 10) -> Figure:
    """Bars of milliseconds: the parts of a step in their order, and the dearest operators."""
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    dearest = dict(list(operators.items())[:most])
    total = sum(parts.values())
    for axis, times, title, colour in (
        (left, parts, f"parts of a step ({1000 * total:.1f} ms)", "C0"),
        (right, dearest, "operators' own time, under the profiler", "C1"),
    ):
        names = [name.split("::")[-1].split(": ")[-1] for name in times]
        bars = axis.barh(names, [1000 * seconds for seconds in times.values()], color=colour)
        axis.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
        axis.invert_yaxis()
        axis.margins(x=0.14)
        axis.tick_params(labelsize=8)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("ms a step")
        axis.spines[["top", "right"]].set_visible(False)
    return figure
