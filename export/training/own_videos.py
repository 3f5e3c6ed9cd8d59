"""A person's own videos as footage: a data folder (docs/own-videos.md), each video decoded once.

Letters: F frames at the sampling rate, S picture side, I instances, V crops of each.

The object of a question is cut out of its own video, untouched where possible, as ReST does.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import TICKS_PER_SECOND, Frame, tick_of
from edge_runtime.ingest import preprocess
from edge_runtime.mosaic import mosaic
from edge_runtime.objects import cut_out
from edge_runtime.sources import open_source
from engines.errors import LvmError
from engines.manifest import NetworkConfig
from engines.spec import Engine
from export.data.checks import read
from export.data.files import Dataset, Tracks
from export.data.records import TrackRecord, Video
from export.training.cache import VideoCache, cached, seen_once
from export.training.recipe import BackboneRecipe
from export.training.scenes import Scenes, labelled
from export.training.truth import VideoTruth
from export.training.videos import PHOTOS

Images = NDArray[np.uint8]


@dataclass(frozen=True)
class Decoded:
    """`frames` (F, S, S, 3) at `ticks` (F,); `crops` (I, V, S, S, 3) in the order of `instances` (I,)."""

    frames: Images
    ticks: NDArray[np.int64]
    crops: Images
    instances: NDArray[np.int64]


class FolderFootage:
    """The videos of a data folder by their split; classes are the folder's."""

    def __init__(self, folder: Path, network: NetworkConfig, cache: Path) -> None:
        self._set, self._network, self._cache = read(folder), network, cache
        self.classes = self._set.classes
        if len(self.classes) != network.activities:
            raise LvmError(
                f"{folder} has {len(self.classes)} activities, the recipe's network.activities is "
                f"{network.activities}: they must be equal"
            )
        for split in ("train", "val"):
            if not self._of(split):
                raise LvmError(f"{folder}/videos.jsonl needs at least one video with split {split}")

    def scenes(self, stage: BackboneRecipe) -> OwnScenes:
        return OwnScenes(
            [(self._decoded(video), self._truth(video)) for video in self._of("train")], stage, self._network
        )

    def videos(
        self,
        split: Literal["train", "val"],
        backbone: Engine,
        cache: Path,
        digest: str,
        done: Callable[[int, int], None],
    ) -> list[VideoCache]:
        videos, out = self._of(split), []
        for number, video in enumerate(videos):
            see = functools.partial(self._seen, video, backbone)
            said = f"{self._key(video)} {digest}"
            out.append(seen_once(cache, video.video, said, self._network, see))
            done(number + 1, len(videos))
        return out

    def version(self) -> dict[str, Any]:
        said = "".join(video.model_dump_json() for video in self._set.videos.values())
        events = sum(len(events) for events in self._set.events.values())
        return {"videos": len(self._set.videos), "events": events, "digest": _short(said)}

    def _of(self, split: str) -> list[Video]:
        return [video for video in self._set.videos.values() if video.split == split]

    def _truth(self, video: Video) -> VideoTruth:
        return VideoTruth.of_records(self._set.events[video.video], list(_records(video, self._set)))

    def _seen(self, video: Video, backbone: Engine) -> VideoCache:
        decoded = self._decoded(video)
        if len(decoded.frames) < self._network.clip_frames:
            raise LvmError(
                f"video {video.video} gives {len(decoded.frames)} frames at {self._network.sample_fps:g} a "
                f"second, at least one clip of {self._network.clip_frames} is needed"
            )
        times = (decoded.ticks / TICKS_PER_SECOND).tolist()
        # Instances have any number in the folder; tokens of products lie in a table by number.
        photos = np.zeros((int(decoded.instances.max()) + 1, *decoded.crops.shape[1:]), np.uint8)
        photos[decoded.instances] = decoded.crops
        frames = zip(times, decoded.frames, strict=True)
        return cached(video.video, iter(frames), list(photos), self._truth(video), self._network, backbone)

    # -- decoding ------------------------------------------------------------------------------------------

    def _decoded(self, video: Video) -> Decoded:
        place = self._cache / f"decoded-{_short(self._key(video))}.npz"
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            part = place.with_suffix(".part")
            with part.open("wb") as file:
                np.savez(file, **vars(self._decode(video)))
            part.replace(place)
        with np.load(place, allow_pickle=False) as arrays:
            return Decoded(**{name: arrays[name] for name in arrays.files})

    def _key(self, video: Video) -> str:
        path = self._path(video)
        seen = path.stat()
        config = self._network
        return (
            f"{path} {seen.st_size} {seen.st_mtime_ns} {config.image_size} {config.sample_fps} "
            f"{self._set.events[video.video]} {len(self._set.tracks[video.video].tick5)}"
        )

    def _path(self, video: Video) -> Path:
        if video.path is None:
            raise LvmError(f"video {video.video} has no path: worlds are trained on by their seeds")
        return self._set.root / video.path

    def _decode(self, video: Video) -> Decoded:
        size, tracks = self._network.image_size, self._set.tracks[video.video]
        instances = np.unique(np.asarray([e.instance for e in self._set.events[video.video]], np.int64))
        wanted = {int(instance): _crop_ticks(tracks.of(int(instance))) for instance in instances}
        frames: list[Images] = []
        ticks: list[int] = []
        crops: dict[int, list[Images]] = {instance: [] for instance in wanted}
        for frame in _frames(self._path(video), self._network.sample_fps):
            tick = tick_of(frame.t)
            for instance, at in wanted.items():
                for row in np.flatnonzero(at == tick):
                    own = tracks.of(instance)
                    box = own.box[np.searchsorted(own.tick5, at[row])]
                    crops[instance].append(mosaic(cut_out(frame.image, box.tolist()), size))
            if len(ticks) == 0 or tick > ticks[-1]:
                frames.append(preprocess(frame, size))
                ticks.append(tick)
        if missing := [instance for instance, found in crops.items() if not found]:
            raise LvmError(
                f"video {video.video}: no box of instance {missing[0]} falls on a sampled frame; questions "
                "show their object by such a box: annotate boxes at whole seconds in tracks.jsonl"
            )
        table = np.stack([[crops[i][v % len(crops[i])] for v in range(PHOTOS)] for i in wanted])
        return Decoded(np.stack(frames), np.array(ticks, np.int64), table, instances)


