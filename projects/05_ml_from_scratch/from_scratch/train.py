"""All lessons, one after the other, and one table of what they measured."""

import sys
from importlib import import_module

from from_scratch.config import TrainConfig
from from_scratch.lesson import LESSONS, figures_table
from trainloop import Run


def train(config: TrainConfig) -> dict[str, float | int | None]:
    """Run the lessons with their default options, a lesson a step; `--resume` goes on after one."""
    config = Run.options("from-scratch", config)
    run = Run.open("from-scratch", config)
    start = run.resume()
    for step in run.steps(start):
        name = LESSONS[step - 1]
        module = import_module(f"from_scratch.{name}")
        figures = module.run(
            module.Config(seed=config.seed),
            lambda title, figure, name=name: run.picture(f"{name}_{title}", figure),
        )
        # no metric here may stop the run: trainloop takes a name with "loss" for a loss
        run.log(step, **{f"{name}/{key}": value for key, value in figures.items()})
        run.save(step)
    metrics = run.finish()
    shown = {key: value for key, value in metrics.items() if "/" in key and value is not None}
    print(figures_table(shown), file=sys.stderr)
    return metrics
