"""What a trained network is worth: its loss by timestep, and the scores of its samples."""

import sys
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from diffusion import extractor, quality
from diffusion.config import Plan, TrainConfig
from diffusion.data import Data, scaled
from diffusion.process import Process
from diffusion.sampling import Trained, generate

LEVELS = 20  # times at which losses and gradients are looked at
NEIGHBOURS = 200  # samples whose nearest training images are looked up


# --- losses --------------------------------------------------------------------------------------


@torch.no_grad()
def validation_loss(
    model: nn.Module, process: Process, config: TrainConfig, data: Data, count: int = 500
) -> float:
    """The training's loss on the first validation samples; t spread evenly, the noise always the
    same."""
    device = process.signal.device
    count = min(count, len(data.validation))
    x_0, label = data.validation.to(device).take(torch.arange(count), config.pixels)
    eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(0)).to(device)
    t = (torch.arange(count, device=device) + 1) * process.T // count
    t = t.clamp(min=1)
    weight = process.weight(config.weighting, config.prediction, config.gamma).float()
    prediction = model(process.add_noise(x_0, eps, t), t, label)
    error = (prediction - process.target(config.prediction, x_0, eps, t)).square()
    return (weight[t] * error.flatten(1).mean(1)).mean().item()


class ByTime(NamedTuple):
    """What happens at each of some times."""

    times: list[int]
    loss: list[float]  # squared error of the prediction, mean over pixels, not weighted
    gradient: list[float]  # norm of that loss's gradient by all weights


def by_time(trained: Trained, data: Data, count: int = 64) -> ByTime:
    """Loss and gradient at LEVELS times, of the same validation samples and noise at each.

    The gradient is of the mean over `count` samples: of one alone it would be longer.
    """
    model, process, config = trained.model, trained.process, trained.config
    x_0, label = data.validation.take(torch.arange(min(count, len(data.validation))), config.pixels)
    x_0, label = x_0.to(trained.device), label.to(trained.device)
    eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(0)).to(trained.device)
    parts = (process.T * (i + 0.5) / LEVELS for i in range(LEVELS))
    found = ByTime(sorted({max(1, round(part)) for part in parts}), [], [])
    weights = [p.requires_grad_() for p in model.parameters()]
    for time in found.times:
        t = torch.full((len(x_0),), time, device=trained.device)
        prediction = model(process.add_noise(x_0, eps, t), t, label)
        loss = (prediction - process.target(config.prediction, x_0, eps, t)).square().mean()
        gradients = torch.autograd.grad(loss, weights, allow_unused=True)
        norms = [gradient.norm() for gradient in gradients if gradient is not None]
        found.loss.append(loss.item())
        found.gradient.append(torch.stack(norms).norm().item())
    model.requires_grad_(False)
    return found


# --- samples -------------------------------------------------------------------------------------


class Scored(NamedTuple):
    """Samples, what they were asked to be, and their figures."""

    samples: Float[Tensor, "N ..."]
    labels: Int64[Tensor, " N"]
    figures: dict[str, float]


def score(trained: Trained, data: Data, plan: Plan, count: int, seed: int = 0) -> Scored:
    """Sample, and hold the samples against the data; the README defines the figures.

    Points: the energy test against as many that were never trained on. Images without a classifier
    of their own: only how near they are to training images.

    Raises:
        LabError: the samples are NaN, or the plan has more steps than the process.
    """
    labels = trained.labels(count)
    if len(trained.shape) == 1:
        samples = generate(trained, plan, labels, seed, batch=count)
        found = quality.energy_test(samples, data.test.samples[:count], permutations=999, seed=seed)
        return Scored(samples, labels, {"energy": found.statistic, "p_value": found.p_value})
    samples = in_range(generate(trained, plan, labels, seed), trained)
    figures = copied(samples, data)
    if data.scorable:
        figures |= judged(samples, labels, data)
    return Scored(samples, labels, figures)


def in_range(samples: Float[Tensor, "N ..."], trained: Trained) -> Float[Tensor, "N ..."]:
    """Images from -1 to 1, whatever range the network was taught."""
    unit = trained.config.pixels == "unit"
    return (samples * 2 - 1 if unit else samples).clamp(-1, 1)


def copied(samples: Float[Tensor, "N C H W"], data: Data) -> dict[str, float]:
    """Whether samples are nearer to training images than test images are: 0.5 is as near."""
    training = scaled(data.train.samples, "symmetric")
    ours = quality.nearest_neighbours(samples[:NEIGHBOURS], training)
    theirs = quality.nearest_neighbours(
        scaled(data.test.samples[:NEIGHBOURS], "symmetric"), training
    )
    return {"nearer": quality.copying(ours, theirs).nearer}


def judged(
    samples: Float[Tensor, "N C H W"], labels: Int64[Tensor, " N"], data: Data
) -> dict[str, float]:
    """Frechet distance, precision and recall, class balance, and the share told right."""
    judge = extractor.load_or_train_judge(data.name)
    features = extractor.load_or_train(data.name)
    count = len(samples)
    real = features.features(scaled(data.test.samples[:count], "symmetric"))
    found = quality.precision_recall(real, features.features(samples))
    log_prob = judge.log_probabilities(samples)
    figures = {
        "fd": features.distance(samples),
        "fd_reference": extractor.reference_distance(features, count),
        "precision": found.precision,
        "recall": found.recall,
        "balance": quality.class_balance(log_prob).kl_to_uniform,
        "recognised": quality.recognised(log_prob, labels),
        "extractor_accuracy": features.accuracy,
    }
    print(
        f"Frechet distance {figures['fd']:.1f} of {count:,} samples by {features}; real test "
        f"images: {figures['fd_reference']:.1f}",
        file=sys.stderr,
    )
    return figures
