"""Make streams of the catalogue test: a checkout where unknown products are handled among others.

Each stream casts products into parts again. Products that are asked about get parts with something to do, and
none on the shelf or left on the belt, because a product that stands there is in view all the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.simulation.activities import ACTIVITIES
from edge_runtime.simulation.closeup import CLOSEUPS
from edge_runtime.simulation.config import WorldConfig
from edge_runtime.simulation.photo_folders import FolderBackdrop, PhotoFaces, list_product_photos
from edge_runtime.simulation.world import World
from engines.errors import LvmError
from export.evaluation.catalogue import Moment

_SEARCH_STEP_S = 5.0
"""How often the stage is searched for products that only stand there; nothing stands for less than ten
seconds."""
MIN_PARTS = 12
"""Parts beside those of the other products, so that enough of them are eventful and not on the shelf."""


@dataclass(frozen=True)
class Casting:
    """Where products come from: `asked` of one folder, about which questions are asked, and all others."""

    asked_folder: Path
    asked: tuple[str, ...]
    others_folder: Path
    others: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.asked_folder == self.others_folder and (both := sorted(set(self.asked) & set(self.others))):
            raise LvmError(
                f"products asked about must not be among the others, got {', '.join(both)} in both"
            )
        if not self.asked or len(self.others) < 3:
            raise LvmError(
                f"the test needs at least 1 product to ask about and 3 others, got {len(self.asked)} and "
                f"{len(self.others)}"
            )


@dataclass(frozen=True)
class CatalogueStream:
    """A world, the moments of each product that is asked about, and photos of it that the stream never shows.

    `closeups` are the products with at least one moment seen from near.
    """

    world: World
    seconds: float
    moments: dict[str, tuple[Moment, ...]]
    photos: dict[str, tuple[Path, ...]]
    closeups: frozenset[str]


def make_stream_config(seed: int, others: int) -> WorldConfig:
    """Make the protocol's world: level L1 with a camera nearer to the counter, and no advert.

    Whatever is inspected, handed over or scanned is held close to the camera; the rest is a sixth to a fifth
    of the picture wide. An advert would show products at moments that are neither right nor wrong.
    """
    level = WorldConfig.level("L1", seed=seed)
    changes = {
        "instances": others + MIN_PARTS,
        "object_size": (0.16, 0.2),
        "closeup": 1.0,
        "zipf": 0.0,
        "lookalikes": 0.0,
        "advert": False,
        "parked": 1,
        "facings": 8,
    }
    return WorldConfig.model_validate({**level.model_dump(), **changes})


def make_stream(
    casting: Casting, *, seed: int, seconds: float, others: int = 24, backgrounds: Path | None = None
) -> CatalogueStream:
    """Make stream number `seed`: products to ask about, half of them in close-up, among `others` other
    products."""
    rng = np.random.default_rng([seed, 11])
    config = make_stream_config(seed, min(others, len(casting.others)))
    plan = World(config)
    events = _find_moments(plan, seconds)
    parts = _choose_parts(
        sorted(events.keys() - _find_standing_parts(plan, seconds)), events, len(casting.asked), rng
    )
    names = [casting.asked[i] for i in rng.permutation(len(casting.asked))]
    cast = dict(zip(parts, names, strict=False))  # part -> product that is asked about
    rest = [casting.others[i] for i in rng.permutation(len(casting.others))[:others]]
    faces = CastFaces(casting, cast, rest, config.instances, seed)
    backdrop = FolderBackdrop(backgrounds, seed) if backgrounds else None
    photos = list_product_photos(casting.asked_folder, casting.asked)
    return CatalogueStream(
        World(config, faces=faces, backdrop=backdrop),
        seconds,
        {name: events[part] for part, name in cast.items()},
        {name: tuple(photos[name][view] for view in faces.query_views(part)) for part, name in cast.items()},
        frozenset(name for part, name in cast.items() if _has_closeup(events[part])),
    )


class CastFaces:
    """Photographs of products, each for the part that it was cast for."""

    def __init__(
        self, casting: Casting, cast: dict[int, str], rest: Sequence[str], parts: int, seed: int
    ) -> None:
        """`cast` part -> asked product; all other `parts` are played by `rest`, in turn."""
        asked_faces = PhotoFaces(casting.asked_folder, seed, only=casting.asked)
        others = PhotoFaces(casting.others_folder, seed, only=rest)
        self._roles: dict[int, tuple[PhotoFaces, int]] = {}
        for part in range(parts):
            if part in cast:
                self._roles[part] = (asked_faces, asked_faces.products.index(cast[part]))
            else:
                name = rest[(part - sum(other < part for other in cast)) % len(rest)]
                self._roles[part] = (others, others.products.index(name))

    def views(self, instance: int) -> int:
        """Return how many of the product's photographs are drawn."""
        faces, number = self._roles[instance]
        return faces.views(number)

    def face(self, instance: int, view: int = 0) -> NDArray[np.uint8]:
        """Return (S, S, 4) RGBA cut out of photograph `view`."""
        faces, number = self._roles[instance]
        return faces.face(number, view)

    def photo(self, instance: int, view: int) -> NDArray[np.uint8]:
        """Return photograph number `view`, (H, W, 3) RGB."""
        faces, number = self._roles[instance]
        return faces.photo(number, view)

    def query_views(self, instance: int) -> range:
        """Return the numbers of the photographs that are never drawn."""
        faces, number = self._roles[instance]
        return faces.query_views(number)


def _find_moments(world: World, seconds: float) -> dict[int, tuple[Moment, ...]]:
    """Return the moments of each part that lie wholly within the stream."""
    moments_by_part: dict[int, list[Moment]] = {}
    for event in world.events(0.0, seconds):
        if event.end <= seconds:
            moment = Moment(event.start, event.end, ACTIVITIES[event.activity].name)
            moments_by_part.setdefault(event.instance, []).append(moment)
    # A part whose last event is cut off would be visible at a time that counts as wrong.
    cut = {event.instance for event in world.events(0.0, seconds) if event.end > seconds}
    return {part: tuple(moments) for part, moments in sorted(moments_by_part.items()) if part not in cut}


def _choose_parts(
    parts: Sequence[int], events: dict[int, tuple[Moment, ...]], limit: int, rng: np.random.Generator
) -> list[int]:
    """Choose up to `limit` parts, as many with a close-up as without; if one kind is missing, all of the
    other."""
    shuffled = [parts[i] for i in rng.permutation(len(parts))]
    near = [part for part in shuffled if _has_closeup(events[part])]
    far = [part for part in shuffled if not _has_closeup(events[part])]
    each = min(len(near), len(far), max(limit // 2, 1))
    return near[:each] + far[:each] if each else (near + far)[:limit]


def _has_closeup(moments: Sequence[Moment]) -> bool:
    return any(moment.activity in CLOSEUPS for moment in moments)


def _find_standing_parts(world: World, seconds: float) -> set[int]:
    """Return the parts that are in the picture at some time without anything being done with them."""
    return {
        track.instance
        for t in np.arange(0.0, seconds, _SEARCH_STEP_S)
        for track in world.truth(float(t)).tracks
        if not track.active
    }
