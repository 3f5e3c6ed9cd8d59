"""Provide a training with users' own videos: a data folder (docs/own-videos.md), each video decoded once.

Letters: S picture side, I instances, V pictures of each, F frames at the sampling rate.
"""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence, Set
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import TICKS_PER_SECOND, Frame
from edge_runtime.sources import open_source
from engines.errors import LvmError
from engines.network_config import NetworkConfig
from engines.spec import Engine
from export.data.checks import read_data_folder
from export.data.dir_cache import cached_dir, short_digest
from export.data.files import DataFolder, Tracks
from export.data.records import Split, TrackRecord, Video
from export.data.token_cache import VideoCache, encode_video, load_or_encode
from export.data.video_labels import VideoTruth
from export.data.world_set import open_world
from export.training.data.product_photos import hash_folders
from export.training.data.scenes import Product, Scenes, label_frames
from export.training.data.user_frame_cache import (
    CachedVideo,
    DecodedVideo,
    Images,
    write_frames,
    write_labels,
)
from export.training.data.user_objects import UserObjects
from export.training.data.user_worlds import WorldVideo, list_real_products
from export.training.data.view_augmentation import ViewAugmentation, describe_view, make_view
from export.training.data.world_pool import PHOTOS_PER_PRODUCT, describe_world_sources, encode_world
from export.training.recipe import BackboneRecipe

log = logging.getLogger(__name__)

_OPEN = 192
"""Videos that stay open, each with two mapped files and its events."""
JOINED_CLIPS = 4
"""Clips of a stream of short videos, at least; the last streams have up to twice as many."""
CUT_S = 10.0
"""Seconds from the end of one short video of a stream to the next: longer than boxes are bridged over and
than times of one occurrence lie apart, so that nothing is learned across a cut."""


