"""Write checkout worlds as a data folder: events and boxes without pixels, which are drawn when needed.

A world's knobs can make its annotations imperfect: `label_noise` of the events get another activity, and at
`missing_boxes` of the ticks a product has no box. Pictures and the world's own truth stay right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import chain
from pathlib import Path

from pydantic import ValidationError

from edge_runtime.frame import TICKS_PER_SECOND
from edge_runtime.simulation.activities import ACTIVITIES
from edge_runtime.simulation.config import LEVELS, WorldConfig
from edge_runtime.simulation.ground_truth import Track
from edge_runtime.simulation.photo_folders import make_world
from edge_runtime.simulation.rng import Use, mix, unit
from edge_runtime.simulation.schedule import Event
from edge_runtime.simulation.world import World
from engines.errors import LvmError
from export.data.files import write_annotations
from export.data.records import (
    Classes,
    EventRecord,
    Knob,
    NamedActivity,
    NamedInstance,
    Split,
    TrackRecord,
    Video,
)
from export.support.errors import first_complaint

KNOBS = tuple(name for name in WorldConfig.model_fields if name != "seed")
ANNOTATION_KNOBS = ("missing_boxes", "label_noise")
IDLE_EVERY = 5
"""Ticks between boxes of an untouched product: it stands still, so one box a second is enough."""
_INSTANT_S = 1e-6


def make_world_config(level: str, knobs: Mapping[str, object], seed: int = 0) -> WorldConfig:
    """Return the configuration of a world of `level` with `knobs` (`--knob`, or `data.knobs` of a recipe).

    Raises LvmError that names the wrong level or knob.
    """
    if level not in LEVELS:
        raise LvmError(f"level must be one of {', '.join(LEVELS)}, got {level!r}")
    if unknown := [name for name in knobs if name not in KNOBS]:
        raise LvmError(f"a world has no knob {unknown[0]}; its knobs are {', '.join(KNOBS)}")
    try:
        return WorldConfig.model_validate({**LEVELS[level], **knobs, "seed": seed})
    except ValidationError as error:
        raise LvmError(first_complaint(error)) from error


def annotated_activity(event: Event, config: WorldConfig) -> int:
    """Return the activity that an event is annotated with."""
    key = (Use.ANNOTATION, config.seed, event.hands, round(event.start * TICKS_PER_SECOND))
    if unit(*key) >= config.label_noise or config.activities < 2:
        return event.activity
    return (event.activity + 1 + mix(*key, 1) % (config.activities - 1)) % config.activities


def annotated_tracks(world: World, t: float) -> list[Track]:
    """Return the annotated boxes at `t` seconds, active ones first, with the annotated activities."""
    config, truth = world.config, world.truth(t)
    tracks = [track for track in truth.tracks if not _is_missing(config, track.instance, truth.tick)]
    if not config.label_noise:
        return tracks
    labels = {event.instance: annotated_activity(event, config) for event in world.events(t, t + _INSTANT_S)}
    return [replace(track, activity=labels[track.instance]) if track.active else track for track in tracks]


def _is_missing(config: WorldConfig, instance: int, tick: int) -> bool:
    return unit(Use.ANNOTATION, config.seed, 1, instance, tick) < config.missing_boxes


def make_world_video(
    seed: int,
    *,
    level: str = "L1",
    minutes: float = 30.0,
    split: Split = "train",
    products: Path | None = None,
    backgrounds: Path | None = None,
    only: Sequence[str] | None = None,
    knobs: dict[str, Knob] | None = None,
) -> Video:
    """Return the record of a world. Raises LvmError for an invalid level or knob."""
    video = Video(
        video=f"{level}-{seed}",
        seed=seed,
        level=level,
        products=str(products.resolve()) if products else None,
        backgrounds=str(backgrounds.resolve()) if backgrounds else None,
        only=tuple(only) if only is not None else None,
        knobs=knobs or {},
        fps=float(TICKS_PER_SECOND),
        width=640,
        height=360,
        duration_s=60.0 * minutes,
        split=split,
    )
    read_world_config(video)
    return video


def read_world_config(video: Video) -> WorldConfig:
    """Return the configuration of a video that is a checkout world. Raises LvmError."""
    if video.seed is None:
        raise LvmError(
            f"{video.video} is a file ({video.path}) and no checkout world; only worlds have a seed"
        )
    try:
        return make_world_config(video.level, video.knobs, video.seed)
    except LvmError as error:
        raise LvmError(f"{video.video}: {error}") from error


def open_world(video: Video) -> World:
    """Return the world of the record `video`."""
    products, backgrounds = (
        Path(folder) if folder else None for folder in (video.products, video.backgrounds)
    )
    return make_world(read_world_config(video), products, backgrounds, video.only)


def make_world_events(video: Video, world: World) -> list[EventRecord]:
    """Return the annotated events, cut at the video's end."""
    records = []
    for event in world.events(0.0, video.duration_s):
        end = min(event.end, video.duration_s)
        if end - event.start >= 1.0 / TICKS_PER_SECOND:
            records.append(
                EventRecord(
                    video=video.video,
                    event=f"{event.hands}-{round(event.start * TICKS_PER_SECOND)}",
                    activity=annotated_activity(event, world.config),
                    instance=event.instance,
                    t_s=event.start,
                    t_e=end,
                )
            )
    return records


