"""Fit a handful of images to the last one, and say what to suspect where that fails.

A model that cannot learn 32 images by heart will not learn 55,000. The test takes seconds and needs
no judgement: zero error or a bug (Karpathy, "A Recipe for Training Neural Networks", 2019).
"""

import itertools
import math
import statistics
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from torch import Tensor, nn
from torch.nn import functional as F

from trainloop import Run
from trainloop.curves import read_metrics
from warmup.config import OverfitConfig
from warmup.data import Labelled, load
from warmup.evaluate import predict, scores
from warmup.model import build


@dataclass(frozen=True)
class Evidence:
    """What a training on a few images leaves behind.

    Attributes:
        losses: of every step, nats.
        classes: how many there are.
        evaluated: accuracy at the end as `predict` finds it, in evaluation mode.
        trained: accuracy at the end in training mode.
        spread: deviation of the logits over the images, mean over classes.
        contradictions: images equal to one of another label.
        without_gradient: parameters that no gradient reached at the last step.
        unmoved: parameters that are what they were at the start, though a gradient reached them.
    """

    losses: list[float]
    classes: int
    evaluated: float
    trained: float
    spread: float
    contradictions: int
    without_gradient: list[str]
    unmoved: list[str]


def overfit(config: OverfitConfig) -> dict[str, float | int | None]:
    """Train on the same few images at every step, in the open, and judge how it went."""
    config = Run.options("warmup", config, "overfit")
    train_set, _, _ = load(config.data)
    run = Run.open("warmup", config, "overfit")

    model = build(config.model, train_set.images, config.width, dropout=0.0).to(run.device)
    initial = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), config.lr, weight_decay=0.0)
    generator = torch.Generator().manual_seed(config.seed)
    few = torch.randperm(len(train_set.images), generator=generator)[: config.images]
    data = Labelled(train_set.images[few], train_set.labels[few]).to(run.device)

    start = run.resume(model=model, optimizer=optimizer)
    for step in run.steps(start):
        logits = model(data.images)
        loss = F.cross_entropy(logits, data.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        evaluated = scores(predict(model, data), data.labels)["accuracy"]
        run.log(step, loss=loss, accuracy=evaluated)
    run.save(config.steps)

    curves = read_metrics(run.folder / "metrics.jsonl")
    losses, accuracies = curves["loss"][1], curves["accuracy"][1]
    fitted = first_step_that_lasts(accuracies)
    run.picture("overfit", draw_fit(losses, accuracies, fitted))
    if fitted is not None:
        print(f"all {config.images} images right from step {fitted} on")
    else:
        print(f"{accuracies[-1]:.0%} of {config.images} images right. What to suspect:")
        evidence = gather_evidence(model, data, initial, losses, accuracies[-1])
        print("\n".join(f"- {line}" for line in suspects(evidence)))
    run.log(config.steps, steps_to_fit=fitted)
    return run.finish()


def first_step_that_lasts(accuracies: list[float]) -> int | None:
    """The step (from 1) from which on every image was right until the end; None if there is none.

    Being right once and wrong again is a wobble, not a fit.
    """
    wrong = [step for step, accuracy in enumerate(accuracies, 1) if accuracy < 1]
    first = wrong[-1] + 1 if wrong else 1
    return first if first <= len(accuracies) else None


@torch.no_grad()
def gather_evidence(
    model: nn.Module,
    data: Labelled,
    initial: dict[str, Tensor],
    losses: list[float],
    evaluated: float,
) -> Evidence:
    """Read off a trained model, its last gradients included, what `suspects` wants to know."""
    logits = model.train()(data.images)
    reached = {n for n, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())}
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, initial[n])}
    return Evidence(
        losses=losses,
        classes=logits.shape[1],
        evaluated=evaluated,
        trained=scores(logits.log_softmax(1), data.labels)["accuracy"],
        spread=logits.std(dim=0).mean().item(),
        contradictions=contradictions(data),
        without_gradient=[name for name in initial if name not in reached],
        unmoved=[name for name in initial if name in reached and name not in moved],
    )


def contradictions(data: Labelled) -> int:
    """Images that are equal to another one of a different label: no model can have both right."""
    pixels, group = data.images.flatten(1).unique(dim=0, return_inverse=True)
    labels = [data.labels[group == number].unique() for number in range(len(pixels))]
    return sum(len(found) - 1 for found in labels)


def suspects(evidence: Evidence) -> list[str]:
    """What the evidence speaks for, the surest first; each line says what to look at."""
    found = []
    if evidence.contradictions:
        found.append(
            f"{evidence.contradictions} images are equal to one of another label: no model can fit "
            "both. Are images and labels in the same order?"
        )
    if evidence.without_gradient:
        found.append(
            f"no gradient reaches {_few(evidence.without_gradient)}: a detach, a layer that is not "
            "used, or units that are all dead"
        )
    if evidence.unmoved:
        found.append(
            f"{_few(evidence.unmoved)} did not move: not given to the optimizer, or a rate so "
            "small that rounding swallows the step"
        )
    if evidence.spread < 1e-3:
        found.append(
            f"all images get the same answer (logits differ by {evidence.spread:.1g}): constant "
            "inputs, or a dead layer on the way"
        )
    if evidence.trained == 1:
        found.append(
            f"right in training mode, {evidence.evaluated:.0%} in evaluation mode: BatchNorm's "
            "averages lag behind (more steps), or the two modes see different inputs"
        )
    expected = math.log(evidence.classes)
    if evidence.losses[0] > 2 * expected:
        found.append(
            f"the loss starts at {evidence.losses[0]:.2f}, guessing costs ln {evidence.classes} = "
            f"{expected:.2f}: inputs that are not normalised, or too large a last layer"
        )
    quarter = max(1, len(evidence.losses) // 4)
    before = statistics.fmean(evidence.losses[-2 * quarter : -quarter] or evidence.losses[:1])
    last = statistics.fmean(evidence.losses[-quarter:])
    tail = evidence.losses[-2 * quarter :]
    down = sum(b < a for a, b in itertools.pairwise(tail)) / max(1, len(tail) - 1)
    change = f"{before:.3g}, then {last:.3g} in the last quarter"
    if last > 0.98 * min(before, expected):
        found.append(
            f"the loss creeps ({change}), down at nearly every step: try ten times the --lr"
            if down > 0.9
            else f"the loss no longer falls ({change}): too high a rate? Try a tenth"
        )
    elif evidence.trained < 1:
        found.append(
            f"the loss still falls ({change}): give it more steps, a higher --lr, or a larger model"
        )
    return found or ["nothing known: print the inputs and labels that enter the model"]


def _few(names: list[str], most: int = 3) -> str:
    """The first few of the names."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def draw_fit(losses: list[float], accuracies: list[float], fitted: int | None) -> Figure:
    """Loss on a log scale, and the share of images that are right."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    steps = range(1, len(losses) + 1)
    left.semilogy(steps, losses)
    left.set(xlabel="step", title="loss, nats")
    right.plot(steps, accuracies, color="C2")
    right.set(xlabel="step", title="images right, evaluation mode", ylim=(0, 1.04))
    right.yaxis.set_major_formatter(PercentFormatter(1.0))
    for axis in (left, right):
        axis.grid(alpha=0.25)
        if fitted is not None:
            axis.axvline(fitted, color="0.5", linestyle="--", linewidth=1)
    if fitted is not None:
        right.annotate(f"all right from step {fitted}", (fitted, 0.08), (6, 0),
                       textcoords="offset points", fontsize=9)  # fmt: skip
    return figure
