"""What goes on in the layers while a model trains: activations, gradients, dead units, updates.

What a healthy training shows (He et al. 2015; Karpathy, "A Recipe for Training Neural Networks"):

Activations      deviations of about the same size from the first layer to the last.
Gradients        as large in the first layer as in the last, within a factor of a hundred or so.
Dead units       a ReLU that is 0 for every image of the batch passes no gradient and may never
                 come back.
Updates          |new weights - old weights| / |old weights| around 1e-3: at 1e-1 a layer is
                 overwritten in ten steps, at 1e-5 it does not learn.
"""

from collections import defaultdict
from collections.abc import Callable

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

from trainloop import Batches, Run
from trainloop.curves import read_metrics
from warmup.config import InspectConfig
from warmup.data import MIRRORED, augment, load
from warmup.model import build
from warmup.train import make_optimizer

DEAD_SHARE = 0.4  # of a layer's units
UPDATE_RANGE = (1e-4, 1e-1)  # what is worth a word lies outside
GRADIENT_RANGE = 1e3  # between the layers, largest over smallest


class Probe:
    """Statistics of every layer, taken while `watching`; each is a metric `kind/layer`.

    deviation/..   of the layer's outputs, over batch, channels and positions
    dead/..        share of a ReLU's units that are 0 for all images (a channel is one unit)
    gradient/..    root mean square of the gradient on the layer's weights
    update/..      |change of the weights in this step| / |weights before it|
    """

    def __init__(self, model: nn.Module) -> None:
        self.found: dict[str, float] = {}
        self.watching = False
        self._weights = {
            name.removesuffix(".weight"): p for name, p in model.named_parameters() if p.ndim > 1
        }
        self._before: dict[str, Tensor] = {}
        for name, layer in model.named_modules():
            if name in self._weights:
                layer.register_forward_hook(self._outputs_of(name, "deviation", deviation))
            elif isinstance(layer, nn.ReLU):
                layer.register_forward_hook(self._outputs_of(name, "dead", dead_share))

    def _outputs_of(self, name: str, kind: str, statistic: Callable[[Tensor], float]):
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if self.watching:
                self.found[f"{kind}/{name}"] = statistic(output.detach())

        return hook

    def before_update(self) -> None:
        """Between `backward` and the optimizer's step: the gradients are there, the weights old."""
        for name, weight in self._weights.items():
            self.found[f"gradient/{name}"] = weight.grad.square().mean().sqrt().item()
            self._before[name] = weight.detach().clone()

    def after_update(self) -> dict[str, float]:
        """After the optimizer's step: all statistics of this step."""
        for name, weight in self._weights.items():
            old = self._before[name]
            change = (weight.detach() - old).norm() / old.norm().clamp(min=1e-12)
            self.found[f"update/{name}"] = change.item()
        found, self.found = self.found, {}
        return found


def deviation(outputs: Tensor) -> float:
    """Standard deviation of all numbers of a layer's output."""
    return outputs.float().std().item()


def dead_share(outputs: Tensor) -> float:
    """Share of units, (B, units, ...), that are 0 for all images and at all positions."""
    return (outputs.transpose(0, 1).flatten(1) == 0).all(dim=1).float().mean().item()


def inspect(config: InspectConfig) -> dict[str, float | int | None]:
    """Train for a few steps at a constant rate, and look into the layers at every few of them."""
    config = Run.options("warmup", config, "inspect")
    train_set, _, _ = load(config.data)
    run = Run.open("warmup", config, "inspect")
    train_set = train_set.to(run.device)
    model = build(config.model, train_set.images, config.width, config.dropout).to(run.device)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(config.init_scale)
    optimizer = make_optimizer(model, config.lr, config.weight_decay)
    batches = Batches(len(train_set.images), config.batch_size, config.seed)
    probe = Probe(model)

    for step in run.steps(run.resume(model=model, optimizer=optimizer)):
        probe.watching = step == 1 or run.due(step, config.every)
        picked = batches.at(step).to(run.device)
        images = augment(train_set.images[picked], config.shift, config.data in MIRRORED)
        loss = F.cross_entropy(model(images), train_set.labels[picked])
        optimizer.zero_grad()
        loss.backward()
        if probe.watching:
            probe.before_update()
        optimizer.step()
        run.log(step, loss=loss, **(probe.after_update() if probe.watching else {}))
    run.save(config.steps)

    curves = read_metrics(run.folder / "metrics.jsonl")
    kinds = by_kind(curves)
    run.picture("inspect", draw_layers(kinds))
    last = {kind: {name: values[-1] for name, (_, values) in layers.items()}
            for kind, layers in kinds.items()}  # fmt: skip
    print(layer_table(last))
    for line in remarks(last):
        print(f"- {line}")
    return run.finish()


