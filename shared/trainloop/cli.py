"""Options that mean the same in every project, and errors that are one line."""

import errno
import functools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from trainloop.errors import LabError


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The options of every `train`; a project's own config adds its fields to these."""

    steps: int
    """Optimiser steps of the whole run. Schedules end here, so a resumed run keeps its number."""
    seed: int = 0
    """Initial weights, order of the batches and augmentation all follow from it."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to train; auto takes a GPU that this build of torch has code for, else the CPU."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Autocast of the forward pass. bf16 wants an Ampere card or newer; fp16 scales the loss."""
    resume: bool = False
    """Go on with this project's newest run from its last checkpoint."""

    def __post_init__(self) -> None:
        check(self.steps >= 1, f"--steps must be at least 1, not {self.steps}")
        check(self.seed >= 0, f"--seed must not be negative, not {self.seed}")


def check(condition: bool, message: str) -> None:
    """Raise LabError(message) unless the condition holds: for options and input files."""
    if not condition:
        raise LabError(message)


def parse[Config](config: type[Config], description: str = "") -> Config:
    """Read the command line into `config`, a dataclass whose field docstrings are the help.

    Raises SystemExit(2) on unknown options or values, as argparse does, and LabError where the
    dataclass refuses a combination of them.
    """
    import tyro

    return tyro.cli(
        config,
        description=description,
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitSubcommandPrefixes),
    )


def entry_point(command: Callable[[], None]) -> Callable[[], None]:
    """Make a command of a function: what the user can mend is printed as one line, no traceback.

    Exit codes: 2 for misuse and bad input, 1 for a run that failed (a non-finite loss, a full
    disk), 130 for Ctrl-C. A bug still shows its traceback.
    """

    @functools.wraps(command)
    def wrapped() -> None:
        try:
            command()
        except LabError as error:
            _exit(f"error: {error}", error.exit_code)
        except KeyboardInterrupt:
            _exit("stopped", 130)
        except BrokenPipeError:  # `train | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except OSError as error:
            if error.errno not in _NO_PLACE:
                raise
            _exit(f"error: {error.strerror}: {error.filename or 'while writing'}", 1)

    return wrapped


_NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


def _exit(message: str, code: int) -> None:
    print(message, file=sys.stderr, flush=True)
    sys.exit(code)
