"""Frames to memory: what engines compute of a batch becomes a step, and the step is applied to the version.

Letters: B frames of a batch, T frames of a clip, P = 49 cells, d width of a token, m slots, k candidates.

Each sampled frame goes through the backbone and waits in the running clip. Every T frames the clip's most
novel tokens compete with the memory for its slots, and the background learns the clip. After every batch
there is a new immutable `Version`, which is all that a question reads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import Frame, to_tick
from edge_runtime.memory.diversity import score_clip
from edge_runtime.memory.recurrent_state import to_clip_outputs
from edge_runtime.memory.samplers import Sampler, SamplerOutput
from edge_runtime.memory.token_memory import Features
from edge_runtime.memory.version import (
    ClipUpdate,
    Step,
    Version,
    add_frames,
    apply,
    check_order,
    prune_tokens,
    select_novel,
)
from edge_runtime.system.timings import StageTimings
from engines.errors import EngineFault
from engines.network_config import NetworkConfig
from engines.spec import Engine

Image = NDArray[np.uint8]  # (S, S, 3)
Images = NDArray[np.uint8]  # (B, S, S, 3)

_HALF_SMALLEST_NORMAL = np.float32(2**-14)
_HALF_LARGEST = np.float32(65504)
BATCH_FRAMES = 8
"""Frames of one backbone call where frames wait; larger batches gain little and cost resident memory."""
BATCHES_AHEAD = 2
"""Batches under way while one is ingested: with one, the worker would idle at a clip's end."""


class Batch(NamedTuple):
    """Pictures (B, S, S, 3) with their times (B,), each of which stands for `period` seconds."""

    images: Images
    times: Sequence[float]
    period: float | None = None


