"""Frames to memory: the left half of the straight line.

Letters: T frames of a clip, P = 49 cells, d width of a token, m slots, r rank.

Each sampled frame goes through the backbone and waits in the running clip; every T frames the clip's most
novel tokens compete with the memory for its slots, and the background learns the clip. After every frame
there is a new immutable `Version`, which is all that a question ever reads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import MAX_T, MAX_TICK, TICKS_PER_SECOND, Frame, tick_of
from edge_runtime.memory.diversity import settled
from edge_runtime.memory.recurrent_state import advanced, brought_from
from edge_runtime.memory.samplers import Judged, Sampler
from edge_runtime.memory.step import Step, Verdict
from edge_runtime.memory.token_memory import Features, Tokens
from edge_runtime.memory.version import Version as Version  # these four are asked for here by everyone
from edge_runtime.memory.version import clip_tokens as clip_tokens
from edge_runtime.memory.version import empty_version as empty_version
from edge_runtime.memory.version import most_novel as most_novel
from edge_runtime.memory.version import without_beaten
from edge_runtime.system.timings import Stages
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
"""Batches on their way while one is remembered: with one, the worker would idle at a clip's end."""


@dataclass
class Ingest:
    """Turns frames into ever new versions. Not for several threads: one ingest, one thread.

    Raises ValueError when a frame is not newer than the last one, EngineFault when an engine fails or gives
    no numbers; the version stays as it is. With `on_fault` such a batch is given up, told with its times, and
    the stream goes on: what was not remembered is a gap in the coverage.

    `period` is the time in seconds that a frame stands for, by default that of the network's rate.
    """

    network: NetworkConfig
    backbone: Engine
    sampler: Sampler
    version: Version
    stages: Stages = field(default_factory=Stages)
    """How long what takes."""
    on_fault: Callable[[EngineFault, Sequence[float]], None] | None = None
    period: float | None = None
    on_step: Callable[[Step], None] | None = None
    """Told each step when the version has taken it, for a journal."""
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

    def repeat(self, step: Step) -> Version:
        """Take in a step that was taken before, without an engine: what was judged then is not judged again.

        Raises ValueError where it does not continue this version.
        """
        return self._remember(step.features, step.times, step)

    def stream(self, batches: Iterable[tuple[Images, Sequence[float]]]) -> Generator[Version, None, None]:
        """Take in batches of (B, S, S, 3) pictures with their times; a version after each, the same again
        after one that was given up.

        All engine calls are made by one worker, which always has the next batch waiting: decoding and nearly
        all of our own bookkeeping run beside it and cost no engine time. Should fetching fail, what was
        fetched before is remembered first.
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
        with self.stages.backbone.measured():
            tokens = self.backbone({"image": images})["tokens"]  # (B, 49, d)
            try:
                return as_stored(tokens)
            except ValueError as error:
                raise EngineFault(f"{self.backbone.backend}: {error}") from error

    def _judged(
        self, version: Version, clip: Tokens, novelty: NDArray[np.float32], oldest_tick: int
    ) -> Judged:
        with self.stages.sampler.measured():
            judged = self.sampler.judged(version.memory, clip, novelty, version.carried)
            return settled(judged, self.sampler, self.network, version.memory, clip, oldest_tick=oldest_tick)

    def _taken(self, begun: Future[Features], times: Sequence[float]) -> Version:
        _check_order(self.version, [tick_of(t) for t in times])  # before the engine's own errors
        try:
            features = begun.result()
            with self.stages.remember.measured():
                return self._remember(features, times)
        except EngineFault as error:
            if self.on_fault is None:
                raise
            self.on_fault(error, times)
            return self.version

    def _remember(self, features: Features, times: Sequence[float], told: Step | None = None) -> Version:
        """features (B, 49, d) of one part of a clip; `told` where this is a repetition."""
        room = self.network.clip_frames - len(self.version.pending)
        if len(features) > room:  # batches were cut for a clip of which one was given up
            self._remember(features[:room], times[:room])
            return self._remember(features[room:], times[room:])
        version = self.version
        period = told.period if told else self.period or 1 / self.network.sample_fps
        ticks = [tick_of(t) for t in times]
        _check_order(version, ticks)
        residual = np.zeros(features.shape[:2], np.float32)  # (B, 49)
        if told is not None:
            residual = told.residual
        elif version.background is not None:
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
        if told is None and self.sampler.thins:
            version = without_beaten(version, self.network)
        kept = np.stack(version.pending[-len(times) :])  # (B, 49, d)
        verdict = told.verdict if told else None
        if (told is not None) and (verdict is None) == (len(version.pending) == self.network.clip_frames):
            raise ValueError("a step must bring a verdict where a clip ends, and nowhere else")
        if len(version.pending) == self.network.clip_frames:
            version, verdict = self._close_clip(version, verdict)
        self.version = version
        if self.on_step is not None:
            self.on_step(Step(kept, residual, tuple(times), period, verdict))
        return version

    def _close_clip(self, version: Version, told: Verdict | None) -> tuple[Version, Verdict]:
        frames = np.stack(version.pending)  # (T, 49, d)
        known = version.known_background()
        ticks = version.pending_ticks
        oldest = ticks[-1] - round(self.network.horizon_s * TICKS_PER_SECOND)
        clip = clip_tokens(frames, ticks)
        novelty = version.clip_novelty()
        kept = told.kept if told else None
        if told is None and known is not None and self.sampler.thins:
            kept = most_novel(novelty, self.network.clip_candidates)
        if kept is not None:
            clip, novelty = clip.take(kept), novelty[kept]
        judged = None
        if told is None:
            of_memory = np.zeros(version.memory.slots, np.float32)
            if known is not None:
                of_memory = known.novelty(version.memory.slots_as_tokens())
            of_all = np.concatenate([of_memory, novelty])
            judged = self._worker.submit(self._judged, version, clip, of_all, oldest)
        background = version.background
        if background is not None:
            with self.stages.background.measured():
                # The first clip has been learned already: nothing else could tell its novelty.
                first = background.cell_means is None
                background = known if first else background.update(frames, np.stack(version.pending_residual))
        verdict = self._verdict(kept, judged.result()) if judged else told
        assert verdict is not None
        memory = version.memory.update(clip, verdict.scores, oldest_tick=oldest)
        closed = replace(
            version,
            memory=memory,
            background=background,
            pending=(),
            pending_residual=(),
            pending_ticks=(),
            carried=advanced(version.carried, verdict.brought, self.network, (ticks[0], ticks[-1])),
        )
        return closed, verdict

    def _verdict(self, kept: NDArray[np.intp] | None, judged: Judged) -> Verdict:
        try:
            return Verdict(kept, judged.scores, brought_from(judged.said, self.network))
        except ValueError as error:
            raise EngineFault(f"the sampler's graph: {error}") from error


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


def _check_order(version: Version, ticks: Sequence[int]) -> None:
    last = version.last_tick
    for tick in ticks:
        if last is not None and tick <= last:
            raise ValueError(f"frames must be newer than tick {last}, got tick {tick}")
        if abs(tick) > MAX_TICK:  # which no state could be read with
            raise ValueError(f"frames must be within ±{MAX_T:g} s of the stream's zero, got tick {tick}")
        last = tick
