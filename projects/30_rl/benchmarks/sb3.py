# /// script
# requires-python = "==3.12.*"
# dependencies = [
#     "rl",
#     "stable-baselines3>=2.8,<2.9",
#     "torch<2.8",
#     "trainloop",
# ]
# [tool.uv.sources]
# rl = { path = "..", editable = true }
# trainloop = { path = "../../../shared", editable = true }
# ///
"""How soon is CartPole-v1 solved, here and by stable-baselines3 with RL-Zoo's tuned settings?

    uv run --script projects/30_rl/benchmarks/sb3.py

Each training runs in a process of its own on one thread, contestants in turn within each seed. The
rules are the same for all:

- It stops when the mean of 100 validation episodes, played without exploration, reaches 490; it is
  solved if then the mean of 100 other episodes reaches 475. Validation and test episodes are played
  by the same code (`rl.evaluate.play`).
- What counts is CPU time from the first environment step to that moment: playing, learning, the
  contestant's own logging. What does not: imports, validation, the test.
- Looks are every 1,024 environment steps for PPO and 256 for DQN, as in our presets, so nobody
  waits longer for being seen. (SB3's DQN looks after each of its training rounds of 256 steps.)
- Environment steps are limited to RL-Zoo's own: 100,000 for PPO, 50,000 for DQN.

RL-Zoo's settings (rl-baselines3-zoo, hyperparams/ppo.yml and dqn.yml, CartPole-v1) stand in `ZOO`.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainloop import LabError, entry_point, parse
from trainloop.paths import workspace_root

ENV, STOP_AT, SOLVED, EPISODES = "CartPole-v1", 490.0, 475.0, 100
ZOO = {
    "ppo": {
        "n_steps": 32, "batch_size": 256, "gae_lambda": 0.8, "gamma": 0.98, "n_epochs": 20,
        "ent_coef": 0.0,
    },  # 8 environments; learning rate and clip fall linearly from 1e-3 and 0.2
    "dqn": {
        "learning_rate": 2.3e-3, "batch_size": 64, "buffer_size": 100_000, "learning_starts": 1000,
        "gamma": 0.99, "target_update_interval": 10, "train_freq": 256, "gradient_steps": 128,
        "exploration_fraction": 0.16, "exploration_final_eps": 0.04,
        "policy_kwargs": {"net_arch": [256, 256]},
    },
}  # fmt: skip
LIMIT = {"ppo": 100_000, "dqn": 50_000}
LOOK_EVERY = {"ppo": 1_024, "dqn": 256}


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Of everything random in a training."""
    only: tuple[str, ...] = ("ppo", "dqn")
    """Algorithms."""
    out: Path = workspace_root() / "runs/benchmarks/sb3"
    """Folder for results.jsonl and sb3.md; a rerun skips what is there."""
    here: str = ""
    """CONTESTANT:SEED, trained in this process: how the subprocesses are called."""


# --- the contestants ---------------------------------------------------------------------------


def ours(algo: str, seed: int) -> dict[str, float]:
    """This project's `train` with its preset; its own figures."""
    from rl.config import CONFIGS
    from rl.train import train

    metrics = train(CONFIGS[algo](algo=algo, env=ENV, seed=seed, device="cpu", pictures=False))
    return {
        "cpu_seconds": metrics["learning_cpu_seconds"],
        "env_steps": metrics["env_steps"],
        "test": metrics["test/return"],
        "stopped": metrics["stopped_early"],
    }


