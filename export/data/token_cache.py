"""Cache a video as the second and third stage need it: a frozen backbone's tokens by clip, with their truth.

Letters: F frames, P = 49 cells, d token width, n clips, K candidates of a clip, r rank, m slots, I products,
V photos of each, E events.

The runtime's own ingest selects the candidates, so training sees exactly what a device sees.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.ingest.pipeline import Ingest
from edge_runtime.memory.background_model import Background
from edge_runtime.memory.online_svd import OnlineSVD
from edge_runtime.memory.samplers import Novelty, Sampler
from edge_runtime.memory.token_memory import Scores, TokenMemory, Tokens
from edge_runtime.memory.version import empty_version
from engines.errors import LvmError
from engines.network_config import NetworkConfig
from engines.spec import Engine
from export.data.dir_cache import exclusive_lock, short_digest
from export.data.video_labels import VideoTruth

Images = NDArray[np.uint8]
_BATCH = 32
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]{0,99}")
_MAPPED = ("tokens", "features", "means")
_SHAPE = {
    "image_size", "d_backbone", "clip_frames", "clip_candidates", "svd_rank", "svd_forgetting", "sample_fps",
    "even_tokens",
}  # fmt: skip


@dataclass(frozen=True)
class VideoCache:
    """A video: `tokens` (F, 49, d) float16 at `ticks` (F,).

    Candidates of n clips: `features` (n, K, d) float16, `tick`, `cell`, `novelty` (n, K), and `event` (n, K),
    the event that each is evidence of, else -1. `objects` (I, V, 49, d) float16: tokens of product photos.
    `means`, `scale`: the background by which each clip's novelty was computed. `summary`: its SVD basis and
    strength before each clip and after the last.
    """

    name: str
    tokens: NDArray[np.float16]
    ticks: NDArray[np.int64]
    features: NDArray[np.float16]
    tick: NDArray[np.int64]
    cell: NDArray[np.int32]
    novelty: NDArray[np.float32]
    event: NDArray[np.int32]
    objects: NDArray[np.float16]
    means: NDArray[np.float32]  # (n, 49, d)
    scale: NDArray[np.float32]  # (n, 2, 49)
    summary: NDArray[np.float32]  # (n + 1, r, d + 1)
    truth: VideoTruth = field(repr=False)

    @property
    def clips(self) -> int:
        """The number of clips."""
        return len(self.features)

    def background(self, clip: int, network: NetworkConfig) -> Background | None:
        """Return the background that scored the novelty of clip number `clip`; None without an SVD."""
        if not network.svd_rank:
            return None
        # The first clip is scored by the background that it makes itself.
        known = self.summary[max(clip, 1)]
        rows = known[np.any(known[:, :-1] != 0, axis=1), :-1]
        svd = OnlineSVD(
            network.svd_rank,
            network.svd_forgetting,
            rows,
            np.ones(len(rows), np.float32),
            np.zeros(rows.shape[1]),
        )
        return Background(svd, self.means[clip], self.scale[clip])


class _Recorder:
    """A sampler that records its candidates and their novelty."""

    def __init__(self) -> None:
        self.clips: list[tuple[Tokens, NDArray[np.float32]]] = []

    def __call__(self, memory: TokenMemory, clip: Tokens, novelty: Novelty) -> Scores:
        self.clips.append((clip, novelty[memory.slots :].copy()))
        return np.zeros(memory.slots + len(clip), np.float32)


def encode_video(
    name: str,
    frames: Iterator[tuple[float, Images]],
    photos: Sequence[Sequence[Images]],
    truth: VideoTruth,
    network: NetworkConfig,
    backbone: Engine,
) -> VideoCache:
    """Encode `frames` (time, (S, S, 3)) by the runtime's ingest with the engine of a trained backbone.

    `photos` of each instance (S, S, 3). Raises LvmError for a video shorter than a clip.
    """
    recorder = _Recorder()
    # Queue entries need a trained network, and tokens and candidates do not depend on them.
    network = network.model_copy(update={"context": ("svd",)})
    ingest = Ingest(network, backbone, Sampler("recorder", recorder, prefilters=True), empty_version(network))
    tokens, times, means, scales, summaries = [], [], [], [], [_svd_summary(None, network)]
    try:
        for batch_times, images in _batches(frames, network.clip_frames):
            encoded = backbone({"image": images})["tokens"].astype(np.float16)  # (T, 49, d)
            before = ingest.version.background
            version = ingest.push_features(encoded, batch_times)
            tokens.append(encoded)
            times += batch_times
            if len(batch_times) < network.clip_frames:
                continue
            mean, scale = _scoring_background(before, version.background, network)
            means.append(mean)
            scales.append(scale)
            summaries.append(_svd_summary(version.background, network))
    finally:
        ingest.close()
    if not recorder.clips:
        raise LvmError(
            f"video {name} must last at least one clip of {network.clip_frames} frames at "
            f"{network.sample_fps:g} a second, got {len(times)} frames"
        )
    clips = [clip for clip, _ in recorder.clips]
    tick, cell = np.stack([clip.tick for clip in clips]), np.stack([clip.cell for clip in clips])
    return VideoCache(
        name,
        np.concatenate(tokens),
        np.rint(np.array(times) * 5).astype(np.int64),
        np.stack([clip.features for clip in clips]).astype(np.float16),
        tick,
        cell,
        np.stack([novelty for _, novelty in recorder.clips]),
        np.stack([truth.find_evidence(t, c, network.grid) for t, c in zip(tick, cell, strict=True)]),
        _encode_photos(photos, network, backbone),
        np.stack(means),
        np.stack(scales),
        np.stack(summaries),
        truth,
    )


def _batches(frames: Iterator[tuple[float, Images]], clip: int) -> Iterator[tuple[list[float], Images]]:
    times: list[float] = []
    images: list[Images] = []
    for t, image in frames:
        times.append(t)
        images.append(image)
        if len(times) == clip:
            yield times, np.stack(images)
            times, images = [], []
    if times:
        yield times, np.stack(images)


def _scoring_background(
    before: Background | None, after: Background | None, network: NetworkConfig
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return means (49, d) and scale (2, 49) that scored a clip: those before it, else those after it."""
    known = after if before is None or before.cell_means is None else before
    if known is None or known.cell_means is None or known.scale is None:
        return np.zeros((network.cells, network.d_backbone), np.float32), np.zeros(
            (2, network.cells), np.float32
        )
    return np.asarray(known.cell_means, np.float32), np.asarray(known.scale, np.float32)


