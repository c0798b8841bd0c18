# /// script
# requires-python = "==3.12.*"
# dependencies = [
#     "denoising-diffusion-pytorch>=2.2,<3",
#     "diffusers>=0.35",
#     "diffusion",
#     "torch<2.8",
#     "torchvision>=0.22",
#     "trainloop",
# ]
# [tool.uv.sources]
# diffusion = { path = "..", editable = true }
# trainloop = { path = "../../../shared", editable = true }
# ///
"""What does the same CPU time buy elsewhere? Three diffusion models of MNIST from nothing.

    uv run --script projects/20_diffusion/benchmarks/peers.py

Each contestant trains in a process of its own, on one thread, for the same CPU seconds of that
process; then as many samples of each are held against the training images by the same extractor.
The rules:

- What counts is the training: forward, backward, optimiser, averaging the weights. Ours is the
  `train` command, so its validation losses, checkpoints and books count against it. What does not
  count: imports, reading the data, building the model, and sampling, whose cost has a column.
- All see the same 55,000 training images, batches drawn by the seed, nothing augmented. Every
  learning-rate schedule ends when the budget does: the peers' follow the clock, ours a calibration
  just before, so that its CPU seconds differ a little from the budget.
- Each has its own sampler: the peers DDIM with `--steps` steps, ours its default.
- Ours and diffusers' know the labels, in training and in sampling (as many of each, no guidance:
  ours has it by default, and so has a row of its own, `ours-guided`).
  denoising-diffusion-pytorch's Unet cannot; `ours-free` is ours without labels, to compare with.
- A second contestant may run on the second core (`--jobs 2`). The contestants of a budget take
  turns, then comes the next budget, then the next seed.

Results are appended to peers.jsonl as they come, and a rerun skips what is there: delete a line to
have it measured again. Beside it: a table, logs, and a picture of each contestant's samples.

How the peers' settings were found: by CPU time per trained image over 6 to 14 s, one seed, on a
core of a busy machine. Batches of 16 (what denoising-diffusion-pytorch's Trainer takes) were the
quickest for both and give most steps: UNet2DModel 64 ms an image, 76 with 32 or 128;
Unet 61, 71 and 84. channels_last makes Unet quicker (75 to 61 ms) and UNet2DModel slower (64 to
103). The learning rate of 1e-3 is the first one tried and was not tuned, nor was the decay of the
average. Both predict v, Unet with its own default schedule (sigmoid), UNet2DModel with the cosine.
"""

import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion import extractor, quality
from trainloop import Batches, Ema, LabError, Run, entry_point, load_images, parse
from trainloop.paths import data_dir, workspace_root

TRAINING_IMAGES = 55_000  # the rest of the published ones is ours to validate with
SAMPLING_BATCH = 100
T = 1000


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    seconds: tuple[float, ...] = (300.0, 600.0)
    """CPU seconds of training."""
    only: tuple[str, ...] = ()
    """Contestants by their short names; all if left out."""
    seeds: tuple[int, ...] = (0,)
    """Of weights, batches and noise; the table gives means."""
    samples: int = 500
    """How many to draw and score: sampling from the peers takes as long as training them."""
    steps: int = 50
    """DDIM steps of the peers."""
    jobs: int = 1
    """Contestants at a time, one thread each."""
    out: Path = workspace_root() / "runs/benchmarks/diffusion-peers"
    """Folder for peers.jsonl, peers.md, logs and pictures."""
    here: bool = False
    """Run in this process: how the subprocesses are called."""


class Trained(NamedTuple):
    """A contestant whose time is up."""

    model: nn.Module
    steps: int
    batch: int
    seconds: float  # CPU time of the training
    sample: Callable[[int, int], Tensor]  # (first, count) -> images in [-1, 1], (count, 1, 28, 28)
    sampler: str  # in words
    settings: str  # in words


# --- the contestants ---------------------------------------------------------------------------


