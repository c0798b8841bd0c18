"""Options of the commands; no torch here, so that `--help` is quick."""

import argparse
import math
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from rl.failures import FAILURES
from rl.presets import ALGORITHMS, TARGETS, preset
from trainloop import RunOptions, check

Algorithm = Literal["ppo", "dqn", "a2c", "reinforce", "sac", "q-learning"]
Reward = Literal["env", "sparse", "dense", "shaped", "hacked"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunOptions):
    """What all algorithms share. A value of None stands for the preset's of (algo, env)."""

    steps: int = 0
    """Iterations: each plays a while and then learns; 0: what --env-steps comes to."""
    algo: Algorithm = "ppo"
    """The algorithm; `train --algo X --help` shows the options of X."""
    env: str = "CartPole-v1"
    """A gymnasium id, or one of this project's probes, such as probe/Bandit-v0."""
    env_steps: int | None = None
    """Environment steps to learn from at most; schedules end there."""
    envs: int | None = None
    """Environments played side by side."""
    gamma: float | None = None
    """Discount of a step."""
    lr: float | None = None
    """Adam's learning rate at the start."""
    hidden: tuple[int, ...] | None = None
    """Widths of the hidden layers."""
    reward: Reward = "env"
    """env: the environment's own; the others are the reward lab's, for CartPole and MountainCar."""
    reward_scale: float | None = None
    """Rewards are multiplied by this before anything is learned from them."""
    bootstrap_truncated: bool = True
    """Value what a time limit cut off; without it a time limit counts as an end."""
    eval_every: int | None = None
    """Iterations between validations."""
    eval_episodes: int = 100
    """Episodes of a validation and of the final test, played without exploration."""
    early_stop: bool = True
    """Stop once a validation reaches the preset's target for the environment."""
    stop_at: float | None = None
    """Validation mean that stops the training; None: the preset's, inf where there is none."""
    pictures: bool = True
    """Draw the learning curve and an episode of the agent at the end."""

    def __post_init__(self) -> None:
        check(self.steps >= 0, f"--steps must not be negative, not {self.steps}")
        check(self.seed >= 0, f"--seed must not be negative, not {self.seed}")
        check(self.precision == "fp32", "--precision must be fp32: these nets are tiny")
        for name in ("env_steps", "envs", "eval_every", "eval_episodes"):
            self._at_least(name, 1)
        self._within("gamma", 0, 1)
        self._positive("lr", "reward_scale")
        check(
            self.stop_at is None or not math.isnan(self.stop_at),
            "--stop-at must be a number, not nan: it would never be reached",
        )
        check(
            self.hidden is None or all(width >= 1 for width in self.hidden),
            f"--hidden must be widths of at least 1, not {self.hidden}",
        )

    def settled(self) -> "TrainConfig":
        """These options with the preset's values where they say None."""
        values = preset(self.algo, self.env)
        return replace(
            self,
            **{
                field.name: values[field.name]
                for field in fields(self)
                if getattr(self, field.name) is None and field.name in values
            },
        )

    @property
    def rows(self) -> int:
        """Rows that each environment plays in an iteration; algorithms name it differently."""
        raise NotImplementedError

    @property
    def iterations(self) -> int:
        """Of settled options: what the loop's `step` counts to."""
        return self.steps or math.ceil(self.env_steps / (self.envs * self.rows))

    def _at_least(self, name: str, least: int) -> None:
        value = getattr(self, name)
        option = f"--{name.replace('_', '-')}"
        check(value is None or value >= least, f"{option} must be at least {least}, not {value}")

    def _positive(self, *names: str) -> None:
        for name in names:
            value, option = getattr(self, name), f"--{name.replace('_', '-')}"
            check(value is None or value > 0, f"{option} must be above 0, not {value}")

    def _within(self, name: str, low: int, high: int) -> None:
        value, option = getattr(self, name), f"--{name.replace('_', '-')}"
        check(
            value is None or low <= value <= high,
            f"{option} must be {low} to {high}, not {value}",
        )