@dataclass
class Ingest:
    """Turns frames into new versions. Not thread-safe: one ingest, one thread.

    Raises ValueError when a frame is not newer than the last one, EngineFault when an engine fails or returns
    NaN or Inf; the version stays as it is. With `on_fault` such a batch is dropped, `on_fault` gets the error
    and the batch's times, and the stream goes on: the dropped frames are a gap in the coverage.

    `period` is the time in seconds that a frame stands for at least, by default that of the network's rate.
    """

    network: NetworkConfig
    backbone: Engine
    sampler: Sampler
    version: Version
    stages: StageTimings = field(default_factory=StageTimings)
    """Durations of the stages."""
    on_fault: Callable[[EngineFault, Sequence[float]], None] | None = None
    period: float | None = None
    on_step: Callable[[Step], None] | None = None
    """Called with each step after it was applied, for a journal."""
    on_features: Callable[[Features, Sequence[float]], None] | None = None
    """Called with the tokens (B, 49, d) and times of each batch after it was applied."""
    _worker: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="backbone"), repr=False
    )

    def push(self, frames: Sequence[Frame]) -> Version:
        """Ingest frames in time order; the backbone sees at most 8 at once and never two clips' frames."""
        images = [preprocess(frame, self.network.image_size) for frame in frames]
        return self.push_images(images, [frame.t for frame in frames], [frame.period for frame in frames])

    def push_images(
        self,
        images: Sequence[Image],
        times: Sequence[float],
        periods: Sequence[float | None] | None = None,
    ) -> Version:
        """As `push`, for pictures that are already (S, S, 3)."""
        batches = (
            Batch(np.stack(images[part]), times[part], periods[part][-1] if periods else None)
            for part in self._split(len(images))
        )
        for _ in self.stream(batches):
            pass
        return self.version

    def push_features(self, features: NDArray[np.floating[Any]], times: Sequence[float]) -> Version:
        """As `push`, for frames whose backbone tokens (F, 49, d) are known already."""
        for part in self._split(len(features)):
            self._ingest(round_to_half(np.asarray(features[part], np.float32)), times[part], None)
        return self.version

    def stream(self, batches: Iterable[Batch]) -> Generator[Version, None, None]:
        """Ingest batches; yield the version after each.

        After a dropped batch the same version is yielded again. All engine calls are made by one worker,
        which always has the next batch waiting: decoding and nearly all of our own bookkeeping run beside it
        and cost no engine time. Where fetching a batch fails, the batches before it are ingested first.
        """
        started: deque[tuple[Future[Features], Batch]] = deque()
        failure: Exception | None = None
        iterator = iter(batches)
        try:
            while True:
                try:
                    batch = next(iterator)
                except StopIteration:
                    break
                except Exception as error:
                    failure = error
                    break
                started.append((self._worker.submit(self._encode, batch.images), batch))
                if len(started) > BATCHES_AHEAD:
                    yield self._finish(*started.popleft())
            while started:
                yield self._finish(*started.popleft())
        finally:
            for future, _ in started:  # not empty where ingesting failed or the caller left
                future.cancel()
        if failure is not None:
            raise failure

    def close(self) -> None:
        """End the worker. The engines belong to their loader."""
        self._worker.shutdown(cancel_futures=True)

    def _split(self, frames: int) -> Iterator[slice]:
        """Yield the batches of so many frames."""
        start, pending = 0, len(self.version.pending)
        while start < frames:
            stop = min(start + batch_size(pending, self.network.clip_frames), frames)
            yield slice(start, stop)
            pending = (pending + stop - start) % self.network.clip_frames
            start = stop

    def _encode(self, images: Images) -> Features:
        with self.stages.backbone.measure():
            tokens = self.backbone({"image": images})["tokens"]  # (B, 49, d)
            try:
                return round_to_half(tokens)
            except ValueError as error:
                raise EngineFault(f"{self.backbone.backend}: {error}") from error

    def _finish(self, encoding: Future[Features], batch: Batch) -> Version:
        """Wait for a batch's tokens and ingest them."""
        times = batch.times
        check_order(self.version, [to_tick(t) for t in times])  # before the engine's own errors
        try:
            features = encoding.result()
            with self.stages.remember.measure():
                self._ingest(features, times, batch.period)
        except EngineFault as error:
            if self.on_fault is None:
                raise
            self.on_fault(error, times)
        return self.version

    def _ingest(self, features: Features, times: Sequence[float], period: float | None) -> None:
        """Compute the step of a batch, features (B, 49, d), and apply it."""
        missing = self.network.clip_frames - len(self.version.pending)
        if len(features) > missing:  # batches were cut for a clip of which one was dropped
            self._ingest(features[:missing], times[:missing], period)
            return self._ingest(features[missing:], times[missing:], period)
        version, step = self._compute_step(features, times, period)
        self.version = apply(version, step, self.network)
        if self.on_step is not None:
            self.on_step(step)
        if self.on_features is not None:
            self.on_features(features, times)

    def _compute_step(
        self, features: Features, times: Sequence[float], period: float | None
    ) -> tuple[Version, Step]:
        """Compute the step of features (B, 49, d) that do not reach beyond the running clip.

        Returns the version, its running clip pruned, and the step to apply to it.
        """
        version, network = self.version, self.network
        residual = np.zeros(features.shape[:2], np.float32)  # (B, 49)
        if version.background is not None:
            residual = version.background.frame_residual(features)
        own = self.period or 1 / network.sample_fps
        step = Step(features, residual, tuple(times), max(own, period or own))
        grown = add_frames(version, step, network)
        if self.sampler.prefilters:
            f, grown = len(version.pending), prune_tokens(grown, network)
            version = replace(version, pending=grown.pending[:f])
            step = replace(step, features=np.stack(grown.pending[f:]))
        if len(grown.pending) == network.clip_frames:
            step = replace(step, clip_update=self._compute_clip_update(grown))
        return version, step

    def _compute_clip_update(self, version: Version) -> ClipUpdate:
        """Score memory and clip at the end of a clip, which is still pending in `version`."""
        background, memory = version.clip_background(), version.memory
        clip, novelty = version.clip(), version.clip_novelty()
        candidates = None
        if background is not None and self.sampler.prefilters:
            candidates = select_novel(version.clip_ranks(self.network), self.network.clip_candidates)
            clip, novelty = clip.take(candidates), novelty[candidates]
        memory_novelty = np.zeros(memory.slots, np.float32)
        if background is not None:
            memory_novelty = background.novelty(memory.slots_as_tokens())

        # The engine scores while this thread learns the background.
        def score() -> SamplerOutput:
            with self.stages.sampler.measure():
                return score_clip(
                    self.sampler,
                    self.network,
                    memory,
                    clip,
                    np.concatenate([memory_novelty, novelty]),
                    version.recurrent_state,
                    oldest_tick=version.oldest_tick(self.network),
                )

        scoring = self._worker.submit(score)
        if background is not None:
            with self.stages.background.measure():
                background = version.learn_clip()
        output = scoring.result()
        try:
            outputs = to_clip_outputs(output.outputs, self.network)
        except ValueError as error:
            raise EngineFault(f"the sampler's graph: {error}") from error
        return ClipUpdate(candidates, output.scores, outputs, background)


def batch_size(pending: int, clip_frames: int) -> int:
    """Return the frames of the next backbone call: a clip is cut at the same places however frames arrive."""
    return min(BATCH_FRAMES - pending % BATCH_FRAMES, clip_frames - pending)


def preprocess(frame: Frame, size: int) -> Image:
    """Squash a picture to (size, size, 3) uint8. No centre crop: the border must stay evidence."""
    if frame.image.shape[:2] == (size, size):
        return frame.image
    return np.asarray(cv2.resize(frame.image, (size, size), interpolation=cv2.INTER_AREA), np.uint8)


def round_to_half(features: Features) -> Features:
    """Return float32 values rounded to half precision, in which they are saved.

    By Veltkamp's splitting, at a quarter of the time of numpy's two conversions. Values that are subnormal in
    half precision, below 6e-5, become 0. Raises ValueError for NaN, Inf and beyond half precision.
    """
    size = np.abs(features)
    if not size.max(initial=0.0) <= _HALF_LARGEST:
        raise ValueError(
            "the backbone gave NaN, Inf or more than half precision holds; nothing is remembered"
        )
    scaled: Features = features * np.float32(2**13 + 1)
    rest = scaled - features
    np.subtract(scaled, rest, out=scaled)
    scaled *= size >= _HALF_SMALLEST_NORMAL
    return scaled
