"""One seed of a study: from the same first frames, each strategy asks, is told, and trains anew."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from active_learning.config import CurveConfig, DetectorOptions
from active_learning.detector import detect, fit, score
from active_learning.model import Detector
from active_learning.predictions import Predictions, predict
from active_learning.scenes import Frames, render
from active_learning.strategies import STRATEGIES, Query
from trainloop import Run, check
from trainloop.batches import mix
from trainloop.device import seed_step

START = "start"
"""The name that the first training, which all strategies share, has among them."""


class Ledger:
    """Which frames each strategy had labelled in each round; the first ones are everybody's.

    It is all that a stopped curve needs to go on: a round's picks are written down with the figures
    of the training that they follow from.
    """

    def __init__(self, first: list[int]) -> None:
        self.rounds: dict[str, list[list[int]]] = {START: [first]}

    def add(self, strategy: str, picked: Int64[Tensor, " n"]) -> None:
        """Label a batch."""
        self.rounds.setdefault(strategy, []).append(picked.tolist())

    def labelled(self, strategy: str, rounds: int) -> list[int]:
        """The frames that have labels after some rounds, in the order of labelling."""
        batches = self.rounds[START] + self.rounds.get(strategy, [])[:rounds]
        return [frame for batch in batches for frame in batch]

    def state_dict(self) -> dict[str, Any]:
        return {"rounds": self.rounds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rounds = state["rounds"]


def curve(config: CurveConfig) -> dict[str, float | int | None]:
    """Train on the first frames once, then round by round for each strategy.

    A step of the run is a training. Its line in metrics.jsonl is written once the next frames are
    chosen, so that a run that was killed goes on with the training that was cut, and ends as if
    nothing had happened.

    Raises:
        LabError: nothing to resume, or the pool is missing or too small.
    """
    config = Run.options("active-learning", config, "curve")
    pool, held_out = load_splits(config)
    asked = config.start + config.rounds * config.query
    check(
        asked <= len(pool),
        f"a pool of {len(pool):,} frames is smaller than --start and {config.rounds} rounds of "
        f"--query ask for, {asked:,}: label fewer",
    )
    run = Run.open("active-learning", config, "curve")
    cells = [(START, 0)]
    cells += [(name, at) for name in config.strategies for at in range(1, config.rounds + 1)]
    run.total = len(cells)
    ledger = Ledger(first_frames(len(pool), config.start, config.seed))
    start = run.resume(ledger=ledger)
    for step in run.steps(start):
        strategy, at = cells[step - 1]
        rows = ledger.labelled(strategy, at)
        nets = train_members(pool, rows, config, run.device, at, committee(config, strategy, at))
        ap50, ap = score(detect(nets[0], held_out, run.device), held_out)
        labels = pool.labels[rows]
        run.log(
            step,
            strategy=strategy_number(strategy, config.strategies),
            round=float(at),
            frames=float(len(rows)),
            boxes=float((labels >= 0).sum()),
            empty=float((labels < 0).all(1).sum()),
            scarcest=float(class_counts(pool, rows).min()),
            ap50=float(np.nanmean(ap50)),
            ap=float(np.nanmean(ap)),
            ap50_worst=float(np.nanmin(ap50)),
        )
        # After the first training every strategy asks for its first batch; later the one at work.
        asking = [strategy] if strategy != START else list(config.strategies)
        if at < config.rounds:
            look = looks(pool, nets, config, run.device, at)
            for name in asking:
                ledger.add(name, ask(name, look, pool, rows, config, run.device, at))
        run.save(step)
    return run.finish(trainings=config.trainings)


def strategy_number(name: str, strategies: tuple[str, ...]) -> float:
    """Which strategy a row of metrics.jsonl is of: its place among the options, -1 for `start`."""
    return -1.0 if name == START else float(strategies.index(name))


def load_splits(config: CurveConfig) -> tuple[Frames, Frames]:
    """The pool, and the frames that AP is measured on."""
    return load_split(config, "pool"), load_split(config, config.score_on)


def load_split(config: DetectorOptions, split: str) -> Frames:
    """`pool`, `val` or `test`."""
    if config.data:
        from active_learning.coco import load_folder

        return load_folder(Path(config.data), split, config.image_size)
    return render(split, config.knobs, config.image_size, config.pool_seed)


def first_frames(frames: int, count: int, seed: int) -> list[int]:
    """Drawn by the seed alone: the same for all strategies."""
    generator = torch.Generator().manual_seed(mix(seed, 0))
    return torch.randperm(frames, generator=generator)[:count].tolist()


def committee(config: CurveConfig, strategy: str, at: int) -> int:
    """How many nets to train: more than one only where a committee is asked next."""
    last = at == config.rounds
    wanted = strategy == "committee" or (strategy == START and "committee" in config.strategies)
    return config.members if wanted and not last else 1


def train_members(
    pool: Frames,
    rows: list[int],
    config: DetectorOptions,
    device: torch.device,
    at: int,
    members: int = 1,
) -> tuple[Detector, ...]:
    """Nets trained from nothing on the same frames; the first is the one that is measured.

    Frames are sorted, and weights and batches follow from (seed, round), so two strategies that
    labelled the same frames have the same net.
    """
    frames = pool.take(torch.tensor(sorted(rows)))
    seeds = [mix(config.seed, 1 + 1000 * member + at) for member in range(members)]
    return tuple(fit(frames, config, device, seed) for seed in seeds)


def class_counts(pool: Frames, rows: list[int]) -> Int64[Tensor, " K"]:
    """Labelled objects of each class."""
    labels = pool.labels[rows]
    return torch.bincount(labels[labels >= 0], minlength=len(pool.classes))


def looks(
    pool: Frames, nets: tuple[Detector, ...], config: CurveConfig, device: torch.device, at: int
) -> Callable[[str], Predictions]:
    """What a strategy sees of the pool: by its own look for two of them, by one for all others."""

    @cache
    def look(passes: int, members: tuple[Detector, ...]) -> Predictions:
        seed_step(mix(config.seed, at), 1, device)  # of dropout
        return predict(nets[0], pool, device, passes, members)

    return lambda name: look(
        config.passes if name == "bald" else 0, nets if name == "committee" else ()
    )


def ask(
    name: str,
    look: Callable[[str], Predictions],
    pool: Frames,
    rows: list[int],
    config: CurveConfig,
    device: torch.device,
    at: int,
) -> Int64[Tensor, " n"]:
    """What a strategy wants labelled after round `at`."""
    gain = None
    if name == "oracle":
        # Validation frames, not the test's: an upper bound that has seen the exam bounds nothing.
        held_out = load_split(config, "val")

        def gain(batch: Int64[Tensor, " n"]) -> float:
            (net,) = train_members(pool, rows + batch.tolist(), config, device, at + 1)
            return float(np.nanmean(score(detect(net, held_out, device), held_out)[0]))

    return choose(name, look(name), rows, pool, config.query, mix(config.seed, 500_000 + at), gain)


def choose(
    name: str,
    seen: Predictions,
    rows: list[int],
    pool: Frames,
    n: int,
    seed: int,
    gain: Any = None,
) -> Int64[Tensor, " n"]:
    """Ask a strategy, and refuse an answer that is none.

    Raises:
        LabError: fewer frames without labels than asked for.
    """
    labelled = torch.zeros(len(seen), dtype=torch.bool)
    labelled[rows] = True
    left = int((~labelled).sum())
    check(n <= left, f"{n} frames to label next, and only {left} of the pool are without labels")
    generator = torch.Generator().manual_seed(seed)
    query = Query(seen, labelled, n, class_counts(pool, rows), generator, gain)
    chosen = STRATEGIES[name](query)
    if len(chosen.unique()) != n or labelled[chosen].any():
        raise AssertionError(f"{name} chose {len(chosen.unique())} new frames of {n}")
    return chosen
