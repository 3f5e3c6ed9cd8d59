"""Source to ingest: one pass over a source, its frames to batches, until it ends or is stopped."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edge_runtime.frame import Frame, to_tick
from edge_runtime.ingest.pipeline import Batch, Ingest, batch_size, preprocess
from edge_runtime.memory.version import Version
from edge_runtime.sources.base import Source
from edge_runtime.system.errors import CallAbandoned

LATE_FRAMES_S = 1.0
"""A camera's frames from before the limit may arrive so much later."""


@dataclass(frozen=True)
class BatchResult:
    """A batch that was ingested: its newest frame, and the source's count of frames `seen` by then."""

    newest: Frame
    seen: int


class FrameLoop:
    """Iterates to a `BatchResult` after each batch, in step with `ingest.version`.

    `mask` is applied to a frame before anything else, `on_batch` is called with each batch before it is
    ingested. `stop` ends the loop; so does a frame at or after `limit` seconds, and then `reached_limit` is
    True. A live source that gives no frame any more is ended by the clock: see `limit_time`.
    """

    def __init__(
        self,
        source: Source,
        ingest: Ingest,
        mask: Callable[[Frame], Frame],
        stop: threading.Event,
        limit: float | None,
        on_batch: Callable[[Sequence[Frame]], None] = lambda batch: None,
    ) -> None:
        self._source, self._ingest = source, ingest
        self._mask, self._stop, self._limit = mask, stop, limit
        self._on_batch = on_batch
        self._started: deque[BatchResult] = deque()
        """Batches under way, the oldest first."""
        self.reached_limit = False

    @contextlib.contextmanager
    def limit_time(self, now: Callable[[], float]) -> Iterator[None]:
        """Meanwhile end a live source when `now` has come to the limit, even if no frame arrives."""
        if self._limit is None or not self._source.live:
            yield
            return
        timer = threading.Timer(max(self._limit - now(), 0.0) + LATE_FRAMES_S, self._end)
        timer.name, timer.daemon = "limit", True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _end(self) -> None:
        self.reached_limit = True
        self._source.close()

    def __iter__(self) -> Iterator[BatchResult]:
        versions: Generator[Version, None, None]
        if frames_are_ready(self._source):
            versions = self._ingest.stream(self._prepare(batch) for batch in self._batches())
        else:
            versions = self._ingest_each()
        with contextlib.closing(versions):
            while True:
                try:
                    next(versions)
                except StopIteration:
                    return
                except CallAbandoned:
                    if self._stop.is_set():
                        return
                    raise
                yield self._started.popleft()
                if self._stop.is_set():
                    return  # a file's batches under way are read again when it is resumed

    def _ingest_each(self) -> Generator[Version, None, None]:
        """Ingest batch by batch: no frame is ready yet, and waiting for the next would delay this one."""
        for batch in self._batches():
            yield from self._ingest.stream([self._prepare(batch)])

    def _prepare(self, batch: list[Frame]) -> Batch:
        """Return what is ingested of a batch of frames."""
        self._started.append(BatchResult(batch[-1], self._source.seen))
        self._on_batch(batch)
        size = self._ingest.network.image_size
        with self._ingest.stages.prepare.measure():
            images = np.stack([preprocess(frame, size) for frame in batch])
        return Batch(images, [frame.t for frame in batch], batch[-1].period)

    def _batches(self) -> Iterator[list[Frame]]:
        """Yield frames that are ready together, cut at the same places of a clip whether resumed or not.

        A file that is stopped in mid-batch drops those frames: they are read again when it is resumed, and
        the backbone then sees the batches that it would have seen without the stop. Of two frames in one tick
        only the first counts.
        """
        batch: list[Frame] = []
        clip_frames = self._ingest.network.clip_frames
        pending, last_tick = len(self._ingest.version.pending), self._ingest.version.last_tick
        ready = frames_are_ready(self._source)
        for raw in self._source:
            if self._stop.is_set():
                return
            frame = self._mask(raw)
            if self._limit is not None and frame.t >= self._limit - 1e-9:
                self.reached_limit = True
                break
            if last_tick is not None and to_tick(frame.t) <= last_tick:
                continue
            last_tick = to_tick(frame.t)
            batch.append(frame)
            if not ready or len(batch) == batch_size(pending, clip_frames):
                pending = (pending + len(batch)) % clip_frames
                yield batch
                batch = []
        if batch and not self._stop.is_set():
            yield batch


def frames_are_ready(source: Source) -> bool:
    """Return whether the next frame is there already: a file's, but not a camera's or a paced demo's."""
    return not (source.live or getattr(source, "paced", False))
