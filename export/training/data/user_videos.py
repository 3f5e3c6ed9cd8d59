"""A person's own videos as footage: a data folder (docs/own-videos.md), each video decoded once.

Letters: S picture side, I instances, V pictures of each.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import TICKS_PER_SECOND, Frame
from edge_runtime.sources import open_source
from engines.errors import LvmError
from engines.network_config import NetworkConfig
from engines.spec import Engine
from export.data.checks import read
from export.data.files import Dataset, Tracks
from export.data.once_cache import made_once, short
from export.data.records import Split, TrackRecord, Video
from export.data.token_cache import VideoCache, cached, seen_once
from export.data.video_labels import VideoTruth
from export.data.world_set import world_of
from export.training.data.product_photos import folders_digest
from export.training.data.user_frame_cache import Images, Kept, keep_frames, keep_labelled
from export.training.data.user_objects import OwnObjects
from export.training.data.user_scenes import OwnScenes
from export.training.data.user_worlds import WorldVideo, real_products
from export.training.data.view_augmentation import Look, look_of, said_of
from export.training.data.world_pool import drawn_from
from export.training.data.world_videos import PHOTOS, of_world
from export.training.recipe import BackboneRecipe


class FolderFootage:
    """The videos of a data folder by their split; classes are the folder's.

    `splits` are those that there must be. Where questions are made here and not read, `photos` (a sub-folder
    of a product's name each) or boxes must show every product; else `asks` is false. Photos of products that
    are `held_out` are not looked at. Looks of the videos may be `mirrored`.
    """

    def __init__(
        self,
        folder: Path | Dataset,
        network: NetworkConfig,
        cache: Path,
        photos: Path | None = None,
        *,
        held_out: Sequence[str] = (),
        splits: Sequence[Split] = ("train", "val"),
        asks: bool = True,
        mirrored: bool = True,
    ) -> None:
        self._set = folder if isinstance(folder, Dataset) else read(folder)
        self._network, self._cache = network, cache
        self._mirrored = mirrored
        self._drawn_from = functools.cache(drawn_from)  # many worlds, few folders of many files
        self._photos = photos
        self.classes = self._set.classes
        if len(self.classes) != network.activities:
            raise LvmError(
                f"{self._set.root} has {len(self.classes)} activities, the recipe's network.activities is "
                f"{network.activities}: they must be equal"
            )
        for split in splits:
            if not self._of(split):
                raise LvmError(f"{self._set.root}/videos.jsonl needs at least one video with split {split}")
        wanted = [video for split in splits for video in self._of(split)]
        for video in wanted:
            last = 0 if video.seed is not None else 1  # the frame at the very end, which a world has not
            self._long_enough(video, int(video.duration_s * network.sample_fps) + last)
        self._objects: OwnObjects | None = None
        self._shown_by = ["nothing"]
        if asks:
            self._shown_by = [str(photos and photos.absolute()), *held_out]
            shown = OwnObjects(self._set, photos, held_out=held_out, side=network.image_size, most=PHOTOS)
            shown.check(wanted)
            held_out = sorted(set(held_out) - shown.products(wanted))
            self._objects = shown
        self.held_out = tuple(held_out)

    def products(self) -> set[str]:
        seen = [video for split in ("train", "val") for video in self._of(split)]
        return set() if self._objects is None else self._objects.learned(seen)

    def count(self, split: Split) -> int:
        return len(self._of(split))

    def fingerprint(self) -> str:
        seen = [self._key(video) for split in ("train", "val") for video in self._of(split)]
        learned = "" if self._photos is None else folders_digest([self._photos])
        return short("".join([*seen, *(one.model_dump_json() for one in self.classes), learned]))

    def scenes(self, stage: BackboneRecipe) -> OwnScenes:
        everywhere = frozenset(one.id for one in self._set.names.instances if one.video is None)
        videos = {video.video: self._kept(video) for video in self._of("train")}
        real = real_products(self._of("train"), self._set.names.instances)
        return OwnScenes(videos, everywhere, real, stage, self._network)

    def videos(
        self,
        split: Split,
        backbone: Engine,
        cache: Path,
        digest: str,
        done: Callable[[int, int], None],
        showing: int = 0,
    ) -> list[VideoCache]:
        videos, out = self._of(split), []
        for number, video in enumerate(videos):
            out.append(self.video(video, backbone, cache, digest, showing))
            done(number + 1, len(videos))
        return out

    def video(self, video: Video, backbone: Engine, cache: Path, digest: str, showing: int = 0) -> VideoCache:
        """One of `videos`."""
        see = functools.partial(self._seen, video, backbone, look_of(video.video, showing, self._mirrored))
        said = f"{self._key(video)} {digest}{said_of(showing, self._mirrored)}"
        return seen_once(cache, video.video, said, self._network, see)

    def version(self) -> dict[str, Any]:
        videos = self._set.videos.values()
        events = [event for video in videos for event in self._set.events[video.video]]
        said = "".join(one.model_dump_json() for one in (*self.classes, *videos, *events))
        said += "".join(_digest(self._set.tracks[video.video]) for video in videos)
        return {"videos": len(videos), "events": len(events), "digest": short(said)}

    def _long_enough(self, video: Video, frames: int) -> None:
        if frames < self._network.clip_frames:
            raise LvmError(
                f"video {video.video} gives {frames} frames at {self._network.sample_fps:g} a second, at "
                f"least one clip of {self._network.clip_frames} is needed"
            )

    def _of(self, split: str) -> list[Video]:
        return [video for video in self._set.videos.values() if video.split == split]

    def _truth(self, video: Video) -> VideoTruth:
        return VideoTruth.of_records(self._set.events[video.video], list(_records(video, self._set)))

    def _seen(self, video: Video, backbone: Engine, look: Look) -> VideoCache:
        if video.seed is not None:
            world, truth = world_of(video), self._truth(video)
            return of_world(world, video.video, video.duration_s, self._network, backbone, truth, look)
        decoded = self._kept(video).decoded()
        self._long_enough(video, len(decoded.frames))
        times = (decoded.ticks / TICKS_PER_SECOND).tolist()
        # Instances have any number in the folder; tokens of products lie in a table by number.
        count = int(decoded.instances.max(initial=-1)) + 1
        photos = np.zeros((count, *decoded.crops.shape[1:]), np.uint8)
        photos[decoded.instances] = decoded.crops
        frames = look.frames((t, decoded.frames[number]) for number, t in enumerate(times))
        truth, shown = look.truth(self._truth(video)), look.photos(list(photos))
        return cached(video.video, frames, shown, truth, self._network, backbone)

    # -- decoding ------------------------------------------------------------------------------------------

    def _kept(self, video: Video) -> Kept:
        """Where the video lies in the cache; a version of its file is decoded once, whatever is annotated."""
        size, fps = self._network.image_size, self._network.sample_fps
        frames = WorldVideo(video, size, fps) if video.seed is not None else self._frames_of(video)
        which = f"{self._set.root.absolute()} {video.video} {size} {fps} {self._shown_by}"
        labelled = made_once(
            self._cache,
            f"labelled-{short(which)}",
            self._key(video),
            lambda place: keep_labelled(place, *self._labelled(video)),
        )
        return Kept(frames, labelled)

    def _frames_of(self, video: Video) -> Path:
        path, size, fps = self._path(video), self._network.image_size, self._network.sample_fps
        seen = path.stat()
        return made_once(
            self._cache,
            f"frames-{short(f'{path.absolute()} {size} {fps}')}",
            f"{seen.st_size} {seen.st_mtime_ns}",
            lambda place: self._long_enough(video, keep_frames(place, _frames(path, fps), size)),
        )

    def _labelled(self, video: Video) -> tuple[NDArray[np.int64], Images, VideoTruth]:
        """Instances (I,), pictures of each (I, V, S, S, 3), and what is done with them."""
        size, instances = self._network.image_size, self._instances(video)
        if video.seed is not None:
            world = WorldVideo(video, size, self._network.sample_fps)
            return instances, world.crops(instances), self._truth(video)
        crops = np.zeros((len(instances), PHOTOS, size, size, 3), np.uint8)
        if self._objects is not None:
            for row, instance in enumerate(instances.tolist()):
                pictures = self._objects.pictures(video, instance)
                crops[row] = pictures[np.arange(PHOTOS) % len(pictures)]
        return instances, crops, self._truth(video)

    def _key(self, video: Video) -> str:
        config, objects = self._network, self._objects
        shown = "" if objects is None else objects.said(video, self._instances(video))
        return (
            f"{self._filmed(video)} {config.image_size} {config.sample_fps} "
            f"{self._set.events[video.video]} {_digest(self._set.tracks[video.video])} {shown}"
        )

    def _filmed(self, video: Video) -> str:
        """What the video's pictures depend on, but for their size."""
        if video.seed is not None:
            shown = self._drawn_from(video.products, video.backgrounds)
            return f"{video.model_dump_json(exclude={'split'})} {shown}"
        path = self._path(video)
        seen = path.stat()
        return f"{path} {seen.st_size} {seen.st_mtime_ns}"

    def _path(self, video: Video) -> Path:
        assert video.path is not None
        return self._set.root / video.path

    def _instances(self, video: Video) -> NDArray[np.int64]:
        return np.unique(np.asarray([e.instance for e in self._set.events[video.video]], np.int64))


def _frames(path: Path, sample_fps: float) -> Iterator[Frame]:
    source = open_source(str(path), sample_fps=sample_fps)
    try:
        yield from source
    finally:
        source.close()


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


def _digest(tracks: Tracks) -> str:
    parts = (tracks.instance, tracks.tick5, tracks.box, tracks.active)
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()[:16]
