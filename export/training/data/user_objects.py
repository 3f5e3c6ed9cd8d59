"""Choose pictures of the products in users' own videos: photos of a folder, else crops of videos.

Letters: V pictures of a product, S picture side.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import TICKS_PER_SECOND
from edge_runtime.imaging.decode import read_image
from edge_runtime.query.object_encoder import crop_image
from edge_runtime.query.photo_mosaic import make_mosaic
from edge_runtime.sources.video import VideoFile
from engines.errors import LvmError
from engines.network_config import NetworkConfig
from export.data.files import DataFolder
from export.data.records import Video
from export.training.data.product_photos import list_training_photos
from export.training.data.user_worlds import list_real_products

Images = NDArray[np.uint8]


@dataclass(frozen=True)
class Cutting:
    """The part `box` of a video's picture at `t` seconds."""

    video: Path
    t: float
    box: tuple[float, ...]


class UserObjects:
    """Up to `max_pictures` pictures of each product of a data folder.

    If a product has a sub-folder of `photos` and is not `held_out`, those photos show it, except the last
    third, which queries show. Other products are cut out of their video while nothing is done with them, as
    in ReST, or out of another video of the same split, never of a test video. Boxes inside events are used
    only if there are no others.
    """

    def __init__(
        self,
        folder: DataFolder,
        photos: Path | None,
        held_out: Sequence[str],
        network: NetworkConfig,
        max_pictures: int,
    ) -> None:
        self._folder, self._network, self._max_pictures = folder, network, max_pictures
        self._names = {(item.video, item.id): item.name for item in folder.names.instances}
        self._held_out = frozenset(held_out)
        self._photos = {} if photos is None else list_training_photos(photos, held_out, without_queries=True)

    def check(self, videos: Iterable[Video]) -> None:
        """Raise LvmError if a product of an event has no picture; worlds show all of their products."""
        for video in videos:
            if video.seed is not None:
                continue
            for event in self._folder.events[video.video]:
                if not self._choose(video, event.instance):
                    name = self._name(video, event.instance)
                    raise LvmError(
                        f"nothing shows {name}, with which something is done in {video.video}: give it a box "
                        f"in a video of split {video.split} (boxes.csv, best at a t outside its events), or "
                        + self._suggest_photos(name)
                    )

    def _suggest_photos(self, name: str) -> str:
        """Return how photos could show a product without pictures."""
        if name in self._held_out:
            return (
                "take it out of data.held_out, whose products' photos are not used (--products fills "
                "that by itself, data.products in the recipe does not)"
            )
        return (
            "name a folder with two or more photographs of it in a sub-folder of that name (data.products); "
            "queries show the last third"
        )

    def load_pictures(self, video: Video, instance: int) -> Images:
        """Return the pictures of a product, (V, S, S, 3) with V >= 1, ready for the backbone."""
        chosen = self._choose(video, instance)
        return np.stack([make_mosaic(_read_picture(picture), self._network) for picture in chosen])

    def make_key(self, video: Video, instances: Iterable[int]) -> str:
        """Return a cache key of the pictures of `instances`; it does not cover the video's own frames."""
        needed = () if video.seed is not None else instances
        chosen = {int(instance): self._choose(video, int(instance)) for instance in needed}
        keys = [
            (number, _picture_key(picture)) for number, pictures in chosen.items() for picture in pictures
        ]
        shape = [self._network.image_size, *(["whole"] if self._network.appearance else [])]
        return hashlib.sha256(json.dumps([*shape, keys]).encode()).hexdigest()[:16]

    def _choose(self, video: Video, instance: int) -> list[Path | Cutting]:
        photos = self._photos.get(self._name(video, instance), ())
        if photos:
            return [photos[at] for at in _spread_indices(len(photos), self._max_pictures)]
        others = (other for other in self._find_videos(video, instance) if other.video != video.video)
        videos = [video, *others]
        options = (
            [*self._find_cuttings(source, instance, active)] for active in (False, True) for source in videos
        )
        return next((list[Path | Cutting](cuttings) for cuttings in options if cuttings), [])

    def _find_videos(self, video: Video, instance: int) -> list[Video]:
        """Return the videos of the same split in which the instance is the same product."""
        if (None, instance) not in self._names:  # each video has its own numbers
            return []
        return [other for other in self._folder.videos.values() if other.split == video.split]

    def _find_cuttings(self, video: Video, instance: int, active: bool) -> Iterator[Cutting]:
        """Yield cuttings spread over the boxes that are `active`, or those that are not."""
        if video.path is None:
            return
        track = self._folder.tracks[video.video].select(instance)
        rows = np.flatnonzero(track.active == active)
        for row in rows[_spread_indices(len(rows), self._max_pictures)]:
            t = int(track.tick5[row]) / TICKS_PER_SECOND
            yield Cutting(self._folder.root / video.path, t, tuple(track.box[row].tolist()))

    def list_handled(self, videos: Sequence[Video]) -> set[str]:
        """Return the names of products with events in `videos`, and of all real products of worlds."""
        handled = {
            self._name(video, event.instance)
            for video in videos
            for event in self._folder.events[video.video]
        }
        return handled | set(list_real_products(videos, self._folder.names.instances).values())

    def list_trained(self, videos: Sequence[Video]) -> set[str]:
        """Return the names of all products that `videos` or photos show to a training."""
        return self.list_handled(videos) | set(self._photos)

    def _name(self, video: Video, instance: int) -> str:
        own_name = self._names.get((video.video, instance))
        return own_name or self._names.get((None, instance), f"product {instance}")


def _spread_indices(count: int, max_count: int) -> NDArray[np.int64]:
    """Return up to `max_count` evenly spaced indices below `count`."""
    return np.unique(np.linspace(0, count - 1, min(max_count, count)).astype(np.int64))


def _read_picture(picture: Path | Cutting) -> NDArray[np.uint8]:
    if isinstance(picture, Path):
        return read_image(picture)
    return crop_image(_read_frame(picture.video, picture.t), picture.box)


def _read_frame(path: Path, t: float) -> NDArray[np.uint8]:
    """Return the picture at `t`, at most the last one: the end is known to about a frame."""
    with VideoFile(path, sample_fps=TICKS_PER_SECOND) as video:
        end = max(frame.t for frame in video) if video.duration is None else video.duration
        return video.frame_at(min(t, end)).image


def _picture_key(picture: Path | Cutting) -> list[object]:
    path = picture if isinstance(picture, Path) else picture.video
    status = path.stat()
    part = [] if isinstance(picture, Path) else [picture.t, picture.box]
    return [str(path), status.st_size, status.st_mtime_ns, *part]
