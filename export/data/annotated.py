"""What is written down of a checkout world: by a person in a hurry, where its knobs say so.

`label_noise` of the events are called by another activity, at `missing_boxes` of the ticks a product has no
box. The pictures stay right, and so does the world's own truth.
"""

from __future__ import annotations

from dataclasses import replace

from edge_runtime.frame import TICKS_PER_SECOND
from edge_runtime.simulation.config import WorldConfig
from edge_runtime.simulation.ground_truth import Track
from edge_runtime.simulation.rng import Use, mix, unit
from edge_runtime.simulation.schedule import Event
from edge_runtime.simulation.world import World

ANNOTATION_KNOBS = ("missing_boxes", "label_noise")
_MOMENT_S = 1e-6


def annotated_activity(event: Event, config: WorldConfig) -> int:
    """The activity that an event is called by."""
    key = (Use.ANNOTATION, config.seed, event.hands, round(event.start * TICKS_PER_SECOND))
    if unit(*key) >= config.label_noise or config.activities < 2:
        return event.activity
    return (event.activity + 1 + mix(*key, 1) % (config.activities - 1)) % config.activities


def annotated_tracks(world: World, t: float) -> list[Track]:
    """The boxes that are drawn at `t` seconds, active ones first, by what the events are called."""
    config, truth = world.config, world.truth(t)
    tracks = [track for track in truth.tracks if not _missing(config, track.instance, truth.tick)]
    if not config.label_noise:
        return tracks
    called = {one.instance: annotated_activity(one, config) for one in world.events(t, t + _MOMENT_S)}
    return [replace(one, activity=called[one.instance]) if one.active else one for one in tracks]


def _missing(config: WorldConfig, instance: int, tick: int) -> bool:
    return unit(Use.ANNOTATION, config.seed, 1, instance, tick) < config.missing_boxes
