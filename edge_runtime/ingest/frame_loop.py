"""One pass over a source: its frames to batches, its batches into an ingest, until it ends or is left."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edge_runtime.frame import Frame, to_tick
from edge_runtime.ingest.pipeline import Images, Ingest, batch_size, preprocess
from edge_runtime.memory.version import Version
from edge_runtime.sources.base import Source
from edge_runtime.system.errors import CallAbandoned

ON_ITS_WAY_S = 1.0
"""What a camera saw before the limit may arrive so much later."""


@dataclass(frozen=True)
class Taken:
    """A batch that was taken in: its newest frame, and what the source had `seen` when it came out."""

    newest: Frame
    seen: int


class Pass:
    """Iterates to a `Taken` after each batch, in step with `ingest.version`.

    `veil` is the first thing that happens to a frame, `on_batch` is told what is about to be taken in.
    `leave` ends the pass; so does a frame at or after `limit` seconds, and then `limited` is True. A live
    source that gives no frame any more is ended by the clock: see `no_longer_than`.
    """

    def __init__(
        self,
        source: Source,
        ingest: Ingest,
        veil: Callable[[Frame], Frame],
        leave: threading.Event,
        limit: float | None,
        on_batch: Callable[[Sequence[Frame]], None] = lambda batch: None,
    ) -> None:
        self._source, self._ingest = source, ingest
        self._veil, self._leave, self._limit = veil, leave, limit
        self._on_batch = on_batch
        self._begun: deque[Taken] = deque()
        self.limited = False

    @contextlib.contextmanager
    def no_longer_than(self, now: Callable[[], float]) -> Iterator[None]:
        """Meanwhile a live source is ended when `now` has come to the limit and no frame says so."""
        if self._limit is None or not self._source.live:
            yield
            return
        timer = threading.Timer(max(self._limit - now(), 0.0) + ON_ITS_WAY_S, self._end)
        timer.name, timer.daemon = "limit", True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _end(self) -> None:
        self.limited = True
        self._source.close()

    def __iter__(self) -> Iterator[Taken]:
        versions: Generator[Version, None, None]
        if frames_wait(self._source):
            versions = self._ingest.stream(self._ready(batch) for batch in self._batches())
        else:
            versions = self._one_by_one()
        with contextlib.closing(versions):
            while True:
                try:
                    next(versions)
                except StopIteration:
                    return
                except CallAbandoned:
                    if self._leave.is_set():
                        return
                    raise
                yield self._begun.popleft()
                if self._leave.is_set():
                    return  # a file's batches on their way are read again when it goes on

    def _one_by_one(self) -> Generator[Version, None, None]:
        """Nothing to look ahead to: waiting for the next frame would delay this one."""
        for batch in self._batches():
            yield from self._ingest.stream([self._ready(batch)])

    def _ready(self, batch: list[Frame]) -> tuple[Images, list[float]]:
        self._begun.append(Taken(batch[-1], self._source.seen))
        self._on_batch(batch)
        size = self._ingest.network.image_size
        with self._ingest.stages.prepare.measure():
            images = np.stack([preprocess(frame, size) for frame in batch])
        return images, [frame.t for frame in batch]

    def _batches(self) -> Iterator[list[Frame]]:
        """Waiting frames together, cut at the same places of a clip whether resumed or not.

        A file stopped in mid-batch gives those frames up: they are read again when it is resumed, and the
        backbone then sees the batches that it would have seen without the stop. Of two frames in one tick
        only the first counts.
        """
        batch: list[Frame] = []
        frames_of_clip = self._ingest.network.clip_frames
        clip, last_tick = len(self._ingest.version.pending), self._ingest.version.last_tick
        waiting = frames_wait(self._source)
        for raw in self._source:
            if self._leave.is_set():
                return
            frame = self._veil(raw)
            if self._limit is not None and frame.t >= self._limit - 1e-9:
                self.limited = True
                break
            if last_tick is not None and to_tick(frame.t) <= last_tick:
                continue
            last_tick = to_tick(frame.t)
            batch.append(frame)
            if not waiting or len(batch) == batch_size(clip, frames_of_clip):
                clip = (clip + len(batch)) % frames_of_clip
                yield batch
                batch = []
        if batch and not self._leave.is_set():
            yield batch


def frames_wait(source: Source) -> bool:
    """Whether the next frame is there already: a file's, but not a camera's or a paced demo's."""
    return not (source.live or getattr(source, "paced", False))
