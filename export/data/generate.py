"""Questions out of what is annotated, in the manner of ReST: three kinds, three lengths of window.

Query windows of about 5, 15 and 30 minutes slide over each video by half their length; what can be asked
inside one is in `export.data.candidates`. What has no unique answer is not asked; why not is counted.

Everything is a function of the annotations, the rules and the seed.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from export.data.candidates import Candidate, Cell, Rejected, Rules
from export.data.crops import Crops, Window, video_crops
from export.data.files import Tracks
from export.data.records import DURATION_S, Crop, Duration, EventRecord, QueryRecord, QueryType, Video


@dataclass
class Generated:
    """Questions, and how many candidates were rejected by `type/duration: reason`."""

    queries: list[QueryRecord] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)


def generate(
    video: Video,
    events: Sequence[EventRecord],
    tracks: Tracks,
    *,
    seed: int = 0,
    rules: Rules | None = None,
    crops: Crops | None = None,
    instances: Sequence[int] | None = None,
) -> Generated:
    """Questions about one video.

    `crops` shows objects (default: as they are seen in the video's own tracks); `instances` are those that
    can be asked about though nothing was ever done with them (default: all that are seen).
    """
    rules, crops = rules or Rules(), crops or video_crops(tracks)
    seen = {event.instance for event in events} | {int(one) for one in np.unique(tracks.instance)}
    known = sorted(set(instances) if instances is not None else seen)
    made = Generated()
    for kind, duration in itertools.product(rules.types, rules.durations):
        key = f"{seed}/{video.video}/{kind}/{duration}".encode()
        rng = np.random.default_rng(int.from_bytes(hashlib.sha256(key).digest()[:8], "big"))
        windows = query_windows(video.duration_s, duration)
        cell = Cell(kind, duration, events, tracks, known, windows, rules, rng)
        _fill(made, video, cell, crops)
    return made


def query_windows(duration_s: float, duration: Duration) -> list[Window]:
    """Windows of one length, half a length apart, the last one at the video's end.

    A video that is shorter has one window as long as itself, unless a shorter kind of window has it too.
    """
    length, shorter = DURATION_S[duration], [s for s in DURATION_S.values() if s < DURATION_S[duration]]
    if duration_s <= length:
        return [(0.0, duration_s)] if duration_s > max(shorter, default=0.0) else []
    starts = list(np.arange(0.0, duration_s - length, length / 2))
    return [(float(start), float(start) + length) for start in [*starts, duration_s - length]]


def _fill(made: Generated, video: Video, cell: Cell, crops: Crops) -> None:
    """Adds one cell's questions: as many positives as there are up to the cap, negatives by their share."""
    most, share = cell.rules.per_cell, cell.rules.negatives
    done: set[tuple[object, ...]] = set()
    place = f"{cell.kind}/{cell.duration}"

    def take(candidates: Iterator[Callable[[], Candidate]], count: int, tries: int) -> int:
        taken = 0
        for make in itertools.islice(candidates, tries):
            if taken >= count:
                break
            try:
                candidate = make()
                query = _question(f"{video.video}/{place}/{len(done):03d}", video, cell, candidate, crops)
                key = _same(candidate, cell.kind)
                if key in done:
                    raise Rejected("asked already")
            except Rejected as error:
                made.rejected[f"{place}: {error}"] += 1
                continue
            done.add(key)
            made.queries.append(query)
            taken += 1
        return taken

    positives = take(cell.positives(), round(most * (1.0 - share)), 1_000_000) if share < 1.0 else 0
    wanted = round(positives * share / (1.0 - share)) if share < 1.0 else most
    take(cell.negatives(), min(wanted, most - positives), 20 * wanted + 20)


def _question(qid: str, video: Video, cell: Cell, candidate: Candidate, crops: Crops) -> QueryRecord:
    crop: Crop | None = None
    if cell.kind != "object" and candidate.instance is not None:
        events = cell.times_of(candidate.instance)
        told = [candidate.told] if candidate.told else []
        # Best from another time than is asked about, else at least not out of an event.
        crop = crops(cell.rng, candidate.instance, events + told) or crops(
            cell.rng, candidate.instance, events
        )
        if crop is None:
            raise Rejected("no crop of the object outside its events")
    start, end = candidate.told or (None, None)
    return QueryRecord(
        qid=qid,
        video=video.video,
        type=cell.kind,
        duration=cell.duration,
        q_s=candidate.asked[0],
        q_e=candidate.asked[1],
        t_s=start,
        t_e=end,
        activities=candidate.activities,
        instance=candidate.instance,
        crop=crop,
        boxes=candidate.boxes,
        happened=candidate.happened,
    )


def _same(candidate: Candidate, kind: QueryType) -> tuple[object, ...]:
    """Two questions with this in common are one: overlapping query windows would ask it twice."""
    if kind == "time":
        # Without an answer, the window is what is asked about.
        return candidate.activities, candidate.instance, candidate.told or candidate.asked
    asked = candidate.instance if kind == "activity" else candidate.activities
    return asked, candidate.told


def counted(rejected: Mapping[str, int]) -> dict[str, int]:
    """The rejection log, most frequent reasons first."""
    return dict(sorted(rejected.items(), key=lambda entry: (-entry[1], entry[0])))
