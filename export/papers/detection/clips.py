"""A video for the detection task: clips of a few frames, the regions of each, and the activity of each
region.

Letters: F frames, T frames of a clip, n clips, R regions of a clip, P = 49 cells, d width of a token, C
activities, G boxes of the truth.

The moment of a clip is its newest frame, as a device knows nothing later. Its regions are the annotated boxes
of that moment, whether or not they are handled: what only stands there has to be told from what is handled.
Of more than R boxes those stay whose cells are the most novel to the runtime's own background, which knows no
label either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import TICKS_PER_SECOND
from engines.network_config import NetworkConfig
from export.data.files import DataFolder, Tracks
from export.data.metrics import cell_shares
from export.data.records import EventRecord, Split
from export.data.token_cache import VideoCache
from export.evaluation.run_folders import TrainedRun
from export.evaluation.stream_run import Model
from export.evaluation.videos import open_caches
from export.papers.detection.captions import Captions, align_captions, read_captions

Real = NDArray[np.float32]
Flags = NDArray[np.bool_]
Index = NDArray[np.int64]


@dataclass(frozen=True)
class ClipRule:
    """`frames` of a clip; maximum `regions` of a clip."""

    frames: int = 2
    regions: int = 6


@dataclass(frozen=True, eq=False)
class RegionVideo:
    """One video in n clips, in order of time. Equal to nothing but itself, so that a memory may note of it.

    `tick` (n,) of each clip's moment; `tokens` (n, T, 49, d) float16 of the frozen backbone; `features`
    (n, R, d), zero where `valid` (n, R) is false; `box` (n, R, 4) xyxy, None for learned regions, which have
    none; `labels` (n, R, C) what each region is doing; `clip_labels` (n, C) what is being done at all.
    The truth, of regions or not: `truth_clip` (G,), `truth_box` (G, 4), `truth_labels` (G, C). `captions`
    (n, T) of a captioner, "" where it is silent, None where the data folder has none.
    """

    name: str
    tick: Index
    tokens: NDArray[np.float16]
    features: Real
    valid: Flags
    box: Real | None
    labels: Flags
    clip_labels: Flags
    truth_clip: Index
    truth_box: Real
    truth_labels: Flags
    captions: tuple[tuple[str, ...], ...] | None = None

    def __len__(self) -> int:
        return len(self.tick)

    @property
    def seconds(self) -> float:
        """Seconds from one clip to the next."""
        return float(np.median(np.diff(self.tick))) / TICKS_PER_SECOND if len(self) > 1 else 0.0


def make_region_video(
    cache: VideoCache,
    data: DataFolder,
    network: NetworkConfig,
    rule: ClipRule | None = None,
    captions: Captions | None = None,
) -> RegionVideo:
    """Make the cached video with the regions of its annotated boxes; frames that do not fill a clip are left
    out.

    The boxes of a moment are those at its very tick: annotate them at the times of sampled frames.
    """
    rule = rule or ClipRule()
    said_of = None if not captions else captions.get(cache.name, [])
    frames = cache.clips * network.clip_frames
    ends = np.arange(rule.frames - 1, frames, rule.frames)  # (n,)
    tokens = cache.tokens[: len(ends) * rule.frames].reshape(-1, rule.frames, *cache.tokens.shape[1:])
    tick = cache.ticks[ends]
    events, tracks = data.events[cache.name], data.tracks[cache.name]
    clip, box, labels = _find_boxes(tick, tracks, events, len(data.classes))
    novelty = measure_novelty(cache, network)[ends]  # (n, 49)
    place = _choose_regions(clip, box, novelty, rule.regions)  # (n, R)
    valid = place >= 0
    doing = labels.any(axis=1)
    chosen = np.where(valid[..., None], box[place], 0) if len(box) else np.zeros((*place.shape, 4))
    doing_now = (
        (valid[..., None] & labels[place]) if len(box) else np.zeros((*place.shape, len(data.classes)))
    )
    return RegionVideo(
        cache.name,
        tick,
        tokens,
        pool_regions(tokens, chosen.astype(np.float32), valid),
        valid,
        chosen.astype(np.float32),
        doing_now.astype(np.bool_),
        _label_clips(tick, events, len(data.classes)),
        clip[doing],
        box[doing],
        labels[doing],
        None
        if said_of is None
        else align_captions(said_of, cache.ticks[: len(ends) * rule.frames].reshape(-1, rule.frames)),
    )


def pool_regions(tokens: NDArray[np.float16], box: Real, valid: Flags) -> Real:
    """Pool regions: the mean of tokens (n, T, 49, d) over boxes (n, R, 4), by the area of each cell that a
    box covers, and over the clip's frames; 0 where not `valid` (n, R). (n, R, d)"""
    share = cell_shares(box).astype(np.float32)  # (n, R, 49)
    total = share.sum(axis=-1, keepdims=True)
    weight = np.divide(share, total, out=np.zeros_like(share), where=(total > 0) & valid[..., None])
    pooled = [w @ frames.astype(np.float32).mean(axis=0) for w, frames in zip(weight, tokens, strict=True)]
    return np.stack(pooled)