class FolderDataset:
    """The videos of a data folder by split, with the folder's classes.

    `splits` must not be empty. If `needs_photos`, because questions are drawn here and not read, `photos` (a
    sub-folder for each product) or boxes must show every product. Photos of `held_out` products are not used.
    Views may be `mirrored`.
    """

    def __init__(
        self,
        folder: Path | DataFolder,
        network: NetworkConfig,
        cache: Path,
        photos: Path | None = None,
        *,
        held_out: Sequence[str] = (),
        splits: Sequence[Split] = ("train", "val"),
        needs_photos: bool = True,
        mirrored: bool = True,
    ) -> None:
        self._folder = folder if isinstance(folder, DataFolder) else read_data_folder(folder)
        self._network, self._cache = network, cache
        self._mirrored = mirrored
        self._describe_sources = functools.cache(describe_world_sources)  # many worlds share few folders
        self._photos = photos
        self.classes = self._folder.classes
        if len(self.classes) != network.activities:
            raise LvmError(
                f"{self._folder.root} has {len(self.classes)} activities, the recipe's network.activities is "
                f"{network.activities}: they must be equal"
            )
        for split in splits:
            if not self._select(split):
                raise LvmError(
                    f"{self._folder.root}/videos.jsonl needs at least one video with split {split}"
                )
        selected = [video for split in splits for video in self._select(split)]
        for split in splits:
            self._list_streams(split, 0)  # raises LvmError where all videos together are too short
        self._objects: UserObjects | None = None
        self._photo_sources = ["nothing"]
        if needs_photos:
            self._photo_sources = [str(photos and photos.absolute()), *held_out]
            objects = UserObjects(self._folder, photos, held_out, network, PHOTOS_PER_PRODUCT)
            objects.check(selected)
            held_out = sorted(set(held_out) - objects.list_handled(selected))
            self._objects = objects
        self.held_out = tuple(held_out)

    def product_names(self) -> set[str]:
        videos = [*self._select("train"), *self._select("val")]
        return set() if self._objects is None else self._objects.list_trained(videos)

    def count(self, split: Split) -> int:
        return len(self._list_streams(split, 0))

    def fingerprint(self) -> str:
        videos = [self._key(video) for video in (*self._select("train"), *self._select("val"))]
        classes = [activity.model_dump_json() for activity in self.classes]
        photos = "" if self._photos is None else hash_folders([self._photos])
        return short_digest("".join([*videos, *classes, photos]))

    def make_scenes(self, stage: BackboneRecipe) -> UserScenes:
        everywhere = frozenset(item.id for item in self._folder.names.instances if item.video is None)
        videos = {video.video: self._cache_video(video) for video in self._select("train")}
        real = list_real_products(self._select("train"), self._folder.names.instances)
        return UserScenes(videos, everywhere, real, stage, self._network)

    def encode_videos(
        self, split: Split, backbone: Engine, cache: Path, digest: str, view: int = 0
    ) -> Iterator[VideoCache]:
        """As the protocol. Videos shorter than a clip are joined into streams, in another order in each
        view."""
        for name, videos in self._list_streams(split, view).items():
            yield self._load_stream(name, videos, backbone, cache, digest, view)

    def encode_video(self, video: Video, backbone: Engine, cache: Path, digest: str) -> VideoCache:
        """Return the tokens of a video as filmed, from `cache` if the backbone named `digest` has encoded it
        before. Raises LvmError for a video shorter than a clip."""
        self._check_length(video.video, self._estimate_frames(video))
        return self._load_stream(video.video, [video], backbone, cache, digest, 0)

    def _load_stream(
        self, name: str, videos: Sequence[Video], backbone: Engine, cache: Path, digest: str, view: int
    ) -> VideoCache:
        augmentation = make_view(name, view, self._mirrored)
        keys = " ".join(self._key(video) for video in videos)
        key = f"{keys} {digest}{describe_view(view, self._mirrored)}"
        encode = functools.partial(self._encode, name, videos, backbone, augmentation)
        return load_or_encode(cache, name, key, self._network, encode)

    def _list_streams(self, split: str, view: int) -> dict[str, list[Video]]:
        """Return the videos of each stream of a split by its name: a video, or several that are shorter than
        a clip. Raises LvmError where those are too short together."""
        clip = self._network.clip_frames
        long = [video for video in self._select(split) if not self.is_short(video)]
        short = [video for video in self._select(split) if self.is_short(video)]
        streams = {video.video: [video] for video in long}
        if not short:
            return streams
        seed = int.from_bytes(hashlib.sha256(f"{split} {view}".encode()).digest()[:8], "little")
        order = np.random.default_rng(seed).permutation(len(short))
        groups: list[list[Video]] = [[]]
        for number in order:
            if sum(map(self._estimate_frames, groups[-1])) >= JOINED_CLIPS * clip:
                groups.append([])
            groups[-1].append(short[number])
        if len(groups) > 1 and sum(map(self._estimate_frames, groups[-1])) < JOINED_CLIPS * clip:
            groups[-2:] = [groups[-2] + groups[-1]]
        name = f"short {split} videos"
        frames = sum(map(self._estimate_frames, groups[0]))
        if streams and frames < clip:
            log.warning(
                "%d videos of split %s are left out: together they are shorter than a clip", len(short), split
            )
            return streams
        self._check_length(name, frames)
        return streams | {f"{name} {number}": group for number, group in enumerate(groups)}

    def version(self) -> dict[str, Any]:
        videos = self._folder.videos.values()
        events = [event for video in videos for event in self._folder.events[video.video]]
        content = "".join(record.model_dump_json() for record in (*self.classes, *videos, *events))
        content += "".join(_hash_tracks(self._folder.tracks[video.video]) for video in videos)
        return {"videos": len(videos), "events": len(events), "digest": short_digest(content)}

    def is_short(self, video: Video) -> bool:
        """Return whether a video has fewer frames than a clip."""
        return self._estimate_frames(video) < self._network.clip_frames

    def _estimate_frames(self, video: Video) -> int:
        last = 0 if video.seed is not None else 1  # the frame at the very end, which a world lacks
        return int(video.duration_s * self._network.sample_fps) + last

    def _check_decoded(self, video: Video, frames: int) -> None:
        """Raise LvmError for a video that gives less than a clip although it states to be longer."""
        if self._estimate_frames(video) >= self._network.clip_frames:
            self._check_length(video.video, frames)

    def _check_length(self, name: str, frames: int) -> None:
        if frames < self._network.clip_frames:
            raise LvmError(
                f"video {name} gives {frames} frames at {self._network.sample_fps:g} a second, at "
                f"least one clip of {self._network.clip_frames} is needed"
            )

    def _select(self, split: str) -> list[Video]:
        return [video for video in self._folder.videos.values() if video.split == split]

    def _make_truth(self, video: Video) -> VideoTruth:
        return VideoTruth.from_records(
            self._folder.events[video.video], list(_track_records(video, self._folder))
        )

    def _encode(
        self, name: str, videos: Sequence[Video], backbone: Engine, view: ViewAugmentation
    ) -> VideoCache:
        if videos[0].seed is not None and len(videos) == 1:
            (video,) = videos
            world, truth = open_world(video), self._make_truth(video)
            return encode_world(world, name, video.duration_s, self._network, backbone, truth, view)
        opened = [self._cache_video(video).open() for video in videos]
        self._check_length(name, sum(len(decoded.frames) for decoded in opened))
        begins = self._list_begins(opened)
        times = [
            (tick / TICKS_PER_SECOND, decoded, number)
            for begin, decoded in zip(begins, opened, strict=True)
            for number, tick in enumerate((begin + decoded.ticks).tolist())
        ]
        truths = [self._make_truth(video) for video in videos]
        truth = VideoTruth.join(list(zip(begins, truths, strict=True)))
        # Instances have any number in the folder; tokens of products are a table indexed by number.
        count = max(int(decoded.instances.max(initial=-1)) for decoded in opened) + 1
        crops = np.zeros((count, *opened[0].crops.shape[1:]), np.uint8)
        for decoded in opened:
            crops[decoded.instances] = decoded.crops
        frames = view.augment_frames((t, decoded.frames[number]) for t, decoded, number in times)
        photos = view.augment_photos(list(crops))
        return encode_video(name, frames, photos, view.augment_truth(truth), self._network, backbone)

    def _list_begins(self, videos: Sequence[DecodedVideo]) -> list[int]:
        """Return the tick at which each video of a stream begins."""
        begins, period = [0], TICKS_PER_SECOND / self._network.sample_fps
        for decoded in videos[:-1]:
            end = begins[-1] + int(decoded.ticks.max(initial=0))
            begins.append(end + round(period + CUT_S * TICKS_PER_SECOND))
        return begins

    # -- decoding ------------------------------------------------------------------------------------------

    def _cache_video(self, video: Video) -> CachedVideo:
        """Return the cached video; a version of its file is decoded once, even if annotations change."""
        size, fps = self._network.image_size, self._network.sample_fps
        frames = WorldVideo(video, self._network) if video.seed is not None else self._cache_frames(video)
        key = f"{self._folder.root.absolute()} {video.video} {size} {fps} {self._photo_sources}"
        key += " whole" if self._network.appearance else ""
        labels = cached_dir(
            self._cache,
            f"labelled-{short_digest(key)}",
            self._key(video),
            lambda place: write_labels(place, *self._collect_labels(video)),
        )
        return CachedVideo(frames, labels)

    def _cache_frames(self, video: Video) -> Path:
        path, size, fps = self._path(video), self._network.image_size, self._network.sample_fps
        status = path.stat()
        return cached_dir(
            self._cache,
            f"frames-{short_digest(f'{path.absolute()} {size} {fps}')}",
            f"{status.st_size} {status.st_mtime_ns}",
            lambda place: self._check_decoded(video, write_frames(place, _read_frames(path, fps), size)),
        )

    def _collect_labels(self, video: Video) -> tuple[NDArray[np.int64], Images, VideoTruth]:
        """Return instances (I,), pictures of each (I, V, S, S, 3), and the events."""
        size, instances = self._network.image_size, self._instances(video)
        if video.seed is not None:
            world = WorldVideo(video, self._network)
            return instances, world.crops(instances), self._make_truth(video)
        crops = np.zeros((len(instances), PHOTOS_PER_PRODUCT, size, size, 3), np.uint8)
        if self._objects is not None:
            for row, instance in enumerate(instances.tolist()):
                pictures = self._objects.load_pictures(video, instance)
                crops[row] = pictures[np.arange(PHOTOS_PER_PRODUCT) % len(pictures)]
        return instances, crops, self._make_truth(video)

    def _key(self, video: Video) -> str:
        """Return all that tokens depend on but the backbone; another text would lose existing caches."""
        config, objects = self._network, self._objects
        pictures = "" if objects is None else objects.make_key(video, self._instances(video))
        return (
            f"{self._source_key(video)} {config.image_size} {config.sample_fps} "
            f"{self._folder.events[video.video]} {_hash_tracks(self._folder.tracks[video.video])} {pictures}"
        )

    def _source_key(self, video: Video) -> str:
        """Return everything that the video's pictures depend on but their size."""
        if video.seed is not None:
            sources = self._describe_sources(video.products, video.backgrounds)
            return f"{video.model_dump_json(exclude={'split'})} {sources}"
        path = self._path(video)
        status = path.stat()
        return f"{path} {status.st_size} {status.st_mtime_ns}"

    def _path(self, video: Video) -> Path:
        assert video.path is not None
        return self._folder.root / video.path

    def _instances(self, video: Video) -> NDArray[np.int64]:
        return np.unique(np.asarray([event.instance for event in self._folder.events[video.video]], np.int64))


