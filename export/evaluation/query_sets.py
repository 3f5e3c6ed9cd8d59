"""Make queries about videos whose truth is known as arrays: the published protocol without files in
between."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from edge_runtime.frame import TICKS_PER_SECOND
from export.data.candidates import QueryRules
from export.data.crops import CropSource, Window
from export.data.files import Tracks
from export.data.generate import generate_queries
from export.data.records import Crop, CropView, EventRecord, QueryRecord, Video
from export.data.token_cache import VideoCache


def make_queries(
    caches: Iterable[VideoCache], *, seed: int = 0, rules: QueryRules | None = None
) -> list[QueryRecord]:
    """Make queries about each video, with cached photos of its objects; a pure function of `seed`."""
    out: list[QueryRecord] = []
    for cache in caches:
        video = Video(
            video=cache.name,
            path=cache.name,
            fps=1.0,
            width=1,
            height=1,
            duration_s=(int(cache.ticks[-1]) + TICKS_PER_SECOND) / TICKS_PER_SECOND,
            split="test",
        )
        truth = cache.truth
        events = [
            EventRecord(
                video=cache.name,
                event=str(number),
                activity=int(truth.activity[number]),
                instance=int(truth.instance[number]),
                t_s=int(truth.start[number]) / TICKS_PER_SECOND,
                t_e=int(truth.end[number]) / TICKS_PER_SECOND,
            )
            for number in range(len(truth))
        ]
        instance = truth.instance[truth.box_event].astype(np.int32)
        order = np.lexsort((truth.box_tick, instance))
        tracks = Tracks(
            instance[order],
            truth.box_tick[order],
            truth.box[order],
            np.ones(len(order), np.bool_),
            {int(instance_id): "product" for instance_id in np.unique(instance)},
        )
        made = generate_queries(
            video,
            events,
            tracks,
            seed=seed,
            rules=rules,
            crops=_make_photo_crops(cache.objects.shape[1]),
            instances=range(len(cache.objects)),
        )
        out += made.queries
    return out


def _make_photo_crops(views: int) -> CropSource:
    def crop(rng: np.random.Generator, instance: int, avoid: Sequence[Window]) -> Crop | None:
        return CropView(view=int(rng.integers(views)))

    return crop
