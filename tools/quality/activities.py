"""Measure how well activities are recognised during a stream, and at what cost, on unseen worlds.

    PYTHONPATH=. python -m tools.quality.activities --worlds 4 --first-seed 7101

Each world is ingested as `lvm-edge run` does it. The runtime's own recogniser then passes over it at several
cadences: every third of a clip over two thirds (the default), the newest clip, the last two clips, ten clips
at once (as a pass does that is far behind). A row matches an event of its activity if their tIoU is at least
0.3 or 0.5; each row matches one event at most. Chance: the same rows, shifted by a quarter of the video. The
last line of standard output is one JSON object.

Not covered: levels L2 and L3 unless --level names them, real video, activities that users define.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.activity.occurrences import Occurrences
from edge_runtime.activity.recognizer import ActivityRecogniser, Detection
from edge_runtime.activity.row import Row
from edge_runtime.config.paths import default_bundle
from edge_runtime.config.schema import ActivitySettings
from edge_runtime.ingest.pipeline import Ingest
from edge_runtime.memory.samplers import make_sampler
from edge_runtime.memory.version import Version, empty_version
from edge_runtime.service.engine_pool import Engines
from edge_runtime.simulation.activities import find_activity
from edge_runtime.simulation.schedule import Event
from edge_runtime.sources.demo import DemoSettings, parse_demo
from engines.bundle import Bundle
from engines.network_config import NetworkConfig
from tools.console import run_tool

Real = NDArray[np.float64]

PAIR = ("bag", "unbag")
"""These differ in direction only. The default bundle hardly sees that in a question without a product."""


@dataclass(frozen=True)
class Cadence:
    """A pass every `stride` seconds over the last `window` seconds.

    With `split_names` each name that a detection may have counts as a detection of its own.
    """

    name: str
    stride: float
    window: float
    split_names: bool = False


@dataclass(frozen=True)
class WorldRun:
    """The ingested world: memory versions by the second at which they were the newest."""

    versions: dict[int, Version]
    events: list[Event]
    ingest_ms: float


@dataclass(frozen=True)
class LoggedRow:
    """A row in its final form, and the second at which it was first logged."""

    row: Row
    first_t: float


def list_cadences(network: NetworkConfig) -> list[Cadence]:
    clip = network.clip_frames / network.sample_fps
    return [
        Cadence("every third of a clip, two thirds (ships)", clip / 3, 2 * clip / 3),
        Cadence("the same, each name a row", clip / 3, 2 * clip / 3, split_names=True),
        Cadence("the newest clip", clip, clip),
        Cadence("the last two clips", clip, 2 * clip),
        Cadence("ten clips at once", 10 * clip, 10 * clip),
    ]


def ingest_world(engines: Engines, demo: DemoSettings, seconds: int) -> WorldRun:
    """Ingest the first `seconds` of a drawn world as `lvm-edge run` does."""
    network = engines.bundle.manifest.network
    ingest = Ingest(
        network, engines.backbone, make_sampler("neural", engines.sampler), empty_version(network)
    )
    third = max(1, network.clip_frames // 3)
    versions: dict[int, Version] = {}
    spent = 0.0
    source = iter(demo.open(sample_fps=network.sample_fps))
    for done in range(third, round(seconds * network.sample_fps) + 1, third):
        frames = [next(source) for _ in range(third)]
        started = time.perf_counter()
        versions[round(done / network.sample_fps)] = ingest.push(frames)
        spent += time.perf_counter() - started
    ingest.close()
    events = [event for event in demo.make_world().events(0, seconds) if 0 <= event.start < seconds]
    clips = seconds * network.sample_fps / network.clip_frames
    return WorldRun(versions, events, 1000 * spent / clips)


def recognise(
    recogniser: ActivityRecogniser, world: WorldRun, cadence: Cadence, min_confidence: float
) -> tuple[list[LoggedRow], list[float]]:
    """Return the rows that passes at this cadence log, and the milliseconds of each pass."""
    ids = iter(range(1, 1_000_000))
    joined = Occurrences(
        recogniser.names, recogniser.doing, lambda a, b: Row(next(ids), "", "", "", a, b, 0.0)
    )
    rows: dict[int, LoggedRow] = {}
    milliseconds = []
    for t, version in world.versions.items():
        if t % cadence.stride or not version.memory.filled:
            continue
        started = time.perf_counter()
        detections = recogniser.detect(
            version, max(0.0, t - cadence.window), t, min_confidence=min_confidence
        )
        milliseconds.append(1000 * (time.perf_counter() - started))
        recogniser.forget()
        if cadence.split_names:
            detections = [
                Detection({name: score}, detection.start, detection.end)
                for detection in detections
                for name, score in detection.scores.items()
            ]
        for change in joined.join(detections, t, recogniser.max_gap(1.0)):
            first = rows[change.after.id].first_t if change.after.id in rows else t
            rows[change.after.id] = LoggedRow(change.after, first)
    return list(rows.values()), milliseconds


def measure_presences(
    recogniser: ActivityRecogniser, world: WorldRun, clip: float
) -> tuple[Real, NDArray[np.bool_]]:
    """Return each class's presence in each clip, and whether at least a second of it happened. (K * C,)"""
    scores, labels = [], []
    for t, version in world.versions.items():
        if t % clip or not version.memory.filled:
            continue
        scores.append(recogniser.estimate_presence(version, t - clip, t))
        happened = np.zeros(len(recogniser.names), bool)
        for event in world.events:
            if min(event.end, t) - max(event.start, t - clip) >= 1:
                happened[event.activity] = True
        labels.append(happened)
    return np.concatenate(scores), np.concatenate(labels)


