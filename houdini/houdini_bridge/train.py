"""How real are they? A CNN that sees synthetic digits alone, tested on MNIST's training images.

MNIST's test images are not read here: the look of the digits was tuned with this figure.
"""

import sys

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from houdini_bridge.compare import comparison, draw_rows
from houdini_bridge.config import DigitsConfig, TrainConfig
from houdini_bridge.model import SmallCnn
from houdini_bridge.table import CELLS, FRAMES, read_rows
from trainloop import Batches, LabError, Run, load_images, warmup_cosine


def train(config: TrainConfig) -> dict[str, float | int | None]:
    """Train on synthetic digits, test once on MNIST's 60,000 training images."""
    config = Run.options("houdini", config)
    real, real_labels = load_images("mnist", "train")  # first: to draw our own takes a minute
    images, labels = load(config)
    run = Run.open("houdini", config)
    images, labels = images.to(run.device), labels.to(run.device)
    model = SmallCnn(config.width).to(run.device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05, fused=True)
    batches = Batches(len(images), config.batch_size, config.seed)

    start = run.resume(model=model, optimizer=optimizer)
    net = run.parallel(model)
    for step in run.steps(start):
        for group in optimizer.param_groups:
            group["lr"] = config.lr * warmup_cosine(step, config.steps, warmup=0.2, final=0.0)
        picked = batches.at(step).to(run.device)
        x, y = run.shard(random_shift(images[picked], config.shift), labels[picked])
        with run.autocast():
            loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        run.scaler.scale(loss).backward()
        run.scaler.step(optimizer)
        run.scaler.update()
        run.log(step, loss=loss)

    guesses = predict(model, real.to(run.device)).cpu()
    found = {"mnist_train/accuracy": (guesses == real_labels).double().mean().item()}
    for digit in range(10):
        of_it = real_labels == digit
        found[f"mnist_train/recall_{digit}"] = (guesses[of_it] == digit).double().mean().item()
    ours, theirs = images[:, 0].cpu().numpy(), real[:, 0].numpy()
    some = np.random.default_rng(0).permutation(len(ours))[:10_000]
    # At random: MNIST alternates between two groups of writers, and every sixth image is one
    # group's, whose strokes are thinner and lean 6 degrees less than the average.
    others = np.random.default_rng(0).permutation(len(theirs))[:10_000]
    looks = comparison({"synthetic": ours[some], "mnist": theirs[others]})
    run.log(config.steps, **found, **looks)
    rows = {"MNIST": (theirs, real_labels.numpy()), "ours": (ours, labels.cpu().numpy())}
    run.picture("digits", draw_rows(rows))
    run.save(config.steps)
    print(looks_table(looks), file=sys.stderr)
    print(f"accuracy on MNIST's training images: {found['mnist_train/accuracy']:.4f}")
    return run.finish(images_seen=config.steps * config.batch_size)


def load(config: TrainConfig) -> tuple[UInt8[Tensor, "N 1 28 28"], Int64[Tensor, "N"]]:
    """The cut digits of the source asked for, frame by frame; made first where there are none.

    Raises:
        LabError: the folder holds something else.
    """
    where = DigitsConfig(output_dir=config.output_dir)
    if not config.output_dir and not (where.output / "cut.jsonl").exists():
        from houdini_bridge.digits import digits

        digits(where)
    paths = sorted(where.output.glob("[0-9]/*_*.png"), key=lambda path: (path.name, path))
    if not paths:
        raise LabError(f"no digits in {where.output}: `uv run --package houdini digits` first")
    if config.source != "all":
        sources = read_rows(where.render)["source"].reshape(10, FRAMES, CELLS)
        paths = [path for path in paths if sources[place(path)] == config.source]
    pixels = np.stack([np.asarray(Image.open(path)) for path in paths])
    if pixels.shape[1:] != (28, 28):
        raise LabError(f"the digits in {where.output} are not of 28x28 pixels: cut them again")
    labels = torch.tensor([int(path.parent.name) for path in paths])
    return torch.from_numpy(pixels)[:, None], labels


def place(path) -> tuple[int, int, int]:
    """(digit, frame - 1, cell) of a cut digit's file name."""
    frame, cell = path.stem.split("_")
    return int(path.parent.name), int(frame) - 1, int(cell)


def random_shift(images: UInt8[Tensor, "B 1 h w"], most: int) -> UInt8[Tensor, "B 1 h w"]:
    """Each image moved by up to `most` whole pixels in x and in y, black coming in."""
    b, _, h, w = images.shape
    padded = F.pad(images[:, 0], (most,) * 4)
    left, top = torch.randint(0, 2 * most + 1, (2, b, 1, 1), device=images.device)
    rows = top + torch.arange(h, device=images.device)[:, None]  # (B, h, 1)
    columns = left + torch.arange(w, device=images.device)  # (B, 1, w)
    return padded[torch.arange(b, device=images.device)[:, None, None], rows, columns][:, None]


@torch.no_grad()
def predict(model: SmallCnn, images: UInt8[Tensor, "N 1 28 28"]) -> Int64[Tensor, "N"]:
    """The most likely digit of each image."""
    was_training = model.training
    model.eval()
    guesses = torch.cat([model(part).argmax(1) for part in images.split(2000)])
    model.train(was_training)
    return guesses


def looks_table(looks: dict[str, float]) -> str:
    """Mean and spread of each statistic, MNIST's beside ours."""
    names = [key.removeprefix("mnist/") for key in looks if key.startswith("mnist/")]
    lines = [f"{'':12} {'MNIST':>15} {'synthetic':>15}"]
    for name in names:
        if not name.endswith("_std"):
            cells = [
                f"{looks[f'{who}/{name}']:7.2f} ± {looks[f'{who}/{name}_std']:5.2f}"
                for who in ("mnist", "synthetic")
            ]
            lines.append(f"{name:12} {cells[0]:>15} {cells[1]:>15}")
    return "\n".join(lines)
