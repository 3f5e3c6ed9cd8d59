"""Draw labelled pictures of the checkout world for a backbone: activity and product of each cell.

Letters: W worlds, F frames of a batch, K crops (photos of products), S picture side, P = 49 cells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from edge_runtime.query.photo_mosaic import make_mosaic
from edge_runtime.simulation.space import Box
from edge_runtime.simulation.world import World
from engines.network_config import GRID, NetworkConfig
from export.data.metrics import EVIDENCE_OVERLAP, cell_shares
from export.data.world_set import annotated_tracks
from export.training.data.product_photos import PhotoSet

IGNORE_INDEX = -1
Product = tuple[str | None, int | str]
"""A product's key: the video or world that it belongs to, or None, and its number or name there."""
_HOURS_S = 4 * 3600.0
_TRIES = 20


@dataclass(frozen=True)
class Scenes:
    """`frames` (F, S, S, 3); `activity` (F, 49): class, C without activity, IGNORE_INDEX if unknown; `crop`
    (F, 49): index of the photo of the cell's product, else IGNORE_INDEX; `crops` (K, S, S, 3)."""

    frames: NDArray[np.uint8]
    activity: NDArray[np.int64]
    crop: NDArray[np.int64]
    crops: NDArray[np.uint8]


def draw_scenes(
    worlds: list[World],
    rng: np.random.Generator,
    *,
    frames_a_world: int,
    photos_a_world: int,
    inside_events: float,
    network: NetworkConfig,
) -> Scenes:
    """Draw `frames_a_world` frames of each world, with photos of the products on them.

    Every handled product has a photo, and enough others that a world has `photos_a_world`: products on shelf
    and belt teach what a product looks like from afar, and the products of one shop, with its look-alikes,
    are negatives of each other. A real product is the same in every world that sells it. Labels have the
    errors of the worlds' annotations.
    """
    size, activities = network.image_size, network.activities
    frames, activity, crop = [], [], []
    photos = _BatchPhotos()
    for world in worlds:
        times = [_draw_time(world, rng, inside_events) for _ in range(frames_a_world)]
        frame_tracks = [annotated_tracks(world, t) for t in times]
        handled = dict.fromkeys(track.instance for tracks in frame_tracks for track in tracks if track.active)
        others = sorted({track.instance for tracks in frame_tracks for track in tracks} - handled.keys())
        chosen = rng.permutation(others)[: max(photos_a_world - len(handled), 0)].tolist()
        numbers = {
            instance: photos.add(
                _product_key(world, instance), partial(draw_photo, world, instance, rng, network)
            )
            for instance in (*handled, *chosen)
        }
        for t, tracks in zip(times, frame_tracks, strict=True):
            frames.append(world.frame(t, (size, size)))
            busy = [(numbers[track.instance], track.activity, track.box) for track in tracks if track.active]
            busy_activity, busy_crop = label_cells(busy, activities, network.grid)
            # Products on shelf and belt have no activity, but an identity.
            idle = [
                (numbers[track.instance], None, track.box)
                for track in tracks
                if not track.active and track.instance in numbers
            ]
            idle_crop = label_cells(idle, activities, network.grid)[1]
            is_free = (busy_activity == activities) & (busy_crop == IGNORE_INDEX)
            activity.append(busy_activity)
            crop.append(np.where(is_free, idle_crop, busy_crop))
    return Scenes(np.stack(frames), np.stack(activity), np.stack(crop), photos.stack(size))


class _BatchPhotos:
    """The photos of a batch, one of each product: two would be negatives of each other."""

    def __init__(self) -> None:
        self._images: list[NDArray[np.uint8]] = []
        self._numbers: dict[Product, int] = {}

    def add(self, product: Product, photo: Callable[[], NDArray[np.uint8]]) -> int:
        """Return the number of the photo of `product`; the first time `photo` makes it, (S, S, 3)."""
        if product not in self._numbers:
            self._numbers[product] = len(self._images)
            self._images.append(photo())
        return self._numbers[product]

    def stack(self, side: int) -> NDArray[np.uint8]:
        """Return all photos (K, S, S, 3)."""
        return np.stack(self._images) if self._images else np.zeros((0, side, side, 3), np.uint8)


