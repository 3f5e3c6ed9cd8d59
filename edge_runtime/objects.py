"""From a photo, a box in a picture or a catalogue name to the 49 tokens that stand for an object."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import Frame
from edge_runtime.images import read_image
from edge_runtime.mosaic import mosaic
from edge_runtime.queries import BoxInFrame, Photos, Product, QueryError, nearest, printable
from engines.spec import Engine

FrameAt = Callable[[float], Frame]
Image = NDArray[np.uint8]

CACHED = 256
_PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}


class EncodesObjects(Protocol):
    """Anything that knows the tokens (49, d) of a question's object."""

    def encode(self, wanted: Photos | BoxInFrame | Product) -> NDArray[np.float32]: ...


class ObjectEncoder:
    """Encodes the object of a question; the last 256 are cached by content. Safe for several threads.

    `frame_at` gives the picture shown at a time, for a box; `catalogue` is a folder of one sub-folder of
    photos a product. Raises QueryError where a question needs what is not there.
    """

    def __init__(
        self, backbone: Engine, image_size: int, *, frame_at: FrameAt | None, catalogue: Path | None
    ) -> None:
        self._backbone = backbone
        self._size = image_size
        self._frame_at = frame_at
        self._catalogue = catalogue
        self._cache: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()

    def encode(self, wanted: Photos | BoxInFrame | Product) -> NDArray[np.float32]:
        """Tokens (49, d); several photos are pooled by their mean."""
        images = [mosaic(image, self._size) for image in self._images(wanted)]
        return np.asarray(np.mean([self._tokens(image) for image in images], axis=0), np.float32)

    def forget(self) -> None:
        """Empty the cache: it may hold what was cut out of a picture that is to be forgotten."""
        with self._lock:
            self._cache.clear()

    def products(self) -> list[str]:
        """Names that the catalogue knows."""
        if self._catalogue is None or not self._catalogue.is_dir():
            return []
        return sorted(folder.name for folder in self._catalogue.iterdir() if folder.is_dir())

    def _images(self, wanted: Photos | BoxInFrame | Product) -> Iterator[Image]:
        """One after another: sixteen large photos at once would take gigabytes."""
        if isinstance(wanted, Photos):
            yield from map(read_image, wanted.photos)
        elif isinstance(wanted, BoxInFrame):
            yield self._cut(wanted)
        else:
            yield from map(read_image, self._catalogue_photos(wanted.product))

    def _cut(self, wanted: BoxInFrame) -> Image:
        if self._frame_at is None:
            raise QueryError(
                "a box needs the picture that it lies in: ask the running process, or ask where the source "
                "file is still in its place"
            )
        return cut_out(self._frame_at(wanted.t).image, wanted.box)

    def _catalogue_photos(self, name: str) -> list[Path]:
        known = self.products()
        if self._catalogue is None or name not in known:
            hint = (
                f"nearest is {nearest(name, known)!r}, known are {', '.join(known[:8])}"
                if known
                else "no catalogue is configured (objects.catalogue)"
            )
            raise QueryError(printable(f"product {name!r} is not in the catalogue; {hint}"))
        photos = sorted(p for p in (self._catalogue / name).iterdir() if p.suffix.lower() in _PICTURES)
        if not photos:
            raise QueryError(f"product {name!r} has no photos in {self._catalogue / name}")
        return photos[:16]

    def _tokens(self, image: Image) -> NDArray[np.float32]:
        key = hashlib.sha256(image.tobytes()).hexdigest()
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        tokens: NDArray[np.float32] = self._backbone({"image": image[None]})["tokens"][0]  # (49, d)
        with self._lock:
            self._cache[key] = tokens
            while len(self._cache) > CACHED:
                self._cache.popitem(last=False)
        return tokens


def cut_out(image: Image, box: Sequence[float]) -> Image:
    """The part of `image` (H, W, 3) in `box`, xyxy in 0..1; at least one pixel, however thin the box."""
    height, width = image.shape[:2]
    x1, y1, x2, y2 = box
    left, top = int(x1 * width), int(y1 * height)
    right, bottom = max(left + 1, round(x2 * width)), max(top + 1, round(y2 * height))
    return np.ascontiguousarray(image[top:bottom, left:right])
