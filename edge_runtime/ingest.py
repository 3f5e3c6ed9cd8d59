"""Frames to memory: the left half of the straight line.

Letters: T frames of a clip, P = 49 cells, d width of a token, m slots, r rank.

Each sampled frame goes through the backbone and waits in the running clip; every T frames the clip's most
novel tokens compete with the memory for its slots, and the background learns the clip. After every frame
there is a new immutable `Version`, which is all that a question ever reads.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.background import Background
from edge_runtime.coverage import Coverage
from edge_runtime.frame import CELLS, TICKS_PER_SECOND, Frame, tick_of
from edge_runtime.memory import Features, TokenMemory, Tokens, no_tokens
from edge_runtime.samplers import Sampler
from engines.manifest import NetworkConfig
from engines.spec import Engine

BATCH_FRAMES = 8
"""Frames of one backbone call where frames wait; larger batches gain little and cost resident memory."""


@dataclass(frozen=True)
class Version:
    """Everything that was known at one moment. Immutable, so readers need no lock.

    `pending` are the features (f, 49, d) of the running clip's frames, f < T, at `pending_ticks`.
    """

    memory: TokenMemory
    background: Background | None
    coverage: Coverage = Coverage()
    pending: tuple[Features, ...] = ()  # f × (49, d)
    pending_ticks: tuple[int, ...] = ()
    last_tick: int | None = None
    frames: int = 0

    def clip(self) -> Tokens:
        """Tokens of the running clip, frame by frame. (f * 49)"""
        if not self.pending:
            return no_tokens(self.memory.features.shape[1])
        return clip_tokens(np.stack(self.pending), self.pending_ticks)

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

    def push(self, frames: Sequence[Frame]) -> Version:
        """Take in frames in time order; the backbone sees at most 8 at once and never two clips' frames."""
        images = [preprocess(frame, self.network.image_size) for frame in frames]
        return self.push_ready(images, [frame.t for frame in frames])

    def push_ready(self, images: Sequence[NDArray[np.uint8]], times: Sequence[float]) -> Version:
        """As `push`, for pictures that are already (S, S, 3)."""
        done = 0
        while done < len(images):
            room = self.network.clip_frames - len(self.version.pending)
            stop = min(len(images), done + min(room, BATCH_FRAMES))
            self._batch(np.stack(images[done:stop]), times[done:stop])
            done = stop
        return self.version

    def _batch(self, images: NDArray[np.uint8], times: Sequence[float]) -> None:
        version, period = self.version, 1 / self.network.sample_fps
        ticks = [tick_of(t) for t in times]
        _check_order(version, ticks)
        started = time.perf_counter()
        features = as_stored(self.backbone({"image": images})["tokens"])  # (B, 49, d)
        self.seconds.backbone += time.perf_counter() - started
        if not np.isfinite(features).all():
            raise ValueError("the backbone gave NaN or Inf; these frames are not remembered")
        coverage = version.coverage
        for t in times:
            coverage = coverage.observe(t, period)
        version = replace(
            version,
            coverage=coverage,
            pending=(*version.pending, *features),
            pending_ticks=(*version.pending_ticks, *ticks),
            last_tick=ticks[-1],
            frames=version.frames + len(times),
        )
        if len(version.pending) == self.network.clip_frames:
            version = self._close_clip(version)
        self.version = version

    def _close_clip(self, version: Version) -> Version:
        frames = np.stack(version.pending)  # (T, 49, d)
        started = time.perf_counter()
        known = version.known_background()
        clip = clip_tokens(frames, version.pending_ticks)
        novelty, residual = np.zeros(len(clip), np.float32), None
        if known is not None:
            residual = known.residual(clip)
            novelty = known.standardised(residual, clip.cell)
        if known is not None and self.sampler.thins:
            kept = most_novel(novelty, self.network.clip_candidates)
            clip, novelty = clip.take(kept), novelty[kept]
        of_memory = (
            known.novelty(version.memory.slots_as_tokens()) if known else np.zeros(version.memory.slots)
        )
        measured = time.perf_counter()
        scores = self.sampler.score(version.memory, clip, np.concatenate([of_memory, novelty]))
        horizon = round(self.network.horizon_s * TICKS_PER_SECOND)
        memory = version.memory.update(clip, scores, oldest_tick=version.pending_ticks[-1] - horizon)
        scored = time.perf_counter()
        background = version.background
        if background is not None and residual is not None:
            # The first clip has been learned already: nothing else could tell its novelty.
            first = background.cell_means is None
            background = known if first else background.update(frames, residual.reshape(frames.shape[:2]))
        learned = time.perf_counter()
        self.seconds.sampler += scored - measured
        self.seconds.background += measured - started + learned - scored
        return replace(version, memory=memory, background=background, pending=(), pending_ticks=())


def preprocess(frame: Frame, size: int) -> NDArray[np.uint8]:
    """Squash to (size, size, 3) uint8. No centre crop: what is near the border must stay evidence."""
    if frame.image.shape[:2] == (size, size):
        return frame.image
    return np.asarray(cv2.resize(frame.image, (size, size), interpolation=cv2.INTER_AREA), np.uint8)


def as_stored(features: Features) -> Features:
    """Rounded to half precision but float32: what is used is what is saved, and is converted once."""
    with np.errstate(over="ignore"):  # an overflow becomes Inf, which is refused like the backbone's own
        return features.astype(np.float16).astype(np.float32)


def clip_tokens(frames: Features, ticks: Sequence[int]) -> Tokens:
    """Features (F, 49, d) with their ticks as tokens, frame by frame and cell by cell. (F * 49)"""
    f, p, d = frames.shape
    tick = np.repeat(np.asarray(ticks, np.int64), p)
    cell = np.tile(np.arange(CELLS, dtype=np.int32), f)
    return Tokens(frames.reshape(f * p, d), tick, cell)


def thin(clip: Tokens, background: Background, most: int) -> Tokens:
    """The `most` novel tokens of a clip, in their order; equal ones by the lower index."""
    return clip.take(most_novel(background.novelty(clip), most))


def most_novel(novelty: NDArray[np.float32], most: int) -> NDArray[np.intp]:
    """Indices of the `most` highest, in their order; equal ones by the lower index."""
    return np.sort(np.argsort(-novelty, kind="stable")[:most])


def _check_order(version: Version, ticks: Sequence[int]) -> None:
    last = version.last_tick
    for tick in ticks:
        if last is not None and tick <= last:
            raise ValueError(f"frames must be newer than tick {last}, got tick {tick}")
        last = tick
