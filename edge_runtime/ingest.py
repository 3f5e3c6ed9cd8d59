"""Frames to memory: the left half of the straight line.

Letters: T frames of a clip, P = 49 cells, d width of a token, m slots, r rank.

Each sampled frame goes through the backbone and waits in the running clip; every T frames the clip's most
novel tokens compete with the memory for its slots, and the background learns the clip. After every frame
there is a new immutable `Version`, which is all that a question ever reads.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.background import Background
from edge_runtime.coverage import Coverage
from edge_runtime.frame import CELLS, TICKS_PER_SECOND, Frame, tick_of
from edge_runtime.memory import Features, Scores, TokenMemory, Tokens, no_tokens
from edge_runtime.samplers import Sampler
from engines.manifest import NetworkConfig
from engines.spec import Engine

Image = NDArray[np.uint8]  # (S, S, 3)
Images = NDArray[np.uint8]  # (B, S, S, 3)

_HALF_SMALLEST_NORMAL = np.float32(2**-14)
_HALF_LARGEST = np.float32(65504)
BATCH_FRAMES = 8
"""Frames of one backbone call where frames wait; larger batches gain little and cost resident memory."""
BATCHES_AHEAD = 2
"""Batches on their way while one is remembered: with one, the worker would idle at a clip's end."""


@dataclass(frozen=True)
class Version:
    """Everything that was known at one moment. Immutable, so readers need no lock.

    `pending` are the features (f, 49, d) of the running clip's frames, f < T, at `pending_ticks`, and
    `pending_residual` their residuals (f, 49) against the background, all 0 in the first clip.
    """

    memory: TokenMemory
    background: Background | None
    coverage: Coverage = Coverage()
    pending: tuple[Features, ...] = ()  # f × (49, d)
    pending_residual: tuple[Features, ...] = ()  # f × (49,)
    pending_ticks: tuple[int, ...] = ()
    last_tick: int | None = None
    frames: int = 0

    def clip(self) -> Tokens:
        """Tokens of the running clip, frame by frame. (f * 49)"""
        if not self.pending:
            return no_tokens(self.memory.features.shape[1])
        return clip_tokens(np.stack(self.pending), self.pending_ticks)

    def clip_novelty(self) -> NDArray[np.float32]:
        """Novelty of `clip()`, token by token. (f * 49)"""
        known, cells = self.known_background(), np.tile(np.arange(CELLS, dtype=np.int32), len(self.pending))
        if known is None or not self.pending:
            return np.zeros(len(cells), np.float32)
        residual = np.stack(self.pending_residual)
        if known is not self.background:
            residual = known.residual_of(np.stack(self.pending))
        return known.standardised(residual.ravel(), cells)

    def known_background(self) -> Background | None:
        """The background, or during the very first clip what its frames so far make of one."""
        if self.background is None or self.background.cell_means is not None or not self.pending:
            return self.background
        return self.background.update(np.stack(self.pending))


def empty_version(network: NetworkConfig) -> Version:
    """Before the first frame."""
    background = None
    if network.svd_rank:
        background = Background.empty(network.svd_rank, network.d_backbone, network.svd_forgetting)
    return Version(TokenMemory.empty(network.memory_tokens, network.d_backbone), background)


@dataclass
class StageSeconds:
    """Where the time went since the start, in seconds."""

    backbone: float = 0.0
    sampler: float = 0.0
    background: float = 0.0


