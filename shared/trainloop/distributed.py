"""The little that several processes need: one group, sums and means, rows of a batch."""

import os
from collections.abc import Callable

import torch
from torch import Tensor
from torch import distributed as dist

from trainloop.errors import LabError


def join() -> None:
    """Join the group that torchrun describes, if it started us, on this process's own GPU."""
    if "RANK" in os.environ and not is_distributed():
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl" if cuda else "gloo")


def is_distributed() -> bool:
    """Whether several processes train together."""
    return dist.is_available() and dist.is_initialized()


def rank_and_size() -> tuple[int, int]:
    """This process's number and how many there are: (0, 1) without torchrun."""
    return (dist.get_rank(), dist.get_world_size()) if is_distributed() else (0, 1)


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of a tensor over all processes; the tensor itself where there is one process."""
    if not is_distributed():
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def from_main(make: Callable[[], str]) -> str:
    """What `make` gives in process 0, in every process; its LabError, too."""
    if not is_distributed():
        return make()
    box: list[str | LabError] = [""]
    if dist.get_rank() == 0:
        try:
            box = [make()]
        except LabError as error:
            box = [error]
    dist.broadcast_object_list(box)
    if isinstance(box[0], LabError):
        raise box[0]
    return box[0]
