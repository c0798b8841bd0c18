"""A picture of an expression's graph: a box per tensor, with its value and its gradient."""

from itertools import pairwise

import numpy as np
from matplotlib.figure import Figure

from from_scratch.autograd import Tensor, topological_order


def draw_graph(loss: Tensor, names: dict[Tensor, str], title: str) -> Figure:
    """A box per tensor with its value and gradient; as many columns as the graph is deep."""
    place, edges = layout(loss)
    x, y = np.array(list(place.values())).T
    size = (1.6 * (np.ptp(x) + 1), 1.2 * (np.ptp(y) + 1) + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    axis = figure.subplots()
    axis.set(xlim=(x.min() - 0.5, x.max() + 0.5), ylim=(y.max() + 0.5, y.min() - 0.5))
    axis.axis("off")
    for stops in edges:
        axis.plot(*np.array([place[stop] for stop in stops]).T, color="0.55", lw=1.2, zorder=1)
        start, end = np.array([place[stop] for stop in stops[-2:]])  # the arrow: half-way there
        arrow = {"arrowstyle": "-|>", "color": "0.55", "shrinkA": 0, "shrinkB": 0}
        axis.annotate("", start + 0.55 * (end - start), start, arrowprops=arrow)
    for node in (node for node in place if isinstance(node, Tensor)):
        lines = [f"{names.get(node, node.op)}  {node.shape}"]
        for word, array in (("value", node.value), ("grad", node.grad)):
            for row, entries in enumerate(np.atleast_2d(array)):
                numbers = "".join(f"{entry:6.2f}" for entry in entries)
                lines.append(f"{'' if row else word:<5}{numbers}")
        colour = "#dbe9f6" if node in names else "#fde8cd" if node is loss else "white"
        box = {"boxstyle": "round,pad=0.4", "facecolor": colour, "edgecolor": "0.3"}
        text = axis.text(*place[node], "\n".join(lines), family="monospace", fontsize=9, bbox=box)
        text.set(ha="center", va="center")
    axis.set_title(title)
    return figure


def layout(loss: Tensor) -> tuple[dict, list[list]]:
    """(column, row) of each tensor, and the stops of each edge (Sugiyama et al. 1981, shortened).

    An edge over several columns has a stop in each between, which keeps boxes out of its way.
    """
    order = topological_order(loss)[::-1]
    column = {loss: 0}
    for node in order:  # minus the longest way to the loss
        for parent, _ in node.inputs:
            column[parent] = min(column.get(parent, 0), column[node] - 1)
    edges = []
    for node in order:
        for parent, _ in node.inputs:
            between = range(column[parent] + 1, column[node])
            stops = {(parent, node, c): c for c in between}
            column |= stops
            edges.append([parent, *stops, node])
    users = {}
    for before, after in (pair for stops in edges for pair in pairwise(stops)):
        users.setdefault(before, []).append(after)
    place = {loss: (0, 0.0)}
    for c in range(-1, min(column.values()) - 1, -1):
        here = [node for node in column if column[node] == c]
        wanted = {node: np.mean([place[user][1] for user in users[node]]) for node in here}
        rows = []
        for node in sorted(here, key=wanted.get):  # at its users' height, one row apart at least
            rows.append(max(wanted[node], rows[-1] + 1) if rows else wanted[node])
            place[node] = (c, rows[-1])
        shift = np.mean(list(wanted.values())) - np.mean(rows)
        place |= {node: (c, place[node][1] + shift) for node in here}
    return place, edges