@dataclass(frozen=True, kw_only=True)
class PpoConfig(TrainConfig):
    """Proximal policy optimisation."""

    horizon: int | None = None
    """Rows of a rollout, for each environment."""
    epochs: int | None = None
    """Passes over a rollout."""
    minibatch: int | None = None
    """Rows of a gradient step."""
    gae_lambda: float | None = None
    """0: one-step advantages, low variance; 1: whole returns, no bias."""
    clip: float | None = None
    """How far the probability ratio may move from 1 at the start; linearly to 0."""
    clip_value: float | None = None
    """How far a value may move in an update; None: not clipped (the original code clips)."""
    normalise_advantages: bool = True
    """To mean 0 and deviation 1 in each minibatch."""
    entropy_weight: float | None = None
    """Of the entropy in the loss."""
    max_grad_norm: float | None = None
    """Gradients are shortened to this."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("horizon", "epochs", "minibatch"):
            self._at_least(name, 1)
        self._within("gae_lambda", 0, 1)
        self._positive("clip", "clip_value", "max_grad_norm")
        self._at_least("entropy_weight", 0)

    @property
    def rows(self) -> int:
        return self.horizon


@dataclass(frozen=True, kw_only=True)
class A2cConfig(TrainConfig):
    """Advantage actor-critic, the synchronous one."""

    horizon: int | None = None
    """Rows of a rollout, for each environment."""
    gae_lambda: float | None = None
    """0: one-step advantages, low variance; 1: whole returns, no bias."""
    normalise_advantages: bool = True
    """To mean 0 and deviation 1 in each rollout."""
    entropy_weight: float | None = None
    """Of the entropy in the loss."""
    max_grad_norm: float | None = None
    """Gradients are shortened to this."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least("horizon", 1)
        self._within("gae_lambda", 0, 1)
        self._positive("max_grad_norm")
        self._at_least("entropy_weight", 0)

    @property
    def rows(self) -> int:
        return self.horizon


@dataclass(frozen=True, kw_only=True)
class ReinforceConfig(TrainConfig):
    """REINFORCE: whole episodes, one gradient step for each iteration's."""

    baseline: bool = True
    """Subtract a learned value from the returns."""
    normalise_advantages: bool = True
    """Divide by their deviation in each iteration (and subtract the mean)."""
    entropy_weight: float | None = None
    """Of the entropy in the loss."""
    max_grad_norm: float | None = None
    """Gradients are shortened to this."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._positive("max_grad_norm")
        self._at_least("entropy_weight", 0)

    @property
    def iterations(self) -> int:
        """At most; episodes have no fixed length, so the loop also ends with --env-steps."""
        return self.steps or self.env_steps // self.envs


@dataclass(frozen=True, kw_only=True)
class DqnConfig(TrainConfig):
    """Deep Q-learning."""

    horizon: int | None = None
    """Rows that each environment plays between updates."""
    updates: int | None = None
    """Gradient steps of an iteration."""
    batch_size: int | None = None
    """Transitions of a gradient step."""
    capacity: int | None = None
    """Transitions that the replay buffer holds."""
    warmup: int | None = None
    """Environment steps before the first update."""
    replay: bool = True
    """Learn from old transitions; without it from those of the last iteration only."""
    target_network: bool = True
    """Bootstrap from a slowly following copy; without it from the network itself."""
    tau: float | None = None
    """How far the target follows in each gradient step."""
    double: bool = True
    """Choose the next action by the network, value it by the target (van Hasselt 2016)."""
    dueling: bool = False
    """State value and advantages in two heads (Wang 2016)."""
    n_step: int | None = None
    """Rewards summed before bootstrapping, as far as the iteration's rows reach."""
    prioritised: bool = False
    """Replay by the size of the error (Schaul 2016)."""
    epsilon_end: float | None = None
    """Share of random actions once the decay is over."""
    epsilon_steps: int | None = None
    """Environment steps until then, linearly from 1."""
    max_grad_norm: float | None = None
    """Gradients are shortened to this."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("horizon", "updates", "batch_size", "capacity", "n_step", "epsilon_steps"):
            self._at_least(name, 1)
        self._at_least("warmup", 0)
        self._within("epsilon_end", 0, 1)
        self._within("tau", 0, 1)
        self._positive("tau", "max_grad_norm")

    @property
    def rows(self) -> int:
        return self.horizon


@dataclass(frozen=True, kw_only=True)
class SacConfig(TrainConfig):
    """Soft actor-critic, for bounded continuous actions."""

    horizon: int | None = None
    """Rows that each environment plays between updates."""
    updates: int | None = None
    """Gradient steps of an iteration."""
    batch_size: int | None = None
    """Transitions of a gradient step."""
    capacity: int | None = None
    """Transitions that the replay buffer holds."""
    warmup: int | None = None
    """Environment steps with random actions before the first update."""
    tau: float | None = None
    """How far the target critics follow in each gradient step."""
    target_entropy: float | None = None
    """In nats; None: minus the number of actions (Haarnoja 2018)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("horizon", "updates", "batch_size", "capacity"):
            self._at_least(name, 1)
        self._at_least("warmup", 0)
        self._within("tau", 0, 1)
        self._positive("tau")

    @property
    def rows(self) -> int:
        return self.horizon


