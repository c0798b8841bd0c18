"""An agent to look at: a GIF, an MP4, or a window; and its figures on fresh episodes."""

import os
import shutil
import subprocess
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete
from PIL import Image

from rl.agents import Loaded, load_agent
from rl.config import EvaluateConfig, WatchConfig, target
from rl.envs import encoder
from rl.evaluate import TEST, WATCHED, interquartile_mean, play, stratified_bootstrap
from rl.pictures import FRAMES_PER_SECOND, film, write_gif
from trainloop import check
from trainloop.batches import mix


def watch(config: WatchConfig) -> Path | None:
    """Film episodes, or show them in a window. Returns the file.

    Raises:
        LabError: no display for a window, no ffmpeg for an MP4, or an environment without pictures.
    """
    agent = load_agent(config.checkpoint, config.env)
    if config.window:
        show(agent, config)
        return None
    out = Path(config.out) if config.out else agent.path.with_name("agent.gif")
    check(
        out.suffix != ".mp4" or shutil.which("ffmpeg") is not None,
        "an .mp4 needs ffmpeg, which is not installed: write a .gif",
    )
    frames: list[Image.Image] = []
    for number in range(config.episodes):
        seed = mix(WATCHED + config.seed, number)
        try:
            episode, total = film(agent.act, agent.config.env, seed, config.most)
        except NotImplementedError:
            check(False, f"{agent.config.env} draws no pictures")
        frames += episode
        print(f"episode {number}: return {total:.1f} in {len(episode) - 1} steps")
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".mp4":
        write_mp4(frames, out)
    else:
        write_gif(frames, out)
    print(f"wrote {out}")
    return out


def write_mp4(frames: list[Image.Image], path: Path) -> None:
    """H.264 by ffmpeg, which reads the raw frames from a pipe."""
    width, height = frames[0].size
    command = ["ffmpeg", "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24",
               "-s", f"{width}x{height}", "-r", str(2 * FRAMES_PER_SECOND), "-i", "-",
               "-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-pix_fmt", "yuv420p",
               str(path)]  # fmt: skip
    pixels = b"".join(frame.convert("RGB").tobytes() for frame in frames)
    subprocess.run(command, input=pixels, check=True)


def show(agent: Loaded, config: WatchConfig) -> None:
    """Play in a window, in real time."""
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    check(bool(display), "--window needs a display, and there is none: leave it out for a .gif")
    env = gymnasium.make(agent.config.env, render_mode="human")
    encode = encoder(agent.config.env, env.observation_space)
    first = int(env.action_space.start) if isinstance(env.action_space, Discrete) else 0
    for number in range(config.episodes):
        raw, _ = env.reset(seed=mix(WATCHED + config.seed, number))
        for _ in range(config.most):
            raw, _, terminated, truncated, _ = env.step(
                agent.act(encode(np.asarray(raw)[None]))[0] + first
            )
            if terminated or truncated:
                break
    env.close()


def evaluate(config: EvaluateConfig) -> dict[str, float]:
    """Play test episodes and print what they came to.

    The interval is of this agent's episodes; what the algorithm does needs seeds: `study`.
    """
    agent = load_agent(config.checkpoint, config.env)
    episodes = play(agent.act, agent.config.env, config.episodes, TEST + config.seed)
    middle = stratified_bootstrap(episodes.returns[None], interquartile_mean)
    figures = {
        "mean": float(episodes.returns.mean()),
        "deviation": float(episodes.returns.std()),
        "least": float(episodes.returns.min()),
        "interquartile mean": middle.value,
        "its 95% from": middle.low,
        "its 95% to": middle.high,
        "length": float(episodes.lengths.mean()),
    }
    print(f"{agent.path}: {agent.config.algo} on {agent.config.env}, "
          f"{agent.env_steps:,} env steps, {config.episodes} episodes")  # fmt: skip
    for name, value in figures.items():
        print(f"{name:<20}{value:10.2f}")
    if np.isfinite(bar := target(agent.config.env)):
        print(f"{'counts as solved':<20}{bar:10.2f}  {'yes' if figures['mean'] >= bar else 'no'}")
    return figures
