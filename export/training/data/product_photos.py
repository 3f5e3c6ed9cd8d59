"""Load photos of real products for training from a folder with one sub-folder for each product.

Letters: N images of a batch, P photos, S side of a training image, K side of a stored photo.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.imaging.cut_out import find_extent, outline_product
from edge_runtime.imaging.decode import read_image
from edge_runtime.simulation.photo_folders import count_drawn, list_product_photos
from engines.errors import LvmError
from export.data.dir_cache import cached_dir, short_digest
from export.training.data.photo_augmentation import CutOut, Image, augment_photo, paste, relight

STORED_SIDE = 160
"""Pixels of the longer side of a stored photo; 3,166 photos and their outlines take 324 MB."""
HELD_OUT_EVERY = 4


def select_held_out(names: Sequence[str]) -> tuple[str, ...]:
    """Return the products that are never trained on: every fourth of the sorted names, the fourth first.

    Similar names are neighbours, so each kind (cartons, cups, fruit, vegetables) is on both sides, and most
    held-out products resemble one that was trained on.
    """
    return tuple(sorted(names)[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY])


def list_training_photos(
    folder: Path, held_out: Sequence[str] = (), *, without_queries: bool = False
) -> dict[str, tuple[Path, ...]]:
    """Return the photos of each product of `folder` that is not held out.

    `without_queries` leaves out the last third of each product's photos, which queries show. Raises LvmError
    for a name in `held_out` that the folder lacks: after a typing error the product would be trained on.
    """
    folders = list_product_photos(folder, min_photos=0 if without_queries else 2)
    if unknown := sorted(set(held_out) - set(folders)):
        raise LvmError(f"held-out products must be sub-folders of {folder}, got {', '.join(unknown)}")
    selected = {
        name: photos[: count_drawn(len(photos))] if without_queries else photos
        for name, photos in folders.items()
        if name not in held_out
    }
    return {name: photos for name, photos in selected.items() if photos}


@dataclass(frozen=True)
class Composite:
    """A picture with a pasted product: `box` xyxy in its shares, `label` the product's index in `names`."""

    image: Image
    box: tuple[float, float, float, float]
    label: int


