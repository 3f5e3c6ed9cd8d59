"""Train in one process or several: `torchrun` starts them, DDP averages the gradients.

One more process may make batches while this one trains.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, Subset

from engines.errors import LvmError, Unavailable

T = TypeVar("T")
_TIMEOUT = timedelta(hours=12)


@dataclass(frozen=True)
class ProcessGroup:
    """The processes of a training: this one is number `rank` of `size`."""

    rank: int = 0
    size: int = 1

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return `module` with gradients averaged over all processes."""
        if self.size == 1:
            return module
        # Questions of one kind leave the heads of the others without a gradient.
        return DistributedDataParallel(module, find_unused_parameters=True)

    def slice(self, batch: Sequence[Any]) -> Sequence[Any]:
        """Return this process's equal part of a global batch. Raises LvmError if it has no equal parts."""
        share, rest = divmod(len(batch), self.size)
        if rest:
            raise LvmError(
                f"a global batch must be a multiple of the {self.size} processes, got {len(batch)}; "
                "change lvm.batch or --nproc-per-node"
            )
        return batch[self.rank * share : (self.rank + 1) * share]

    def barrier(self) -> None:
        """Wait until all processes have called this."""
        if self.size > 1:
            dist.barrier()

    def rank_zero_first(self, make: Callable[[], T]) -> T:
        """Return what `make` returns; rank 0 calls it before the others, so files are written once."""
        if self.rank:
            self.barrier()
        result = make()
        if not self.rank:
            self.barrier()
        return result

    def broadcast(self, answer: bool) -> bool:
        """Return rank 0's `answer` in all processes; others might see files that it wrote since."""
        if self.size == 1:
            return answer
        answers = [answer]
        dist.broadcast_object_list(answers, src=0)
        return answers[0]

    def all_gather(self, tensor: Tensor) -> Tensor:
        """Return the tensors (b, ...) of all processes in the order of their ranks. (size * b, ...)"""
        if self.size == 1:
            return tensor
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)


def join_process_group(device: torch.device) -> ProcessGroup:
    """Return the processes that `torchrun` started, which compute on `device`, or this process alone."""
    if "WORLD_SIZE" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:
        return ProcessGroup()
    if not dist.is_initialized():
        if device.type == "cuda":
            torch.cuda.set_device(device)
        # The others wait while rank 0 renders videos.
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)
    return ProcessGroup(dist.get_rank(), dist.get_world_size())


def select_device(name: str) -> torch.device:
    """Return the device of `name`; `auto` is a GPU if there is one. Raises Unavailable or LvmError."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise Unavailable(f"--device {name}: this machine or this torch has no CUDA; leave --device out")
    try:
        return local_device(name)
    except RuntimeError:
        raise LvmError(f"--device must be auto, cpu, cuda or cuda:NUMBER, got {name!r}") from None


def local_device(kind: str) -> torch.device:
    """Return the device of this process: with several GPUs each process has its own."""
    if kind == "cuda" and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return torch.device(kind)


class Prefetch:
    """Batches by step. They are requested in order from any step on; a worker prepares the following ones."""

    def __init__(self, batches: Dataset[dict[str, Tensor]], workers: int = 1) -> None:
        self._batches, self._workers = batches, workers
        self._running: Iterator[dict[str, Tensor]] | None = None
        self._next = -1

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        if self._running is None or step != self._next:
            rest = Subset(self._batches, range(step, len(self._batches)))  # type: ignore[arg-type]
            loader = DataLoader(
                rest,
                batch_size=None,
                num_workers=self._workers,
                prefetch_factor=4,
                worker_init_fn=_init_worker,
                # A fork takes over the locks of OpenCV's and the engines' threads, but not the threads.
                multiprocessing_context="spawn",
            )
            self._running = iter(loader)
            self._next = step
        self._next += 1
        return next(self._running)


def _init_worker(_worker: int) -> None:
    """Limit OpenCV to one thread beside the training process, and cache photos, which are used often."""
    import cv2

    from edge_runtime.simulation.photo_folders import set_photo_cache

    cv2.setNumThreads(1)
    set_photo_cache(4096)
