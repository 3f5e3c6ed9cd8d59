"""Read a folder of images, or one image, as a source: in number order, at a steady rate."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

from edge_runtime.frame import Frame
from edge_runtime.imaging.decode import read_image
from edge_runtime.sources.base import BaseSource, Bookmark
from edge_runtime.sources.clocks import SampleClock
from engines.errors import LvmError

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
POLL_S = 0.5
"""How often a folder that is followed is looked at."""
WRITTEN_S = 1.0
"""The newest image of such a folder counts as complete when it has not changed for so long."""
REMEMBERED = 256
"""Names of newest images, more than the frames that may be under way."""


class ImageFolder(BaseSource):
    """The images of a folder (not of its sub-folders) in number order, one in 1 / `rate` seconds.

    `rate` is `sample_fps` unless given. The first image is at 0 s; with a `bookmark`, those behind it follow
    it, whatever was deleted before it. Images that come while the folder is read are read as well; with
    `follow`, they are waited for until the source is closed. A path of one image is a source of one frame.
    Unreadable images are counted, logged and leave a gap. Raises LvmError where there is no image.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        sample_fps: float,
        start: float = 0.0,
        rate: float | None = None,
        follow: bool = False,
        bookmark: Bookmark | None = None,
    ) -> None:
        self._rate = sample_fps if rate is None else rate
        self._sample_fps, self._start = sample_fps, start
        SampleClock(sample_fps), SampleClock(self._rate)  # wrong rates fail here, not in the first iteration
        self._path, self._follow, self._bookmark = Path(path), follow, bookmark
        images = list_images(self._path, may_be_empty=follow or bookmark is not None)
        super().__init__(str(path), live=False, duration=None if follow else len(images) / self._rate)
        self.paced = follow
        self._names: deque[Bookmark] = deque(maxlen=REMEMBERED)

    def __iter__(self) -> Iterator[Frame]:
        clock = SampleClock(self._sample_fps)
        begun = -1 / self._rate if self._bookmark is None else self._bookmark[0]
        for number, path in enumerate(self._images(), 1):
            t = round(begun + number / self._rate, 9)
            if self.closed:
                return
            if not clock.accept(t) or t < self._start:
                continue
            try:
                image = read_image(path)
            except LvmError as error:
                if self._path.is_file():
                    raise
                if path.exists():  # else it was deleted meanwhile
                    self.tally.skip(str(error))
                continue
            self.tally.seen += 1
            self._names.append((t, path.name))
            yield Frame(image, t, max(1 / self._rate, 1 / self._sample_fps))

    def bookmark_at(self, t: float) -> Bookmark | None:
        """Return the time and name of the image that was given at `t` seconds, or last before it."""
        return next((mark for mark in reversed(tuple(self._names)) if mark[0] <= t), None)

    def _images(self) -> Iterator[Path]:
        """Yield the images behind the bookmark, those that come meanwhile too."""
        last = None if self._bookmark is None else make_sort_key(self._bookmark[1])
        while not self.closed:
            images = list_images(self._path, may_be_empty=True)
            new = [path for path in images if last is None or make_sort_key(path.name) > last]
            if self._follow and new and not _is_written(new[-1]):
                new.pop()
            for path in new:
                last = make_sort_key(path.name)
                yield path
            if not new and (not self._follow or self._closed.wait(POLL_S)):
                return


def list_images(path: Path, *, may_be_empty: bool = False) -> list[Path]:
    """Return the images that `path` names, in number order. Raises LvmError where there is none."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise LvmError(f"{path}: there is no such folder")
    images = sorted(
        (child for child in path.iterdir() if is_image(child) and child.is_file()),
        key=lambda child: make_sort_key(child.name),
    )
    if not images and not may_be_empty:
        raise LvmError(f"{path} holds no image: expected {', '.join(sorted(IMAGE_SUFFIXES))} files")
    return images


def make_sort_key(name: str) -> tuple[list[str | int], str]:
    """Return what orders names by the numbers in them: frame_2 before frame_10."""
    parts = re.split(r"(\d+)", name)
    return [int(part) if index % 2 else part.casefold() for index, part in enumerate(parts)], name


def is_image(path: Path) -> bool:
    """Return whether the name is that of a still image. GIFs count as videos."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _is_written(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime >= WRITTEN_S
    except OSError:
        return False
