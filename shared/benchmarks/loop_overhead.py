# /// script
# requires-python = "==3.12.*"
# dependencies = ["trainloop", "torch<2.8", "lightning>=2.5", "accelerate>=1.10"]
# [tool.uv.sources]
# trainloop = { path = "..", editable = true }
# ///
"""What does book-keeping cost? Steps per second on a small MLP, each against the bare loop.

    uv run --script shared/benchmarks/loop_overhead.py

The contestants train the same 784-256-10 MLP with AdamW at batch 64 on the same batches in memory,
take turns within each round, and are compared within a round, since machines drift. Setting up and
tearing down is not counted. trainloop keeps its books as in any project: metrics of every step to
disk, TensorBoard, progress bar, reseeding, a checkpoint. lightning.Trainer runs with its defaults,
once with a DataLoader over the tensors, as a user would write it, once with the others' slices.
"""

import contextlib
import io
import logging
import os
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

STEPS, ROUNDS, BATCH = 1500, 7, 64
torch.set_num_threads(1)  # the net is too small for two, whose waiting would drown the differences
generator = torch.Generator().manual_seed(0)
IMAGES = torch.randn(6400, 784, generator=generator)
LABELS = torch.randint(0, 10, (6400,), generator=generator)


def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    part = slice(step % 100 * BATCH, (step % 100 + 1) * BATCH)
    return IMAGES[part], LABELS[part]


def make() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
    return model, torch.optim.AdamW(model.parameters(), lr=1e-3)


def bare() -> float:
    model, optimizer = make()
    begin = time.perf_counter()
    for step in range(STEPS):
        images, labels = batch(step)
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.perf_counter() - begin


def trainloop() -> float:
    from trainloop import Run, RunOptions

    run = Run.open("overhead", RunOptions(steps=STEPS))
    model, optimizer = make()
    start = run.resume(model=model, optimizer=optimizer)
    run._events()  # importing TensorBoard is setting up
    begin = time.perf_counter()
    for step in run.steps(start):
        images, labels = batch(step)
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(step, loss=loss)
        if run.due(step, 1000):
            run.save(step)
    seconds = time.perf_counter() - begin
    run._close()
    return seconds


def fabric() -> float:
    from lightning.fabric import Fabric

    fabric = Fabric(accelerator="cpu")
    model, optimizer = fabric.setup(*make())
    begin = time.perf_counter()
    for step in range(STEPS):
        images, labels = batch(step)
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()
    return time.perf_counter() - begin


def accelerate() -> float:
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    model, optimizer = accelerator.prepare(*make())
    begin = time.perf_counter()
    for step in range(STEPS):
        images, labels = batch(step)
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        accelerator.backward(loss)
        optimizer.step()
    return time.perf_counter() - begin


class Slices:
    """The batches of the other contestants; a plain list would be taken for many loaders."""

    def __len__(self) -> int:
        return STEPS

    def __iter__(self):
        return map(batch, range(STEPS))


def loader() -> torch.utils.data.DataLoader:
    """What a user would write for tensors in memory."""
    data = torch.utils.data.TensorDataset(IMAGES, LABELS)
    sampler = torch.utils.data.RandomSampler(data, replacement=True, num_samples=STEPS * BATCH)
    return torch.utils.data.DataLoader(data, BATCH, sampler=sampler)


def lightning_trainer(batches) -> float:
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.adam = make()

        def training_step(self, batch, index):
            images, labels = batch
            loss = F.cross_entropy(self.model(images), labels)
            self.log("loss", loss)
            return loss

        def configure_optimizers(self):
            return self.adam

        def on_train_start(self) -> None:
            self.begin = time.perf_counter()

        def on_train_end(self) -> None:
            self.seconds = time.perf_counter() - self.begin

    module = Module()
    lightning.Trainer(max_epochs=1, accelerator="cpu").fit(module, batches)
    return module.seconds


CONTESTANTS = {
    "bare PyTorch": bare,
    "trainloop": trainloop,
    "lightning Fabric": fabric,
    "accelerate": accelerate,
    "lightning.Trainer, defaults": lambda: lightning_trainer(loader()),
    "lightning.Trainer, the same slices": lambda: lightning_trainer(Slices()),
}


def main() -> None:
    warnings.simplefilter("ignore")
    logging.getLogger("lightning").setLevel(logging.ERROR)
    seconds: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LAB_RUNS"] = folder
        os.chdir(folder)  # lightning writes where it stands
        for number in range(ROUNDS + 1):
            for name, contestant in CONTESTANTS.items():
                with (
                    contextlib.redirect_stdout(io.StringIO()),
                    contextlib.redirect_stderr(io.StringIO()),
                ):
                    taken = contestant()
                if number:  # the first round warms up
                    seconds[name].append(taken)
            print(f"round {number} of {ROUNDS}", file=sys.stderr)
        os.chdir(here)
    lines = [
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {STEPS} steps, "
        f"median of {ROUNDS} rounds",
        "",
        "| loop | steps/s | time against bare (per round: median, min to max) |",
        "|---|---|---|",
    ]
    for name, times in seconds.items():
        ratios = [
            taken / alone for taken, alone in zip(times, seconds["bare PyTorch"], strict=True)
        ]
        lines.append(
            f"| {name} | {STEPS / statistics.median(times):.0f} | "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |"
        )
    print("\n".join(lines))


if __name__ == "__main__":
    main()
