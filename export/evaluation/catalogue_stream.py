"""Streams of the catalogue test: a checkout where products nobody was trained on are handled among others.

Which product plays which part is cast anew for each stream: products that are asked about get parts with
something to do, and none on the shelf or left on the belt, because a product that stands there all the time
is shown all the time.
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
from edge_runtime.simulation.photo_folders import FolderBackdrop, PhotoFaces, product_photos
from edge_runtime.simulation.world import World
from engines.errors import LvmError
from export.evaluation.catalogue import Moment

_LOOK_EVERY_S = 5.0
"""How often the stage is searched for what only stands there; nothing stands for less than ten seconds."""
LEAST_PARTS = 12
"""Parts beside those of the other products, so that enough of them are eventful and not on the shelf."""


@dataclass(frozen=True)
class Casting:
    """Where products come from: `asked` of one folder about which questions are asked, and all others."""

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
    """A world, the moments of each product that is asked about, and photos of it that are never shown.

    `closeups` are the products of which at least one moment is seen from near.
    """

    world: World
    seconds: float
    moments: dict[str, tuple[Moment, ...]]
    photos: dict[str, tuple[Path, ...]]
    closeups: frozenset[str]


def stream_config(seed: int, others: int) -> WorldConfig:
    """The protocol's world: level L1 with a camera nearer to the counter, and no advert.

    Whatever is inspected, handed over or scanned is held close to the camera; the rest is a sixth to a fifth
    of the picture wide. An advert would show products at moments that are neither right nor wrong.
    """
    level = WorldConfig.level("L1", seed=seed)
    changes = {
        "instances": others + LEAST_PARTS,
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
    """Stream number `seed`: asked products, as many in close-up as not, among `others` other ones."""
    rng = np.random.default_rng([seed, 11])
    config = stream_config(seed, min(others, len(casting.others)))
    plan = World(config)
    events = _events(plan, seconds)
    parts = _balanced(sorted(events.keys() - _standing(plan, seconds)), events, len(casting.asked), rng)
    names = [casting.asked[i] for i in rng.permutation(len(casting.asked))]
    cast = dict(zip(parts, names, strict=False))  # part -> product that is asked about
    rest = [casting.others[i] for i in rng.permutation(len(casting.others))[:others]]
    faces = CastFaces(casting, cast, rest, config.instances, seed)
    backdrop = FolderBackdrop(backgrounds, seed) if backgrounds else None
    kept = product_photos(casting.asked_folder, casting.asked)
    return CatalogueStream(
        World(config, faces=faces, backdrop=backdrop),
        seconds,
        {name: events[part] for part, name in cast.items()},
        {name: tuple(kept[name][view] for view in faces.query_views(part)) for part, name in cast.items()},
        frozenset(name for part, name in cast.items() if _near(events[part])),
    )


class CastFaces:
    """Photographs of products, each playing the part that it was cast for."""

    def __init__(
        self, casting: Casting, cast: dict[int, str], rest: Sequence[str], parts: int, seed: int
    ) -> None:
        """`cast` part -> asked product; all other `parts` are played by `rest`, in turn."""
        asked = PhotoFaces(casting.asked_folder, seed, only=casting.asked)
        others = PhotoFaces(casting.others_folder, seed, only=rest)
        self._roles: dict[int, tuple[PhotoFaces, int]] = {}
        for part in range(parts):
            if part in cast:
                self._roles[part] = (asked, asked.products.index(cast[part]))
            else:
                name = rest[(part - sum(other < part for other in cast)) % len(rest)]
                self._roles[part] = (others, others.products.index(name))

    def views(self, instance: int) -> int:
        """How many of the product's photographs are drawn."""
        faces, number = self._roles[instance]
        return faces.views(number)

    def face(self, instance: int, view: int = 0) -> NDArray[np.uint8]:
        """(S, S, 4) RGBA cut out of photograph `view`."""
        faces, number = self._roles[instance]
        return faces.face(number, view)

    def photo(self, instance: int, view: int) -> NDArray[np.uint8]:
        """(H, W, 3) RGB photograph number `view`."""
        faces, number = self._roles[instance]
        return faces.photo(number, view)

    def query_views(self, instance: int) -> range:
        """Numbers of the photographs that are never drawn."""
        faces, number = self._roles[instance]
        return faces.query_views(number)


def _events(world: World, seconds: float) -> dict[int, tuple[Moment, ...]]:
    """Moments of each part that lie wholly within the stream."""
    found: dict[int, list[Moment]] = {}
    for event in world.events(0.0, seconds):
        if event.end <= seconds:
            moment = Moment(event.start, event.end, ACTIVITIES[event.activity].name)
            found.setdefault(event.instance, []).append(moment)
    # A part whose last event is cut off would be shown at a moment that counts as wrong.
    cut = {event.instance for event in world.events(0.0, seconds) if event.end > seconds}
    return {part: tuple(moments) for part, moments in sorted(found.items()) if part not in cut}


def _balanced(
    parts: Sequence[int],
    events: dict[int, tuple[Moment, ...]],
    most: int,
    rng: np.random.Generator,
) -> list[int]:
    """Up to `most` parts, as many with a close-up as without; where one kind is lacking, all of the other."""
    shuffled = [parts[i] for i in rng.permutation(len(parts))]
    near = [part for part in shuffled if _near(events[part])]
    far = [part for part in shuffled if not _near(events[part])]
    each = min(len(near), len(far), max(most // 2, 1))
    return near[:each] + far[:each] if each else (near + far)[:most]


def _near(moments: Sequence[Moment]) -> bool:
    return any(moment.activity in CLOSEUPS for moment in moments)


def _standing(world: World, seconds: float) -> set[int]:
    """Parts that are in the picture at some time without anything being done with them."""
    return {
        track.instance
        for t in np.arange(0.0, seconds, _LOOK_EVERY_S)
        for track in world.truth(float(t)).tracks
        if not track.active
    }
