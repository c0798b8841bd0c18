"""Studies: many short trainings that differ in one thing, side by side on all cores."""

import statistics
from dataclasses import dataclass, replace
from pathlib import Path

from matplotlib.figure import Figure

from detection.config import AblateConfig, FailuresConfig, TransferConfig
from trainloop import Run, Training, atomic_write, train_all
from trainloop.curves import read_metrics

BASELINE = {"assignment": "task-aligned", "box-loss": "giou", "class-loss": "bce"}
ABLATION = {
    "assignment": ("simota", "atss", "centre"),
    "box-loss": ("iou", "diou", "ciou"),
    "class-loss": ("quality-focal", "varifocal", "focal"),
}
"""What is put in its place, one at a time. ATSS won and became the default of `train`."""


# --- ablate --------------------------------------------------------------------------------------


def ablate(config: AblateConfig) -> dict[str, float | None]:
    """Change one factor at a time; hold each change against the baseline, seed by seed.

    Validation images decide: a study that chooses by test images has none left.
    """
    config = Run.options("detection", config, "ablate")
    run = Run.open("detection", config, "ablate")
    run.resume()
    changes = [("baseline", "")] + [(name, v) for name, of in ABLATION.items() for v in of]
    seeds = range(config.seed, config.seed + config.seeds)
    trained = train_all(
        run,
        {
            _place(*change, seed): [
                *_changed(config, *change),
                f"--seed={seed}",
            ]
            for seed in seeds  # all changes with the first seed first
            for change in changes
        },
        config.workers,
    )
    rows = [
        AblationRow(
            *change,
            tuple(_figure(trained[_place(*change, seed)], "val/ap") for seed in seeds),
            tuple(_figure(trained[_place(*change, seed)], "val/ap50") for seed in seeds),
            tuple(_figure(trained[_place("baseline", "", seed)], "val/ap") for seed in seeds),
        )
        for change in changes
    ]
    write_text(run.folder / "ablation.md", ablation_table(rows))
    run.picture("ablation", draw_ablation(rows))
    run.log(
        config.steps,
        **{f"val/ap_{row.value or 'baseline'}": statistics.fmean(row.ap) for row in rows},
        best_gain=max(row.gain for row in rows[1:]),
    )
    return run.finish(trainings=len(trained))


def _changed(config: AblateConfig, factor: str, value: str) -> list[str]:
    """The options of the baseline with one of them changed."""
    if factor == "assignment":
        return replace(config, assignment=value).options()
    return config.options() + ([f"--{factor}={value}"] if value else [])


@dataclass(frozen=True)
class AblationRow:
    """One change, and what it gave with each seed."""

    factor: str
    value: str
    ap: tuple[float, ...]
    ap50: tuple[float, ...]
    baseline: tuple[float, ...]
    """AP of the baseline with the same seeds."""

    @property
    def gains(self) -> list[float]:
        """AP above the baseline, seed by seed."""
        return [ours - theirs for ours, theirs in zip(self.ap, self.baseline, strict=True)]

    @property
    def gain(self) -> float:
        """Their mean."""
        return statistics.fmean(self.gains)

    @property
    def name(self) -> str:
        return f"{self.factor} {self.value}".strip()


def ablation_table(rows: list[AblationRow]) -> str:
    """Markdown: AP, AP50 and the difference to the baseline, mean ± standard deviation."""
    lines = ["| change | AP | AP50 | AP less the baseline's, paired |", "|---|---|---|---|"]
    for row in rows:
        name = " + ".join(BASELINE.values()) if not row.value else row.name
        difference = _spread(row.gains, "+.3f") if row.value else ""
        lines.append(f"| {name} | {_spread(row.ap)} | {_spread(row.ap50)} | {difference} |")
    return "\n".join(lines) + "\n"


