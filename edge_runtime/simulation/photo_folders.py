"""A shop's own pictures in the checkout world: products from a folder of photographs, backdrops from another.

A folder of products has one sub-folder of photographs for each product. The last third of each product's
photographs, by name, is kept for questions and never drawn, so that nobody is asked with what was filmed.

Letters: H, W photograph; S side of a face.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.imaging.decode import read_image
from edge_runtime.simulation.config import WorldConfig
from edge_runtime.simulation.product_images import Photographed
from edge_runtime.simulation.rng import Use, between, mix, unit
from edge_runtime.simulation.space import Size
from edge_runtime.simulation.world import World
from engines.errors import LvmError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
LARGEST_SIDE_PX = 192
"""Photographs are kept no larger: a close-up in a picture 640 wide is hardly larger than this."""
_KEPT = 384
_KEPT_BACKDROPS = 8
_BACKDROP_SIDE_PX = 1280
_FACE_SIDE_PX = 160


def product_photos(
    folder: Path, only: Sequence[str] | None = None, *, least: int = 2
) -> dict[str, tuple[Path, ...]]:
    """The photographs of each product below `folder`, both sorted by name; `only` those products.

    Raises LvmError where there are none, where a product of `only` is unknown, and where a product has less
    than `least` photographs: of two one is drawn, another asks.
    """
    found = {
        place.name: _pictures(place.iterdir())
        for place in sorted(_entries(folder, "of products"))
        if place.is_dir() and (only is None or place.name in only)
    }
    if missing := sorted(set(only or ()) - set(found)):
        raise LvmError(f"{folder} has no product {', '.join(missing)}; each is a sub-folder of that name")
    if not found:
        raise LvmError(f"{folder} has no products: expected one sub-folder of photographs for each")
    for name, photos in found.items():
        if len(photos) < least:
            raise LvmError(
                f"{folder / name} has {len(photos)} photographs ({', '.join(sorted(SUFFIXES))}): expected at "
                "least two, one to draw and one to ask with"
            )
    return found


def drawn(count: int, query_share: float = 1 / 3) -> int:
    """How many of a product's `count` photographs are drawn and learned from; the others, the last, ask.

    One always asks, and one is drawn where there are two.
    """
    return count - min(max(round(count * query_share), 1), max(count - 1, 1)) if count else 0


class PhotoFaces:
    """Faces cut out of real photographs: world product i is one of the folder's, in an order of the seed.

    No product comes twice before all have come once. Every face is the middle of another photograph, in a
    soft-edged ellipse or rounded square.
    """

    def __init__(
        self,
        folder: Path,
        seed: int,
        *,
        only: Sequence[str] | None = None,
        query_share: float = 1 / 3,
        side: int = _FACE_SIDE_PX,
    ) -> None:
        """`query_share` of each product's photographs, the last by name, are never drawn."""
        if not 0.0 < query_share < 1.0:
            raise ValueError(f"query_share must be in 0..1, got {query_share}")
        self._photos = product_photos(folder, only)
        self._seed = seed
        self._side = side
        self._query_share = query_share
        self.products = tuple(sorted(self._photos, key=lambda name: mix(seed, Use.FACE, *name.encode())))

    def product(self, instance: int) -> str:
        """Name of the folder that world product `instance` is taken from."""
        return self.products[instance % len(self.products)]

    def views(self, instance: int) -> int:
        """How many of the product's photographs are drawn."""
        return drawn(len(self._of(instance)), self._query_share)

    def query_views(self, instance: int) -> range:
        """Numbers of the product's photographs that are never drawn."""
        return range(self.views(instance), len(self._of(instance)))

    def photo(self, instance: int, view: int) -> NDArray[np.uint8]:
        """(H, W, 3) RGB photograph number `view`, at most 192 pixels large, read-only."""
        photos = self._of(instance)
        if not 0 <= view < len(photos):
            raise ValueError(f"view of {self.product(instance)} must be in 0..{len(photos) - 1}, got {view}")
        return _small(photos[view])

    def face(self, instance: int, view: int = 0) -> NDArray[np.uint8]:
        """(S, S, 4) RGBA: the middle of photograph `view`, which must be one that is drawn."""
        if not 0 <= view < self.views(instance):
            raise ValueError(
                f"view of {self.product(instance)} must be in 0..{self.views(instance) - 1} to be drawn, "
                f"got {view}"
            )
        key = (self._seed, Use.FACE, instance, view)
        photo = _middle(_small(self._of(instance)[view]), between(0.62, 0.92, *key, 0))
        method = cv2.INTER_AREA if len(photo) > self._side else cv2.INTER_LINEAR
        rgb = cv2.resize(photo, (self._side, self._side), interpolation=method)
        return np.dstack([np.asarray(rgb, np.uint8), _mask(self._side, *key)])

    def _of(self, instance: int) -> tuple[Path, ...]:
        return self._photos[self.product(instance)]