def _read_frames(path: Path, sample_fps: float) -> Iterator[Frame]:
    source = open_source(str(path), sample_fps=sample_fps)
    try:
        yield from source
    finally:
        source.close()


def _track_records(video: Video, dataset: DataFolder) -> Iterator[TrackRecord]:
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


def _hash_tracks(tracks: Tracks) -> str:
    parts = (tracks.instance, tracks.tick5, tracks.box, tracks.active)
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()[:16]


class UserScenes:
    """Pictures of cached videos by name, most of them from inside events.

    Instances of `everywhere` are the same product in all videos, and so are `real` products of equal name,
    given by video and instance.
    """

    def __init__(
        self,
        videos: Mapping[str, CachedVideo],
        everywhere: Set[int],
        real: Mapping[tuple[str, int], str],
        stage: BackboneRecipe,
        network: NetworkConfig,
    ) -> None:
        self._videos, self._everywhere, self._real = videos, everywhere, real
        self._stage, self._network = stage, network
        self._open = lru_cache(maxsize=_OPEN)(self._load)

    def __getstate__(self) -> dict[str, object]:
        return {
            "videos": self._videos,
            "everywhere": self._everywhere,
            "real": self._real,
            "stage": self._stage,
            "network": self._network,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def _load(self, video: str) -> tuple[DecodedVideo, VideoTruth]:
        cached = self._videos[video]
        return cached.open(), cached.load_truth()

    def draw(self, rng: np.random.Generator) -> Scenes:
        """Draw as many pictures as a batch of worlds has, each of a random video."""
        parts = [
            self._draw_frame(rng) for _ in range(self._stage.worlds_a_batch * self._stage.frames_a_world)
        ]
        frames = np.stack([frame for frame, _, _ in parts])
        activity, crop, crops = label_frames(
            [active for _, active, _ in parts],
            [photos for _, _, photos in parts],
            rng,
            self._network,
        )
        return Scenes(frames, activity, crop, crops)

    def _draw_frame(
        self, rng: np.random.Generator
    ) -> tuple[Images, list[tuple[Product, int, Any]], dict[Product, Images]]:
        """Return a frame, what is handled on it (product, activity, box), and the photos of its video."""
        video = list(self._videos)[int(rng.integers(len(self._videos)))]
        decoded, truth = self._open(video)
        at = int(rng.integers(len(decoded.ticks)))
        if len(truth) and rng.random() < self._stage.inside_events:
            event = int(rng.integers(len(truth)))
            inside = np.flatnonzero(
                (decoded.ticks >= truth.start[event]) & (decoded.ticks < truth.end[event])
            )
            at = int(rng.choice(inside)) if len(inside) else at
        rows = np.flatnonzero(truth.box_tick == decoded.ticks[at])
        active = [
            (self._product_key(video, int(truth.instance[e])), int(truth.activity[e]), tuple(truth.box[row]))
            for row, e in zip(rows, truth.box_event[rows], strict=True)
        ]
        products = [self._product_key(video, instance) for instance in decoded.instances.tolist()]
        return decoded.frames[at], active, dict(zip(products, decoded.crops, strict=True))

    def _product_key(self, video: str, instance: int) -> Product:
        if (video, instance) in self._real:
            return None, self._real[video, instance]
        return (None if instance in self._everywhere else video), instance
