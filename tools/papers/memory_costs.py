"""What remembering and asking cost, of several bundles and samplers in one interleaved run.

Letters: F frames of a clip, d token width.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from edge_runtime.frame import TICKS_PER_SECOND
from edge_runtime.ingest.pipeline import Ingest
from edge_runtime.memory.samplers import make_sampler
from edge_runtime.memory.version import empty_version
from edge_runtime.persistence import to_arrays
from edge_runtime.query.executor import Asker
from edge_runtime.query.schema import AnyQuery
from edge_runtime.service.engine_pool import Engines
from engines.bundle import Bundle
from export.data.records import QueryRecord
from export.data.token_cache import VideoCache
from export.evaluation.evaluate import CachedObjects, Crops, to_query


@dataclass
class Lane:
    """One bundle with one sampler, and milliseconds of processor time that it took."""

    engines: Engines
    ingest: Ingest
    asker: Asker
    clip_ms: list[float] = field(default_factory=list)
    question_ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def of(cls, bundle: Bundle, sampler: str, objects: CachedObjects) -> Lane:
        engines = Engines.load(bundle, "onnxruntime", 1)
        network = bundle.manifest.network
        made = make_sampler(sampler, engines.sampler)
        ingest = Ingest(network, engines.backbone, made, empty_version(network))
        return cls(engines, ingest, Asker(bundle.manifest, engines.reader, objects))

    def close(self) -> None:
        self.ingest.close()
        self.engines.close()

    def watch(self, cache: VideoCache, clip: int) -> None:
        """Take in one clip whose tokens (F, 49, d) are known.

        It counts in the second half of the video, where memory and queues have filled.
        """
        frames = self.ingest.network.clip_frames
        part = slice(clip * frames, (clip + 1) * frames)
        tokens, times = cache.tokens[part], (cache.ticks[part] / TICKS_PER_SECOND).tolist()
        started = time.process_time()
        self.ingest.push_features(tokens, times)
        if clip >= cache.clips // 2:
            self.clip_ms.append(1e3 * (time.process_time() - started))

    def ask(self, kind: str, asked: AnyQuery) -> None:
        started = time.process_time()
        self.asker.ask(asked, self.ingest.version)
        self.question_ms[kind].append(1e3 * (time.process_time() - started))

    def said(self) -> dict[str, Any]:
        """Medians; of questions for each kind, and the mean of those."""
        by_kind = {kind: statistics.median(taken) for kind, taken in self.question_ms.items()}
        return {
            "state_bytes": sum(array.nbytes for array in to_arrays(self.ingest.version).values()),
            "clip_ms": statistics.median(self.clip_ms),
            "question_ms": statistics.fmean(by_kind.values()),
            "question_ms_by_kind": by_kind,
        }


def costs(
    ways: dict[str, tuple[Bundle, str]],
    cache: VideoCache,
    queries: Sequence[QueryRecord],
    each: int,
    crops: Crops,
) -> dict[str, dict[str, Any]]:
    """Bytes of state and processor time of one clip, its tokens known, and of one question asked alone.

    All take turns at every clip of `cache`, then at its first `each` queries of each kind; `crops` are the
    tokens (49, d) of objects that are no catalogue photo, by qid.
    """
    objects = CachedObjects(cache, queries, crops)
    lanes = {name: Lane.of(bundle, sampler, objects) for name, (bundle, sampler) in ways.items()}
    try:
        for clip in range(cache.clips):
            for lane in _turned(list(lanes.values()), clip):
                lane.watch(cache, clip)
        asked = _first(queries, each)
        for number, query in enumerate(asked):
            for lane in _turned(list(lanes.values()), number):
                names = [one.name for one in lane.engines.bundle.manifest.classes]
                if not number:  # what is kept of a version to answer faster is made by the first question
                    lane.asker.ask(to_query(query, names), lane.ingest.version)
                lane.ask(query.type, to_query(query, names))
        return {name: lane.said() for name, lane in lanes.items()}
    finally:
        for lane in lanes.values():
            lane.close()


def _turned(lanes: list[Lane], number: int) -> list[Lane]:
    """Everybody is first, in the middle and last as often."""
    at = number % len(lanes)
    return lanes[at:] + lanes[:at]


def _first(queries: Sequence[QueryRecord], each: int) -> list[QueryRecord]:
    """The first `each` queries of each kind, or all there are, kinds in turn."""
    kinds: dict[str, list[QueryRecord]] = defaultdict(list)
    for query in queries:
        if len(kinds[query.type]) < each:
            kinds[query.type].append(query)
    in_turn = itertools.zip_longest(*kinds.values())
    return [one for some in in_turn for one in some if one is not None]