def theirs(algo: str, seed: int) -> dict[str, float]:
    """stable-baselines3 with RL-Zoo's settings; a callback looks, and its time does not count."""
    import torch
    from stable_baselines3 import DQN, PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env

    from rl.evaluate import TEST, VALIDATION, play

    torch.set_num_threads(1)

    def score(model, episodes_seed: int) -> float:
        def act(observations: np.ndarray) -> np.ndarray:
            return model.predict(observations, deterministic=True)[0]

        return float(play(act, ENV, EPISODES, episodes_seed).returns.mean())

    class Look(BaseCallback):
        """Stops the training once a validation says so."""

        def __init__(self) -> None:
            super().__init__()
            self.looking, self.next, self.stopped = 0.0, LOOK_EVERY[algo], 0

        def _on_step(self) -> bool:
            return not self.stopped

        def _on_rollout_start(self) -> None:  # after the updates with what was played before
            if self.num_timesteps < self.next:
                return
            begin = time.process_time()
            self.next = self.num_timesteps + LOOK_EVERY[algo]
            self.stopped = int(score(self.model, VALIDATION) >= STOP_AT)
            self.steps = self.num_timesteps
            self.looking += time.process_time() - begin

    if algo == "ppo":
        model = PPO(
            "MlpPolicy", make_vec_env(ENV, 8, seed=seed), seed=seed, device="cpu",
            learning_rate=lambda left: 1e-3 * left, clip_range=lambda left: 0.2 * left, **ZOO[algo],
        )  # fmt: skip
    else:
        model = DQN("MlpPolicy", ENV, seed=seed, device="cpu", **ZOO[algo])
    look = Look()
    begin = time.process_time()
    model.learn(LIMIT[algo], look)
    spent = time.process_time() - begin - look.looking
    return {
        "cpu_seconds": spent,
        "env_steps": look.steps if look.stopped else model.num_timesteps,
        "test": score(model, TEST),
        "stopped": look.stopped,
    }


CONTESTANTS: dict[str, Callable[[str, int], dict[str, float]]] = {"ours": ours, "sb3": theirs}


# --- the match -----------------------------------------------------------------------------------


@entry_point
def main() -> None:
    """Train all contestants with all seeds, in turn; print seconds, steps and their ratios."""
    options = parse(Options, main.__doc__)
    if options.here:
        who, algo, seed = options.here.split(":")
        print("RESULT " + json.dumps(CONTESTANTS[who](algo, int(seed))))
        return
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "results.jsonl"
    done = [json.loads(line) for line in file.open()] if file.exists() else []
    for seed in options.seeds:
        for algo in options.only:
            for who in CONTESTANTS:
                key = {"who": who, "algo": algo, "seed": seed}
                if any(key.items() <= row.items() for row in done):
                    continue
                row = {**key, **measure(f"{who}:{algo}:{seed}", options.out)}
                done.append(row)
                with file.open("a") as out:
                    out.write(json.dumps(row) + "\n")
                print(row, file=sys.stderr, flush=True)
    text = table(done, options)
    (options.out / "sb3.md").write_text(text)
    print(text)


def measure(what: str, out: Path) -> dict[str, float]:
    """One training in a fresh process with one thread."""
    done = subprocess.run(
        [sys.executable, __file__, "--here", what],
        env={**os.environ, "OMP_NUM_THREADS": "1", "LAB_RUNS": str(out / "runs")},
        capture_output=True, text=True,
    )  # fmt: skip
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            return json.loads(line.removeprefix("RESULT "))
    raise LabError(f"{what} failed: {(done.stderr.strip() or 'no output').splitlines()[-1]}")


def table(rows: list[dict], options: Options) -> str:
    """Markdown: a row a contestant; seconds and steps of trainings that solved it."""
    lines = [
        "| | solved | CPU s, each seed | median | env steps, median | SB3's seconds over ours |",
        "|---|---|---|---|---|---|",
    ]
    for algo in options.only:
        seconds: dict[str, list[float]] = {}
        for who in CONTESTANTS:
            of = [
                row for seed in options.seeds for row in rows
                if (row["who"], row["algo"], row["seed"]) == (who, algo, seed)
            ]  # fmt: skip
            solved = [row for row in of if row["stopped"] and row["test"] >= SOLVED]
            seconds[who] = [row["cpu_seconds"] for row in of]
            ratio = ""
            if who == "sb3":
                paired = [t / o for o, t in zip(seconds["ours"], seconds["sb3"], strict=True)]
                medians = statistics.median(seconds["sb3"]) / statistics.median(seconds["ours"])
                ratio = f"{medians:.1f} (of medians); paired {min(paired):.1f} to {max(paired):.1f}"
            lines.append(
                f"| {who} {algo} | {len(solved)} of {len(of)} "
                f"| {', '.join(f'{value:.1f}' for value in seconds[who])} "
                f"| {statistics.median(seconds[who]):.1f} "
                f"| {statistics.median(row['env_steps'] for row in of):,.0f} | {ratio} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