def measure_novelty(cache: VideoCache, network: NetworkConfig) -> Real:
    """Measure the novelty of each cell of each frame to the runtime's background before it; of whole clips.
    (F, 49)"""
    step, out = network.clip_frames, []
    for clip in range(cache.clips):
        known = cache.background(clip, network)
        if known is None:
            out.append(np.zeros((step, network.cells), np.float32))
            continue
        frames = np.asarray(cache.tokens[clip * step : (clip + 1) * step], np.float32)
        cell = np.tile(np.arange(network.cells, dtype=np.int32), step)
        out.append(known.standardise(known.frame_residual(frames).ravel(), cell).reshape(step, network.cells))
    return np.concatenate(out)


def _find_boxes(
    tick: Index, tracks: Tracks, events: tuple[EventRecord, ...], classes: int
) -> tuple[Index, Real, Flags]:
    """Return all boxes at the moments (n,): clip (G,), box (G, 4), activities of each (G, C)."""
    row = np.flatnonzero(np.isin(tracks.tick5, tick))
    row = row[np.argsort(tracks.tick5[row], kind="stable")]
    at, instance = tracks.tick5[row], tracks.instance[row]
    labels = np.zeros((len(row), classes), np.bool_)
    for event in events:
        # The same product may also stand on the shelf: only the box that is handled is labelled.
        first, last = _find_ticks(event)
        ours = (instance == event.instance) & tracks.active[row] & (at >= first) & (at < last)
        labels[ours, event.activity] = True
    return np.searchsorted(tick, at), tracks.box[row], labels


def _label_clips(tick: Index, events: tuple[EventRecord, ...], classes: int) -> Flags:
    out = np.zeros((len(tick), classes), np.bool_)
    for event in events:
        first, last = _find_ticks(event)
        out[(tick >= first) & (tick < last), event.activity] = True
    return out


def _find_ticks(event: EventRecord) -> tuple[int, int]:
    return round(event.t_s * TICKS_PER_SECOND), round(event.t_e * TICKS_PER_SECOND)


def _choose_regions(clip: Index, box: Real, novelty: Real, regions: int) -> Index:
    """Choose which boxes (G,) are the regions of each clip, sorted by position, -1 where there is none. (n,
    R)"""
    share = cell_shares(box)  # (G, 49)
    total = np.maximum(share.sum(axis=1), 1e-9)
    score = (share * novelty[clip]).sum(axis=1) / total  # (G,)
    out = np.full((len(novelty), regions), -1, np.int64)
    for number in range(len(novelty)):
        here = np.arange(*np.searchsorted(clip, [number, number + 1]))
        best = here[np.argsort(-score[here], kind="stable")[:regions]]
        # Not in order of novelty: a head must not read from a place what only the choice knew.
        best = best[np.lexsort((box[best, 1], box[best, 0]))]
        out[number, : len(best)] = best
    return out


def load_region_videos(
    run: TrainedRun,
    data: DataFolder,
    split: Split,
    cache: Path,
    rule: ClipRule | None = None,
    report: Callable[[str], None] = lambda video: None,
) -> list[RegionVideo]:
    """Load every video of a split. The backbone of `run`, a bundle or a finished training, encodes them; the
    folder `cache` holds what it has encoded before. Raises LvmError where the split is empty."""
    model = Model.from_network(run.network, run.card)
    caches = open_caches(data, split, run.config, model.backbone, run.backbone_digest(), cache, report)
    captions = read_captions(data.root)
    return [make_region_video(video_cache, data, run.config, rule, captions) for video_cache in caches]
