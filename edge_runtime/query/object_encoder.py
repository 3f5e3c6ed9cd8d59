"""Encode an object (photos, a box in a picture, a catalogue name) as 49 tokens."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_runtime.catalogue.photos import crop_image as crop_image
from edge_runtime.catalogue.store import Catalogue, Photo
from edge_runtime.frame import Frame
from edge_runtime.imaging.decode import read_image
from edge_runtime.query.photo_mosaic import make_mosaic
from edge_runtime.query.schema import BoxInFrame, Photos, Product
from edge_runtime.system.errors import QueryError
from edge_runtime.system.text import printable
from engines.network_config import NetworkConfig
from engines.spec import Engine

FrameAt = Callable[[float], Frame]
Image = NDArray[np.uint8]

CACHED = 256
K = TypeVar("K", bound=Hashable)


class ObjectTokens(Protocol):
    """Returns the tokens (49, d) of a question's object."""

    def encode(self, item: Photos | BoxInFrame | Product) -> NDArray[np.float32]: ...


class ObjectEncoder:
    """Encodes the object of a question; the last 256 are cached by content. Safe for several threads.

    `frame_at` returns the picture of a time, for boxes; `catalogue` has the products that a question may
    name. Raises QueryError where a question needs what is missing.
    """

    def __init__(
        self,
        backbone: Engine,
        network: NetworkConfig,
        *,
        frame_at: FrameAt | None,
        catalogue: Catalogue | None,
    ) -> None:
        self._backbone = backbone
        self._network = network
        self._frame_at = frame_at
        self._catalogue = catalogue
        self._cache: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._products: OrderedDict[tuple[Photo, ...], NDArray[np.float32]] = OrderedDict()
        """By the photos' files with times and sizes, so that a changed file is encoded again."""
        self._lock = threading.Lock()

    def encode(self, item: Photos | BoxInFrame | Product) -> NDArray[np.float32]:
        """Return the tokens (49, d); several photos are pooled by their mean."""
        if isinstance(item, Product):
            return self._product(item.product)
        return self._pooled([self._cut(item)] if isinstance(item, BoxInFrame) else item.photos)

    def forget(self) -> None:
        """Empty the caches: they may hold cut-outs of a picture that is to be forgotten."""
        with self._lock:
            self._cache.clear()
            self._products.clear()

    def products(self) -> list[str]:
        """Return the names in the catalogue."""
        return [] if self._catalogue is None else self._catalogue.list_products()

    def _product(self, name: str) -> NDArray[np.float32]:
        """Encode a product of the catalogue; its photos are read once, and again when they change."""
        if self._catalogue is None:
            raise QueryError(
                printable(f"product {name!r} is not in the catalogue; no catalogue is configured")
            )
        catalogue = self._catalogue
        photos = tuple(catalogue.list_photos(name))
        if not photos:
            raise QueryError(printable(f"product {name!r} {catalogue.explain_empty(name)}"))
        return _cached(
            self._products, photos, self._lock, lambda: self._pooled(map(catalogue.load_image, photos))
        )

    def _pooled(self, pictures: Iterable[bytes | Image]) -> NDArray[np.float32]:
        """Return the mean tokens.

        One picture after another: sixteen large photos at once would take gigabytes.
        """
        tokens = []
        for picture in pictures:
            image = picture if isinstance(picture, np.ndarray) else read_image(picture)
            tokens.append(self._tokens(make_mosaic(image, self._network)))
        return np.asarray(np.mean(tokens, axis=0), np.float32)

    def _cut(self, region: BoxInFrame) -> Image:
        if self._frame_at is None:
            raise QueryError(
                "a box needs the picture that it lies in: ask the running process, or ask where the source "
                "file is still in its place"
            )
        return crop_image(self._frame_at(region.t).image, region.box)

    def _tokens(self, image: Image) -> NDArray[np.float32]:
        """Return the tokens (49, d) of a picture (S, S, 3), cached by its content."""
        key = hashlib.sha256(image.tobytes()).hexdigest()

        def run() -> NDArray[np.float32]:
            tokens: NDArray[np.float32] = self._backbone({"image": image[None]})["tokens"][0]
            return tokens

        return _cached(self._cache, key, self._lock, run)


def _cached(
    cache: OrderedDict[K, NDArray[np.float32]],
    key: K,
    lock: threading.Lock,
    make: Callable[[], NDArray[np.float32]],
) -> NDArray[np.float32]:
    """Return the cached value, or make it outside the lock; the least recently used values are dropped."""
    with lock:
        if key in cache:
            cache.move_to_end(key)
            return cache[key]
    made = make()
    with lock:
        cache[key] = made
        while len(cache) > CACHED:
            cache.popitem(last=False)
    return made
