"""One camera, its memory and its answers: source → ingest → state, and questions from any thread."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from edge_runtime.answers import Answer
from edge_runtime.ask import AnyQuery, Asker
from edge_runtime.engine_set import Engines
from edge_runtime.frame import Frame, tick_of
from edge_runtime.ingest import Images, Ingest, Version, batch_size, empty_version, preprocess
from edge_runtime.objects import ObjectEncoder
from edge_runtime.queries import QueryError
from edge_runtime.ring import Ring
from edge_runtime.samplers import make_sampler
from edge_runtime.sources import frame_at, is_live, open_source
from edge_runtime.sources.base import Source, redacted
from edge_runtime.sources.latest import LatestFrames
from edge_runtime.state import (
    Header,
    Snapshot,
    StateError,
    StateFolder,
    check_belongs,
    load_snapshot,
    model_digest,
)
from engines.errors import LvmError
from engines.manifest import NetworkConfig

log = logging.getLogger(__name__)

FILE_SAVE_INTERVAL_S = 1.0


class Service:
    """Runs one source into one memory. `run` belongs to one thread; `ask` may come from any."""

    def __init__(
        self,
        engines: Engines,
        source: str,
        folder: StateFolder,
        *,
        sampler: str = "neural",
        catalogue: Path | None = None,
        save_interval_s: float = 10.0,
    ) -> None:
        manifest = engines.bundle.manifest
        self.engines = engines
        self.source_spec = source
        self.name = redacted(source) if is_live(source) else source
        """The source for people, logs and the state file: without credentials."""
        self.folder = folder
        self.resumed = load_snapshot(folder.folder, manifest.network)
        self.header = self._first_header(sampler)
        version = self.resumed.version if self.resumed else empty_version(manifest.network)
        self.ingest = Ingest(
            manifest.network, engines.backbone, make_sampler(sampler, engines.sampler), version
        )
        self.ring = Ring()
        self.source: Source | None = None
        objects = ObjectEncoder(
            engines.backbone, manifest.network.image_size, frame_at=self._picture_at, catalogue=catalogue
        )
        self.asker = Asker(manifest, engines.reader, objects)
        self._save_interval_s = save_interval_s
        # The first batch is saved at once: from then on there is something to resume.
        self._saved_at = -math.inf
        self._stop = threading.Event()
        self._limited = False

    # -- asking --------------------------------------------------------------------------------------------

    @property
    def version(self) -> Version:
        """What is known now. Immutable."""
        return self.ingest.version

    def ask(self, query: AnyQuery) -> Answer:
        """Answer from what is known now. Raises QueryError."""
        return self.asker.ask(query, self.version)

    def ask_all(self, queries: Sequence[AnyQuery]) -> list[Answer]:
        return self.asker.ask_all(queries, self.version)

    # -- running -------------------------------------------------------------------------------------------

    def run(self, seconds: float | None = None, on_progress: Callable[[], None] | None = None) -> None:
        """Ingest until the source ends, `stop` is called or `seconds` of stream have passed; then save.

        Raises LvmError if the source fails; what was ingested until then is saved first.
        """
        start = self._start()
        source = open_source(self.source_spec, sample_fps=self._network.sample_fps, start=start)
        self.source = LatestFrames(source) if source.live else source
        if self._stop.is_set():  # asked to stop while the source was being opened
            self.source.close()
        limit = None if seconds is None else start + seconds
        ended = False
        try:
            with self.source:
                for _ in self._ingested(self._batches(self.source, limit)):
                    if on_progress is not None:
                        on_progress()
                    if self._save_is_due():
                        self.save()
            ended = not (self._limited or self._stop.is_set())
        except ValueError as error:
            raise LvmError(f"{self.name} was left at {self.header.last_t} s: {error}") from error
        finally:
            self.header = self.header.model_copy(update={"ended": ended})
            self.save()

    def stop(self) -> None:
        """End `run` soon, from any thread or a signal handler."""
        self._stop.set()
        if self.source is not None:
            self.source.close()

    def save(self) -> int:
        """Write a snapshot now. Returns its bytes."""
        self._saved_at = time.monotonic()
        return self.folder.save(self.snapshot())

    def snapshot(self) -> Snapshot:
        """Everything as it is now, for saving and for showing."""
        source = self.source
        header = self.header.model_copy(
            update={
                "seen": self.header.seen + (source.seen if source else 0),
                "dropped": self.header.dropped + int(getattr(source, "dropped", 0)),
            }
        )
        return Snapshot(header, self.version)

    # -- inside --------------------------------------------------------------------------------------------

    @property
    def _network(self) -> NetworkConfig:
        return self.engines.bundle.manifest.network

    def _first_header(self, sampler: str) -> Header:
        bundle = self.engines.bundle
        digest = model_digest(bundle)
        if self.resumed is not None:
            check_belongs(self.resumed.header, model=digest, source=self.name, folder=self.folder.folder)
            if self.resumed.header.sampler != sampler:
                raise StateError(
                    f"state {self.folder.folder} was chosen by sampler {self.resumed.header.sampler}, not "
                    f"{sampler}; name another --state"
                )
            return self.resumed.header.model_copy(
                update={"ended": False, "bundle": str(bundle.path.resolve())}
            )
        return Header(
            model=digest,
            bundle=str(bundle.path.resolve()),
            source=self.name,
            sampler=sampler,
            epoch=time.time(),
            sample_fps=bundle.manifest.network.sample_fps,
        )

    def _start(self) -> float:
        """Where the stream goes on: at the saved position, for a live source at what the clock says."""
        at = self.header.resume_at()
        if is_live(self.source_spec) and self.header.last_t is not None:
            return max(at, time.time() - self.header.epoch)
        return at

    def _frames_wait(self) -> bool:
        """Whether the next frame is there already: a file's, but not a camera's or a paced demo's."""
        return not (self.source is None or self.source.live or getattr(self.source, "paced", False))

    def _batches(self, source: Source, limit: float | None) -> Iterator[list[Frame]]:
        """Waiting frames together, cut at the same places of a clip whether resumed or not.

        A file stopped in mid-batch gives those frames up: they are read again when it is resumed, and the
        backbone then sees the batches that it would have seen without the stop. Of two frames in one tick
        only the first counts.
        """
        batch: list[Frame] = []
        clip, last_tick = len(self.version.pending), self.version.last_tick
        for frame in source:
            if self._stop.is_set():
                return
            if limit is not None and frame.t >= limit - 1e-9:
                self._limited = True
                break
            if last_tick is not None and tick_of(frame.t) <= last_tick:
                continue
            last_tick = tick_of(frame.t)
            batch.append(frame)
            if not self._frames_wait() or len(batch) == batch_size(clip, self._network.clip_frames):
                clip = (clip + len(batch)) % self._network.clip_frames
                yield batch
                batch = []
        if batch and not self._stop.is_set():
            yield batch

    def _ingested(self, batches: Iterator[list[Frame]]) -> Iterator[Version]:
        """A version after each batch; the header follows the version, not the batch that is being fetched."""
        begun: deque[Frame] = deque()

        def ready(batch: list[Frame]) -> tuple[Images, list[float]]:
            begun.append(batch[-1])
            images = np.stack([preprocess(frame, self._network.image_size) for frame in batch])
            return images, [frame.t for frame in batch]

        if self._frames_wait():
            versions = self.ingest.stream(ready(batch) for batch in batches)
        else:
            # Nothing to look ahead to: waiting for the next frame would delay this one.
            versions = (version for batch in batches for version in self.ingest.stream([ready(batch)]))
        for version in versions:
            newest = begun.popleft()
            self.ring.push(newest)
            self.header = self.header.model_copy(update={"last_t": newest.t})
            yield version

    def _save_is_due(self) -> bool:
        # A file goes by much faster than its clock: there a lost second of work costs more than a write.
        live = self.source is not None and self.source.live
        interval = self._save_interval_s if live else min(self._save_interval_s, FILE_SAVE_INTERVAL_S)
        return time.monotonic() - self._saved_at >= interval

    def _picture_at(self, t: float) -> Frame:
        frame = self.ring.at(t)
        if frame is not None and t - frame.t <= 1 / self._network.sample_fps:
            return frame
        try:
            return frame_at(self.source_spec, t)
        except LvmError as error:
            raise QueryError(f"the picture at {t:g} s is no longer here ({error})") from error
