"""Learning curves, and films of an agent."""

import os
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete
from matplotlib.figure import Figure
from PIL import Image

from rl.config import TrainConfig, target
from rl.envs import encoder
from rl.evaluate import Act
from trainloop import atomic_write
from trainloop.curves import read_metrics

FRAMES_PER_SECOND = 25  # of a GIF: players round to hundredths of a second


def draw_learning(folder: Path, config: TrainConfig) -> Figure:
    """Returns of training episodes and of validations over environment steps."""
    curves = read_metrics(folder / "metrics.jsonl")
    at = dict(zip(*curves["env_steps"], strict=True))
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axis = figure.subplots()
    for name, style, label in (
        ("train_return", {"color": "C7", "lw": 1}, "training episodes, exploring"),
        ("val/return", {"color": "C0", "marker": "o", "ms": 4}, "validation, 100 episodes"),
    ):
        steps, values = curves.get(name, ([], []))
        axis.plot([at[step] for step in steps], values, label=label, **style)
    if np.isfinite(target(config.env)):
        axis.axhline(target(config.env), color="C2", ls="--", lw=1, label="counts as solved")
    tested = curves.get("test/return", ([], []))[1]
    title = f"{config.algo} on {config.env}, seed {config.seed}"
    axis.set(xlabel="environment steps", ylabel="return", title=title)
    if tested:
        axis.set_title(f"{title}: {tested[-1]:.1f} in the test", fontsize=11)
    axis.legend(frameon=False, fontsize=9)
    axis.grid(alpha=0.25)
    return figure


def film(act: Act, env_id: str, seed: int, most: int = 500) -> tuple[list[Image.Image], float]:
    """One episode as pictures, one a step, and its return in the environment's own reward.

    Raises:
        NotImplementedError: the environment draws nothing.
    """
    for driver in ("SDL_VIDEODRIVER", "SDL_AUDIODRIVER"):  # pygame draws without a screen
        os.environ.setdefault(driver, "dummy")
    env = gymnasium.make(env_id, disable_env_checker=True)
    if "rgb_array" not in env.metadata["render_modes"]:
        raise NotImplementedError
    env = gymnasium.make(env_id, render_mode="rgb_array", disable_env_checker=True)
    encode = encoder(env_id, env.observation_space)
    first = int(env.action_space.start) if isinstance(env.action_space, Discrete) else 0
    raw, _ = env.reset(seed=seed)
    frames, total = [Image.fromarray(env.render())], 0.0
    for _ in range(most):
        action = act(encode(np.asarray(raw)[None]))[0]
        raw, reward, terminated, truncated, _ = env.step(action + first)
        total += float(reward)
        frames.append(Image.fromarray(env.render()))
        if terminated or truncated:
            break
    env.close()
    return frames, total


def write_gif(frames: list[Image.Image], path: Path, width: int = 300, every: int = 2) -> None:
    """A GIF that is played for ever, of every `every`-th frame."""
    small = [
        frame.resize((width, width * frame.height // frame.width), Image.Resampling.LANCZOS)
        .quantize(32, dither=Image.Dither.NONE)
        for frame in frames[::every]
    ]  # fmt: skip
    durations = [1000 // FRAMES_PER_SECOND] * len(small)
    durations[-1] = 1000  # a moment to see how it ended
    atomic_write(
        path,
        lambda file: small[0].save(
            file, "gif", save_all=True, append_images=small[1:], duration=durations, loop=0
        ),
    )
