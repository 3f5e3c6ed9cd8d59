"""Pictures of the checkout world as a backbone's training material: what each cell shows, of what product.

Letters: W worlds, F frames of a batch, K crops (photos of products), S picture side, P = 49 cells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import CELLS
from edge_runtime.query.photo_mosaic import mosaic
from edge_runtime.simulation.space import Box
from edge_runtime.simulation.world import World
from export.data.annotated import annotated_tracks
from export.data.cells import EVIDENCE_OVERLAP, cell_shares
from export.training.data.product_photos import PhotoSet

NOTHING = -1
Product = tuple[str | None, int | str]
"""Which one is meant: the video or world whose own it is, or None and what it is called in all of them."""
_HOURS_S = 4 * 3600.0
_TRIES = 20


@dataclass(frozen=True)
class Scenes:
    """`frames` (F, S, S, 3), `activity` (F, 49) class, C where nothing is done, NOTHING where it is open;
    `crop` (F, 49) index of the photo of the product that a cell shows, else NOTHING; `crops` (K, S, S, 3)."""

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
    size: int,
    activities: int,
) -> Scenes:
    """`frames_a_world` frames of each world, with photos of the products on them.

    Every product that is handled has a photo, and of the others so many that a world has `photos_a_world`:
    all that lies on shelf and belt teaches what a product looks like from afar, and the products of one
    shop, with its look-alikes, are one another's negatives. A real product is the same one in every world
    that sells it. What a world's knobs leave out of annotations, or call wrongly, is so here.
    """
    frames, activity, crop = [], [], []
    photos = _Photos()
    for world in worlds:
        moments = [_moment(world, rng, inside_events) for _ in range(frames_a_world)]
        seen = [annotated_tracks(world, t) for t in moments]
        handled = dict.fromkeys(one.instance for tracks in seen for one in tracks if one.active)
        others = sorted({one.instance for tracks in seen for one in tracks} - handled.keys())
        chosen = rng.permutation(others)[: max(photos_a_world - len(handled), 0)].tolist()
        known = {
            one: photos.of(_product(world, one), partial(photo_of, world, one, rng, size))
            for one in (*handled, *chosen)
        }
        for t, tracks in zip(moments, seen, strict=True):
            frames.append(world.frame(t, (size, size)))
            shown = [(known[one.instance], one.activity, one.box) for one in tracks if one.active]
            said, pointed = cell_labels(shown, activities)
            # Products on shelf and belt are no activity, but they are these products.
            lying = [
                (known[one.instance], None, one.box)
                for one in tracks
                if not one.active and one.instance in known
            ]
            beside = cell_labels(lying, activities)[1]
            activity.append(said)
            crop.append(np.where((said == activities) & (pointed == NOTHING), beside, pointed))
    return Scenes(np.stack(frames), np.stack(activity), np.stack(crop), photos.stacked(size))


class _Photos:
    """The photos of a batch, one of each product: two would be one another's negatives."""

    def __init__(self) -> None:
        self._shown: list[NDArray[np.uint8]] = []
        self._numbers: dict[Product, int] = {}

    def of(self, product: Product, photo: Callable[[], NDArray[np.uint8]]) -> int:
        """Number of the photo of `product`; taken by `photo`, (S, S, 3), where it has none yet."""
        if product not in self._numbers:
            self._numbers[product] = len(self._shown)
            self._shown.append(photo())
        return self._numbers[product]

    def stacked(self, side: int) -> NDArray[np.uint8]:
        """(K, S, S, 3)"""
        return np.stack(self._shown) if self._shown else np.zeros((0, side, side, 3), np.uint8)


def _product(world: World, instance: int) -> Product:
    """A real product is the same one in all worlds; a drawn one is its world's alone."""
    name = world.product(instance)
    return (None, name) if world.photographed else (str(world.config.seed), name)


def labelled(
    handled: Sequence[Sequence[tuple[Product, int, Box]]],
    photos: Sequence[Mapping[Product, NDArray[np.uint8]]],
    rng: np.random.Generator,
    activities: int,
    side: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]:
    """`activity` and `crop` (F, 49) and `crops` (K, S, S, 3) of frames.

    `handled` on each: (product, activity, box); `photos` of each: those of its video (V, S, S, 3) by product.
    A product is the same one in whatever video.
    """
    activity, crop, crops = [], [], _Photos()
    for active, own in zip(handled, photos, strict=True):
        shown = [
            (crops.of(product, partial(_any, own[product], rng)), done, box) for product, done, box in active
        ]
        said, pointed = cell_labels(shown, activities)
        activity.append(said)
        crop.append(pointed)
    return np.stack(activity), np.stack(crop), crops.stacked(side)


def _any(photos: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """One of `photos` (V, S, S, 3)."""
    return np.asarray(photos[int(rng.integers(len(photos)))], np.uint8)


def with_products(
    scenes: Scenes, photos: PhotoSet, labels: NDArray[np.int64], rng: np.random.Generator
) -> Scenes:
    """`scenes` and one more frame for each of `labels`: a scene with that real product pasted into it.

    Its cells point at crop K + its place in `labels`: the photos that ask for it follow the scenes' own.
    What is done with a pasted product is open.
    """
    under = rng.integers(len(scenes.frames), size=len(labels))
    frames, activity, crop = [], scenes.activity[under], scenes.crop[under]
    for row, label in enumerate(labels):
        pasted = photos.composite(rng, scenes.frames[under[row]], share=(0.15, 0.6), label=int(label))
        frames.append(pasted.image)
        share = cell_shares(pasted.box)
        activity[row, share > 0] = NOTHING
        crop[row, share > 0] = NOTHING
        crop[row, share >= EVIDENCE_OVERLAP] = len(scenes.crops) + row
    return Scenes(
        np.concatenate([scenes.frames, np.stack(frames)]),
        np.concatenate([scenes.activity, activity]),
        np.concatenate([scenes.crop, crop]),
        scenes.crops,
    )


def photo_of(world: World, instance: int, rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """Any photo of the product as it is asked with, (S, S, 3)."""
    view = int(rng.integers(world.query_views(instance).stop))
    return mosaic(world.instance_image(instance, (size, size), view=view), size)


def _moment(world: World, rng: np.random.Generator, inside_events: float) -> float:
    if rng.random() >= inside_events:
        return float(rng.uniform(0, _HOURS_S))
    for _ in range(_TRIES):
        start = float(rng.uniform(0, _HOURS_S))
        if events := world.events(start, start + 60.0):
            event = events[int(rng.integers(len(events)))]
            return float(rng.uniform(event.start, event.end))
    return start


def cell_labels(
    shown: Sequence[tuple[int, int | None, Box]], activities: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Class and crop of each cell, (49,) each, from (crop, activity, box) of what is handled.

    Where two products share a cell, the larger part counts.
    """
    activity = np.full(CELLS, activities, np.int64)
    crop = np.full(CELLS, NOTHING, np.int64)
    most = np.zeros(CELLS)
    for index, done, box in shown:
        share = cell_shares(box)  # (49,)
        ours = share > most
        sure = ours & (share >= EVIDENCE_OVERLAP)
        activity[ours] = NOTHING
        activity[sure] = NOTHING if done is None else done
        crop[ours] = NOTHING
        crop[sure] = index
        most = np.maximum(most, share)
    return activity, crop
