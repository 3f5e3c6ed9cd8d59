"""Measure what ingest and questions cost, for several bundles and samplers in one interleaved run.

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
class TimedMemory:
    """One bundle with one sampler, and the milliseconds of processor time that it took."""

    engines: Engines
    ingest: Ingest
    asker: Asker
    clip_ms: list[float] = field(default_factory=list)
    question_ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def load(cls, bundle: Bundle, sampler: str, objects: CachedObjects) -> TimedMemory:
        engines = Engines.load(bundle, "onnxruntime", 1)
        network = bundle.manifest.network
        made = make_sampler(sampler, engines.sampler)
        ingest = Ingest(network, engines.backbone, made, empty_version(network))
        return cls(engines, ingest, Asker(bundle.manifest, engines.reader, objects))

    def close(self) -> None:
        self.ingest.close()
        self.engines.close()

    def ingest_clip(self, cache: VideoCache, clip: int) -> None:
        """Ingest one clip whose tokens (F, 49, d) are known.

        Its time counts in the second half of the video only, when memory and queues are full.
        """
        frames = self.ingest.network.clip_frames
        part = slice(clip * frames, (clip + 1) * frames)
        tokens, times = cache.tokens[part], (cache.ticks[part] / TICKS_PER_SECOND).tolist()
        started = time.process_time()
        self.ingest.push_features(tokens, times)
        if clip >= cache.clips // 2:
            self.clip_ms.append(1e3 * (time.process_time() - started))

    def ask(self, kind: str, question: AnyQuery) -> None:
        started = time.process_time()
        self.asker.ask(question, self.ingest.version)
        self.question_ms[kind].append(1e3 * (time.process_time() - started))

    def summarise(self) -> dict[str, Any]:
        """Return medians; for questions the median of each kind, and their mean."""
        by_kind = {kind: statistics.median(ms) for kind, ms in self.question_ms.items()}
        return {
            "state_bytes": sum(array.nbytes for array in to_arrays(self.ingest.version).values()),
            "clip_ms": statistics.median(self.clip_ms),
            "question_ms": statistics.fmean(by_kind.values()),
            "question_ms_by_kind": by_kind,
        }


def measure_costs(
    variants: dict[str, tuple[Bundle, str]],
    cache: VideoCache,
    queries: Sequence[QueryRecord],
    per_kind: int,
    crops: Crops,
) -> dict[str, dict[str, Any]]:
    """Return bytes of state and processor time of a clip, its tokens known, and of a question asked alone.

    All variants take turns at every clip of `cache`, then at its first `per_kind` queries of each kind;
    `crops` are the tokens (49, d) of objects that are no catalogue photo, by qid.
    """
    objects = CachedObjects(cache, queries, crops)
    timed_memories = {
        name: TimedMemory.load(bundle, sampler, objects) for name, (bundle, sampler) in variants.items()
    }
    try:
        for clip in range(cache.clips):
            for timed in _rotate(list(timed_memories.values()), clip):
                timed.ingest_clip(cache, clip)
        for number, query in enumerate(_select_queries(queries, per_kind)):
            for timed in _rotate(list(timed_memories.values()), number):
                names = [activity.name for activity in timed.engines.bundle.manifest.classes]
                if not number:  # the first question fills the caches of a version
                    timed.asker.ask(to_query(query, names), timed.ingest.version)
                timed.ask(query.type, to_query(query, names))
        return {name: timed.summarise() for name, timed in timed_memories.items()}
    finally:
        for timed in timed_memories.values():
            timed.close()


def _rotate(timed_memories: list[TimedMemory], number: int) -> list[TimedMemory]:
    """Rotate the list, so that each is first, in the middle and last equally often."""
    at = number % len(timed_memories)
    return timed_memories[at:] + timed_memories[:at]


def _select_queries(queries: Sequence[QueryRecord], per_kind: int) -> list[QueryRecord]:
    """Return the first `per_kind` queries of each kind, or all there are, kinds in turn."""
    kinds: dict[str, list[QueryRecord]] = defaultdict(list)
    for query in queries:
        if len(kinds[query.type]) < per_kind:
            kinds[query.type].append(query)
    in_turn = itertools.zip_longest(*kinds.values())
    return [query for queries in in_turn for query in queries if query is not None]