def draw_ablation(rows: list[AblationRow]) -> Figure:
    """The gain of each change with each seed, and their mean; the baseline is the line at 0."""
    figure = Figure(figsize=(7.5, 3.6), layout="constrained")
    axis = figure.subplots()
    changes = rows[1:][::-1]
    for place, row in enumerate(changes):
        colour = f"C{list(ABLATION).index(row.factor)}"
        axis.plot(row.gains, [place] * len(row.gains), "o", color=colour, alpha=0.45)
        axis.plot(row.gain, place, "|", color=colour, markersize=18, markeredgewidth=3)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_yticks(range(len(changes)), [row.name for row in changes])
    axis.set_xlabel("AP above the baseline with the same seed (dots), mean (bar)")
    axis.grid(axis="x", alpha=0.25)
    baseline = statistics.fmean(rows[0].ap)
    axis.set_title(f"{' + '.join(BASELINE.values())}: AP {baseline:.3f}", fontsize=10)
    return figure


# --- transfer ------------------------------------------------------------------------------------


def transfer(config: TransferConfig) -> dict[str, float | None]:
    """A pretrained backbone against a fresh one, by labelled images; every seed pretrains anew."""
    config = Run.options("detection", config, "transfer")
    run = Run.open("detection", config, "transfer")
    run.resume()
    seeds = range(config.seed, config.seed + config.seeds)
    weights = dict.fromkeys(seeds, config.pretrained)
    if not config.pretrained:
        jobs = {
            f"pretrain/seed-{seed}": [
                f"--seed={seed}",
                f"--data={config.data}",
                f"--image-size={config.image_size}",
                f"--precision={config.precision}",
            ]
            for seed in seeds
        }
        done = train_all(run, jobs, config.workers, command="pretrain")
        weights = {seed: done[f"pretrain/seed-{seed}"].folder / "best.pt" for seed in seeds}
    jobs = {
        _place(kind, str(count), seed): [
            *config.options(),
            f"--seed={seed}",
            f"--images={count}",
            *([f"--backbone-weights={weights[seed]}"] if kind == "pretrained" else []),
        ]
        for count in config.scenes
        for kind in ("scratch", "pretrained")
        for seed in seeds
    }
    trained = train_all(run, jobs, config.workers)
    scores = {
        kind: {
            count: [_figure(trained[_place(kind, str(count), seed)], "test/ap") for seed in seeds]
            for count in config.scenes
        }
        for kind in ("scratch", "pretrained")
    }
    write_text(run.folder / "transfer.md", transfer_table(scores))
    run.picture("transfer", draw_transfer(scores))
    for count in config.scenes:
        gains = _gains(scores, count)
        run.log(
            config.steps,
            **{
                f"gain_{count}": statistics.fmean(gains),
                f"least_gain_{count}": min(gains),
                **{f"test/ap_{kind}_{count}": statistics.fmean(of[count])
                   for kind, of in scores.items()},
            },
        )  # fmt: skip
    return run.finish(trainings=len(trained))


def _gains(scores: dict[str, dict[int, list[float]]], count: int) -> list[float]:
    return [
        ours - fresh
        for ours, fresh in zip(scores["pretrained"][count], scores["scratch"][count], strict=True)
    ]


def transfer_table(scores: dict[str, dict[int, list[float]]]) -> str:
    """Markdown: test AP of both kinds by labelled images, and their difference, seed by seed."""
    lines = [
        "| labelled images | from scratch | pretrained | difference, paired |",
        "|---|---|---|---|",
    ]
    for count, fresh in scores["scratch"].items():
        ours, gains = scores["pretrained"][count], _gains(scores, count)
        lines.append(
            f"| {count:,} | {_spread(fresh)} | {_spread(ours)} | {_spread(gains, '+.3f')} |"
        )
    return "\n".join(lines) + "\n"


def draw_transfer(scores: dict[str, dict[int, list[float]]]) -> Figure:
    """Test AP over labelled images: each seed a dot, the mean a line."""
    figure = Figure(figsize=(5.5, 3.8), layout="constrained")
    axis = figure.subplots()
    for colour, (kind, of) in zip(("C7", "C0"), scores.items(), strict=True):
        for count, values in of.items():
            axis.plot([count] * len(values), values, "o", color=colour, alpha=0.4)
        means = [statistics.fmean(values) for values in of.values()]
        axis.plot(list(of), means, color=colour, label=kind)
    axis.set_xscale("log")
    axis.set_xticks(list(scores["scratch"]), [f"{count:,}" for count in scores["scratch"]])
    axis.minorticks_off()
    axis.set_xlabel("labelled images")
    axis.set_ylabel("AP on test images")
    axis.grid(alpha=0.25)
    axis.legend(frameon=False)
    return figure