Curve = tuple[list[int], list[float]]


def by_kind(curves: dict[str, Curve]) -> dict[str, dict[str, Curve]]:
    """Curves called `kind/layer`, sorted into {kind: {layer: curve}}; others are left out."""
    kinds: dict[str, dict[str, Curve]] = defaultdict(dict)
    for name, curve in curves.items():
        kind, _, layer = name.partition("/")
        if layer:
            kinds[kind][layer] = curve
    return dict(kinds)


def layer_table(last: dict[str, dict[str, float]]) -> str:
    """A line per layer with weights: deviation of outputs, gradient, update; then the ReLUs."""
    names = list(last["gradient"])
    width = max(map(len, [*names, *last.get("dead", {})]))
    lines = [f"{'layer':<{width}}  {'outputs':>9}  {'gradient':>9}  {'update':>9}"]
    for name in names:
        cells = (last[kind][name] for kind in ("deviation", "gradient", "update"))
        lines.append(f"{name:<{width}}  " + "  ".join(f"{cell:9.2e}" for cell in cells))
    lines += [
        f"{name:<{width}}  dead units {share:.0%}" for name, share in last.get("dead", {}).items()
    ]
    return "\n".join(lines)


def remarks(last: dict[str, dict[str, float]]) -> list[str]:
    """What the last look shows that is worth a word."""
    found = []
    for name, share in last.get("dead", {}).items():
        if share > DEAD_SHARE:
            found.append(f"{name}: {share:.0%} of its units are 0 for every image: a lower --lr?")
    low, high = UPDATE_RANGE
    for name, ratio in last["update"].items():
        if not low <= ratio <= high:
            what = "hardly moves" if ratio < low else "is overwritten within a few steps"
            found.append(f"{name}: changes by {ratio:.0e} of its size a step: it {what}")
    gradients = last["gradient"]
    least, most = min(gradients, key=gradients.get), max(gradients, key=gradients.get)
    if gradients[most] > GRADIENT_RANGE * gradients[least]:
        found.append(
            f"gradients differ by more than {GRADIENT_RANGE:.0f} times between {least} and {most}: "
            "vanishing or exploding on the way"
        )
    return found or ["nothing unusual"]


PANELS = {
    "deviation": ("deviation of the outputs", "log"),
    "gradient": ("gradient on the weights, root mean square", "log"),
    "dead": ("share of dead ReLU units", "linear"),
    "update": ("|update| / |weights|", "log"),
}


def draw_layers(kinds: dict[str, dict[str, Curve]]) -> Figure:
    """Four panels over the steps; a line per layer, dark at the input, bright at the output."""
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    for axis, (kind, (title, scale)) in zip(
        figure.subplots(2, 2).flat, PANELS.items(), strict=True
    ):
        axis.set(title=title, xlabel="step", yscale=scale)
        axis.grid(alpha=0.25)
        layers = kinds.get(kind, {})
        colours = colormaps["viridis"](np.linspace(0, 0.9, max(len(layers), 1)))
        for colour, (name, (steps, values)) in zip(colours, layers.items(), strict=False):
            axis.plot(steps, values, color=colour, label=name.removeprefix("net."))
        if kind == "update":
            axis.axhline(1e-3, color="black", linestyle=":", linewidth=1)
        if kind == "dead":
            axis.set_ylim(-0.02, 1.02)
        if layers:
            axis.legend(fontsize=7, ncols=2)
        else:
            axis.text(0.5, 0.5, "this model has no ReLU", ha="center", transform=axis.transAxes)
    return figure
