# /// script
# requires-python = "==3.12.*"
# dependencies = [
#     "active-learning",
#     "baal>=2.1,<2.2",
#     "scikit-activeml>=1.0,<1.1",
#     "torch<2.8",
#     "trainloop",
# ]
# [tool.uv]
# exclude-dependencies = ["jupyter"] # baal asks for all of it
# [tool.uv.sources]
# active-learning = { path = "..", editable = true }
# trainloop = { path = "../../../shared", editable = true }
# ///
"""Our strategies beside BAAL's and scikit-activeml's: how fast they choose, and how well.

    uv run --script projects/40_active_learning/benchmarks/selection.py            # how fast
    uv run --script projects/40_active_learning/benchmarks/selection.py --curves   # how well: hours

How fast: one pool of 100,000 made-up frames, one query, one thread. Each contestant runs in a
process of its own, so that the largest memory it ever had (`ru_maxrss`) is its own; that of the
pool alone is given first. Contestants take turns, `--rounds` times; ratios are within a round.

How well: the peers' choices are put among our strategies and go through the same protocol: the
same first frames, nets and rounds (`protocol.curve`), then `study.report`.

What the peers are given: BAAL the outcomes of six peaks a frame, summed (it has no notion of a peak
that counts); scikit-activeml's core-set our standardised features, its BADGE the surest peak alone,
since it knows one softmax a sample. In the timing ours gets one peak, too.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from active_learning import strategies
from active_learning.config import CurveConfig
from active_learning.predictions import Predictions, only
from active_learning.strategies import STRATEGIES, Query
from trainloop import entry_point, parse
from trainloop.paths import workspace_root

OUT = workspace_root() / "runs/benchmarks/selection"
PAIRS = {
    "entropy": "baal-entropy",
    "bald": "baal-bald",
    "core-set": "skactiveml-core-set",
    "badge": "skactiveml-badge",
}
"""Ours, and the peer that does the same."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    frames: int = 100_000
    """Of the made-up pool."""
    n: int = 100
    """Frames to choose."""
    labelled: int = 300
    """Frames that have labels."""
    rounds: int = 3
    """Times that each contestant runs."""
    only: tuple[str, ...] = ()
    """Contestants by name; all if left out."""
    curves: bool = False
    """How well instead: the protocol with ours and theirs."""
    seeds: int = 10
    """Of the curves."""
    pool: str = "half-empty"
    """Of the curves."""
    here: str = ""
    """One contestant, in this process: how the subprocesses are called."""


# --- the peers -----------------------------------------------------------------------------------


def baal(name: str) -> Callable[[Query], torch.Tensor]:
    """A heuristic of BAAL, summed over peaks, among frames without labels."""

    def choose(query: Query) -> torch.Tensor:
        from baal.active.heuristics import BALD, Entropy

        free = (~query.labelled).nonzero()[:, 0]
        heuristic = {"bald": BALD, "entropy": Entropy}[name](reduction="sum")
        if name == "bald":
            p = query.predictions.members[:, free].permute(1, 3, 2, 0)  # (N, O, P, M)
        else:
            p = query.predictions.outcomes[free].transpose(1, 2)[..., None]
        ranks = heuristic(p.double().numpy())
        return free[torch.from_numpy(ranks[: query.n].copy())]

    return choose


def skactiveml_core_set(query: Query) -> torch.Tensor:
    """Its k-centre greedy."""
    from skactiveml.pool import CoreSet

    points = strategies.standardised(query.predictions.embedding).numpy()
    y = np.where(query.labelled.numpy(), 0.0, np.nan)
    seed = int(torch.randint(2**31, (), generator=query.generator))
    chosen = CoreSet(random_state=seed).query(points, y, batch_size=query.n)
    return torch.from_numpy(np.asarray(chosen))


def skactiveml_badge(query: Query) -> torch.Tensor:
    """Its BADGE, of a classifier whose answers are the net's about each frame's surest peak."""
    from skactiveml.base import SkactivemlClassifier
    from skactiveml.pool import Badge

    classes = query.predictions.classes[:, 0].double().numpy()
    features = query.predictions.features[:, 0].double().numpy()

    class Given(SkactivemlClassifier):
        def fit(self, X, y, sample_weight=None):
            return self

        def predict_proba(self, X, embed=False):
            rows = X[:, 0].astype(int)
            return (classes[rows], features[rows]) if embed else classes[rows]

    rows = np.arange(len(classes), dtype=float)[:, None]
    y = np.where(query.labelled.numpy(), 0.0, np.nan)
    seed = int(torch.randint(2**31, (), generator=query.generator))
    asked = Badge(clf_embedding_flag_name={"embed": True}, random_state=seed)
    chosen = asked.query(rows, y, Given(classes=list(range(classes.shape[1]))), fit_clf=False,
                         batch_size=query.n)  # fmt: skip
    return torch.from_numpy(np.asarray(chosen))


