"""Read a folder of images, or one image, as a source: in name order, at a steady rate."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from pathlib import Path

from edge_runtime.frame import Frame
from edge_runtime.imaging.decode import read_image
from edge_runtime.sources.base import BaseSource
from edge_runtime.sources.clocks import SampleClock
from engines.errors import LvmError

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


class ImageFolder(BaseSource):
    """The images of a folder (not of its sub-folders), image i at i / `rate` seconds.

    `rate` is `sample_fps` unless given. A path of one image is a source of one frame. Unreadable images are
    counted, logged and leave a gap. Raises LvmError where there is no image.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        sample_fps: float,
        start: float = 0.0,
        rate: float | None = None,
    ) -> None:
        self._rate = sample_fps if rate is None else rate
        self._sample_fps, self._start = sample_fps, start
        SampleClock(sample_fps), SampleClock(self._rate)  # wrong rates fail here, not in the first iteration
        self._images = list_images(Path(path))
        super().__init__(str(path), live=False, duration=len(self._images) / self._rate)

    def __iter__(self) -> Iterator[Frame]:
        clock = SampleClock(self._sample_fps)
        for index, path in enumerate(self._images):
            t = index / self._rate
            if self.closed:
                return
            if not clock.accept(t) or t < self._start:
                continue
            try:
                image = read_image(path)
            except LvmError as error:
                if len(self._images) == 1:
                    raise
                self.tally.skip(str(error))
                continue
            self.tally.seen += 1
            yield Frame(image, t, max(1 / self._rate, 1 / self._sample_fps))


def list_images(path: Path) -> list[Path]:
    """Return the images that `path` names, in name order. Raises LvmError where there is none."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise LvmError(f"{path}: there is no such folder")
    images = sorted(child for child in path.iterdir() if is_image(child) and child.is_file())
    if not images:
        raise LvmError(f"{path} holds no image: expected {', '.join(sorted(IMAGE_SUFFIXES))} files")
    return images


def is_image(path: Path) -> bool:
    """Return whether the name is that of a still image. GIFs count as videos."""
    return path.suffix.lower() in IMAGE_SUFFIXES
