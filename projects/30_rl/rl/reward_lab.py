"""The same algorithm on the same environment, asked for different things; films of what it does."""

import statistics
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from rl.agents import load_agent
from rl.config import RewardsConfig
from rl.evaluate import TEST, WATCHED, play
from rl.pictures import film, write_gif
from rl.study import validations
from trainloop import Run, Training, train_all, write_text

NAMES = ("env", "sparse", "dense", "shaped", "hacked")
EPISODES = 100  # of a score
FILM_STEPS = 200  # of an episode: enough to see what it is up to


def rewards(config: RewardsConfig) -> dict[str, float | int | None]:
    """Train PPO on each reward; score every agent by the environment's own, at the run's end.

    The last agent is looked at, not the best one: the best one by the environment's own reward
    would hide what the other reward asks for.
    """
    config = Run.options("rl", config, "rewards")
    run = Run.open("rl", config, "rewards")
    run.resume()
    seeds = range(config.seed, config.seed + config.seeds)
    steps = [f"--steps={config.steps}"] if config.steps else []
    jobs = {
        f"{env}/{name}/seed-{seed}": [
            f"--env={env}", f"--reward={name}", f"--seed={seed}", "--no-early-stop",
            "--no-pictures", *steps,
        ]
        for seed in seeds
        for env in config.envs
        for name in NAMES
    }  # fmt: skip
    trained = train_all(run, jobs, config.workers)

    lines = ["| environment | asked for | its own return | return as asked | steps |"]
    lines.append("|---|---|---|---|---|")
    for env in config.envs:
        for name in NAMES:
            of = [trained[f"{env}/{name}/seed-{seed}"] for seed in seeds]
            found = [score(one.folder / "last.pt", env, name) for one in of]
            own, asked, length = (statistics.fmean(column) for column in zip(*found, strict=True))
            every = [f"{one[0]:.0f}" for one in found]
            lines.append(
                f"| {env} | {name} | {own:.0f} ({', '.join(every)}) | {asked:.1f} | {length:.0f} |"
            )
            run.log(1, **{f"{env}/{name}": own, f"{env}/{name}_asked": asked})
            write_film(of[0].folder / "last.pt", run.folder / f"{env.split('-')[0]}_{name}.gif")
        run.picture(f"rewards_{env.split('-')[0]}", draw_rewards(env, trained, seeds))
    table = "\n".join(lines) + "\n"
    print(table)
    write_text(run.folder / "rewards.md", table)
    return run.finish(trainings=len(trained))


def score(checkpoint: Path, env: str, reward: str) -> tuple[float, float, float]:
    """Means over the test episodes: own return, return in the reward asked for, length."""
    act = load_agent(checkpoint).act
    own = play(act, env, EPISODES, TEST)
    asked = own if reward == "env" else play(act, env, EPISODES, TEST, reward)
    return float(own.returns.mean()), float(asked.returns.mean()), float(own.lengths.mean())


def write_film(checkpoint: Path, out: Path) -> None:
    """The beginning of an episode of an agent."""
    agent = load_agent(checkpoint)
    frames, _ = film(agent.act, agent.config.env, WATCHED, FILM_STEPS)
    write_gif(frames, out, width=240)


def draw_rewards(env: str, trained: dict[str, Training], seeds: range) -> Figure:
    """Validations in the environment's own reward, a panel for each reward asked for."""
    figure = Figure(figsize=(11, 2.6), layout="constrained")
    axes = figure.subplots(1, len(NAMES), sharey=True)
    for axis, name in zip(axes, NAMES, strict=True):
        curves = [validations(trained[f"{env}/{name}/seed-{seed}"].folder) for seed in seeds]
        for steps, values in curves:
            axis.plot(np.array(steps) / 1000, values, color="C0", alpha=0.7, lw=1.2)
        axis.set_title({"env": "own reward"}.get(name, name), fontsize=10)
        axis.set_xlabel("1,000 env steps", fontsize=9)
        axis.grid(alpha=0.25)
    axes[0].set_ylabel(f"{env}\nown return")
    return figure
