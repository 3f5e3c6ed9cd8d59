"""What the products of a person's own videos look like: photographs of a folder, else crops out of videos.

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
from edge_runtime.query.photo_mosaic import mosaic
from edge_runtime.sources.video import VideoFile
from engines.errors import LvmError
from export.data.files import Dataset
from export.data.records import Video
from export.training.data.product_photos import photos_to_learn_from
from export.training.data.user_worlds import real_products

Images = NDArray[np.uint8]


@dataclass(frozen=True)
class Cutting:
    """A part of the picture that a video shows at `t` seconds."""

    video: Path
    t: float
    box: tuple[float, ...]


class OwnObjects:
    """Of each product of a data folder up to `most` pictures.

    A product whose name is a sub-folder of `photos` is shown by that, but for the last third of it, which
    asks, and unless it is `held_out`. Others are cut out of their video where nothing is done with them, as
    ReST does, else out of another video of the same split: no training looks into a test. Only where every
    box of those videos lies inside of an event does an event show its product.
    """

    def __init__(
        self, dataset: Dataset, photos: Path | None, *, held_out: Sequence[str] = (), side: int, most: int
    ) -> None:
        self._set, self._side, self._most = dataset, side, most
        self._names = {(one.video, one.id): one.name for one in dataset.names.instances}
        self._held_out = frozenset(held_out)
        self._photos = {} if photos is None else photos_to_learn_from(photos, held_out, some_ask=True)

    def check(self, videos: Iterable[Video]) -> None:
        """Raises LvmError where an event's product has nothing that shows it; worlds show all of theirs."""
        for video in videos:
            if video.seed is not None:
                continue
            for event in self._set.events[video.video]:
                if not self._chosen(video, event.instance):
                    name = self._name(video, event.instance)
                    raise LvmError(
                        f"nothing shows {name}, with which something is done in {video.video}: give it a box "
                        f"in a video of split {video.split} (boxes.csv, best at a t outside its events), or "
                        + self._photographs(name)
                    )

    def _photographs(self, name: str) -> str:
        """How photographs could show a product that nothing shows."""
        if name in self._held_out:
            return (
                "take it out of data.held_out, for which its photographs are not looked at (--products fills "
                "that by itself, data.products in the recipe does not)"
            )
        return (
            "name a folder with two or more photographs of it in a sub-folder of that name (data.products); "
            "the last third asks"
        )

    def pictures(self, video: Video, instance: int) -> Images:
        """(V, S, S, 3), V at least 1, ready for the backbone."""
        chosen = self._chosen(video, instance)
        return np.stack([mosaic(_read(one), self._side) for one in chosen])

    def said(self, video: Video, instances: Iterable[int]) -> str:
        """What `pictures` of them depend on, but for the videos' own pictures."""
        ours = () if video.seed is not None else instances
        chosen = {int(one): self._chosen(video, int(one)) for one in ours}
        shown = [(number, _told(one)) for number, pictures in chosen.items() for one in pictures]
        return hashlib.sha256(json.dumps([self._side, shown]).encode()).hexdigest()[:16]

    def _chosen(self, video: Video, instance: int) -> list[Path | Cutting]:
        photos = self._photos.get(self._name(video, instance), ())
        if photos:
            return [photos[at] for at in _spread(len(photos), self._most)]
        videos = [video, *(one for one in self._alike(video, instance) if one.video != video.video)]
        cut = ([*self._cuttings(one, instance, held)] for held in (False, True) for one in videos)
        return next((list[Path | Cutting](some) for some in cut if some), [])

    def _alike(self, video: Video, instance: int) -> list[Video]:
        """Videos of the same split in which the number is the same product."""
        if (None, instance) not in self._names:  # numbers are of one video each
            return []
        return [one for one in self._set.videos.values() if one.split == video.split]

    def _cuttings(self, video: Video, instance: int, held: bool) -> Iterator[Cutting]:
        """Where something is done with it, or nothing; spread over its track."""
        if video.path is None:
            return
        own = self._set.tracks[video.video].of(instance)
        rows = np.flatnonzero(own.active == held)
        for row in rows[_spread(len(rows), self._most)]:
            t = int(own.tick5[row]) / TICKS_PER_SECOND
            yield Cutting(self._set.root / video.path, t, tuple(own.box[row].tolist()))

    def products(self, videos: Iterable[Video]) -> set[str]:
        """The names of those with which something is done in `videos`, and of all that worlds sell."""
        seen = list(videos)
        handled = {self._name(one, event.instance) for one in seen for event in self._set.events[one.video]}
        return handled | set(real_products(seen, self._set.names.instances).values())

    def learned(self, videos: Iterable[Video]) -> set[str]:
        """All that `videos` or photographs may teach."""
        return self.products(videos) | set(self._photos)

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
    return crop_image(_shown(one.video, one.t), one.box)


def _shown(path: Path, t: float) -> NDArray[np.uint8]:
    """The picture at `t`; the last one where `t` is the end, which is known to about a frame."""
    with VideoFile(path, sample_fps=TICKS_PER_SECOND) as video:
        end = max(frame.t for frame in video) if video.duration is None else video.duration
        return video.frame_at(min(t, end)).image


def _told(one: Path | Cutting) -> list[object]:
    path = one if isinstance(one, Path) else one.video
    seen = path.stat()
    where = [] if isinstance(one, Path) else [one.t, one.box]
    return [str(path), seen.st_size, seen.st_mtime_ns, *where]