class FolderBackdrop:
    """A real picture behind the fixtures: which one and which part of it is up to the seed."""

    def __init__(self, folder: Path, seed: int) -> None:
        pictures = _pictures(path for path in sorted(_entries(folder, "of backgrounds", deep=True)))
        if not pictures:
            raise LvmError(f"{folder} has no backgrounds: expected {', '.join(sorted(SUFFIXES))} in it")
        self._path = pictures[mix(seed, Use.BACKDROP, 1) % len(pictures)]
        self._seed = seed

    def picture(self, size: Size) -> NDArray[np.uint8]:
        """(H, W, 3) RGB: a part of the picture at least half as large as it, of the room's shape."""
        photo = _backdrop(self._path)
        key = (self._seed, Use.BACKDROP)
        share = between(0.5, 1.0, *key, 2)
        # The room is 16:9 whatever the shape of the picture that it is drawn in.
        width = share * min(photo.shape[1], photo.shape[0] * 16 / 9)
        height = width * 9 / 16
        x, y = unit(*key, 3) * (photo.shape[1] - width), unit(*key, 4) * (photo.shape[0] - height)
        part = photo[int(y) : int(y + height) + 1, int(x) : int(x + width) + 1]
        if unit(*key, 5) < 0.5:
            part = part[:, ::-1]
        method = cv2.INTER_AREA if part.shape[1] > size[1] else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(part, (size[1], size[0]), interpolation=method), np.uint8)


def make_world(
    config: WorldConfig,
    products: Path | None = None,
    backgrounds: Path | None = None,
    only: Sequence[str] | None = None,
    dress: Callable[[Photographed], Photographed] | None = None,
) -> World:
    """The world of `config` with real `products` (`only` those names) and `backgrounds` where given.

    `dress` changes how products look. Where there are fewer products than the config has instances, there
    are so many instances: two that look the same could not be told apart by any question.
    """
    backdrop = FolderBackdrop(backgrounds, config.seed) if backgrounds else None
    if products is None:
        if only is not None:
            raise LvmError("only some products can be drawn of a folder of products; name the folder as well")
        return World(config, backdrop=backdrop)
    faces = PhotoFaces(products, config.seed, only=only)
    instances = min(config.instances, len(faces.products))
    fewer = config.model_validate({**config.model_dump(), "instances": instances})
    return World(fewer, faces=dress(faces) if dress else faces, backdrop=backdrop)


def _entries(folder: Path, purpose: str, *, deep: bool = False) -> list[Path]:
    try:
        if not folder.is_dir():
            raise LvmError(f"there is no folder {purpose} at {folder}; correct the path")
        return list(folder.rglob("*") if deep else folder.iterdir())
    except OSError as error:
        raise LvmError(f"the folder {purpose} {folder} cannot be read: {error.strerror}") from error


def _pictures(paths: Iterable[Path]) -> tuple[Path, ...]:
    return tuple(sorted(path for path in paths if path.suffix.lower() in SUFFIXES))


def _reduced(path: Path, side: int) -> NDArray[np.uint8]:
    """(H, W, 3) RGB, no side longer than `side`, read-only: caches share it among threads."""
    photo = read_image(path)
    scale = side / max(photo.shape[:2])
    if scale < 1.0:
        height, width = (max(round(length * scale), 1) for length in photo.shape[:2])
        photo = np.asarray(cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    photo.setflags(write=False)
    return photo


@lru_cache(maxsize=_KEPT)
def _small(path: Path) -> NDArray[np.uint8]:
    return _reduced(path, LARGEST_SIDE_PX)


def keep_photographs(count: int) -> None:
    """Keep `count` photographs, about 80 kB each, instead of a device's few: a training shows them all."""
    global _small
    _small = lru_cache(maxsize=count)(_small.__wrapped__)


@lru_cache(maxsize=_KEPT_BACKDROPS)
def _backdrop(path: Path) -> NDArray[np.uint8]:
    return _reduced(path, _BACKDROP_SIDE_PX)


def _middle(photo: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    """The square in the middle of `photo` (H, W, 3) whose side is `share` of the shorter one."""
    side = max(round(share * min(photo.shape[:2])), 1)
    top, left = (photo.shape[0] - side) // 2, (photo.shape[1] - side) // 2
    return photo[top : top + side, left : left + side]


def _mask(side: int, *key: int) -> NDArray[np.uint8]:
    """(S, S) opacity of an ellipse or a rounded square that varies with `key`, with a soft edge."""
    y, x = np.abs((np.indices((side, side)) + 0.5) / side - 0.5)  # (S, S) each, 0 in the middle
    narrow = between(0.62, 1.0, *key, 2)
    rx, ry = (0.49 * narrow, 0.49) if unit(*key, 3) < 0.6 else (0.49, 0.49 * narrow)
    power = 2.0 if unit(*key, 1) < 0.5 else 6.0
    distance = ((x / rx) ** power + (y / ry) ** power) ** (1.0 / power)  # 1 at the outline
    soft = np.clip((1.0 - distance) / 0.08, 0.0, 1.0)
    # What can hardly be seen must not count as product.
    return np.where(soft < 0.12, 0.0, 255.0 * soft).astype(np.uint8)
