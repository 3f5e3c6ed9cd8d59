"""Compute the ground truth of one moment from the stage.

Objects that hide products are upright in the picture of a plain lens, so outlines are cut there and then
mapped through the camera's lens. Letters: P points of an outline.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import to_tick
from edge_runtime.simulation.canvas import face_outline
from edge_runtime.simulation.product_images import Face
from edge_runtime.simulation.space import Box, View, area, box_around, clip
from edge_runtime.simulation.stage import Act, Prop, Stage

Outline = NDArray[np.float64]
"""(P, 2) corners of a convex polygon in shares of the picture, in order."""

_MIN_VISIBLE = 0.08
"""A product of which a smaller share is in view has no track."""
_MAX_HIDDEN = 0.6
"""A product of which a larger share is behind a held product has no track."""


@dataclass(frozen=True)
class Track:
    """The visible part of a product as `box`, xyxy, normalised; `activity` is None unless `active`."""

    instance: int
    box: Box
    active: bool
    activity: int | None = None


@dataclass(frozen=True)
class Truth:
    """All products in view at `t` seconds, active ones first. `tick` is the 1/5 s tick nearest to `t`."""

    t: float
    tick: int
    tracks: tuple[Track, ...]

    @property
    def active(self) -> tuple[Track, ...]:
        """The tracks of products in use."""
        return tuple(track for track in self.tracks if track.active)


def make_truth(t: float, stage: Stage, facings: tuple[Prop, ...], face: Callable[[int, int], Face]) -> Truth:
    """Return the visible products at `t`, the active ones first; `face(instance, view)` draws one."""
    mirror, flat = stage.view.mirror, View(stage.view.mirror)
    passing = [flat.box(act.passing) for act in stage.acts if act.passing]
    near = [flat.box(_opaque_core(act)) for act in stage.acts if act.pose.near]
    tracks = []
    for number, act in enumerate(stage.acts):
        # Covers and products of later acts are drawn over this one.
        covers = [flat.box(box) for later in stage.acts[number:] for box in later.covers]
        covers += [flat.box(_opaque_core(later)) for later in stage.acts[number + 1 :] if later.pose.near]
        pose, drawn = act.pose, face(act.event.instance, act.picture)
        whole = face_outline(drawn, pose.centre, pose.side, pose.angle, mirror)
        if box := _visible_box(whole, covers + passing, stage.view):
            tracks.append(Track(act.event.instance, box, True, act.event.activity))
    held = [track.box for track in tracks]
    for prop in stage.parked + facings:
        whole = face_outline(face(prop.instance, prop.picture), prop.centre, prop.side, 0.0, mirror)
        box = _visible_box(whole, near + passing, stage.view)
        if box and all(_overlap_area(box, other) < _MAX_HIDDEN * area(box) for other in held):
            tracks.append(Track(prop.instance, box, False))
    return Truth(t, to_tick(t), tuple(tracks))


def _opaque_core(act: Act) -> Box:
    """Return the box that a product near the camera certainly hides, whatever its shape and angle."""
    return box_around(act.pose.centre, 0.6 * act.pose.side, 0.6 * act.pose.side)


def _overlap_area(box: Box, other: Box) -> float:
    return area((max(box[0], other[0]), max(box[1], other[1]), min(box[2], other[2]), min(box[3], other[3])))


def _visible_box(whole: Outline, blockers: list[Box], view: View) -> Box | None:
    """Return the box around the part of `whole` that `blockers` leave visible; None where it is tiny."""
    seen = _through_lens(whole, view)
    full, left = _bounds(seen), whole
    for blocker in blockers:
        left = _subtract(left, blocker)
        if not len(left):
            return None
    box = full
    if left is not whole:
        seen = _through_lens(left, view)
        box = _bounds(seen)
    if clip(box) != box:
        for axis in (0, 1):
            seen = _cut(_cut(seen, axis, 0.0, 1.0), axis, 1.0, -1.0)
            if not len(seen):
                return None
        box = clip(_bounds(seen))  # rounding may leave a cut a little outside
    return box if area(box) > _MIN_VISIBLE * area(full) else None


def _through_lens(points: Outline, view: View) -> Outline:
    """Map `points` of the plain picture through the view's lens and shake."""
    affine = view.lens.affine
    return np.asarray(points @ affine[:, :2].T + affine[:, 2] + (view.dx, view.dy))


def _bounds(points: Outline) -> Box:
    # Two short columns one at a time are faster than a minimum along the rows' axis.
    x, y = points[:, 0], points[:, 1]
    return float(x.min()), float(y.min()), float(x.max()), float(y.max())


def _cut(points: Outline, axis: int, limit: float, sign: float) -> Outline:
    """Return the part of an outline whose coordinate `axis`, times `sign`, is at least `sign` · `limit`."""
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


def _subtract(points: Outline, blocker: Box) -> Outline:
    """Return an outline minus `blocker`: it shrinks only where a whole side is covered."""
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
