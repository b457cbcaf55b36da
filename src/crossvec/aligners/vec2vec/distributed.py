"""distributed — several processes that train one network: who is who, and how gradients become one.

In    the environment that torchrun sets (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT)
Out   Group                 rank, world; mean_ and shared, which do nothing in a single process
Uses  torch.distributed, machine, errors

Every process keeps the whole network and sees other rows; the mean of their gradients moves all of them alike. All gradients
lie in one tensor, so one message a step does what DDP's buckets do, and losses that call the network several times a step
(the cycles) need no wrapping.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from crossvec.errors import SettingError, UnfinishedError
from crossvec.machine import pick_device


@dataclass(frozen=True)
class Group:
    """The processes that train together; a single process is a group of one."""

    rank: int = 0
    world: int = 1

    @classmethod
    def now(cls) -> Group:
        """Return the group this process is in."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    @property
    def leads(self) -> bool:
        """Whether this process writes checkpoints and tells progress."""
        return self.rank == 0

    def mean_(self, tensor: Tensor) -> None:
        """Replace a tensor by its mean over the group. Raises UnfinishedError when a process of it is lost."""
        if self.world > 1:
            with self._together():
                dist.all_reduce(tensor)
            tensor /= self.world

    def shared(self, tensor: Tensor) -> Tensor:
        """Give every process the first one's values, in place, and return them. Raises UnfinishedError as `mean_` does."""
        if self.world > 1:
            with self._together():
                dist.broadcast(tensor, 0)
        return tensor

    @contextmanager
    def _together(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as problem:  # of gloo's and of NCCL's
            told = str(problem).partition("\n")[0]
            raise UnfinishedError(
                f"process {self.rank} of {self.world} cannot go on, another one was lost: {told}",
                "start as many processes again by the same line; with a checkpoint they go on from the last one",
            ) from problem


@contextmanager
def joined(device: str = "auto") -> Iterator[torch.device]:
    """Join the group that torchrun started this process for, and give the device to compute on; leave it at the end.

    NCCL between GPUs, gloo between CPUs; each process of a machine has a GPU of its own, whatever number `device` has. Started
    without torchrun this is a group of one. Raises SettingError for a device that is not here, or where several cannot train.
    """
    where, many = pick_device(device), int(os.environ.get("WORLD_SIZE", "1")) > 1
    if many and where.type == "mps":
        raise SettingError(f"processes cannot train together on {device}", "use cpu, or start one without torchrun")
    if many and where.type == "cuda":
        where = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    if where.type == "cuda":
        torch.cuda.set_device(where)
    if not many:
        yield where
        return
    dist.init_process_group("nccl" if where.type == "cuda" else "gloo")
    try:
        yield where
    finally:
        dist.destroy_process_group()