class PhotoSet:
    """The photos of all training products, small, in memory or mapped from `cache`.

    `names` are the products in the order of their labels. The same generator state gives the same batch.
    """

    def __init__(
        self,
        folder: Path,
        held_out: Sequence[str] = (),
        *,
        without_queries: bool = False,
        cache: Path | None = None,
        stored_side: int = STORED_SIDE,
    ) -> None:
        """Load the photos of `list_training_photos`. Raises LvmError."""
        photos = list_training_photos(folder, held_out, without_queries=without_queries)
        if len(photos) < 2:
            raise LvmError(f"{folder} must have at least 2 products to train on, got {len(photos)}")
        self.names = tuple(photos)
        files = [file for of_product in photos.values() for file in of_product]
        key = f"{folder.absolute()} {sorted(held_out)} {without_queries} {stored_side} outlines"
        self._photos, self._sizes = _load_photos(files, stored_side, cache, key)
        counts = [len(of_product) for of_product in photos.values()]
        self._owner = np.repeat(np.arange(len(photos)), counts)  # (P,) label of each photo
        self._starts = np.concatenate([[0], np.cumsum(counts)])  # (labels + 1,)

    def __len__(self) -> int:
        return len(self._owner)

    def photo(self, index: int) -> Image:
        """Return photo number `index`, its longer side `stored_side` pixels."""
        height, width = self._sizes[index]
        return self._photos[index, :height, :width, :3]

    def cut_out(self, index: int) -> CutOut | None:
        """Return the product of photo number `index` along its outline; None where none was found."""
        height, width = self._sizes[index]
        mask = self._photos[index, :height, :width, 3]
        if not mask.any():
            return None
        extent = find_extent(mask)
        return CutOut(self._photos[index, :height, :width, :3][extent], mask[extent])

    def batch(
        self, rng: np.random.Generator, products: int, photos_each: int, *, size: int = 112
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Draw `photos_each` augmented photos of each of `products` distinct products.

        Returns images (N, S, S, 3) and labels (N,), ordered by product. No photo is drawn twice if a product
        has enough. Raises LvmError.
        """
        if not 1 <= products <= len(self.names):
            raise LvmError(f"products must be in 1..{len(self.names)}, got {products}")
        chosen = rng.choice(len(self.names), products, replace=False)
        images = np.empty((products * photos_each, size, size, 3), np.uint8)
        for i, index in enumerate(j for label in chosen for j in self._pick(label, photos_each, rng)):
            images[i] = augment_photo(
                self.photo(index), self._other(index, rng), rng, size, self.cut_out(index)
            )
        return images, np.repeat(chosen, photos_each).astype(np.int64)

    def composite(
        self,
        rng: np.random.Generator,
        background: Image,
        *,
        share: tuple[float, float] = (0.12, 0.6),
        label: int | None = None,
    ) -> Composite:
        """Paste a random product, or that of `label`, on a copy of `background` (H, W, 3), `share` of it
        wide.

        The product is relit, cropped, rotated and put in perspective at random; the background is unchanged.
        """
        index = int(rng.integers(len(self))) if label is None else self._pick(label, 1, rng)[0]
        middle, cut_out = _crop_middle(self.photo(index), rng.uniform(0.65, 1.0)), self.cut_out(index)
        patch, mask = (middle, None) if cut_out is None else cut_out
        size, angle = float(rng.uniform(*share)), float(rng.normal(0, 20))
        pasted = paste(background, relight(patch, rng), rng, share=size, angle=angle, mask=mask)
        return Composite(pasted.image, pasted.box, int(self._owner[index]))

    def _pick(self, label: int, count: int, rng: np.random.Generator) -> list[int]:
        start, stop = int(self._starts[label]), int(self._starts[label + 1])
        return [start + int(i) for i in rng.choice(stop - start, count, replace=count > stop - start)]

    def _other(self, index: int, rng: np.random.Generator) -> Image:
        """Draw a photo of another product."""
        start, stop = (int(self._starts[self._owner[index] + i]) for i in (0, 1))
        other = int(rng.integers(len(self) - (stop - start)))
        return self.photo(other if other < start else other + stop - start)


def _crop_middle(photo: Image, share: float) -> Image:
    """Return the middle of a photo, where people put the product."""
    height, width = photo.shape[:2]
    y, x = round(height * (1 - share) / 2), round(width * (1 - share) / 2)
    return photo[y : height - y, x : width - x]


def _load_photos(
    files: list[Path], side: int, cache: Path | None, key: str
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return photos (P, K, K, 4), each in its top left corner, with the opacity of their products, and their
    heights and widths (P, 2).

    `cache` holds a single version of `key`.
    """
    if cache is None:
        return _decode_photos(files, side)

    def make(place: Path) -> None:
        photos, sizes = _decode_photos(files, side)
        np.save(place / "photos.npy", photos)
        np.save(place / "sizes.npy", sizes)

    place = cached_dir(cache, f"photos-{short_digest(key)}", hash_files(files), make)
    return np.load(place / "photos.npy", mmap_mode="r"), np.load(place / "sizes.npy")


def _decode_photos(files: list[Path], side: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    photos = np.zeros((len(files), side, side, 4), np.uint8)
    sizes = np.empty((len(files), 2), np.int64)
    for i, file in enumerate(files):
        image = read_image(file)
        shrink = side / max(image.shape[:2])
        height, width = (min(max(round(length * shrink), 8), side) for length in image.shape[:2])
        how = cv2.INTER_AREA if shrink < 1 else cv2.INTER_LINEAR
        small = np.asarray(cv2.resize(image, (width, height), interpolation=how), np.uint8)
        photos[i, :height, :width, :3] = small
        outline = outline_product(small)
        if outline is not None:
            photos[i, :height, :width, 3] = outline
        sizes[i] = height, width
    return photos, sizes


def hash_files(files: Iterable[Path]) -> str:
    """Return a digest that changes when a file is added, removed or rewritten."""
    state = "\n".join(f"{file.resolve()} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files)
    return short_digest(state)


def hash_folders(folders: Iterable[Path]) -> str:
    """Return the digest of all files below `folders`, "" without any."""
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    return hash_files(files) if files else ""
