"""A small training with everything a resume must get right: dropout, noise, AdamW, EMA, epochs.

`main` trains to the end while being killed, in forks: its own process must never have run a torch
operation.
"""

import os
import random
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.utils.tensorboard  # here, so that a forked attempt need not load it
from torch import nn
from torch.nn import functional as F

import trainloop.curves  # noqa: F401
from trainloop import Batches, Ema, Run, RunOptions, warmup_cosine


@dataclass(frozen=True, kw_only=True)
class ToyConfig(RunOptions):
    """Options of the toy."""

    steps: int = 300
    batch_size: int = 32
    save_every: int = 10
    dropout: float = 0.1
    explode_at: int = 0


def train(config: ToyConfig) -> Run:
    run = Run.open("toy", config)
    config = run.config
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(500, 16, generator=generator)
    y = (x @ torch.randn(16, 4, generator=generator)).argmax(1)
    model = nn.Sequential(
        nn.Linear(16, 32), nn.LayerNorm(32), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(32, 4)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    ema = Ema(model, 0.98)
    batches = Batches(len(x), config.batch_size, config.seed)
    start = run.resume(model=model, optimizer=optimizer, ema=ema)
    net = run.parallel(model)
    for step in run.steps(start):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * warmup_cosine(step, config.steps)
        picked = batches.at(step)
        inputs, labels = run.shard(x[picked] + 0.1 * torch.randn(len(picked), 16), y[picked])
        with run.autocast():
            loss = F.cross_entropy(net(inputs), labels)
        optimizer.zero_grad()
        run.scaler.scale(loss).backward()
        run.scaler.step(optimizer)
        run.scaler.update()
        ema.update()
        run.log(step, loss=loss * (float("nan") if step == config.explode_at else 1.0))
        if run.due(step, config.save_every):
            accuracy = (ema.model(x).argmax(1) == y).double().mean().item()
            run.log(step, **{"val/accuracy": accuracy})
            run.save(step, metric=accuracy)
    run.log(config.steps, **{"test/accuracy": (ema.model(x).argmax(1) == y).double().mean().item()})
    run.finish(samples_seen=config.steps * config.batch_size)
    return run


def die_while_saving(after: int) -> None:
    """SIGKILL ourselves in the middle of a checkpoint's write: `after` saves go well."""
    save, left = torch.save, [after]

    def half_save(content: object, file) -> None:
        if left[0] == 0:
            file.write(b"half a checkpoint")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        save(content, file)

    torch.save = half_save


def nap_at_each_step(seconds: float) -> None:
    """Slow the training down: one that ends before it is killed would prove nothing."""
    log = Run.log

    def slow(run: Run, step: int, **values) -> None:
        time.sleep(seconds)
        log(run, step, **values)

    Run.log = slow


def attempt(resume: bool, kill_after: float | None, die_at_save: int | None) -> int:
    """One child that trains, killed after that many seconds. Returns its wait status."""
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        if kill_after is not None:
            nap_at_each_step(0.02)
        if die_at_save is not None:
            die_while_saving(die_at_save)
        try:
            train(ToyConfig(resume=resume))
        except BaseException as error:
            print(type(error).__name__, error, flush=True)
            os._exit(1)
        os._exit(0)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def main(kills: int) -> None:
    chance = random.Random(0)
    resume = False
    for number in range(kills):
        if number % 3 == 2:
            status = attempt(resume, None, chance.randrange(0, 4))
        else:
            status = attempt(resume, chance.uniform(0.05, 0.5), None)
        if not os.WIFSIGNALED(status):
            sys.exit(f"attempt {number} was not killed: it ended with {status}")
        resume = Path(os.environ["LAB_RUNS"], "toy/latest").exists()
    sys.exit(attempt(resume, None, None))