@dataclass(frozen=True, kw_only=True)
class QLearningConfig(TrainConfig):
    """Q-learning with a table, or with weights that are linear in tile-coded features."""

    horizon: int | None = None
    """Rows of an iteration, for each environment; every row is learned from at once."""
    tilings: int | None = None
    """Of bounded continuous observations: grids laid over each other, each shifted a little."""
    tiles: int | None = None
    """Cells of a grid along each dimension."""
    epsilon_end: float | None = None
    """Share of random actions at the end, linearly from 1 within half of the environment steps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("horizon", "tilings", "tiles"):
            self._at_least(name, 1)
        self._within("epsilon_end", 0, 1)

    @property
    def rows(self) -> int:
        return self.horizon


CONFIGS: dict[str, type[TrainConfig]] = {
    "ppo": PpoConfig,
    "dqn": DqnConfig,
    "a2c": A2cConfig,
    "reinforce": ReinforceConfig,
    "sac": SacConfig,
    "q-learning": QLearningConfig,
}
assert tuple(CONFIGS) == ALGORITHMS


def config_class(words: list[str]) -> type[TrainConfig]:
    """The options to read a command line with: those of its --algo, or of the run to resume."""
    reader = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    reader.add_argument("--algo", default="")
    reader.add_argument("--resume", action="store_true")
    known, _ = reader.parse_known_args(words)
    algo = known.algo
    if known.resume and not algo:
        from trainloop.folder import newest_folder, read_json

        algo = read_json(newest_folder("rl", "train") / "config.json")["config"]["algo"]
    return CONFIGS.get(algo, PpoConfig)  # a wrong name is complained of by the reader of options


def target(env: str) -> float:
    """The mean return at which an environment counts as solved; inf where nobody said."""
    return TARGETS.get(env, math.inf)


def as_options(values: dict[str, Any]) -> list[str]:
    """Options as words of a command line."""
    words = []
    for name, value in values.items():
        several = value if isinstance(value, tuple) else (value,)
        words += [f"--{name.replace('_', '-')}", *map(str, several)]
    return words


# --- the other commands --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Which agent to test, and how often."""

    checkpoint: str = ""
    """A best.pt or last.pt of `train`; left out: the newest run's best."""
    env: str = ""
    """Complain if the agent was trained on another one."""
    episodes: int = 100
    """Whole episodes, played without exploration."""
    seed: int = 0
    """0: the test episodes of `train`; others are new ones."""

    def __post_init__(self) -> None:
        check(self.episodes >= 1, f"--episodes must be at least 1, not {self.episodes}")
        check(self.seed >= 0, f"--seed must not be negative, not {self.seed}")