def temporal_iou(row: Row, event: Event) -> float:
    """Return the temporal intersection over union."""
    shared = max(0.0, min(row.end, event.end) - max(row.start, event.start))
    return shared / (row.end - row.start + event.end - event.start - shared)


def match_rows(
    rows: Sequence[LoggedRow], events: Sequence[Event], min_tiou: float, same: Callable[[str, Event], bool]
) -> list[tuple[LoggedRow, Event]]:
    """Match rows with events one to one, the best overlap first."""
    candidates = sorted(
        (
            (temporal_iou(logged.row, event), i, j)
            for i, logged in enumerate(rows)
            for j, event in enumerate(events)
            if same(logged.row.activity, event)
        ),
        reverse=True,
    )
    used_rows: set[int] = set()
    used_events: set[int] = set()
    matches = []
    for tiou, i, j in candidates:
        if tiou >= min_tiou and i not in used_rows and j not in used_events:
            used_rows.add(i)
            used_events.add(j)
            matches.append((rows[i], events[j]))
    return matches


def has_activity(name: str, event: Event) -> bool:
    return find_activity(name) == event.activity


def has_activity_or_pair_mate(name: str, event: Event) -> bool:
    pair = {find_activity(mate) for mate in PAIR}
    return has_activity(name, event) or (name in PAIR and event.activity in pair)


def shift_rows(rows: Sequence[LoggedRow], by: float, seconds: float) -> list[LoggedRow]:
    """Return the rows shifted `by` seconds, wrapped at the end of the video."""
    shifted = []
    for logged in rows:
        row = logged.row
        start = (row.start + by) % seconds
        shifted.append(LoggedRow(replace(row, start=start, end=start + row.end - row.start), logged.first_t))
    return shifted


def average_precision(score: Real, true: NDArray[np.bool_]) -> float:
    hit = true[np.argsort(-score, kind="stable")]
    if not hit.any():
        return 0.0
    return float((np.cumsum(hit) / np.arange(1, len(hit) + 1))[hit].mean())


def to_rates(hits: int, rows: int, events: int) -> dict[str, float]:
    return {
        "precision": round(hits / max(rows, 1), 3),
        "recall": round(hits / max(events, 1), 3),
        "f1": round(2 * hits / max(rows + events, 1), 3),
    }


