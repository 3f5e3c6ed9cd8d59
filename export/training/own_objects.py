"""What the products of a person's own videos look like: photographs of a folder, else crops out of videos.

Letters: V pictures of a product, S picture side.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import TICKS_PER_SECOND
from edge_runtime.images import read_image
from edge_runtime.mosaic import mosaic
from edge_runtime.objects import cut_out
from edge_runtime.sources import frame_at
from edge_runtime.world.folders import product_photos
from engines.errors import LvmError
from export.data.files import Dataset
from export.data.records import Video

Images = NDArray[np.uint8]


@dataclass(frozen=True)
class Cutting:
    """A part of the picture that a video shows at `t` seconds."""

    video: Path
    t: float
    box: tuple[float, ...]


class OwnObjects:
    """Of each product of a data folder up to `most` pictures.

    A product whose name is a sub-folder of `photos` is shown by that. Others are cut out of their video where
    nothing is done with them, as ReST does, or out of another video where their own has no box of them.
    """

    def __init__(self, dataset: Dataset, photos: Path | None, *, side: int, most: int) -> None:
        self._set, self._side, self._most = dataset, side, most
        self._names = {(one.video, one.id): one.name for one in dataset.names.instances}
        self._photos = product_photos(photos) if photos is not None else {}

    def check(self, videos: Iterable[Video]) -> None:
        """Raises LvmError where an event's product has nothing that shows it."""
        for video in videos:
            for event in self._set.events[video.video]:
                if not self._chosen(video, event.instance):
                    raise LvmError(
                        f"nothing shows {self._name(video, event.instance)}, with which something is done "
                        f"in {video.video}: give it a box in a video (boxes.csv, t outside its events), or "
                        "name a folder with photographs of it in a sub-folder of that name (data.products)"
                    )

    def pictures(self, video: Video, instance: int) -> Images:
        """(V, S, S, 3), V at least 1, ready for the backbone."""
        chosen = self._chosen(video, instance)
        return np.stack([mosaic(_read(one), self._side) for one in chosen])

    def said(self, video: Video, instances: Iterable[int]) -> str:
        """What `pictures` of them depend on, but for the videos' own pictures."""
        chosen = {int(one): self._chosen(video, int(one)) for one in instances}
        shown = [(number, _told(one)) for number, pictures in chosen.items() for one in pictures]
        return hashlib.sha256(json.dumps([self._side, shown]).encode()).hexdigest()[:16]

    def _chosen(self, video: Video, instance: int) -> list[Path | Cutting]:
        photos = self._photos.get(self._name(video, instance), ())
        if photos:
            return [photos[at] for at in _spread(len(photos), self._most)]
        # Where numbers are of one video each, the same number is another product elsewhere.
        everywhere = (None, instance) in self._names
        others = [one for one in self._set.videos.values() if everywhere and one.video != video.video]
        return next(filter(None, (list(self._cuttings(one, instance)) for one in (video, *others))), [])

    def _cuttings(self, video: Video, instance: int) -> Iterator[Cutting]:
        """Untouched if possible, spread over its track."""
        if video.path is None:
            return
        own = self._set.tracks[video.video].of(instance)
        rows = np.flatnonzero(~own.active) if not own.active.all() else np.arange(len(own.tick5))
        for row in rows[_spread(len(rows), self._most)]:
            t = int(own.tick5[row]) / TICKS_PER_SECOND
            yield Cutting(self._set.root / video.path, t, tuple(own.box[row].tolist()))

    def _name(self, video: Video, instance: int) -> str:
        own = self._names.get((video.video, instance))
        return own or self._names.get((None, instance), f"product {instance}")


def _spread(count: int, most: int) -> NDArray[np.int64]:
    """Indices of at most so many of `count`, evenly."""
    found: NDArray[np.int64] = np.unique(np.linspace(0, count - 1, min(most, count)).astype(np.int64))
    return found


def _read(one: Path | Cutting) -> NDArray[np.uint8]:
    if isinstance(one, Path):
        return read_image(one)
    return cut_out(frame_at(str(one.video), one.t).image, one.box)


def _told(one: Path | Cutting) -> list[object]:
    path = one if isinstance(one, Path) else one.video
    seen = path.stat()
    where = [] if isinstance(one, Path) else [one.t, one.box]
    return [str(path), seen.st_size, seen.st_mtime_ns, *where]
