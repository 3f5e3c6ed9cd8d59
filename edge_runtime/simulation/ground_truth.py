"""Ground truth of one moment, read off the stage.

What hides products is upright in the picture of a plain lens, so outlines are cut there and then seen
through the camera's lens. Letters: P points of an outline.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import to_tick
from edge_runtime.simulation.canvas import outline
from edge_runtime.simulation.product_images import Face
from edge_runtime.simulation.space import Box, View, area, around, clip
from edge_runtime.simulation.stage import Act, Prop, Stage

Outline = NDArray[np.float64]
"""(P, 2) corners of a convex polygon in shares of the picture, in order."""

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


def truth_of(t: float, stage: Stage, facings: tuple[Prop, ...], face: Callable[[int, int], Face]) -> Truth:
    """What there is to see at `t`, the active products first."""
    mirror, flat = stage.view.mirror, View(stage.view.mirror)
    baskets = [flat.box(act.passer) for act in stage.acts if act.passer]
    near = [flat.box(_core(act)) for act in stage.acts if act.pose.near]
    tracks = []
    for number, act in enumerate(stage.acts):
        # What belongs to a later act is drawn over this one.
        covers = [flat.box(box) for later in stage.acts[number:] for box in later.covers]
        covers += [flat.box(_core(later)) for later in stage.acts[number + 1 :] if later.pose.near]
        pose, shown = act.pose, face(act.event.instance, act.picture)
        whole = outline(shown, pose.centre, pose.side, pose.angle, mirror)
        if box := _visible(whole, covers + baskets, stage.view):
            tracks.append(Track(act.event.instance, box, True, act.event.activity))
    held = [track.box for track in tracks]
    for prop in stage.parked + facings:
        whole = outline(face(prop.instance, prop.picture), prop.centre, prop.side, 0.0, mirror)
        box = _visible(whole, near + baskets, stage.view)
        if box and all(_shared(box, other) < _MOSTLY * area(box) for other in held):
            tracks.append(Track(prop.instance, box, False))
    return Truth(t, to_tick(t), tuple(tracks))


def _core(act: Act) -> Box:
    """The part of the room that a product near the camera certainly hides, whatever its shape and angle."""
    return around(act.pose.centre, 0.6 * act.pose.side, 0.6 * act.pose.side)


def _shared(box: Box, other: Box) -> float:
    return area((max(box[0], other[0]), max(box[1], other[1]), min(box[2], other[2]), min(box[3], other[3])))


def _visible(whole: Outline, blockers: list[Box], view: View) -> Box | None:
    """The box around what `blockers` leave of `whole` in the picture; None where that is next to nothing."""
    seen = _seen(whole, view)
    full, left = _bounds(seen), whole
    for blocker in blockers:
        left = _without(left, blocker)
        if not len(left):
            return None
    box = full
    if left is not whole:
        seen = _seen(left, view)
        box = _bounds(seen)
    if clip(box) != box:
        for axis in (0, 1):
            seen = _cut(_cut(seen, axis, 0.0, 1.0), axis, 1.0, -1.0)
            if not len(seen):
                return None
        box = clip(_bounds(seen))  # rounding may leave a cut a little outside
    return box if area(box) > _LEAST_VISIBLE * area(full) else None


def _seen(points: Outline, view: View) -> Outline:
    """`points` of the plain picture through the view's lens, shaken."""
    affine = view.lens.affine
    return np.asarray(points @ affine[:, :2].T + affine[:, 2] + (view.dx, view.dy))


def _bounds(points: Outline) -> Box:
    # Two short columns are faster through one at a time than along the rows' axis.
    x, y = points[:, 0], points[:, 1]
    return float(x.min()), float(y.min()), float(x.max()), float(y.max())


def _cut(points: Outline, axis: int, limit: float, sign: float) -> Outline:
    """What is left of an outline where its coordinate `axis`, times `sign`, is at least `sign` · `limit`."""
    inside = sign * (points[:, axis] - limit) >= 0.0  # (P,)
    if inside.all():
        return points
    following = np.roll(points, -1, axis=0)
    crossing = inside != np.roll(inside, -1)
    step = np.where(crossing, following[:, axis] - points[:, axis], 1.0)
    part = (limit - points[:, axis]) / step
    between = points + part[:, None] * (following - points)
    both = np.stack([points, between], axis=1).reshape(-1, 2)  # (2P, 2)
    return np.asarray(both[np.stack([inside, crossing], axis=1).reshape(-1)])


def _without(points: Outline, blocker: Box) -> Outline:
    """An outline minus `blocker`: it shrinks only where a whole side is covered."""
    x1, y1, x2, y2 = _bounds(points)
    if blocker[0] <= x1 and blocker[2] >= x2 and blocker[1] < y2 and blocker[3] > y1:
        if blocker[3] >= y2:
            return _cut(points, 1, blocker[1], -1.0)
        if blocker[1] <= y1:
            return _cut(points, 1, blocker[3], 1.0)
    if blocker[1] <= y1 and blocker[3] >= y2 and blocker[0] < x2 and blocker[2] > x1:
        if blocker[2] >= x2:
            return _cut(points, 0, blocker[0], -1.0)
        if blocker[0] <= x1:
            return _cut(points, 0, blocker[2], 1.0)
    return points