def evaluate_rows(
    rows_by_world: Sequence[list[LoggedRow]], events_by_world: Sequence[Sequence[Event]], seconds: float
) -> dict[str, Any]:
    """Return precision, recall, F1 and delay over all worlds; `f1_of_worlds` has the F1 of each."""
    count, events = sum(map(len, rows_by_world)), sum(map(len, events_by_world))
    worlds = list(zip(rows_by_world, events_by_world, strict=True))

    def matches(
        min_tiou: float, same: Callable[[str, Event], bool], by: float = 0.0
    ) -> list[tuple[LoggedRow, Event]]:
        return [
            match
            for rows, happened in worlds
            for match in match_rows(shift_rows(rows, by, seconds) if by else rows, happened, min_tiou, same)
        ]

    f1_by_world = [
        2 * len(match_rows(rows, happened, 0.3, has_activity)) / max(len(rows) + len(happened), 1)
        for rows, happened in worlds
    ]
    pair_matches = matches(0.3, has_activity_or_pair_mate)
    delays = [logged.first_t - event.start for logged, event in pair_matches]
    return {
        "rows": count,
        "events": events,
        "tiou_0.3": to_rates(len(matches(0.3, has_activity)), count, events),
        "tiou_0.5": to_rates(len(matches(0.5, has_activity)), count, events),
        "pair_as_one": to_rates(len(pair_matches), count, events),
        "chance": to_rates(len(matches(0.3, has_activity, seconds / 4)), count, events),
        "f1_of_worlds": [round(f1, 3) for f1 in f1_by_world],
        "delay_s": round(float(np.median(delays)), 1) if delays else None,
    }


def measure(
    engines: Engines, seeds: Sequence[int], level: str, seconds: int, min_confidence: float
) -> dict[str, Any]:
    network = engines.bundle.manifest.network
    recogniser = ActivityRecogniser(engines.bundle.manifest, engines.reader)
    clip = network.clip_frames / network.sample_fps
    events: list[list[Event]] = []
    ingest_ms: list[float] = []
    rows: dict[str, list[list[LoggedRow]]] = defaultdict(list)
    cost: dict[str, list[float]] = defaultdict(list)
    scores: list[Real] = []
    labels: list[NDArray[np.bool_]] = []
    cadences = list_cadences(network)
    for seed in seeds:
        world = ingest_world(engines, parse_demo(f"demo?seed={seed}&level={level}"), seconds)
        for cadence in cadences:
            logged, milliseconds = recognise(recogniser, world, cadence, min_confidence)
            rows[cadence.name].append(logged)
            cost[cadence.name] += milliseconds
        score, happened = measure_presences(recogniser, world, clip)
        scores.append(score)
        labels.append(happened)
        events.append(world.events)
        ingest_ms.append(world.ingest_ms)
        print(f"world {seed}: {len(world.events)} events", flush=True)
    score, happened = np.concatenate(scores), np.concatenate(labels)
    return {
        "level": level,
        "seeds": list(seeds),
        "minutes": seconds / 60,
        "backend": engines.choice.backend,
        "min_confidence": min_confidence,
        "ways": {
            cadence.name: evaluate_rows(rows[cadence.name], events, seconds)
            | {
                "look_ms": round(float(np.median(cost[cadence.name])), 1) if cost[cadence.name] else None,
                "looks_a_clip": round(clip / cadence.stride, 2),
            }
            for cadence in cadences
        },
        "clip_average_precision": round(average_precision(score, happened), 3),
        "clip_average_precision_chance": round(float(happened.mean()), 3),
        "ingest_ms_a_clip": round(float(np.median(ingest_ms)), 1),
        "clip_s": clip,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--worlds", type=int, default=4)
    parser.add_argument("--first-seed", type=int, default=7101)
    parser.add_argument("--level", default="L1", choices=("L0", "L1", "L2", "L3"))
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--bundle", type=Path, default=default_bundle())
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--min-confidence", type=float, default=ActivitySettings().min_confidence)
    given = parser.parse_args()
    engines = Engines.load(Bundle.open(given.bundle), given.backend, given.threads)
    seeds = range(given.first_seed, given.first_seed + given.worlds)
    result = measure(engines, seeds, given.level, 60 * given.minutes, given.min_confidence)
    for name, row in result["ways"].items():
        print(
            f"{name:45} F1 {row['tiou_0.3']['f1']:.2f} (pair as one {row['pair_as_one']['f1']:.2f}, "
            f"chance {row['chance']['f1']:.2f}), logged after {row['delay_s']} s, {row['look_ms']} ms a pass"
        )
    print(json.dumps(result))
    engines.close()


if __name__ == "__main__":
    run_tool(main)
