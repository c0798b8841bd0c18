"""Samples of a trained network: guidance, seeds, and a stream of noise for every sample."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from diffusion.config import Plan, TrainConfig
from diffusion.model import build
from diffusion.process import Pair, Process, make_process
from diffusion.samplers import State, spaced, walk
from trainloop import LabError, latest_checkpoint, load_checkpoint, load_into, pick_device
from trainloop.batches import mix
from trainloop.folder import read_json
from trainloop.paths import run_folders

BATCH = 250  # samples at a time: enough to keep a core busy, few enough for its cache


@dataclass(frozen=True)
class Trained:
    """A network and all that its predictions mean.

    Attributes:
        model: (x_t, t, label) -> prediction, in evaluation mode.
        config: of its training.
        shape: of one sample, (C, H, W) or (2,).
        classes: names of the labels; empty where there are none.
    """

    model: nn.Module
    process: Process
    config: TrainConfig
    shape: tuple[int, ...]
    classes: tuple[str, ...]

    @property
    def device(self) -> torch.device:
        return self.process.signal.device

    def labels(self, count: int) -> Int64[Tensor, " count"]:
        """0, 1, 2 .. again and again: what to ask for so that all come equally often."""
        return torch.arange(count) % max(1, len(self.classes))


def newest_training(data: str) -> Path:
    """The last.pt of the newest training on that data set.

    Raises:
        LabError: there is none.
    """
    for folder in run_folders("diffusion"):
        path = folder / "last.pt"
        if path.is_file():
            about = read_json(folder / "config.json")
            if about["command"] == "train" and about["config"]["data"] == data:
                return path
    raise LabError(f"no training on {data} yet: `uv run --package diffusion train --data {data}`")


def load_trained(checkpoint: str = "", weights: str = "ema", device: str = "auto") -> Trained:
    """The network of a checkpoint, or of the newest training.

    Args:
        weights: ema, the average; or model, as the optimiser left them.

    Raises:
        LabError: there is none, it is damaged, or it is of another project or command.
    """
    path = Path(checkpoint or latest_checkpoint("diffusion", "last.pt"))
    saved = load_checkpoint(path, "diffusion")
    if saved["command"] != "train":
        raise LabError(f"{path} was written by `{saved['command']}`: name one of `train`")
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in saved["config"].items()}
    config = TrainConfig(**options)
    shape, classes = tuple(saved["notes"]["shape"]), tuple(saved["notes"]["classes"])
    model = build(shape, len(classes), config.widths, config.time_scale)
    state = {k: v for k, v in saved["states"][weights].items() if k != "updates"}
    load_into(path, {"network": model}, {"network": state})
    where = pick_device(device)
    process = make_process(config.schedule, config.T).to(where)
    return Trained(model.to(where).eval(), process, config, shape, classes)


@dataclass(frozen=True)
class Denoiser:
    """A network as samplers want it: (x_t, t) -> (x_0, eps).

    Attributes:
        guidance: w in p = p(no label) + w (p(label) - p(no label)); Ho & Salimans 2022, eq. 6, with
            their w + 1. Any kind of prediction may be combined so, since all are the same line
            through x_t. 1 is the network itself, 0 the network without the label.
    Of images x_0 is kept in [-1, 1], as pixels are, and eps taken from what is left.
    """

    trained: Trained
    labels: Int64[Tensor, " B"]
    guidance: float = 1.0

    def __call__(self, x_t: Float[Tensor, "B ..."], t: int) -> Pair:
        times = torch.full((len(x_t),), t, device=x_t.device)
        process, kind = self.trained.process, self.trained.config.prediction
        pair = process.solve(kind, self._predict(x_t, times), x_t, times)
        if x_t.ndim == 2:  # points in the plane know no bounds
            return pair
        x_0 = pair.x_0.clamp(-1, 1)
        a, s = process.at(times, x_t)
        return Pair(x_0, (x_t - a * x_0) / s)

    def _predict(self, x_t: Tensor, times: Tensor) -> Tensor:
        nothing = torch.full_like(self.labels, len(self.trained.classes))
        if self.guidance == 0:
            return self.trained.model(x_t, times, nothing)
        if self.guidance == 1 or not self.trained.classes:
            return self.trained.model(x_t, times, self.labels)
        both = self.trained.model(
            x_t.repeat(2, *(1,) * (x_t.ndim - 1)),
            times.repeat(2),
            torch.cat([self.labels, nothing]),
        )
        labelled, free = both.chunk(2)
        return free + self.guidance * (labelled - free)


class Streams:
    """Noise of which each sample has its own: sample i's n-th draw follows from (seed, i, n) alone.

    So a sample is the same whatever the others in its batch are. Drawn on the CPU, so that it is
    the same on any device, too.
    """

    def __init__(self, seed: int, indices: range, shape: tuple[int, ...], device: torch.device):
        self.shape, self.device = shape, device
        self._generators = [torch.Generator().manual_seed(mix(seed, index)) for index in indices]

    def __call__(self) -> Float[Tensor, "B ..."]:
        draws = [torch.randn(self.shape, generator=generator) for generator in self._generators]
        return torch.stack(draws).to(self.device)


@torch.no_grad()
def trajectory(
    trained: Trained,
    plan: Plan,
    labels: Int64[Tensor, " B"],
    seed: int = 0,
    first: int = 0,
) -> Iterator[State]:
    """One batch on its way from noise to data: the noise, and what there is after each step.

    Args:
        labels: what each sample is asked to be; the number of classes for nothing.
        first: samples are number first, first + 1, ... of the seed.

    Raises:
        LabError: the plan has more steps than the process.
    """
    process, device = trained.process, trained.device
    times = spaced(process.T, plan.steps)
    noise = Streams(seed, range(first, first + len(labels)), trained.shape, device)
    x_T = noise()
    if x_T.ndim == 4:
        x_T = x_T.contiguous(memory_format=torch.channels_last)
    denoise = Denoiser(trained, labels.to(device), plan.guidance)
    yield State(process.T, x_T, torch.zeros_like(x_T))
    yield from walk(plan.sampler, denoise, process, x_T, times, noise, plan.eta, plan.noise_at_zero)


def generate(
    trained: Trained,
    plan: Plan,
    labels: Int64[Tensor, " N"],
    seed: int = 0,
    batch: int = BATCH,
) -> Float[Tensor, "N ..."]:
    """The ends of the trajectories of all labels, on the CPU; sample i does not depend on `batch`.

    Raises:
        LabError: the plan has more steps than the process.
    """
    parts = []
    for first in range(0, len(labels), batch):
        for state in trajectory(trained, plan, labels[first : first + batch], seed, first):
            last = state
        parts.append(last.x.cpu())
    return torch.cat(parts)
