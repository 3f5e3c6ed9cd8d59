"""Make batches in another process while this one trains."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset


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
