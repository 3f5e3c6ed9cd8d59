"""Everything that moves at one moment, worked out once: picture and ground truth are both read off it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge_runtime.world.activities import ACTIVITIES
from edge_runtime.world.config import WorldConfig
from edge_runtime.world.dice import Use, between, mix, smooth, unit, wave
from edge_runtime.world.faces import Rgb, rgb
from edge_runtime.world.layout import Layout
from edge_runtime.world.motion import MOTIONS, Moment, Pose
from edge_runtime.world.people import GARMENT_REACH
from edge_runtime.world.schedule import Event, Schedule
from edge_runtime.world.space import Box, Point, View

_SECONDS_OF_A_PARKED_ITEM = 47.0
_SECONDS_OF_AN_ADVERT = 5.0


@dataclass(frozen=True)
class Act:
    """An event at one moment.

    `covers` are boxes of the room that hide products (bag front, coat); `passer` is a basket
    that somebody carries past in front of everything.
    """

    event: Event
    pose: Pose
    covers: tuple[Box, ...] = ()
    passer: Box | None = None
    passer_colour: Rgb = (0, 0, 0)


@dataclass(frozen=True)
class Prop:
    """A product that nobody touches: a facing on the shelf, or an item left on the belt."""

    instance: int
    centre: Point
    side: float


@dataclass(frozen=True)
class Stage:
    """One moment of the world."""

    view: View
    acts: tuple[Act, ...]
    parked: tuple[Prop, ...]


class Director:
    """Puts the stage of any moment together; keeps nothing between moments."""

    def __init__(self, config: WorldConfig, layout: Layout, schedule: Schedule) -> None:
        self._config = config
        self._layout = layout
        self._schedule = schedule
        self.facings = tuple(self._facing(index) for index in range(config.facings))

    def stage(self, t: float) -> Stage:
        """Everything that moves, at `t` seconds."""
        acts = tuple(self._act(event, t) for event in self._schedule.at(t))
        busy = {act.event.instance for act in acts}
        parked = tuple(prop for place in range(self._config.parked) if (prop := self._parked(place, t, busy)))
        return Stage(self.view(t), acts, parked)

    def view(self, t: float) -> View:
        """Mirrored or not, and shaken."""
        reach, seed = self._config.shake_px / 112.0, self._config.seed
        if reach == 0.0:
            return View(self._layout.mirror)
        shift = [reach * wave(t, 0.6, seed, Use.CAMERA, axis) for axis in (0, 1)]
        return View(self._layout.mirror, shift[0], shift[1])

    def advert(self, t: float) -> tuple[int, Rgb]:
        """The product on the advert screen, and the colour behind it."""
        key = (self._config.seed, Use.TRAPS, 3, math.floor(t / _SECONDS_OF_AN_ADVERT))
        return mix(*key) % self._config.instances, rgb(360.0 * unit(*key, 1), 0.5, 0.95)

    def side(self, instance: int) -> float:
        """How large product `instance` is, a share of the picture's width."""
        return between(*self._config.object_size, self._config.seed, Use.CATALOGUE, 1, instance)

    def _facing(self, index: int) -> Prop:
        # Steps of 7 through the products: the shelf shows ten of them, always the same ones.
        start = mix(self._config.seed, Use.TRAPS, 1)
        instance = (start + 7 * index) % self._config.instances
        return Prop(instance, self._layout.facing_spot(index), self._layout.facing_side)

    def _parked(self, place: int, t: float, busy: set[int]) -> Prop | None:
        turn = math.floor(t / _SECONDS_OF_A_PARKED_ITEM + unit(self._config.seed, Use.TRAPS, 2, place))
        key = (self._config.seed, Use.TRAPS, 2, place, turn)
        instance = mix(*key) % self._config.instances
        if unit(*key, 1) < 0.25 or instance in busy:
            return None
        return Prop(instance, self._layout.parked_spot(place), 0.8 * self.side(instance))

    def _act(self, event: Event, t: float) -> Act:
        key = (self._config.seed, Use.SLOT, event.hands, round(event.start * 5), 7)
        wobble = (between(-0.012, 0.012, *key, 0), between(-0.010, 0.010, *key, 1))
        part = (t - event.start) / (event.end - event.start)
        moment = Moment(self._layout, part, t - event.start, self.side(event.instance), wobble)
        pose = MOTIONS[ACTIVITIES[event.activity].name](moment)
        covers = self._covers(pose)
        if unit(*key, 2) >= self._config.occlusion:
            return Act(event, pose, covers)
        colour = rgb(360.0 * unit(*key, 3), 0.45, 0.6)
        basket = _passer(pose, part, between(0.25, 0.6, *key, 4), unit(*key, 5))
        return Act(event, pose, covers, basket, colour)

    def _covers(self, pose: Pose) -> tuple[Box, ...]:
        if pose.in_bag:
            x1, _, x2, y2 = self._layout.bag
            return ((x1, pose.hidden_below, x2, y2),)
        if pose.garment:
            reach = GARMENT_REACH * pose.side
            return ((pose.centre[0] - reach, pose.hidden_below, pose.centre[0] + reach, 1.2),)
        return ()


def _passer(pose: Pose, part: float, cover: float, when: float) -> Box | None:
    """A basket that rises before the lower share `cover` of the product for about a third of the event."""
    begun = (part - 0.15 - 0.35 * when) / 0.35
    if not 0.0 < begun < 1.0:
        return None
    x, y = pose.centre
    half = pose.side * 8 / 9  # of the product's height, a share of the picture's
    top = 1.2 + (y + half * (1.0 - 2.0 * cover) - 1.2) * smooth(4.0 * min(begun, 1.0 - begun))
    return x - 0.95 * pose.side, top, x + 0.95 * pose.side, 1.2
