"""Checkout worlds as a data folder: what happens in them and where, but no pixel, which cost nothing to draw.

A world's annotations are made by a person in a hurry when its knobs say so (`export/data/annotated.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path

from edge_runtime.frame import TICKS_PER_SECOND
from edge_runtime.simulation.activities import ACTIVITIES
from edge_runtime.simulation.config import WorldConfig
from edge_runtime.simulation.photo_folders import make_world
from edge_runtime.simulation.world import World
from engines.errors import LvmError
from export.data.annotated import annotated_activity, annotated_tracks
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
from export.data.world_overrides import turned

IDLE_EVERY = 5
"""Ticks from one box of an untouched product to the next: it stands still, one box a second is enough."""


def world_video(
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
    """The record of one world; LvmError where its level or a knob makes no sense."""
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
    config_of(video)
    return video


def config_of(video: Video) -> WorldConfig:
    """The knobs of a video that is a checkout world."""
    if video.seed is None:
        raise LvmError(
            f"{video.video} is a file ({video.path}) and no checkout world; only worlds have a seed"
        )
    try:
        return turned(video.level, video.knobs, video.seed)
    except LvmError as error:
        raise LvmError(f"{video.video}: {error}") from error


def world_of(video: Video) -> World:
    """The world that `video` is a record of."""
    products, backgrounds = (Path(one) if one else None for one in (video.products, video.backgrounds))
    return make_world(config_of(video), products, backgrounds, video.only)


def world_events(video: Video, world: World) -> list[EventRecord]:
    """The annotated events, cut at the video's end."""
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


def world_tracks(video: Video, world: World, *, idle_every: int = IDLE_EVERY) -> Iterator[TrackRecord]:
    """Boxes of active products at every tick, of the others at every `idle_every`th; 0 leaves those out."""
    name = lru_cache(maxsize=None)(world.product)
    events, at = world.events(0.0, video.duration_s), 0
    for tick in range(int(video.duration_s * TICKS_PER_SECOND)):
        t = tick / TICKS_PER_SECOND
        idle = idle_every > 0 and tick % idle_every == 0
        # Events come by start; those of several pairs of hands may end in another order.
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
                    box=_rounded(track.box),
                    active=1 if track.active else 0,
                )


def write_worlds(
    root: Path,
    videos: Sequence[Video],
    *,
    idle_every: int = IDLE_EVERY,
    progress: Callable[[str], None] = lambda name: None,
) -> None:
    """Writes videos, events, tracks and classes of checkout worlds to the folder `root`."""
    worlds = {video.video: world_of(video) for video in videos}
    if len(worlds) < len(videos):
        raise LvmError(f"{root}: every world needs its own level and seed, got some of them twice")

    def tracks(video: Video) -> Iterator[TrackRecord]:
        yield from world_tracks(video, worlds[video.video], idle_every=idle_every)
        progress(video.video)

    write_annotations(
        root,
        videos,
        chain.from_iterable(world_events(one, worlds[one.video]) for one in videos),
        chain.from_iterable(tracks(video) for video in videos),
        world_classes(worlds),
    )


def world_classes(worlds: dict[str, World]) -> Classes:
    """All activities of the checkout, and what the products of each world are called."""
    return Classes(
        activities=tuple(
            NamedActivity(id=number, name=activity.name, doing=activity.doing)
            for number, activity in enumerate(ACTIVITIES)
        ),
        instances=tuple(
            NamedInstance(id=instance, name=world.product(instance), video=video)
            for video, world in worlds.items()
            for instance in range(world.config.instances)
        ),
    )


def _rounded(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (round(side, 5) for side in box)
    return x1, y1, x2, y2
