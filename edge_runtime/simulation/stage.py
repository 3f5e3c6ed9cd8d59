"""Compute everything that moves at one moment; picture and ground truth are both made from it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from edge_runtime.simulation.activities import ACTIVITIES
from edge_runtime.simulation.closeup import CLOSEUPS, CloseupShot
from edge_runtime.simulation.config import WorldConfig
from edge_runtime.simulation.layout import Layout
from edge_runtime.simulation.motion import MOTIONS, Moment, Pose
from edge_runtime.simulation.people import FLOOR, GARMENT_REACH, any_colour
from edge_runtime.simulation.product_images import Rgb, rgb
from edge_runtime.simulation.rng import Use, between, mix, smooth, unit, wave
from edge_runtime.simulation.schedule import Event, Schedule
from edge_runtime.simulation.space import Box, Point, View

_PARKED_S = 47.0
_COATS_PASSING = 0.25
"""Share of honest events in which a coat passes, where everybody wears any colour."""
_ADVERT_S = 5.0
_CLOSEUP_SHIFT = (0.0, -0.27, 0.27)
"""Distance of each pair of hands' close-ups from the middle."""


@dataclass(frozen=True)
class Act:
    """An event at one moment; `picture` is the number of the product's face.

    `covers` are boxes of the room that hide products (bag front, coat); `passing` is the box of a basket, or
    of somebody's coat, that passes in front of everything.
    """

    event: Event
    pose: Pose
    picture: int = 0
    covers: tuple[Box, ...] = ()
    passing: Box | None = None
    passing_colour: Rgb = (0, 0, 0)
    passing_coat: bool = False


@dataclass(frozen=True)
class Prop:
    """A product not in use: a facing on the shelf, or an item left on the belt."""

    instance: int
    centre: Point
    side: float
    picture: int = 0


@dataclass(frozen=True)
class Stage:
    """One moment of the world; acts near the camera come last."""

    view: View
    acts: tuple[Act, ...]
    parked: tuple[Prop, ...]


