"""A small labelled video, its cache and networks, for the tests of evaluation.

Two products: number 0 is scanned (activity 0) from 10 to 16 s in the top left corner, number 1 is bagged
(activity 1) from 30 to 34 s in the bottom right one. 46 frames at one a second: 11 clips and two frames more.
"""

from __future__ import annotations

import functools

import numpy as np

from engines.manifest import ActivityClass, TrainingRecord
from engines.network_config import NetworkConfig
from export.bundle.writer import ModelCard
from export.data.records import CropView, EventRecord, QueryRecord, TrackRecord
from export.data.token_cache import VideoCache, encode_video
from export.data.video_labels import VideoTruth
from export.evaluation.stream_run import Model
from export.networks.model import LvmNet, make_untrained
from tests.support.fakes import fake_backbone, small_network

FRAMES = 46
CORNERS = {0: (0.0, 0.0, 0.25, 0.25), 1: (0.75, 0.75, 1.0, 1.0)}
EVENTS = (
    EventRecord(video="v", event="a", activity=0, instance=0, t_s=10, t_e=16),
    EventRecord(video="v", event="b", activity=1, instance=1, t_s=30, t_e=34),
)


def truth() -> VideoTruth:
    tracks = [
        TrackRecord(
            video="v", instance=event.instance, category="", tick5=tick, box=CORNERS[event.instance], active=1
        )
        for event in EVENTS
        for tick in range(round(event.t_s * 5), round(event.t_e * 5))
    ]
    return VideoTruth.from_records(EVENTS, tracks)


def network_config(**changes: object) -> NetworkConfig:
    return small_network(**{"image_size": 56, **changes})


def trained_like(seed: int = 0, **changes: object) -> tuple[LvmNet, ModelCard]:
    """Make an untrained network that counts as trained, so that its answers are not marked."""
    names = ("scan", "bag", "inspect")
    classes = tuple(ActivityClass(name=name, doing=name) for name in names)
    network = make_untrained(network_config(**changes), seed)
    return network, ModelCard("small", classes, TrainingRecord(trained=True, recipe="none", seed=seed))


def model(seed: int = 0, **changes: object) -> Model:
    return Model.from_network(*trained_like(seed, **changes))


@functools.cache
def cache(name: str = "v", **changes: object) -> VideoCache:
    """Make the cache of a video of noise, on which the events' corners are white."""
    config, rng = network_config(**changes), np.random.default_rng(5)
    photos = rng.integers(0, 255, (2, 3, 56, 56, 3), np.uint8)
    frames = []
    for t in range(FRAMES):
        image = rng.integers(0, 120, (56, 56, 3), np.uint8)
        for event in EVENTS:
            if event.t_s <= t < event.t_e:
                x1, y1, x2, y2 = (round(side * 56) for side in CORNERS[event.instance])
                image[y1:y2, x1:x2] = 255
        frames.append((float(t), image))
    return encode_video(name, iter(frames), photos, truth(), config, fake_backbone(config))


def query(kind: str, qid: str = "", event: int = 0, **changes: object) -> QueryRecord:
    """Make a query about one of the two events; `changes` replace its fields."""
    happened = EVENTS[event]
    ticks = range(round(happened.t_s * 5), round(happened.t_e * 5))
    boxes = {tick: CORNERS[happened.instance] for tick in ticks}
    body: dict[str, object] = {
        "qid": qid or f"{kind}-{event}",
        "video": "v",
        "type": kind,
        "duration": "short",
        "q_s": 0.0,
        "q_e": float(FRAMES),
        "t_s": happened.t_s,
        "t_e": happened.t_e,
        "activities": (happened.activity,),
        "instance": happened.instance,
        "crop": CropView(view=4),
        "boxes": boxes if kind == "object" else {},
    }
    return QueryRecord.model_validate({**body, **changes})


def queries() -> list[QueryRecord]:
    """Make queries of all kinds about both events, tight and loose, and a negative of each kind."""
    records = [query(kind, event=event) for kind in ("activity", "object", "time") for event in (0, 1)]
    records += [query(kind, f"{kind}-loose", event=0, t_s=3.0, t_e=40.0) for kind in ("activity", "object")]
    never: dict[str, object] = {"happened": False, "boxes": {}}
    records.append(query("activity", "never-activity", t_s=36.0, t_e=40.0, activities=(), **never))
    records.append(
        query("object", "never-object", t_s=2.0, t_e=40.0, activities=(2,), instance=None, **never)
    )
    records.append(query("time", "never-time", t_s=None, t_e=None, activities=(2,), **never))
    return records