class OwnScenes:
    """Pictures of decoded videos, most of them from inside events."""

    def __init__(
        self, videos: list[tuple[Decoded, VideoTruth]], stage: BackboneRecipe, network: NetworkConfig
    ) -> None:
        self._videos, self._stage, self._network = videos, stage, network

    def draw(self, rng: np.random.Generator) -> Scenes:
        """Pictures of as many videos as a batch has worlds, of one video several times where they are few."""
        parts = [self._one(rng) for _ in range(self._stage.worlds_a_batch * self._stage.frames_a_world)]
        frames = np.stack([frame for frame, _, _ in parts])
        activity, crop, crops = labelled(
            [active for _, active, _ in parts],
            [source for _, _, source in parts],
            rng,
            self._network.activities,
        )
        return Scenes(frames, activity, crop, crops)

    def _one(self, rng: np.random.Generator) -> tuple[Images, list[tuple[int, int, Any]], Any]:
        """A frame, what is handled on it (instance, activity, box), and the photos of its video."""
        number = int(rng.integers(len(self._videos)))
        decoded, truth = self._videos[number]
        at = int(rng.integers(len(decoded.ticks)))
        if len(truth) and rng.random() < self._stage.inside_events:
            event = int(rng.integers(len(truth)))
            inside = np.flatnonzero(
                (decoded.ticks >= truth.start[event]) & (decoded.ticks < truth.end[event])
            )
            at = int(rng.choice(inside)) if len(inside) else at
        here = np.flatnonzero(truth.box_tick == decoded.ticks[at])
        active = [
            (int(truth.instance[e]), int(truth.activity[e]), tuple(truth.box[row]))
            for row, e in zip(here, truth.box_event[here], strict=True)
        ]
        return (
            decoded.frames[at],
            active,
            (number, dict(zip(decoded.instances.tolist(), decoded.crops, strict=True))),
        )


def _frames(path: Path, sample_fps: float) -> Iterator[Frame]:
    source = open_source(str(path), sample_fps=sample_fps)
    try:
        yield from source
    finally:
        source.close()


def _crop_ticks(own: Tracks, most: int = PHOTOS) -> NDArray[np.int64]:
    """Whole seconds at which the instance is cut out: untouched if possible, spread over its track."""
    whole = own.tick5 % TICKS_PER_SECOND == 0
    idle = whole & ~own.active
    ticks = own.tick5[idle if idle.any() else whole]
    chosen: NDArray[np.int64] = ticks[
        np.unique(np.linspace(0, len(ticks) - 1, min(most, len(ticks))).astype(int))
    ]
    return chosen


def _records(video: Video, dataset: Dataset) -> Iterator[TrackRecord]:
    tracks = dataset.tracks[video.video]
    for instance, tick, box, active in zip(
        tracks.instance.tolist(),
        tracks.tick5.tolist(),
        tracks.box.tolist(),
        tracks.active.tolist(),
        strict=True,
    ):
        yield TrackRecord(
            video=video.video,
            instance=instance,
            category=tracks.category[instance],
            tick5=tick,
            box=tuple(min(max(side, 0.0), 1.0) for side in box),
            active=1 if active else 0,
        )


def _short(said: str) -> str:
    return hashlib.sha256(said.encode()).hexdigest()[:16]