@dataclass
class Ingest:
    """Turns frames into ever new versions. Not for several threads: one ingest, one thread.

    Raises ValueError when a frame is not newer than the last one; the version stays as it is.
    """

    network: NetworkConfig
    backbone: Engine
    sampler: Sampler
    version: Version
    seconds: StageSeconds = field(default_factory=StageSeconds)
    _worker: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="backbone"), repr=False
    )

    def push(self, frames: Sequence[Frame]) -> Version:
        """Take in frames in time order; the backbone sees at most 8 at once and never two clips' frames."""
        images = [preprocess(frame, self.network.image_size) for frame in frames]
        return self.push_ready(images, [frame.t for frame in frames])

    def push_ready(self, images: Sequence[Image], times: Sequence[float]) -> Version:
        """As `push`, for pictures that are already (S, S, 3)."""
        batches = ((np.stack(images[part]), times[part]) for part in self._cut(len(images)))
        for _ in self.stream(batches):
            pass
        return self.version

    def push_features(self, features: NDArray[np.floating[Any]], times: Sequence[float]) -> Version:
        """As `push`, for frames whose tokens (F, 49, d) are known already, as the backbone gave them."""
        for part in self._cut(len(features)):
            self._remember(as_stored(np.asarray(features[part], np.float32)), times[part])
        return self.version

    def stream(self, batches: Iterable[tuple[Images, Sequence[float]]]) -> Iterator[Version]:
        """Take in batches of (B, S, S, 3) pictures with their times; a version after each.

        All engine calls are made by one worker, which always has the next batch waiting: decoding and our own
        bookkeeping run beside it and cost no engine time. Should fetching fail, what was fetched before is
        remembered first.
        """
        begun: deque[tuple[Future[Features], Sequence[float]]] = deque()
        failed: Exception | None = None
        iterator = iter(batches)
        try:
            while True:
                try:
                    images, times = next(iterator)
                except StopIteration:
                    break
                except Exception as error:
                    failed = error
                    break
                begun.append((self._worker.submit(self._features, images), times))
                if len(begun) > BATCHES_AHEAD:
                    yield self._taken(*begun.popleft())
            while begun:
                yield self._taken(*begun.popleft())
        finally:
            for future, _ in begun:  # only where remembering failed or the caller left
                future.cancel()
        if failed is not None:
            raise failed

    def close(self) -> None:
        """End the worker. The engines belong to whoever loaded them."""
        self._worker.shutdown(cancel_futures=True)

    def _cut(self, frames: int) -> Iterator[slice]:
        start, pending = 0, len(self.version.pending)
        while start < frames:
            stop = min(start + batch_size(pending, self.network.clip_frames), frames)
            yield slice(start, stop)
            pending = (pending + stop - start) % self.network.clip_frames
            start = stop

    def _features(self, images: Images) -> Features:
        started = time.perf_counter()
        features = as_stored(self.backbone({"image": images})["tokens"])  # (B, 49, d)
        self.seconds.backbone += time.perf_counter() - started
        return features

    def _scores(self, memory: TokenMemory, clip: Tokens, novelty: NDArray[np.float32]) -> Scores:
        started = time.perf_counter()
        scores = self.sampler.score(memory, clip, novelty)
        self.seconds.sampler += time.perf_counter() - started
        return scores

    def _taken(self, begun: Future[Features], times: Sequence[float]) -> Version:
        _check_order(self.version, [tick_of(t) for t in times])  # before the engine's own errors
        return self._remember(begun.result(), times)

    def _remember(self, features: Features, times: Sequence[float]) -> Version:
        """features (B, 49, d) of one part of a clip."""
        version, period = self.version, 1 / self.network.sample_fps
        ticks = [tick_of(t) for t in times]
        _check_order(version, ticks)
        residual = np.zeros(features.shape[:2], np.float32)  # (B, 49)
        if version.background is not None:
            residual = version.background.residual_of(features)
        coverage = version.coverage
        for t in times:
            coverage = coverage.observe(t, period)
        version = replace(
            version,
            coverage=coverage,
            pending=(*version.pending, *features),
            pending_residual=(*version.pending_residual, *residual),
            pending_ticks=(*version.pending_ticks, *ticks),
            last_tick=ticks[-1],
            frames=version.frames + len(times),
        )
        if len(version.pending) == self.network.clip_frames:
            version = self._close_clip(version)
        self.version = version
        return version

    def _close_clip(self, version: Version) -> Version:
        frames = np.stack(version.pending)  # (T, 49, d)
        started = time.perf_counter()
        known = version.known_background()
        clip = clip_tokens(frames, version.pending_ticks)
        novelty = version.clip_novelty()
        if known is not None and self.sampler.thins:
            kept = most_novel(novelty, self.network.clip_candidates)
            clip, novelty = clip.take(kept), novelty[kept]
        of_memory = np.zeros(version.memory.slots, np.float32)
        if known is not None:
            of_memory = known.novelty(version.memory.slots_as_tokens())
        judged = self._worker.submit(self._scores, version.memory, clip, np.concatenate([of_memory, novelty]))
        background = version.background
        if background is not None:
            # The first clip has been learned already: nothing else could tell its novelty.
            first = background.cell_means is None
            background = known if first else background.update(frames, np.stack(version.pending_residual))
        self.seconds.background += time.perf_counter() - started
        horizon = round(self.network.horizon_s * TICKS_PER_SECOND)
        memory = version.memory.update(clip, judged.result(), oldest_tick=version.pending_ticks[-1] - horizon)
        return replace(
            version, memory=memory, background=background, pending=(), pending_residual=(), pending_ticks=()
        )


def batch_size(pending: int, clip_frames: int) -> int:
    """Frames of the next backbone call: the same places of a clip are cut however the frames arrived."""
    return min(BATCH_FRAMES - pending % BATCH_FRAMES, clip_frames - pending)


def preprocess(frame: Frame, size: int) -> Image:
    """Squash to (size, size, 3) uint8. No centre crop: what is near the border must stay evidence."""
    if frame.image.shape[:2] == (size, size):
        return frame.image
    return np.asarray(cv2.resize(frame.image, (size, size), interpolation=cv2.INTER_AREA), np.uint8)


def as_stored(features: Features) -> Features:
    """Rounded to half precision but float32: what is used is what is saved. Refuses NaN and Inf.

    By Veltkamp's splitting, at a quarter of the time of numpy's two conversions. What is subnormal in half
    precision, below 6e-5, becomes 0.
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


def clip_tokens(frames: Features, ticks: Sequence[int]) -> Tokens:
    """Features (F, 49, d) with their ticks as tokens, frame by frame and cell by cell. (F * 49)"""
    f, p, d = frames.shape
    tick = np.repeat(np.asarray(ticks, np.int64), p)
    cell = np.tile(np.arange(CELLS, dtype=np.int32), f)
    return Tokens(frames.reshape(f * p, d), tick, cell)


def most_novel(novelty: NDArray[np.float32], most: int) -> NDArray[np.intp]:
    """Indices of the `most` highest, in their order; equal ones by the lower index."""
    return np.sort(np.argsort(-novelty, kind="stable")[:most])


def _check_order(version: Version, ticks: Sequence[int]) -> None:
    last = version.last_tick
    for tick in ticks:
        if last is not None and tick <= last:
            raise ValueError(f"frames must be newer than tick {last}, got tick {tick}")
        last = tick