def ours(options: Options, budget: float, seed: int, folder: Path, **changes: Any) -> Trained:
    """This project's `train` with its defaults; only the number of steps follows the budget."""
    from diffusion.config import TrainConfig
    from diffusion.sampling import generate, load_trained
    from diffusion.train import train

    os.environ["LAB_RUNS"] = str(folder)
    times: list[float] = []  # the process's CPU time before each step, and after the last
    original = Run.steps

    class LoopIsOver(Exception):
        """Sampling, scoring and drawing, which `train` ends with, are not part of this."""

    def timed(run: Run, start: int) -> Iterator[int]:
        times.clear()
        for step in original(run, start):
            times.append(time.process_time())
            yield step
        times.append(time.process_time())
        raise LoopIsOver

    def fit(steps: int) -> float:
        """CPU seconds of the loop."""
        try:
            train(TrainConfig(steps=steps, seed=seed, device="cpu", **changes))
        except LoopIsOver:
            return times[-1] - times[0]
        raise AssertionError("train did not come to the end of its loop")

    Run.steps = timed
    config = TrainConfig(**changes)
    probe = max(4, min(40, round(budget / 5)))
    fit(probe)
    a_step = statistics.median(b - a for a, b in pairwise(times[1:-1]))
    a_look = times[-1] - times[-2] - a_step  # at the validation images, and a checkpoint
    steps = max(2, round(budget / (a_step + a_look / config.eval_every)))
    spent = fit(steps)
    trained = load_trained(str(folder / "diffusion/latest/last.pt"), device="cpu")
    plan = trained.config.plan

    def sample(first: int, count: int) -> Tensor:
        labels = trained.labels(first + count)[first:]
        return generate(trained, plan, labels, seed=mixed(seed, first))

    batch = config.recipe.batch_size
    return Trained(trained.model, steps, batch, spent, sample, str(plan), "the defaults")


def lucidrains(
    options: Options, budget: float, seed: int, folder: Path, *, batch: int, lr: float, nhwc: bool
) -> Trained:
    """denoising-diffusion-pytorch: Unet and GaussianDiffusion as its README has them."""
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet

    torch.manual_seed(seed)
    unet = Unet(dim=32, dim_mults=(1, 2, 4), channels=1)
    process = GaussianDiffusion(
        unet, image_size=28, timesteps=T, sampling_timesteps=options.steps
    )  # v-prediction and a sigmoid schedule, its defaults

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        return process((images + 1) / 2)  # it wants 0..1, and makes it [-1, 1] itself

    steps, spent, average = fit_by_clock(process, loss, budget, seed, batch, lr, nhwc)

    def sample(first: int, count: int) -> Tensor:
        torch.manual_seed(mixed(seed, first))
        return average.sample(count) * 2 - 1

    words = f"AdamW {lr:g}, batch {batch}" + (", channels_last" if nhwc else "")
    return Trained(unet, steps, batch, spent, sample, f"ddim-{options.steps}", words)


def huggingface(
    options: Options, budget: float, seed: int, folder: Path, *, batch: int, lr: float, nhwc: bool
) -> Trained:
    """diffusers: UNet2DModel and DDPMScheduler in a plain loop."""
    from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel

    torch.manual_seed(seed)
    unet = UNet2DModel(
        sample_size=28, in_channels=1, out_channels=1, block_out_channels=(32, 64, 128),
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        num_class_embeds=10,
    )  # fmt: skip
    scheduler = DDPMScheduler(
        num_train_timesteps=T, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction"
    )

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        t, eps = torch.randint(0, T, (len(images),)), torch.randn_like(images)
        predicted = unet(scheduler.add_noise(images, eps, t), t, labels).sample
        return F.mse_loss(predicted, scheduler.get_velocity(images, eps, t))

    steps, spent, average = fit_by_clock(unet, loss, budget, seed, batch, lr, nhwc)

    @torch.inference_mode()
    def sample(first: int, count: int) -> Tensor:
        ddim = DDIMScheduler.from_config(scheduler.config, timestep_spacing="trailing")
        ddim.set_timesteps(options.steps)
        labels = torch.arange(first, first + count) % 10
        generator = torch.Generator().manual_seed(mixed(seed, first))
        x = torch.randn(count, 1, 28, 28, generator=generator)
        for t in ddim.timesteps:
            x = ddim.step(average(x, t, labels).sample, t, x).prev_sample
        return x

    words = f"AdamW {lr:g}, batch {batch}" + (", channels_last" if nhwc else "")
    return Trained(unet, steps, batch, spent, sample, f"ddim-{options.steps}", words)


