"""Draw a shop's own pictures: products from a folder of photographs, backdrops from another.

A folder of products has one sub-folder of photographs for each product. The last third of each product's
photographs, by name, is reserved for questions and never drawn: no question uses a picture of the stream.

Letters: H, W photograph; S side of a face.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.imaging.cut_out import cut_square, outline_product
from edge_runtime.imaging.decode import read_image
from edge_runtime.imaging.jpeg import shrink
from edge_runtime.simulation.config import WorldConfig
from edge_runtime.simulation.product_images import PhotographedFaces
from edge_runtime.simulation.rng import Use, between, mix, unit
from edge_runtime.simulation.space import Size
from edge_runtime.simulation.world import World
from engines.errors import LvmError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
MAX_SIDE_PX = 192
"""Photographs are shrunk to this side: a close-up in a picture 640 wide is hardly larger."""
_CACHED_PHOTOS = 384
_CACHED_BACKDROPS = 8
_BACKDROP_SIDE_PX = 1280
_FACE_SIDE_PX = 160


def list_product_photos(
    folder: Path, only: Sequence[str] | None = None, *, min_photos: int = 2
) -> dict[str, tuple[Path, ...]]:
    """Return the photographs of each product below `folder`, both sorted by name; `only` those products.

    Raises LvmError where there are none, where a product of `only` is unknown, and where a product has less
    than `min_photos` photographs: with two, one is drawn and one is for questions.
    """
    products = {
        path.name: _select_pictures(path.iterdir())
        for path in sorted(_list_entries(folder, "of products"))
        if path.is_dir() and (only is None or path.name in only)
    }
    if missing := sorted(set(only or ()) - set(products)):
        raise LvmError(f"{folder} has no product {', '.join(missing)}; each is a sub-folder of that name")
    if not products:
        raise LvmError(f"{folder} has no products: expected one sub-folder of photographs for each")
    for name, photos in products.items():
        if len(photos) < min_photos:
            raise LvmError(
                f"{folder / name} has {len(photos)} photographs ({', '.join(sorted(SUFFIXES))}): expected at "
                "least two, one to draw and one for questions"
            )
    return products


def count_drawn(count: int, query_share: float = 1 / 3) -> int:
    """Return how many of a product's `count` photographs are drawn and trained on; the rest is for questions.

    At least one is for questions, and at least one is drawn where there are two.
    """
    return count - min(max(round(count * query_share), 1), max(count - 1, 1)) if count else 0


class PhotoFaces:
    """Faces cut out of real photographs: world product i is one of the folder's, in an order of the seed.

    No product is used twice before all are used once. Every face is cut out of another photograph along the
    product's outline; where none is found, it is the photograph's middle, in a soft-edged ellipse or rounded
    square.
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
        self._photos = list_product_photos(folder, only)
        self._seed = seed
        self._side = side
        self._query_share = query_share
        self.products = tuple(sorted(self._photos, key=lambda name: mix(seed, Use.FACE, *name.encode())))

    def product(self, instance: int) -> str:
        """Return the name of the folder of world product `instance`."""
        return self.products[instance % len(self.products)]

    def views(self, instance: int) -> int:
        """Return how many of the product's photographs are drawn."""
        return count_drawn(len(self._paths(instance)), self._query_share)

    def query_views(self, instance: int) -> range:
        """Return the numbers of the product's photographs that are never drawn."""
        return range(self.views(instance), len(self._paths(instance)))

    def photo(self, instance: int, view: int) -> NDArray[np.uint8]:
        """Return photograph number `view`, (H, W, 3) RGB, at most 192 pixels large, read-only."""
        photos = self._paths(instance)
        if not 0 <= view < len(photos):
            raise ValueError(f"view of {self.product(instance)} must be in 0..{len(photos) - 1}, got {view}")
        return _load_photo(photos[view])

    def face(self, instance: int, view: int = 0) -> NDArray[np.uint8]:
        """Return (S, S, 4) RGBA, the product of photograph `view`, which must be a drawn one."""
        if not 0 <= view < self.views(instance):
            raise ValueError(
                f"view of {self.product(instance)} must be in 0..{self.views(instance) - 1} to be drawn, "
                f"got {view}"
            )
        path = self._paths(instance)[view]
        outline = _find_outline(path)
        if outline is not None:
            return _resize_square(cut_square(_load_photo(path), outline), self._side)
        key = (self._seed, Use.FACE, instance, view)
        photo = _crop_middle(_load_photo(path), between(0.62, 0.92, *key, 0))
        return np.dstack([_resize_square(photo, self._side), _make_mask(self._side, *key)])

    def _paths(self, instance: int) -> tuple[Path, ...]:
        return self._photos[self.product(instance)]