def _product_key(world: World, instance: int) -> Product:
    """Return the key of a product: a real one is the same in all worlds, a drawn one belongs to its world."""
    name = world.product(instance)
    return (None, name) if world.photographed else (str(world.config.seed), name)


def label_frames(
    handled: Sequence[Sequence[tuple[Product, int, Box]]],
    photos: Sequence[Mapping[Product, NDArray[np.uint8]]],
    rng: np.random.Generator,
    network: NetworkConfig,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]:
    """Return `activity` and `crop` (F, 49) and `crops` (K, S, S, 3) of frames.

    `handled` on each frame: (product, activity, box). `photos` of each frame: its video's photos (V, S, S, 3)
    by product.
    """
    activity, crop, crops = [], [], _BatchPhotos()
    for active, own in zip(handled, photos, strict=True):
        busy = [
            (crops.add(product, partial(_choose_photo, own[product], rng)), done, box)
            for product, done, box in active
        ]
        frame_activity, frame_crop = label_cells(busy, network.activities, network.grid)
        activity.append(frame_activity)
        crop.append(frame_crop)
    return np.stack(activity), np.stack(crop), crops.stack(network.image_size)


def _choose_photo(photos: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw one of `photos` (V, S, S, 3)."""
    return np.asarray(photos[int(rng.integers(len(photos)))], np.uint8)


def add_pasted_products(
    scenes: Scenes, photos: PhotoSet, labels: NDArray[np.int64], rng: np.random.Generator
) -> Scenes:
    """Add a frame for each of `labels`: one of the scenes with that real product pasted into it.

    Its cells point at crop K + its index in `labels`: the query photos of `labels` follow the scenes' own.
    The activity of a pasted product is unknown.
    """
    base = rng.integers(len(scenes.frames), size=len(labels))
    frames, activity, crop = [], scenes.activity[base], scenes.crop[base]
    for row, label in enumerate(labels):
        pasted = photos.composite(rng, scenes.frames[base[row]], share=(0.15, 0.6), label=int(label))
        frames.append(pasted.image)
        share = cell_shares(pasted.box, math.isqrt(activity.shape[1]))
        activity[row, share > 0] = IGNORE_INDEX
        crop[row, share > 0] = IGNORE_INDEX
        crop[row, share >= EVIDENCE_OVERLAP] = len(scenes.crops) + row
    return Scenes(
        np.concatenate([scenes.frames, np.stack(frames)]),
        np.concatenate([scenes.activity, activity]),
        np.concatenate([scenes.crop, crop]),
        scenes.crops,
    )


def draw_photo(
    world: World, instance: int, rng: np.random.Generator, network: NetworkConfig
) -> NDArray[np.uint8]:
    """Draw a query photo of the product, (S, S, 3)."""
    view = int(rng.integers(world.query_views(instance).stop))
    size = (network.image_size, network.image_size)
    return make_mosaic(world.instance_image(instance, size, view=view), network)


def _draw_time(world: World, rng: np.random.Generator, inside_events: float) -> float:
    if rng.random() >= inside_events:
        return float(rng.uniform(0, _HOURS_S))
    for _ in range(_TRIES):
        start = float(rng.uniform(0, _HOURS_S))
        if events := world.events(start, start + 60.0):
            event = events[int(rng.integers(len(events)))]
            return float(rng.uniform(event.start, event.end))
    return start


def label_cells(
    products: Sequence[tuple[int, int | None, Box]], activities: int, grid: int = GRID
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return class and crop of each cell, (49,) each, of products given as (crop, activity, box).

    If two products share a cell, the larger part counts.
    """
    activity = np.full(grid * grid, activities, np.int64)
    crop = np.full(grid * grid, IGNORE_INDEX, np.int64)
    largest = np.zeros(grid * grid)
    for index, done, box in products:
        share = cell_shares(box, grid)  # (49,)
        covered = share > largest
        sure = covered & (share >= EVIDENCE_OVERLAP)
        activity[covered] = IGNORE_INDEX
        activity[sure] = IGNORE_INDEX if done is None else done
        crop[covered] = IGNORE_INDEX
        crop[sure] = index
        largest = np.maximum(largest, share)
    return activity, crop