PEERS = {
    "baal-entropy": baal("entropy"),
    "baal-bald": baal("bald"),
    "skactiveml-core-set": skactiveml_core_set,
    "skactiveml-badge": skactiveml_badge,
}


# --- how fast ------------------------------------------------------------------------------------


def made_up_pool(options: Options, peaks: int, members: int) -> Predictions:
    """Random predictions of the size that the detector's have: 10 classes, 32 and 64 features."""
    torch.manual_seed(0)
    count = options.frames
    objects = torch.rand(count, peaks).sort(1, descending=True).values
    classes = torch.randn(count, peaks, 10).softmax(-1)
    noise = torch.randn(members, count, peaks, 11).softmax(-1) if members else None
    return Predictions(objects, classes, torch.zeros(count, peaks, 4),
                       torch.randn(count, peaks, 32), torch.randn(count, 64), noise)  # fmt: skip


def measure(name: str, options: Options) -> dict[str, float | str]:
    """Choose once; seconds of CPU and the most memory that this process ever had."""
    torch.set_num_threads(1)
    pool = made_up_pool(options, 1 if "badge" in name else 6, 5 if "bald" in name else 0)
    labelled = torch.zeros(options.frames, dtype=torch.bool)
    labelled[torch.randperm(options.frames)[: options.labelled]] = True
    counts = torch.ones(10, dtype=torch.long)
    choose = PEERS.get(name) or STRATEGIES[name]
    few = Query(only(pool, torch.arange(500)), labelled[:500], 5, counts, torch.Generator())
    choose(few)  # imports, and the first use of everything
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, wall = time.process_time(), time.perf_counter()
    chosen = choose(Query(pool, labelled, options.n, counts, torch.Generator()))
    assert len(chosen.unique()) == options.n
    assert not labelled[chosen].any()
    return {
        "name": name,
        "cpu": time.process_time() - began,
        "wall": time.perf_counter() - wall,
        "pool_mb": before / 1024,
        "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def how_fast(options: Options) -> str:
    """Every contestant in turn, in a process of its own; a Markdown table."""
    names = [name for pair in PAIRS.items() for name in pair]
    names = [name for name in names if not options.only or name in options.only]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    found: dict[str, list[dict]] = {name: [] for name in names}
    for _ in range(options.rounds):
        for name in names:
            words = [sys.executable, __file__, f"--here={name}", f"--frames={options.frames}",
                     f"--n={options.n}", f"--labelled={options.labelled}"]  # fmt: skip
            done = subprocess.run(words, env=environment, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{name}: {done.stderr}")
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
            print(found[name][-1], file=sys.stderr, flush=True)
    peer_of = {ours: theirs for ours, theirs in PAIRS.items() if theirs in found}
    lines = [
        f"{options.n} of {options.frames:,} frames, {options.labelled} labelled, one thread, "
        f"median of {options.rounds} rounds",
        "",
        "| | CPU s | chosen a second | memory beside the pool (MB) | peer's time over ours |",
        "|---|---|---|---|---|",
    ]
    for name, runs in found.items():
        seconds = statistics.median(run["cpu"] for run in runs)
        memory = max(run["mb"] - run["pool_mb"] for run in runs)
        ratio = ""
        if name in peer_of:
            ratios = [t["cpu"] / o["cpu"] for o, t in zip(runs, found[peer_of[name]], strict=True)]
            ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        rate = options.n / seconds
        lines.append(f"| {name} | {seconds:.2f} | {rate:,.0f} | {memory:,.0f} | {ratio} |")
    return "\n".join(lines) + "\n"


# --- how well ------------------------------------------------------------------------------------


def how_well(options: Options) -> str:
    """The peers among our strategies, through the same protocol; a report."""
    from active_learning.protocol import curve
    from active_learning.study import comparisons, gather, report
    from trainloop.paths import run_folders

    STRATEGIES.update(PEERS)
    os.environ["LAB_RUNS"] = str(OUT / "runs")
    names = ("random", "non-empty", *(name for pair in PAIRS.items() for name in pair))
    finished = {
        json.loads((folder / "config.json").read_text())["config"]["seed"]
        for folder in run_folders("active-learning")
        if (folder / "summary.json").exists()
    }
    for seed in range(options.seeds):
        if seed not in finished:
            curve(CurveConfig(strategies=names, pool=options.pool, seed=seed, device="cpu"))
    curves = gather([f for f in run_folders("active-learning") if (f / "summary.json").exists()])
    return report(curves, comparisons(curves))


@entry_point
def main() -> None:
    """Measure."""
    options = parse(Options, __doc__)
    if options.here:
        print(json.dumps(measure(options.here, options)))
        return
    OUT.mkdir(parents=True, exist_ok=True)
    text = how_well(options) if options.curves else how_fast(options)
    print(text)
    Path(OUT / ("curves.md" if options.curves else "speed.md")).write_text(text)


if __name__ == "__main__":
    main()