class FolderBackdrop:
    """A real picture behind the fixtures; the seed chooses the picture and the part of it."""

    def __init__(self, folder: Path, seed: int) -> None:
        pictures = _select_pictures(_list_entries(folder, "of backgrounds", deep=True))
        if not pictures:
            raise LvmError(f"{folder} has no backgrounds: expected {', '.join(sorted(SUFFIXES))} in it")
        self._path = pictures[mix(seed, Use.BACKDROP, 1) % len(pictures)]
        self._seed = seed

    def picture(self, size: Size) -> NDArray[np.uint8]:
        """Return (H, W, 3) RGB: a part of the picture, at least half as large as it, of the room's shape."""
        photo = _load_backdrop(self._path)
        key = (self._seed, Use.BACKDROP)
        share = between(0.5, 1.0, *key, 2)
        # The room is 16:9 whatever the shape of the drawn picture.
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
    restyle: Callable[[PhotographedFaces], PhotographedFaces] | None = None,
) -> World:
    """Return the world of `config`, with real `products` (`only` those names) and `backgrounds` where given.

    `restyle` changes how products look. With fewer products than the config has instances, the world has as
    many instances as products: no question could distinguish two instances of one product.
    """
    backdrop = FolderBackdrop(backgrounds, config.seed) if backgrounds else None
    if products is None:
        if only is not None:
            raise LvmError(
                "only a folder of products can be limited to some products; name the folder as well"
            )
        return World(config, backdrop=backdrop)
    faces = PhotoFaces(products, config.seed, only=only)
    instances = min(config.instances, len(faces.products))
    fewer = config.model_validate({**config.model_dump(), "instances": instances})
    return World(fewer, faces=restyle(faces) if restyle else faces, backdrop=backdrop)


def _list_entries(folder: Path, purpose: str, *, deep: bool = False) -> list[Path]:
    try:
        if not folder.is_dir():
            raise LvmError(f"there is no folder {purpose} at {folder}; correct the path")
        return list(folder.rglob("*") if deep else folder.iterdir())
    except OSError as error:
        raise LvmError(f"the folder {purpose} {folder} cannot be read: {error.strerror}") from error


def _select_pictures(paths: Iterable[Path]) -> tuple[Path, ...]:
    return tuple(sorted(path for path in paths if path.suffix.lower() in SUFFIXES))


def _load_reduced(path: Path, side: int) -> NDArray[np.uint8]:
    """Return (H, W, 3) RGB, no side longer than `side`, read-only: caches share it among threads."""
    photo = shrink(read_image(path), side)
    photo.setflags(write=False)
    return photo


@lru_cache(maxsize=_CACHED_PHOTOS)
def _load_photo(path: Path) -> NDArray[np.uint8]:
    return _load_reduced(path, MAX_SIDE_PX)


@lru_cache(maxsize=_CACHED_PHOTOS)
def _find_outline(path: Path) -> NDArray[np.uint8] | None:
    return outline_product(_load_photo(path))


def set_photo_cache(count: int) -> None:
    """Cache `count` photographs, about 110 kB each, and not a device's few: a training draws them all."""
    global _load_photo, _find_outline
    _load_photo = lru_cache(maxsize=count)(_load_photo.__wrapped__)
    _find_outline = lru_cache(maxsize=count)(_find_outline.__wrapped__)


@lru_cache(maxsize=_CACHED_BACKDROPS)
def _load_backdrop(path: Path) -> NDArray[np.uint8]:
    return _load_reduced(path, _BACKDROP_SIDE_PX)


def _resize_square(square: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    method = cv2.INTER_AREA if len(square) > side else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(square, (side, side), interpolation=method), np.uint8)


def _crop_middle(photo: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    """Return the square in the middle of `photo` (H, W, 3) whose side is `share` of the shorter one."""
    side = max(round(share * min(photo.shape[:2])), 1)
    top, left = (photo.shape[0] - side) // 2, (photo.shape[1] - side) // 2
    return photo[top : top + side, left : left + side]


def _make_mask(side: int, *key: int) -> NDArray[np.uint8]:
    """Return the (S, S) opacity of an ellipse or rounded square that varies with `key`, with a soft edge."""
    y, x = np.abs((np.indices((side, side)) + 0.5) / side - 0.5)  # (S, S) each, 0 in the middle
    narrow = between(0.62, 1.0, *key, 2)
    rx, ry = (0.49 * narrow, 0.49) if unit(*key, 3) < 0.6 else (0.49, 0.49 * narrow)
    power = 2.0 if unit(*key, 1) < 0.5 else 6.0
    distance = ((x / rx) ** power + (y / ry) ** power) ** (1.0 / power)  # 1 at the outline
    soft = np.clip((1.0 - distance) / 0.08, 0.0, 1.0)
    # Hardly visible pixels must not count as product.
    return np.where(soft < 0.12, 0.0, 255.0 * soft).astype(np.uint8)
