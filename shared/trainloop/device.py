"""Which device a run uses, and how its random draws are seeded."""

import torch

from trainloop.batches import mix
from trainloop.errors import LabError


def pick_device(name: str, precision: str = "fp32") -> torch.device:
    """The device of that name; `auto` prefers a GPU that this build of torch has code for.

    Raises:
        LabError: the device is not there, or cannot compute in that precision.
    """
    cuda = torch.cuda.is_available()
    if name == "auto":
        if cuda and gpu_is_supported():
            name = "cuda"
        else:
            name = "mps" if torch.backends.mps.is_available() else "cpu"
    if (name == "cuda" and not cuda) or (name == "mps" and not torch.backends.mps.is_available()):
        raise LabError(f"--device {name} is not available here: `uv run lab doctor` says why")
    if name == "cuda" and not gpu_is_supported():
        raise LabError("this build of torch has no code for this GPU: see `uv run lab doctor`")
    if precision == "fp16" and name == "mps":
        raise LabError("--precision fp16 is not supported on mps: use fp32 or bf16")
    return torch.device(name)


def gpu_is_supported() -> bool:
    """Whether this build of torch carries code for the first GPU's architecture.

    Binary code runs on cards of the same major version and an equal or higher minor one; PTX
    (compute_XX) is compiled for any newer card.
    """
    major, minor = torch.cuda.get_device_capability(0)
    for arch in torch.cuda.get_arch_list():
        kind, _, number = arch.partition("_")
        number = int("".join(filter(str.isdigit, number)))
        same_major = number // 10 == major and number % 10 <= minor
        if (kind == "sm" and same_major) or (kind == "compute" and number <= 10 * major + minor):
            return True
    return False


def seed_step(seed: int, step: int, device: torch.device) -> None:
    """Seed torch from (seed, step), so that a step's draws do not depend on the steps before it."""
    mixed = mix(seed, step)
    # torch.manual_seed also queues a call, with a stack trace, for a CUDA that may never come up.
    torch.default_generator.manual_seed(mixed)
    if device.type == "cuda":
        torch.cuda.manual_seed(mixed)
    elif device.type == "mps":
        torch.mps.manual_seed(mixed)


def device_name(device: torch.device) -> str:
    """How a device is called in logs and tables."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return f"{device.type} ({torch.get_num_threads()} threads)"