def fit_by_clock(
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    budget: float,
    seed: int,
    batch: int,
    lr: float,
    nhwc: bool,
) -> tuple[int, float, nn.Module]:
    """A plain loop: steps taken, CPU seconds, and the averaged model.

    Warm-up and cosine, gradients clipped at 1, an average of the weights, all as ours.
    """
    images, labels = (part[:TRAINING_IMAGES] for part in load_images("mnist", "train"))
    if nhwc:
        model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr, (0.9, 0.99), weight_decay=0.0, fused=True)
    ema = Ema(model, 0.99)  # of some hundred steps; 0.995 remembers the worse ones
    batches, steps = Batches(len(images), batch, seed), 0
    begin = time.process_time()
    while (share := (time.process_time() - begin) / budget) < 1:
        steps += 1
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1, share / 0.04) * (1 + math.cos(math.pi * share)) / 2
        picked = batches.at(steps)
        value = loss(extractor.to_unit(images[picked]), labels[picked])
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        ema.update()
    return steps, time.process_time() - begin, ema.model


def mixed(seed: int, first: int) -> int:
    """A seed of each batch of samples."""
    return seed * 1_000_003 + first


CONTESTANTS: dict[str, tuple[str, Callable[..., Trained]]] = {
    "ours": ("ours", partial(ours, guidance=1.0)),
    "ours-guided": ("ours, the label's guidance 2", ours),
    "ours-free": ("ours, without labels", partial(ours, label_drop=1.0, guidance=0.0)),
    "diffusers": (
        "diffusers UNet2DModel (32, 64, 128)",
        partial(huggingface, batch=16, lr=1e-3, nhwc=False),
    ),
    "lucidrains": (
        "denoising-diffusion-pytorch Unet(32, (1, 2, 4))",
        partial(lucidrains, batch=16, lr=1e-3, nhwc=True),
    ),
}


# --- the referee -------------------------------------------------------------------------------


def compete(name: str, options: Options) -> dict[str, Any]:
    """Train one contestant in this process, and measure it."""
    torch.set_num_threads(1)
    (budget, *_), (seed, *_) = options.seconds, options.seeds
    with tempfile.TemporaryDirectory() as folder:
        trained = CONTESTANTS[name][1](options, budget, seed, Path(folder))
        begin = time.process_time()
        parts = [
            trained.sample(first, min(SAMPLING_BATCH, options.samples - first))
            for first in range(0, options.samples, SAMPLING_BATCH)
        ]
        sampling = time.process_time() - begin
    samples = torch.cat(parts).float().clamp(-1, 1)
    draw(samples[:80], options.out / f"{name}-{budget:g}s-seed{seed}.png")

    judge = extractor.load_or_train_judge("mnist")
    features = extractor.load_or_train("mnist")
    test = extractor.to_unit(load_images("mnist", "test")[0][: options.samples])
    found = quality.precision_recall(features.features(test), features.features(samples))
    return {
        "name": name,
        "budget": budget,
        "seed": seed,
        "settings": trained.settings,
        "sampler": trained.sampler,
        "parameters": sum(p.numel() for p in trained.model.parameters()),
        "steps": trained.steps,
        "images": trained.steps * trained.batch,
        "cpu_seconds": round(trained.seconds, 1),
        "step_seconds": trained.seconds / trained.steps,
        "image_ms": 1000 * trained.seconds / (trained.steps * trained.batch),
        "sample_ms": 1000 * sampling / options.samples,
        "samples": options.samples,
        "fd": features.distance(samples),
        "precision": found.precision,
        "recall": found.recall,
        "kl": quality.class_balance(judge.log_probabilities(samples)).kl_to_uniform,
        "reference": extractor.reference_distance(features, options.samples),
        "extractor": str(features),
        "threads": torch.get_num_threads(),
        "versions": {
            one: version(one) for one in ("torch", "diffusers", "denoising-diffusion-pytorch")
        },
        "machine": cpu_name(),
    }


def draw(samples: Tensor, path: Path) -> None:
    from torchvision.utils import save_image

    save_image(F.interpolate(samples, scale_factor=2) / 2 + 0.5, path, nrow=20, padding=4)


def cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


# --- the tournament ----------------------------------------------------------------------------


