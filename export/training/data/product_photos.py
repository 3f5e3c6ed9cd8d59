"""Photos of real products as training material: a folder with one sub-folder of photos for each product.

Letters: N images of a batch, P photos, S side of a training image, K side of a stored photo.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.imaging.decode import read_image
from edge_runtime.simulation.photo_folders import count_drawn, list_product_photos
from engines.errors import LvmError
from export.data.once_cache import made_once, short
from export.training.data.photo_augmentation import Image, augmented, paste, relit

STORED_SIDE = 160
"""Pixels of the longer side of a stored photo; 3,166 photos are 243 MB."""
EVERY = 4


def held_out_products(names: Sequence[str]) -> tuple[str, ...]:
    """The products that are never trained on: every fourth of the sorted names, the fourth first.

    Names that begin alike stand together, so each kind (cartons, cups, fruit, vegetables) is on both sides,
    and most of what is held out has a look-alike that was trained on.
    """
    return tuple(sorted(names)[EVERY - 1 :: EVERY])


def photos_to_learn_from(
    folder: Path, held_out: Sequence[str] = (), *, some_ask: bool = False
) -> dict[str, tuple[Path, ...]]:
    """The photos of each product of `folder` that is not held out; where `some_ask`, those that do not.

    Raises LvmError for a name in `held_out` that the folder lacks: a slip would train on the test.
    """
    folders = list_product_photos(folder, min_photos=0 if some_ask else 2)
    if unknown := sorted(set(held_out) - set(folders)):
        raise LvmError(f"held-out products must be sub-folders of {folder}, got {', '.join(unknown)}")
    kept = {
        name: photos[: count_drawn(len(photos))] if some_ask else photos
        for name, photos in folders.items()
        if name not in held_out
    }
    return {name: photos for name, photos in kept.items() if photos}


@dataclass(frozen=True)
class Composite:
    """A product pasted into a picture: `box` xyxy in shares of it, `label` the product's index in `names`."""

    image: Image
    box: tuple[float, float, float, float]
    label: int


class PhotoSet:
    """All photos of all products that are trained on, small, in memory or mapped from `cache`.

    `names` are the products in the order of their labels. The same generator state gives the same batch.
    """

    def __init__(
        self,
        folder: Path,
        held_out: Sequence[str] = (),
        *,
        some_ask: bool = False,
        cache: Path | None = None,
        stored_side: int = STORED_SIDE,
    ) -> None:
        """Raises LvmError for a name in `held_out` that the folder lacks.

        Where `some_ask`, questions show the last third of each product's photos, which are left out.
        """
        kept = photos_to_learn_from(folder, held_out, some_ask=some_ask)
        if len(kept) < 2:
            raise LvmError(f"{folder} must have at least 2 products to train on, got {len(kept)}")
        self.names = tuple(kept)
        files = [photo for photos in kept.values() for photo in photos]
        which = f"{folder.absolute()} {sorted(held_out)} {some_ask} {stored_side}"
        self._photos, self._sizes = _stored(files, stored_side, cache, which)
        counts = [len(photos) for photos in kept.values()]
        self._owner = np.repeat(np.arange(len(kept)), counts)  # (P,) label of each photo
        self._starts = np.concatenate([[0], np.cumsum(counts)])  # (labels + 1,)

    def __len__(self) -> int:
        return len(self._owner)

    def photo(self, index: int) -> Image:
        """Photo `index` of all, its longer side `stored_side` pixels."""
        height, width = self._sizes[index]
        return self._photos[index, :height, :width]

    def batch(
        self, rng: np.random.Generator, products: int, photos_each: int, *, size: int = 112
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """`photos_each` augmented photos of each of `products` distinct products.

        Images (N, S, S, 3) and labels (N,), the photos of one product one after another; no photo twice
        where a product has enough.
        """
        if not 1 <= products <= len(self.names):
            raise LvmError(f"products must be in 1..{len(self.names)}, got {products}")
        chosen = rng.choice(len(self.names), products, replace=False)
        images = np.empty((products * photos_each, size, size, 3), np.uint8)
        for i, index in enumerate(j for label in chosen for j in self._pick(label, photos_each, rng)):
            images[i] = augmented(self.photo(index), self._other(index, rng), rng, size)
        return images, np.repeat(chosen, photos_each).astype(np.int64)

    def composite(
        self,
        rng: np.random.Generator,
        background: Image,
        *,
        share: tuple[float, float] = (0.12, 0.6),
        label: int | None = None,
    ) -> Composite:
        """A random product, or the one of `label`, on a copy of `background` (H, W, 3), as wide as a `share`.

        The product is lit, leant, cropped and turned at random; the background is left as it is.
        """
        index = int(rng.integers(len(self))) if label is None else self._pick(label, 1, rng)[0]
        patch = relit(_middle(self.photo(index), rng.uniform(0.65, 1.0)), rng)
        angle = float(rng.normal(0, 20))
        pasted = paste(background, patch, rng, share=float(rng.uniform(*share)), angle=angle)
        return Composite(pasted.image, pasted.box, int(self._owner[index]))

    def _pick(self, label: int, count: int, rng: np.random.Generator) -> list[int]:
        start, stop = int(self._starts[label]), int(self._starts[label + 1])
        return [start + int(i) for i in rng.choice(stop - start, count, replace=count > stop - start)]

    def _other(self, index: int, rng: np.random.Generator) -> Image:
        """A photo of another product."""
        start, stop = (int(self._starts[self._owner[index] + i]) for i in (0, 1))
        other = int(rng.integers(len(self) - (stop - start)))
        return self.photo(other if other < start else other + stop - start)


def _middle(photo: Image, share: float) -> Image:
    """The middle of a photo: that is where people put the product."""
    height, width = photo.shape[:2]
    y, x = round(height * (1 - share) / 2), round(width * (1 - share) / 2)
    return photo[y : height - y, x : width - x]


def _stored(
    files: list[Path], side: int, cache: Path | None, which: str
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Photos (P, K, K, 3) in their top left corners and their heights and widths (P, 2).

    Of `which` there is one version in `cache`.
    """
    if cache is None:
        return _read(files, side)

    def make(place: Path) -> None:
        photos, sizes = _read(files, side)
        np.save(place / "photos.npy", photos)
        np.save(place / "sizes.npy", sizes)

    place = made_once(cache, f"photos-{short(which)}", files_digest(files), make)
    return np.load(place / "photos.npy", mmap_mode="r"), np.load(place / "sizes.npy")


def _read(files: list[Path], side: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    photos = np.zeros((len(files), side, side, 3), np.uint8)
    sizes = np.empty((len(files), 2), np.int64)
    for i, file in enumerate(files):
        image = read_image(file)
        shrink = side / max(image.shape[:2])
        height, width = (min(max(round(length * shrink), 8), side) for length in image.shape[:2])
        how = cv2.INTER_AREA if shrink < 1 else cv2.INTER_LINEAR
        photos[i, :height, :width] = cv2.resize(image, (width, height), interpolation=how)
        sizes[i] = height, width
    return photos, sizes


def files_digest(files: Iterable[Path]) -> str:
    """Changes when a file comes, goes or is written anew."""
    said = "\n".join(f"{file.resolve()} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files)
    return short(said)


def folders_digest(folders: Iterable[Path]) -> str:
    """`files_digest` of all that lies in them, "" where nothing does."""
    files = [path for one in folders for path in sorted(one.rglob("*")) if path.is_file()]
    return files_digest(files) if files else ""