@dataclass(frozen=True, kw_only=True)
class WatchConfig:
    """Which agent to look at."""

    checkpoint: str = ""
    """A best.pt or last.pt of `train`; left out: the newest run's best."""
    env: str = ""
    """Complain if the agent was trained on another one."""
    out: str = ""
    """A .gif, or an .mp4 where ffmpeg is installed; left out: agent.gif beside the checkpoint."""
    episodes: int = 1
    """Episodes, one after the other."""
    seed: int = 0
    """Of the first one."""
    most: int = 500
    """Steps of an episode at most."""
    window: bool = False
    """Show them in a window instead; needs a display."""

    def __post_init__(self) -> None:
        for name in ("episodes", "most"):
            check(getattr(self, name) >= 1, f"--{name} must be at least 1")
        check(self.seed >= 0, f"--seed must not be negative, not {self.seed}")
        fits = not self.out or self.out.endswith((".gif", ".mp4"))
        check(fits, f"--out must end in .gif or .mp4, not {self.out}")
        check(not (self.window and self.out), "--window shows the episodes, --out writes them")


@dataclass(frozen=True, kw_only=True)
class StudyConfig(RunOptions):
    """One algorithm on one environment with many seeds."""

    steps: int = 0
    """Iterations of each training; 0: what its environment steps come to."""
    algo: Algorithm = "ppo"
    """The algorithm."""
    env: str = "CartPole-v1"
    """A gymnasium id."""
    seeds: int = 10
    """Trainings, with the seeds `seed`, `seed` + 1, ..."""
    options: tuple[str, ...] = ()
    """More options of `train` for all of them, such as lr=1e-3 prioritised=True."""
    workers: int = 0
    """Trainings at a time; 0: one for each core, or one on a GPU."""

    def __post_init__(self) -> None:
        check(self.steps >= 0, f"--steps must not be negative, not {self.steps}")
        check(self.seed >= 0, f"--seed must not be negative, not {self.seed}")
        check(self.seeds >= 2, f"--seeds must be at least 2 for an interval, not {self.seeds}")
        check(self.workers >= 0, f"--workers must not be negative, not {self.workers}")
        known = {field.name for field in fields(CONFIGS[self.algo])}
        for option in self.options:
            name, equals, _ = option.partition("=")
            check(
                bool(equals) and name.replace("-", "_") in known - {"seed", "resume", "steps"},
                f"--options {option}: not an option of `train --algo {self.algo}` as name=value",
            )


@dataclass(frozen=True, kw_only=True)
class GalleryConfig(RunOptions):
    """Failures on purpose."""

    steps: int = 0
    """Iterations of each training; 0: the gallery's own numbers."""
    seeds: int = 3
    """Trainings of each kind, with the seeds `seed`, `seed` + 1, ..."""
    only: tuple[str, ...] = ()
    """Failures by name; all if left out."""
    workers: int = 0
    """Trainings at a time; 0: one for each core, or one on a GPU."""

    def __post_init__(self) -> None:
        check(self.steps >= 0, f"--steps must not be negative, not {self.steps}")
        check(self.seed >= 0, f"--seed must not be negative, not {self.seed}")
        check(self.seeds >= 2, f"--seeds must be at least 2 for a spread, not {self.seeds}")
        check(self.workers >= 0, f"--workers must not be negative, not {self.workers}")
        unknown = sorted(set(self.only) - set(FAILURES))
        check(not unknown, f"--only {' '.join(unknown)}: the gallery has {', '.join(FAILURES)}")


@dataclass(frozen=True, kw_only=True)
class RewardsConfig(RunOptions):
    """The same algorithm, asked for different things."""

    steps: int = 0
    """Iterations of each training; 0: the preset's."""
    seeds: int = 3
    """Trainings of each reward, with the seeds `seed`, `seed` + 1, ..."""
    envs: tuple[str, ...] = ("MountainCar-v0", "CartPole-v1")
    """Environments of the lab."""
    workers: int = 0
    """Trainings at a time; 0: one for each core, or one on a GPU."""

    def __post_init__(self) -> None:
        check(self.steps >= 0, f"--steps must not be negative, not {self.steps}")
        check(self.seed >= 0, f"--seed must not be negative, not {self.seed}")
        check(self.seeds >= 2, f"--seeds must be at least 2 for a spread, not {self.seeds}")
        check(self.workers >= 0, f"--workers must not be negative, not {self.workers}")
        known = RewardsConfig.envs
        check(
            bool(self.envs) and set(self.envs) <= set(known),
            f"--envs must be of {', '.join(known)}, not {', '.join(self.envs) or 'none'}",
        )
