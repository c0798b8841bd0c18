"""The picture of a run: the learner's curves over those of the healthy script."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

Curves = dict[str, list[float]]


def draw(mine: Curves, healthy: Curves, title: str, look_at: str) -> Figure:
    """One panel for each quantity: the healthy script broad and pale, the learner's on top of it.

    Args:
        mine: the learner's curves, values by epoch; those that are not finite are left out.
        healthy: the healthy script's. Its names make the panels.
        title: the symptom.
        look_at: the question that the picture answers.
    """
    figure = Figure(figsize=(max(6.4, 4.6 * len(healthy)), 4.2), layout="constrained")
    figure.suptitle(title, fontsize=12)
    figure.supxlabel(f"epoch\n{look_at}", fontsize=10)
    panels = figure.subplots(1, len(healthy), squeeze=False, sharey=shares_unit(healthy))[0]
    for axis, (name, values) in zip(panels, healthy.items(), strict=True):
        axis.plot(range(1, len(values) + 1), values, color="#8fd19e", linewidth=6, label="healthy")
        if name in mine:
            own = np.array(mine[name])
            own[~np.isfinite(own)] = np.nan
            epochs = np.arange(1, len(own) + 1)
            axis.plot(epochs, own, color="#1f3b73", marker=".", label="your script")
        axis.set_title(name, fontsize=10)
        axis.grid(alpha=0.25)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.margins(y=0.08)
    panels[0].legend()
    return figure


def shares_unit(curves: Curves) -> bool:
    """Whether all of them are accuracies, so that they can be compared by height."""
    return all("accuracy" in name for name in curves)
