"""Options that mean the same in every project, and errors that are one line."""

import errno
import functools
import math
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal

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
    dataclass refuses a combination of them, or a number is infinite.
    """
    import tyro

    options = tyro.cli(
        config,
        description=description,
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitSubcommandPrefixes),
    )
    check_finite(options)
    return options


def check_finite(options: Any) -> None:
    """Refuse inf, by the option's name: config.json cannot hold it, for JSON has no word for it.

    NaN is left to each dataclass, whose ranges it is not in.
    """
    for field in fields(options):
        value = getattr(options, field.name)
        for number in value if isinstance(value, tuple) else (value,):
            infinite = isinstance(number, float) and math.isinf(number)
            check(not infinite, f"--{field.name.replace('_', '-')} must be finite, not {number}")


def entry_point(command: Callable[[], None]) -> Callable[[], None]:
    """Make a command of a function: what the user can mend is printed as one line, no traceback.

    Exit codes: 2 for misuse and bad input, 1 for a run that failed (a non-finite loss, a full
    disk), 130 for Ctrl-C. A bug still shows its traceback.
    """

    @functools.wraps(command)
    def wrapped() -> None:
        if threading.excepthook is threading.__excepthook__:  # and not pytest's, for one
            threading.excepthook = _thread_failed
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


def _thread_failed(args: threading.ExceptHookArgs) -> None:
    """TensorBoard's thread hands its error on to whoever writes next, who tells the user."""
    if not (isinstance(args.exc_value, OSError) and args.exc_value.errno in _NO_PLACE):
        threading.__excepthook__(args)


_NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


def _exit(message: str, code: int) -> None:
    print(message, file=sys.stderr, flush=True)
    sys.exit(code)
