"""Ground truth of one moment, read off the stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edge_runtime.frame import tick_of
from edge_runtime.world.canvas import outline_box
from edge_runtime.world.faces import Face
from edge_runtime.world.space import Box, area, clip
from edge_runtime.world.stage import Prop, Stage

_LEAST_VISIBLE = 0.08
"""Less than this share of a product in view, and there is nothing to mark."""
_MOSTLY = 0.6
"""More than this share behind a product in somebody's hand, and a product is not marked."""


@dataclass(frozen=True)
class Track:
    """The visible part of a product as `box`, xyxy, normalised; `activity` is None unless `active`."""

    instance: int
    box: Box
    active: bool
    activity: int | None = None


@dataclass(frozen=True)
class Truth:
    """All products in view at `t` seconds; active ones come first. `tick` is the 1/5 s tick nearest to it."""

    t: float
    tick: int
    tracks: tuple[Track, ...]

    @property
    def active(self) -> tuple[Track, ...]:
        """The tracks of products that something is being done with."""
        return tuple(track for track in self.tracks if track.active)


def truth_of(t: float, stage: Stage, facings: tuple[Prop, ...], face: Callable[[int], Face]) -> Truth:
    """What there is to see at `t`, the active products first."""
    baskets = [stage.view.box(act.passer) for act in stage.acts if act.passer]
    tracks = []
    for number, act in enumerate(stage.acts):
        # What belongs to a later act is drawn over this one.
        covers = [stage.view.box(box) for later in stage.acts[number:] for box in later.covers]
        whole = outline_box(
            face(act.event.instance), act.pose.centre, act.pose.side, act.pose.angle, stage.view
        )
        if box := _visible(whole, covers + baskets):
            tracks.append(Track(act.event.instance, box, True, act.event.activity))
    held = [track.box for track in tracks]
    for prop in stage.parked + facings:
        whole = outline_box(face(prop.instance), prop.centre, prop.side, 0.0, stage.view)
        box = _visible(whole, baskets)
        if box and all(_shared(box, other) < _MOSTLY * area(box) for other in held):
            tracks.append(Track(prop.instance, box, False))
    return Truth(t, tick_of(t), tuple(tracks))


def _shared(box: Box, other: Box) -> float:
    return area((max(box[0], other[0]), max(box[1], other[1]), min(box[2], other[2]), min(box[3], other[3])))


def _visible(whole: Box, blockers: list[Box]) -> Box | None:
    """The box around what `blockers` leave of `whole`; None where that is next to nothing."""
    box = clip(whole)
    for blocker in blockers:
        box = _without(box, blocker)
    return box if area(box) > _LEAST_VISIBLE * area(whole) else None


def _without(box: Box, blocker: Box) -> Box:
    """The box around `box` minus `blocker`: it shrinks only where a whole side is covered."""
    x1, y1, x2, y2 = box
    if blocker[0] <= x1 and blocker[2] >= x2 and blocker[1] < y2 and blocker[3] > y1:
        if blocker[3] >= y2:
            return x1, y1, x2, max(blocker[1], y1)
        if blocker[1] <= y1:
            return x1, blocker[3], x2, y2
    if blocker[1] <= y1 and blocker[3] >= y2 and blocker[0] < x2 and blocker[2] > x1:
        if blocker[2] >= x2:
            return x1, y1, max(blocker[0], x1), y2
        if blocker[0] <= x1:
            return blocker[2], y1, x2, y2
    return box
