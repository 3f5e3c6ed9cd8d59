"""Generate questions from annotations as ReST does: three kinds, three lengths of window.

Query windows of about 5, 15 and 30 minutes slide over each video by half their length;
`export.data.candidates` draws what is asked inside one. Candidates without a unique answer are rejected and
counted by reason.

The result depends on the annotations, the rules and the seed only.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from export.data.candidates import Candidate, CandidateSource, QueryRules, Rejected
from export.data.crops import CropSource, Window, make_video_crops
from export.data.files import Tracks
from export.data.records import DURATION_S, Crop, Duration, EventRecord, QueryRecord, QueryType, Video


@dataclass
class GeneratedQueries:
    """Questions, and the number of rejected candidates by `type/duration: reason`."""

    queries: list[QueryRecord] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)


def generate_queries(
    video: Video,
    events: Sequence[EventRecord],
    tracks: Tracks,
    *,
    seed: int = 0,
    rules: QueryRules | None = None,
    crops: CropSource | None = None,
    instances: Sequence[int] | None = None,
) -> GeneratedQueries:
    """Return the questions about one video.

    `crops` chooses the pictures of objects (default: crops of the video's own tracks). `instances` may be
    asked about even if nothing was ever done with them (default: all that have an event or a box).
    """
    rules, crops = rules or QueryRules(), crops or make_video_crops(tracks)
    seen = {event.instance for event in events} | set(np.unique(tracks.instance).tolist())
    known = sorted(set(instances) if instances is not None else seen)
    generated = GeneratedQueries()
    for kind, duration in itertools.product(rules.types, rules.durations):
        key = f"{seed}/{video.video}/{kind}/{duration}".encode()
        rng = np.random.default_rng(int.from_bytes(hashlib.sha256(key).digest()[:8], "big"))
        windows = slide_windows(video.duration_s, duration)
        source = CandidateSource(kind, duration, events, tracks, known, windows, rules, rng)
        _add_queries(generated, video, source, crops)
    return generated


def slide_windows(duration_s: float, duration: Duration) -> list[Window]:
    """Return windows of one length, half a length apart, the last one at the video's end.

    A shorter video is one window of this duration, unless a shorter duration covers it already.
    """
    length, shorter = DURATION_S[duration], [s for s in DURATION_S.values() if s < DURATION_S[duration]]
    if duration_s <= length:
        return [(0.0, duration_s)] if duration_s > max(shorter, default=0.0) else []
    starts = list(np.arange(0.0, duration_s - length, length / 2))
    return [(float(start), float(start) + length) for start in [*starts, duration_s - length]]


def _add_queries(
    generated: GeneratedQueries, video: Video, source: CandidateSource, crops: CropSource
) -> None:
    """Add the questions of one type and duration: positives up to the maximum, negatives by their share."""
    maximum, share = source.rules.per_cell, source.rules.negatives
    done: set[tuple[object, ...]] = set()
    label = f"{source.kind}/{source.duration}"

    def add(candidates: Iterator[Callable[[], Candidate]], count: int, tries: int) -> int:
        added = 0
        for make in itertools.islice(candidates, tries):
            if added >= count:
                break
            try:
                candidate = make()
                query = _make_query(f"{video.video}/{label}/{len(done):03d}", video, source, candidate, crops)
                key = _duplicate_key(candidate, source.kind)
                if key in done:
                    raise Rejected("asked already")
            except Rejected as error:
                generated.rejected[f"{label}: {error}"] += 1
                continue
            done.add(key)
            generated.queries.append(query)
            added += 1
        return added

    positives = add(source.positives(), round(maximum * (1.0 - share)), 1_000_000) if share < 1.0 else 0
    negatives = round(positives * share / (1.0 - share)) if share < 1.0 else maximum
    add(source.negatives(), min(negatives, maximum - positives), 20 * negatives + 20)


def _make_query(
    qid: str, video: Video, source: CandidateSource, candidate: Candidate, crops: CropSource
) -> QueryRecord:
    crop: Crop | None = None
    if source.kind != "object" and candidate.instance is not None:
        events = source.event_windows(candidate.instance)
        window = [candidate.property_window] if candidate.property_window else []
        # Preferably outside the property window too, at least outside the object's events.
        crop = crops(source.rng, candidate.instance, events + window) or crops(
            source.rng, candidate.instance, events
        )
        if crop is None:
            raise Rejected("no crop of the object outside its events")
    start, end = candidate.property_window or (None, None)
    return QueryRecord(
        qid=qid,
        video=video.video,
        type=source.kind,
        duration=source.duration,
        q_s=candidate.query_window[0],
        q_e=candidate.query_window[1],
        t_s=start,
        t_e=end,
        activities=candidate.activities,
        instance=candidate.instance,
        crop=crop,
        boxes=candidate.boxes,
        happened=candidate.happened,
    )


def _duplicate_key(candidate: Candidate, kind: QueryType) -> tuple[object, ...]:
    """Return a key that is equal for the same question in two overlapping query windows."""
    if kind == "time":
        # A negative has no property window: its query window identifies it.
        return candidate.activities, candidate.instance, candidate.property_window or candidate.query_window
    asked = candidate.instance if kind == "activity" else candidate.activities
    return asked, candidate.property_window


def sort_rejections(rejected: Mapping[str, int]) -> dict[str, int]:
    """Return the rejection log, most frequent reasons first."""
    return dict(sorted(rejected.items(), key=lambda entry: (-entry[1], entry[0])))