class Director:
    """Makes the stage of any moment; keeps no state between moments."""

    def __init__(
        self, config: WorldConfig, layout: Layout, schedule: Schedule, views: Callable[[int], int]
    ) -> None:
        """`views(instance)` returns how many faces a product has."""
        self._config = config
        self._layout = layout
        self._schedule = schedule
        self._views = views
        self.facings = tuple(self._make_facing(index) for index in range(config.facings))

    def make_stage(self, t: float) -> Stage:
        """Return everything that moves at `t` seconds."""
        acts = [self._make_act(event, t) for event in self._schedule.at(t)]
        acts.sort(key=lambda act: act.pose.near)
        busy = {act.event.instance for act in acts}
        parked = tuple(
            prop for place in range(self._config.parked) if (prop := self._make_parked(place, t, busy))
        )
        return Stage(self.make_view(t), tuple(acts), parked)

    def make_view(self, t: float) -> View:
        """Return the view at `t`: mirrored or not, through the video's lens, and shaken."""
        reach, seed = self._config.shake_px / 112.0, self._config.seed
        if reach == 0.0:
            return View(self._layout.mirror, lens=self._layout.lens)
        shift = [reach * wave(t, 0.6, seed, Use.CAMERA, axis) for axis in (0, 1)]
        return View(self._layout.mirror, shift[0], shift[1], self._layout.lens)

    def make_advert(self, t: float) -> tuple[int, int, Rgb]:
        """Return the product on the advert screen, the number of its face, and the colour behind it."""
        key = (self._config.seed, Use.TRAPS, 3, math.floor(t / _ADVERT_S))
        instance = mix(*key) % self._config.instances
        return instance, self._distractor_picture(instance), rgb(360.0 * unit(*key, 1), 0.5, 0.95)

    def product_side(self, instance: int) -> float:
        """Return the side of product `instance`, a share of the picture's width."""
        return between(*self._config.object_size, self._config.seed, Use.CATALOGUE, 1, instance)

    def _event_picture(self, instance: int, *key: int) -> int:
        """Return the face of `instance` at the event of `key`, the same for the whole event."""
        return mix(Use.FACE, *key) % self._views(instance)

    def _distractor_picture(self, instance: int) -> int:
        """Return the face of `instance` where it is no answer to any question: always the same one."""
        return mix(Use.FACE, self._config.seed, Use.TRAPS, instance) % self._views(instance)

    def _make_facing(self, index: int) -> Prop:
        # Steps of 7 through the products: the shelf has ten of them, the same at all times.
        start = mix(self._config.seed, Use.TRAPS, 1)
        instance = (start + 7 * index) % self._config.instances
        spot, side = self._layout.facing_spot(index), self._layout.facing_side
        return Prop(instance, spot, side, self._distractor_picture(instance))

    def _make_parked(self, place: int, t: float, busy: set[int]) -> Prop | None:
        turn = math.floor(t / _PARKED_S + unit(self._config.seed, Use.TRAPS, 2, place))
        key = (self._config.seed, Use.TRAPS, 2, place, turn)
        instance = mix(*key) % self._config.instances
        if unit(*key, 1) < 0.25 or instance in busy:
            return None
        spot, side = self._layout.parked_spot(place), 0.8 * self.product_side(instance)
        return Prop(instance, spot, side, self._distractor_picture(instance))

    def _make_act(self, event: Event, t: float) -> Act:
        key = (self._config.seed, Use.SLOT, event.hands, round(event.start * 5), 7)
        part = (t - event.start) / (event.end - event.start)
        pose, picture = self._make_pose(event, t, key), self._event_picture(event.instance, *key)
        covers = self._make_covers(pose)
        coat = unit(*key, 8) < _COATS_PASSING * self._config.wardrobe and not pose.garment
        if unit(*key, 2) >= self._config.occlusion and not coat:
            return Act(event, pose, picture, covers)
        colour = any_colour(*key, 9) if coat else rgb(360.0 * unit(*key, 3), 0.45, 0.6)
        passing = _place_passing(pose, part, between(0.25, 0.6, *key, 4), unit(*key, 5))
        return Act(event, pose, picture, covers, passing, colour, coat)

    def _make_pose(self, event: Event, t: float, key: tuple[int, ...]) -> Pose:
        """Return the pose over the counter, or near the camera."""
        name, elapsed = ACTIVITIES[event.activity].name, t - event.start
        part = elapsed / (event.end - event.start)
        if name in CLOSEUPS and unit(Use.CLOSEUP, *key) < self._config.closeup:
            return CLOSEUPS[name](self._make_closeup(event, part, elapsed, key))
        wobble = (between(-0.012, 0.012, *key, 0), between(-0.010, 0.010, *key, 1))
        return MOTIONS[name](Moment(self._layout, part, elapsed, self.product_side(event.instance), wobble))

    def _make_closeup(self, event: Event, part: float, elapsed: float, key: tuple[int, ...]) -> CloseupShot:
        """Place a close-up near the middle of the picture; several pairs of hands are side by side."""
        shift = _CLOSEUP_SHIFT[event.hands] if self._config.concurrent > 1 else 0.0
        x = 0.5 + shift + between(-0.07, 0.07, Use.CLOSEUP, *key, 1)
        y = 0.5 + between(-0.06, 0.06, Use.CLOSEUP, *key, 2)
        side = between(*self._config.closeup_size, Use.CLOSEUP, *key, 3)
        # A person who holds something up to a camera allows for the camera's position.
        lens = self._layout.lens
        return CloseupShot(
            View(self._layout.mirror, lens=lens).to_room((x, y)), side / lens.zoom, part, elapsed
        )

    def _make_covers(self, pose: Pose) -> tuple[Box, ...]:
        if pose.in_bag:
            x1, _, x2, y2 = self._layout.bag
            return ((x1, pose.hidden_below, x2, y2),)
        if pose.garment:
            reach = GARMENT_REACH * pose.side
            return ((pose.centre[0] - reach, pose.hidden_below, pose.centre[0] + reach, FLOOR),)
        return ()


def _place_passing(pose: Pose, part: float, cover: float, when: float) -> Box | None:
    """Return the box of what passes: it hides the lower share `cover` of the product for a third of the
    event."""
    begun = (part - 0.15 - 0.35 * when) / 0.35
    if not 0.0 < begun < 1.0:
        return None
    x, y = pose.centre
    half = pose.side * 8 / 9  # of the product's height, a share of the picture's
    top = FLOOR + (y + half * (1.0 - 2.0 * cover) - FLOOR) * smooth(4.0 * min(begun, 1.0 - begun))
    return x - 0.95 * pose.side, top, x + 0.95 * pose.side, FLOOR