# --- failures ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Failure:
    """A training that goes wrong, the healthy one beside it, and the curve that tells."""

    title: str
    wrong: tuple[str, ...]
    curve: str
    healthy: tuple[str, ...] = ()


FAILURES = {
    "prior": Failure("no prior in the bias", ("--prior=0.5",), "loss_class"),
    "normalise": Failure("loss divided by images", ("--normalise=images",), "grad_norm"),
    "lr": Failure("learning rate x 40", ("--lr=0.32",), "loss_box"),
    "ignored": Failure(
        "ignored regions as background",
        ("--unlabelled=0.6", "--ignored=background"),
        "loss_class",
        healthy=("--unlabelled=0.6",),
    ),
}


def failures(config: FailuresConfig) -> dict[str, float | None]:
    """Train each failure and its healthy twin, and draw what one would have seen."""
    config = Run.options("detection", config, "failures")
    run = Run.open("detection", config, "failures")
    run.resume()
    seeds = range(config.seed, config.seed + config.seeds)
    kinds = {"healthy": (), "healthy, unlabelled": FAILURES["ignored"].healthy}
    kinds |= {name: failure.wrong for name, failure in FAILURES.items()}
    jobs = {
        _place(name, "", seed): [*config.options(looks=6), f"--seed={seed}", *options]
        for seed in seeds
        for name, options in kinds.items()
    }
    trained = train_all(run, jobs, config.workers)
    run.picture("failures", draw_failures(trained, config.seed))
    run.log(
        config.steps,
        **{
            f"val/ap_{name.replace(', ', '_')}": statistics.fmean(
                _figure(trained[_place(name, "", seed)], "val/ap") for seed in seeds
            )
            for name in kinds
        },
    )
    return run.finish(trainings=len(trained))


def draw_failures(trained: dict[str, Training], seed: int) -> Figure:
    """For each failure the curve that tells (above) and validation AP (below), beside health."""
    figure = Figure(figsize=(13, 5.2), layout="constrained")
    axes = figure.subplots(2, len(FAILURES))
    for (name, failure), (top, bottom) in zip(FAILURES.items(), axes.T, strict=True):
        twin = "healthy, unlabelled" if failure.healthy else "healthy"
        for label, colour, place in (("healthy", "C7", twin), ("failure", "C3", name)):
            curves = read_metrics(trained[_place(place, "", seed)].folder / "metrics.jsonl")
            top.plot(*curves[failure.curve], color=colour, label=label, linewidth=1)
            bottom.plot(*curves.get("val/ap", ([], [])), color=colour, marker=".")
        top.set_title(failure.title, fontsize=11)
        top.set_ylabel(failure.curve)
        top.set_yscale("log")
        bottom.set_ylabel("val/ap")
        bottom.set_xlabel("step")
        bottom.set_ylim(bottom=0)
        for axis in (top, bottom):
            axis.grid(alpha=0.25)
    axes[0, 0].legend(frameon=False)
    return figure


# --- of all of them ------------------------------------------------------------------------------


def _place(kind: str, value: str, seed: int) -> str:
    """The folder of a training below the study's: its name in words."""
    name = f"{kind}-{value}" if value else kind
    return f"{name.replace(', ', '-')}/seed-{seed}"


def _figure(training: Training, name: str) -> float:
    """A figure of a training; 0 where the training broke off before, or no object was there."""
    return training.metrics.get(name) or 0.0


def _spread(values: list[float] | tuple[float, ...], form: str = ".3f") -> str:
    """Mean, and the standard deviation where there are several."""
    mean = format(statistics.fmean(values), form)
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean


def write_text(path: Path, text: str) -> None:
    """A text file, whole or not at all; and on the screen."""
    atomic_write(path, lambda file: file.write(text.encode()))
    print(text)
