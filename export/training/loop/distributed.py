"""One process or several: `torchrun` starts the team, DDP averages the gradients."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from engines.errors import LvmError, Unavailable

Made = TypeVar("Made")
_PATIENCE = timedelta(hours=12)


@dataclass(frozen=True)
class Team:
    """`size` processes of which this is number `rank`."""

    rank: int = 0
    size: int = 1

    def wrapped(self, module: nn.Module) -> nn.Module:
        """`module` with its gradients averaged over the team."""
        if self.size == 1:
            return module
        # Questions of one kind leave the heads of the others without a gradient.
        return DistributedDataParallel(module, find_unused_parameters=True)

    def slice(self, of_all: Sequence[Any]) -> Sequence[Any]:
        """This member's equal part of a global batch. Raises LvmError where it cannot be shared equally."""
        share, rest = divmod(len(of_all), self.size)
        if rest:
            raise LvmError(
                f"a global batch must be a multiple of the {self.size} processes, got {len(of_all)}; "
                "change lvm.batch or --nproc-per-node"
            )
        return of_all[self.rank * share : (self.rank + 1) * share]

    def wait(self) -> None:
        """Until all members have come so far."""
        if self.size > 1:
            dist.barrier()

    def first_alone(self, make: Callable[[], Made]) -> Made:
        """What `make` gives, made by the first member before all others: files are written once."""
        if self.rank:
            self.wait()
        made = make()
        if not self.rank:
            self.wait()
        return made

    def agreed(self, answer: bool) -> bool:
        """The first member's `answer`, for all: who looks later may see what the first made meanwhile."""
        if self.size == 1:
            return answer
        said = [answer]
        dist.broadcast_object_list(said, src=0)
        return said[0]

    def gathered(self, tensor: Tensor) -> Tensor:
        """The tensors (b, ...) of all members, in the order of their ranks. (size * b, ...)"""
        if self.size == 1:
            return tensor
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)


def join_team(device: torch.device) -> Team:
    """The team that `torchrun` started and whose members compute on `device`, or this process alone."""
    if "WORLD_SIZE" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:
        return Team()
    if not dist.is_initialized():
        if device.type == "cuda":
            torch.cuda.set_device(device)
        # The others wait while the first one renders videos.
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    return Team(dist.get_rank(), dist.get_world_size())


def device_of(name: str) -> torch.device:
    """The device of `name`, of `auto` a GPU where there is one. Raises Unavailable or LvmError."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise Unavailable(f"--device {name}: this machine or this torch has no CUDA; leave --device away")
    try:
        return own_device(name)
    except RuntimeError:
        raise LvmError(f"--device must be auto, cpu, cuda or cuda:NUMBER, got {name!r}") from None


def own_device(kind: str) -> torch.device:
    """The device of this member: on a machine with several GPUs each has its own."""
    if kind == "cuda" and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return torch.device(kind)
