"""Curves of a run, drawn from its metrics.jsonl."""

import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure


def read_metrics(path: Path) -> dict[str, tuple[list[int], list[float]]]:
    """Each metric's steps and values, in the order they were logged; undefined ones left out."""
    curves: dict[str, tuple[list[int], list[float]]] = {}
    for line in path.read_text("utf-8").splitlines():
        record = json.loads(line)
        step = record.pop("step")
        for name, value in record.items():
            if value is not None:
                steps, values = curves.setdefault(name, ([], []))
                steps.append(step)
                values.append(value)
    return curves


def plot_curves(path: Path) -> Figure | None:
    """One small plot per metric that has at least two points; noisy ones with a running mean."""
    curves = {k: v for k, v in read_metrics(path).items() if len(v[0]) > 1}
    if not curves:
        return None
    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    across, down = 4.2 * columns, 2.8 * rows  # inches
    # Fixed margins: layout="constrained" measures every label, and took half of a short run's CPU.
    margins = {"left": 0.65 / across, "right": 1 - 0.15 / across, "wspace": 0.75 / 3.2,
               "bottom": 0.45 / down, "top": 1 - 0.3 / down, "hspace": 0.6 / 2.1}  # fmt: skip
    figure = Figure(figsize=(across, down))
    axes = figure.subplots(rows, columns, squeeze=False, gridspec_kw=margins)
    for axis in axes.flat[len(curves) :]:
        axis.axis("off")
    for axis, (name, (steps, values)) in zip(axes.flat, curves.items(), strict=False):
        axis.set_title(name, fontsize=10)
        axis.grid(alpha=0.25)
        if len(values) < 60:
            axis.plot(steps, values, marker=".", color="C0")
            continue
        width = len(values) // 30
        smooth = np.convolve(values, np.ones(width) / width, "valid")
        axis.plot(steps, values, color="C0", alpha=0.25, linewidth=0.7)
        axis.plot(steps[width - 1 :], smooth, color="C0")
        # The first steps and rare spikes would flatten the part one wants to see.
        low, high = np.percentile(values, [0.5, 99])
        if low < high:
            axis.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    for axis in axes[-1]:
        axis.set_xlabel("step")
    return figure