def _svd_summary(background: Background | None, network: NetworkConfig) -> NDArray[np.float32]:
    """Return basis rows with their strength as last column, (r, d + 1)."""
    out = np.zeros((network.svd_rank, network.d_backbone + 1), np.float32)
    if background is not None:
        r = len(background.svd.strength)
        out[:r, :-1], out[:r, -1] = background.svd.basis, background.svd.summary_strength()
    return out


def _encode_photos(
    photos: Sequence[Sequence[Images]], network: NetworkConfig, backbone: Engine
) -> NDArray[np.float16]:
    if len(photos) == 0:
        return np.zeros((0, 1, network.cells, network.d_backbone), np.float16)
    flat = np.stack([photo for views in photos for photo in views])
    parts = [backbone({"image": flat[i : i + _BATCH]})["tokens"] for i in range(0, len(flat), _BATCH)]
    tokens = np.concatenate(parts).astype(np.float16)
    return tokens.reshape(len(photos), -1, *tokens.shape[1:])


# -- on disk -----------------------------------------------------------------------------------------------


def save(cache: VideoCache, folder: Path) -> None:
    """Write `folder`, whole or not at all."""
    part = folder.with_name(f"{folder.name}.part")
    part.mkdir(parents=True, exist_ok=True)
    for name, array in _arrays(cache).items():
        np.save(part / f"{name}.npy", array)
    cache.truth.save(part / "truth.npz")
    part.rename(folder)


def load(folder: Path, name: str) -> VideoCache:
    """Return the video `name` that `save` wrote; its largest arrays are memory-mapped."""
    arrays: dict[str, Any] = {
        file.stem: np.load(file, mmap_mode="r" if file.stem in _MAPPED else None)
        for file in folder.glob("*.npy")
    }
    return VideoCache(name=name, truth=VideoTruth.load(folder / "truth.npz"), **arrays)


def _arrays(cache: VideoCache) -> dict[str, NDArray[Any]]:
    return {name: value for name, value in vars(cache).items() if isinstance(value, np.ndarray)}


def load_or_encode(
    folder: Path, name: str, key: str, network: NetworkConfig, encode: Callable[[], VideoCache]
) -> VideoCache:
    """Return the video `name` from `folder`, or encode it and store it there.

    `key` is everything that its frames, truth and backbone depend on; the network's settings of tokens and
    clips are added. Names may be paths, as those of users' own videos are.
    """
    shape = network.model_dump_json(include=_SHAPE)
    place = (
        folder / short_digest(f"{key}{shape}") / (name if _FILE_NAME.fullmatch(name) else short_digest(name))
    )
    if not place.exists():
        lock = place.with_name(f".{place.name}.lock")
        # Seeds that are trained side by side need the same video: one process encodes it, the others wait.
        with exclusive_lock(lock):
            if not place.exists():
                save(encode(), place)
            lock.unlink(missing_ok=True)  # waiting processes have it open, later ones find the video
    return load(place, name)