def make_world_tracks(video: Video, world: World, *, idle_every: int = IDLE_EVERY) -> Iterator[TrackRecord]:
    """Yield boxes of active products at every tick, of others at every `idle_every`th (0: never)."""
    name = lru_cache(maxsize=None)(world.product)
    events, at = world.events(0.0, video.duration_s), 0
    for tick in range(int(video.duration_s * TICKS_PER_SECOND)):
        t = tick / TICKS_PER_SECOND
        idle = idle_every > 0 and tick % idle_every == 0
        # Events are ordered by start; those of several pairs of hands may end in another order.
        while at < len(events) and events[at].end <= t:
            at += 1
        if not idle and not any(event.start <= t < event.end for event in events[at : at + 8]):
            continue
        for track in annotated_tracks(world, t):
            if track.active or idle:
                yield TrackRecord(
                    video=video.video,
                    instance=track.instance,
                    category=name(track.instance),
                    tick5=tick,
                    box=_round_box(track.box),
                    active=1 if track.active else 0,
                )


def write_worlds(
    root: Path,
    videos: Sequence[Video],
    *,
    idle_every: int = IDLE_EVERY,
    progress: Callable[[str], None] = lambda name: None,
) -> None:
    """Write videos, events, tracks and classes of checkout worlds to the folder `root`."""
    worlds = {video.video: open_world(video) for video in videos}
    if len(worlds) < len(videos):
        raise LvmError(f"{root}: every world needs its own level and seed, got some of them twice")

    def tracks(video: Video) -> Iterator[TrackRecord]:
        yield from make_world_tracks(video, worlds[video.video], idle_every=idle_every)
        progress(video.video)

    write_annotations(
        root,
        videos,
        chain.from_iterable(make_world_events(video, worlds[video.video]) for video in videos),
        chain.from_iterable(tracks(video) for video in videos),
        make_world_classes(worlds),
    )


def make_world_classes(worlds: dict[str, World]) -> Classes:
    """Return all activities of the checkout, and the names of each world's products."""
    return Classes(
        activities=tuple(
            NamedActivity(id=number, **activity._asdict()) for number, activity in enumerate(ACTIVITIES)
        ),
        instances=tuple(
            NamedInstance(id=instance, name=world.product(instance), video=video)
            for video, world in worlds.items()
            for instance in range(world.config.instances)
        ),
    )


def _round_box(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (round(side, 5) for side in box)
    return x1, y1, x2, y2
