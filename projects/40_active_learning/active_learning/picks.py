"""What each strategy chose, and whether what it chose by means anything."""

import contextlib
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from active_learning.average_precision import match
from active_learning.config import CurveConfig, PicksConfig
from active_learning.detector import detect
from active_learning.model import Detections, Detector
from active_learning.pictures import (
    draw_certainty,
    draw_classes,
    draw_map,
    draw_sheet,
    write_gif,
)
from active_learning.predictions import Predictions, predict
from active_learning.protocol import START, load_splits, train_members
from active_learning.scenes import Frames
from active_learning.statistics import reliability, spearman
from active_learning.strategies import object_entropy, standardised
from trainloop import Run, atomic_write, check, load_checkpoint, pick_device
from trainloop.folder import read_json
from trainloop.paths import run_folders

DRAWN = ("random", "non-empty", "entropy", "class-entropy", "badge")
"""Strategies for pictures that have room for few, if they were run; then any others."""
MOST_DRAWN = 3
RIGHT_FROM = 0.3  # score from which a detection counts when errors of a frame are counted


def picks(config: PicksConfig) -> None:
    """Draw a recorded curve's picks into its folder.

    Raises:
        LabError: there is none, or not of that seed.
    """
    folder, curve_folder = find(config)
    about = read_json(curve_folder / "config.json")["config"]
    known = {key: tuple(v) if isinstance(v, list) else v for key, v in about.items()}
    options = CurveConfig(**{**known, "resume": False})
    device = pick_device(options.device)
    for name, drawn in pictures(options, curve_folder, device).items():
        write(folder, name, drawn)
        print(folder / name)


def find(config: PicksConfig) -> tuple[Path, Path]:
    """The folder to draw into, and that of the curve."""
    folders = [Path(config.run).absolute()] if config.run else run_folders("active-learning")
    for folder in folders:
        homes = [folder, *sorted(folder.glob("trainings/*/active-learning/*"))]
        for home in homes:
            if home.is_symlink() or not (home / "last.pt").is_file():
                continue
            with contextlib.suppress(OSError, ValueError, KeyError):  # damaged: no curve
                about = read_json(home / "config.json")
                if about["command"] == "curve" and config.seed in (None, about["config"]["seed"]):
                    return folder, home
    seed = "" if config.seed is None else f" of seed {config.seed}"
    check(False, f"no curve{seed} in {config.run or 'runs of active-learning'}: `train` first")
    raise AssertionError


def look(run: Run, config: CurveConfig, curve_folder: Path) -> None:
    """The same, into a study's own folder, and its certainty among the study's figures."""
    options = {name: getattr(config, name) for name in CurveConfig.__dataclass_fields__}
    for name, drawn in pictures(CurveConfig(**options), curve_folder, run.device).items():
        write(run.folder, name, drawn)


def write(folder: Path, name: str, drawn) -> None:
    """A figure as PNG, or bytes as they are."""
    if isinstance(drawn, bytes):
        atomic_write(folder / name, lambda file: file.write(drawn))
    else:
        atomic_write(folder / name, lambda file: drawn.savefig(file, format="png", dpi=110))


def pictures(config: CurveConfig, curve_folder: Path, device: torch.device) -> dict:
    """Every picture of one seed by its file's name; one training, for the map and the certainty."""
    saved = load_checkpoint(curve_folder / "last.pt", "active-learning")
    rounds = saved["states"]["ledger"]["rounds"]
    (first,) = rounds[START]
    rounds = {name: batches for name, batches in rounds.items() if name != START}
    few = sorted(rounds, key=lambda n: DRAWN.index(n) if n in DRAWN else len(DRAWN))[:MOST_DRAWN]
    drawn = {name: rounds[name] for name in sorted(few, key=list(rounds).index)}
    pool, held_out = load_splits(config)

    # The pool as a net sees it that knows the last strategy's labels: one map for all rounds.
    last = list(drawn)[-1]
    rows = first + [frame for batch in rounds[last] for frame in batch]
    (net,) = train_members(pool, rows, config, device, len(rounds[last]))
    seen = predict(net, pool, device)
    at = plane(seen)
    objects = pool.objects.numpy()
    shown = range(1, max(map(len, drawn.values())) + 1)
    maps = [draw_map(at, objects, first, drawn, many) for many in shown]
    found = {
        "map.png": draw_map(at, objects, first, drawn, shown[-1]),
        "map.gif": write_gif(maps),
        "classes.png": draw_classes(pool, drawn),
        "picks.png": draw_sheet(pool, drawn, "the first frames of each batch, by round"),
        "certainty.png": certainty(net, held_out, device),
    }
    if len(rounds) > len(drawn):
        everyone = {name: batches[:1] for name, batches in rounds.items()}
        found["picks_all.png"] = draw_sheet(pool, everyone, "first batch of every strategy")
    return found


def plane(seen: Predictions) -> Float[ndarray, "N 2"]:
    """t-SNE of the frames' features: what is near stays near, far means nothing."""
    from sklearn.manifold import TSNE

    points = standardised(seen.embedding).numpy()
    perplexity = min(30, (len(points) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", max_iter=500, random_state=0).fit_transform(
        points
    )


def certainty(net: Detector, frames: Frames, device: torch.device):
    """The figure of uncertainty against errors, and of scores against shares that are right."""
    found = detect(net, frames, device)
    uncertainty = object_entropy(predict(net, frames, device)).sum(1).numpy()
    right = correct(found, frames)
    counted = found.scores.numpy() >= RIGHT_FROM
    false = (counted & ~right).sum(1)
    missed = frames.objects.numpy() - (counted & right).sum(1)
    errors = (false + missed).astype(float)
    seen = found.scores.numpy() >= 0.05  # hundreds of thousands of peaks are nothing, and say so
    said, true, count, error = reliability(
        found.scores.numpy()[seen].astype(float), right[seen].astype(int)
    )
    return draw_certainty(
        uncertainty, errors, spearman(uncertainty, errors), said, true, count, error
    )


def correct(found: Detections, frames: Frames):
    """Which detections find an object of their class at IoU 0.5, each object once; (N, D)."""
    return match(
        found.boxes.double().numpy(),
        found.labels.numpy(),
        frames.boxes.double().numpy(),
        frames.labels.numpy(),
        np.array([0.5]),
    )[0]