def results(out: Path) -> list[dict[str, Any]]:
    path = out / "peers.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: means over seeds (± their standard deviation), in brackets the ratio to ours."""
    groups: dict[tuple[float, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["budget"], row["name"]), []).append(row)
    lines = [
        "| CPU budget | contestant | seeds | parameters | CPU s | steps | s per step "
        "| images trained on | ms per trained image | FD | precision | recall | ms per sample |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    order = list(CONTESTANTS)
    for budget, name in sorted(groups, key=lambda key: (key[0], order.index(key[1]))):
        own = groups[budget, name]
        reference = groups.get((budget, "ours"), []) if name != "ours" else []
        cells = [
            f"{budget:g} s",
            f"{CONTESTANTS[name][0]}; {own[0]['settings']}; {own[0]['sampler']}",
            f"{len(own)}",
            f"{own[0]['parameters']:,}",
            cell("cpu_seconds", 0, own),
            cell("steps", 0, own),
            cell("step_seconds", 3, own, reference),
            cell("images", 0, own, reference),
            cell("image_ms", 2, own, reference),
            cell("fd", 1, own, reference),
            cell("precision", 2, own),
            cell("recall", 2, own),
            cell("sample_ms", 0, own, reference),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    told = rows[-1]
    lines += [
        "",
        f"FD of {told['samples']} samples by {told['extractor']}; as many real test images: "
        f"{told['reference']:.1f}. One thread of {told['machine']}; "
        + ", ".join(f"{name} {number}" for name, number in told["versions"].items()),
    ]
    return "\n".join(lines) + "\n"


def cell(
    key: str, digits: int, own: list[dict[str, Any]], reference: list[dict[str, Any]] | None = None
) -> str:
    values = [row[key] for row in own]
    text = f"{statistics.mean(values):,.{digits}f}"
    if len(values) > 1:
        text += f" ± {statistics.stdev(values):,.{digits}f}"
    if reference and (unit := statistics.mean(row[key] for row in reference)):
        text += f" ({statistics.mean(values) / unit:.2f}x)"
    return text


@entry_point
def main() -> None:
    options = parse(Options, __doc__)
    if unknown := set(options.only) - set(CONTESTANTS):
        raise LabError(f"--only {' '.join(unknown)}: take from {', '.join(CONTESTANTS)}")
    if options.samples < 4:
        raise LabError(f"--samples must be at least 4, not {options.samples}")
    names = options.only or tuple(CONTESTANTS)
    out = options.out.absolute()
    out.mkdir(parents=True, exist_ok=True)

    if options.here:
        result = compete(names[0], options)
        with (out / "peers.jsonl").open("a") as file:
            file.write(json.dumps(result) + "\n")
        return

    for get in (extractor.load_or_train, extractor.load_or_train_judge):
        print(get("mnist"), file=sys.stderr)  # trained where missing: once, on nobody's clock
    done = {(row["name"], row["budget"], row["seed"]) for row in results(out)}
    matches = [(name, budget, seed) for seed in options.seeds for budget in options.seconds
               for name in names if (name, budget, seed) not in done]  # fmt: skip

    def play(match: tuple[str, float, int]) -> bool:
        name, budget, seed = match
        log = out / f"{name}-{budget:g}s-seed{seed}.log"
        begin = time.perf_counter()
        command = [sys.executable, __file__, "--here", "--only", name, "--seconds", str(budget),
                   "--seeds", str(seed), "--samples", str(options.samples),
                   "--steps", str(options.steps), "--out", str(out)]  # fmt: skip
        with log.open("w") as file:
            code = subprocess.run(
                command, stdout=file, stderr=subprocess.STDOUT, check=False,
                env={**os.environ, "LAB_DATA": str(data_dir()),
                     "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
            ).returncode  # fmt: skip
        took = f"{time.perf_counter() - begin:.0f} s"
        print(f"{name}, {budget:g} s, seed {seed}: "
              + (f"done in {took}" if code == 0 else f"failed in {took}, see {log}"),
              file=sys.stderr, flush=True)  # fmt: skip
        return code == 0

    with ThreadPoolExecutor(options.jobs) as pool:
        complete = all(list(pool.map(play, matches)))
    if rows := results(out):
        text = table(rows)
        (out / "peers.md").write_text(text)
        print(text)
    if not complete:
        raise LabError("some contestants failed; the others are kept: mend it and run again")


if __name__ == "__main__":
    main()
