"""Schedules, noise and every sampler's steps, held against the schedulers of diffusers.

diffusers counts timesteps from 0, we count steps from 1: its t is our t + 1. Its spacing
"trailing" is our `spaced`, its last step goes to alpha_bar = 1 (`set_alpha_to_one`, final sigma
"zero"), and its clipping is off.
"""

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from diffusion.config import OracleConfig, Prediction, Schedule
from diffusion.process import Process, make_process
from diffusion.samplers import ddim_step, ddpm_step, dpm_step, spaced
from trainloop import LabError, Run

THEIRS: dict[Schedule, str] = {
    "linear": "linear", "cosine": "squaredcos_cap_v2", "sigmoid": "sigmoid",
}  # fmt: skip
KINDS: dict[Prediction, str] = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
SHAPE = (4, 1, 8, 8)
T = 1000


def oracle(config: OracleConfig) -> dict[str, float | int | None]:
    """Record the largest difference of each part; the README's done-when holds them to 1e-5.

    Raises:
        LabError: diffusers is not installed.
    """
    config = Run.options("diffusion", config, "oracle")
    diffusers()
    run = Run.open("diffusion", config, "oracle")
    run.resume()
    found = {
        "schedules": max(schedule_difference(name) for name in THEIRS),
        "add_noise": max(add_noise_difference(name) for name in THEIRS),
        "ddpm": max(ddpm_differences(config.steps)),
        "ddim": max(ddim_differences(config.steps)),
        "dpm": max(dpm_differences(config.steps)),
        "euler": max(euler_differences(config.steps)),
    }
    run.log(config.steps, **found, worst=max(found.values()))
    for name, value in found.items():
        print(f"{name:<10} {value:.1e}")
    return run.finish()


def diffusers():
    """The library, which only tests and this command need."""
    try:
        import diffusers
    except ImportError:
        raise LabError("this command needs diffusers: `uv sync --all-packages` brings it") from None
    return diffusers


def schedule_difference(name: Schedule) -> float:
    """Of alpha_bar_t, t = 1..T."""
    theirs = diffusers().DDPMScheduler(T, beta_schedule=THEIRS[name]).alphas_cumprod
    return _apart(make_process(name, T).alpha_bar[1:], theirs)


def add_noise_difference(name: Schedule) -> float:
    """Of x_t at all t."""
    scheduler = diffusers().DDPMScheduler(T, beta_schedule=THEIRS[name])
    generator = torch.Generator().manual_seed(0)
    x_0, eps = torch.randn(2, T, 3, generator=generator)
    t = torch.arange(1, T + 1)
    return _apart(
        make_process(name, T).add_noise(x_0, eps, t), scheduler.add_noise(x_0, eps, t - 1)
    )


# Every step starts from a fresh x_t, the same in both, so that differences do not add up.


def theirs_of(scheduler: str, name: Schedule, kind: Prediction, steps: int, **options):
    """One of their schedulers, set up as ours.

    Only their DDPM knows all three schedules, so the others are given its betas. All keep alpha_bar
    in float32, which leaves little of 1 - alpha_bar at small t; so they are given it in float64.
    """
    betas = diffusers().DDPMScheduler(T, beta_schedule=THEIRS[name]).betas.double().numpy()
    made = getattr(diffusers(), scheduler)(
        T, trained_betas=betas, prediction_type=KINDS[kind], timestep_spacing="trailing", **options
    )
    made.alphas_cumprod = make_process(name, T).alpha_bar[1:]
    made.set_timesteps(steps)
    return made


def ddpm_differences(steps: int) -> Iterator[float]:
    """Of every ancestral step, for each schedule and prediction."""
    for name, kind, process in _cases():
        scheduler = theirs_of("DDPMScheduler", name, kind, steps, clip_sample=False)
        for t, s, x, answer in _steps(process, kind, steps):
            theirs = scheduler.step(answer, t - 1, x, torch.Generator().manual_seed(t)).prev_sample
            z = torch.randn(SHAPE, generator=torch.Generator().manual_seed(t))
            pair = process.solve(kind, answer, x, torch.full((len(x),), t))
            yield _apart(ddpm_step(process, x, pair, t, s, z), theirs)


def ddim_differences(steps: int) -> Iterator[float]:
    """Of every DDIM step with eta 0, 0.5 and 1."""
    for name, kind, process in _cases():
        scheduler = theirs_of("DDIMScheduler", name, kind, steps, clip_sample=False)
        for t, s, x, answer in _steps(process, kind, steps):
            z = torch.randn(SHAPE, generator=torch.Generator().manual_seed(t))
            pair = process.solve(kind, answer, x, torch.full((len(x),), t))
            for eta in (0.0, 0.5, 1.0):
                theirs = scheduler.step(answer, t - 1, x, eta, variance_noise=z).prev_sample
                yield _apart(ddim_step(process, x, pair, t, s, z, eta), theirs)


def dpm_differences(steps: int) -> Iterator[float]:
    """Of every DPM-Solver++(2M) step; it remembers the answer before."""
    for name, kind, process in _cases():
        scheduler = theirs_of("DPMSolverMultistepScheduler", name, kind, steps)
        before = None
        for t, s, x, answer in _steps(process, kind, steps):
            theirs = scheduler.step(answer, t - 1, x).prev_sample
            pair = process.solve(kind, answer, x, torch.full((len(x),), t))
            yield _apart(dpm_step(process, x, pair, t, s, before), theirs)
            before = (t, pair.x_0)


def euler_differences(steps: int) -> Iterator[float]:
    """Of every Euler step of rectified flow, which is DDIM's on the straight line."""
    process = make_process("flow", T)
    scheduler = diffusers().FlowMatchEulerDiscreteScheduler(T)
    times = spaced(T, steps)
    scheduler.set_timesteps(sigmas=[t / T for t in times[:-1]])
    for (t, s, x, answer), timestep in zip(
        _steps(process, "flow", steps), scheduler.timesteps, strict=True
    ):
        theirs = scheduler.step(answer, timestep, x).prev_sample
        pair = process.solve("flow", answer, x, torch.full((len(x),), t))
        yield _apart(ddim_step(process, x, pair, t, s), theirs)


def _cases() -> Iterator[tuple[Schedule, Prediction, Process]]:
    for name in THEIRS:
        process = make_process(name, T)
        for kind in KINDS:
            yield name, kind, process


def _steps(
    process: Process, kind: Prediction, steps: int
) -> Iterator[tuple[int, int, Tensor, Tensor]]:
    """t, s, x_t and the network's answer, which is the right one for a random x_0.

    An answer that is only noise would put x_0 at noise / a_t, 20,000 at the noisy end of cosine,
    and the comparison would be one of float32's roundings.
    """
    times = spaced(T, steps)
    generator = torch.Generator().manual_seed(0)
    for t, s in itertools.pairwise(times):
        x_0, eps = torch.randn(2, *SHAPE, generator=generator)
        at = torch.full((len(x_0),), t)
        yield t, s, process.add_noise(x_0, eps, at), process.target(kind, x_0, eps, at)


def _apart(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference."""
    return (ours.double() - theirs.double()).abs().max().item()
