"""Samples of a trained network, as a picture."""

from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from diffusion.config import Plan, SampleConfig
from diffusion.data import to_pixels
from diffusion.figures import draw_points, draw_tiles
from diffusion.sampling import Trained, generate, load_trained
from trainloop import LabError, atomic_write


def sample(config: SampleConfig) -> Path:
    """Draw what was asked for; returns where the picture is.

    Raises:
        LabError: no checkpoint, a label that it does not know, or more steps than it has.
    """
    trained = load_trained(config.checkpoint, config.weights, config.device)
    labels = wanted(config.label, config.count, trained)
    plan = Plan(config.sampler, config.steps, config.guidance, config.eta, config.noise_at_zero)
    samples = generate(trained, plan, labels, config.seed)
    if samples.ndim == 2:
        figure = draw_points({f"{config.count:,} points, {plan}": samples})
    else:
        columns = len(config.label or trained.classes) or 10
        figure = draw_tiles(to_pixels(samples, trained.config.pixels), max(columns, 10), str(plan))
    config.out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(config.out, lambda file: figure.savefig(file, format="png"))
    print(f"{config.out}: {config.count} samples, {plan}, seed {config.seed}")
    return config.out


def wanted(names: tuple[str, ...], count: int, trained: Trained) -> Int64[Tensor, " count"]:
    """The labels of `count` samples: those of the names in turn, or all of them.

    Raises:
        LabError: the network does not know one.
    """
    if not names:
        return trained.labels(count)
    known = {name: number for number, name in enumerate(trained.classes)}
    known["none"] = len(trained.classes)
    for name in names:
        if name not in known:
            raise LabError(f"--label {name} is unknown: this network knows {', '.join(known)}")
    chosen = torch.tensor([known[name] for name in names])
    return chosen[torch.arange(count) % len(chosen)]
