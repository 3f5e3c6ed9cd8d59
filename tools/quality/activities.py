"""How well activities are recognised while it watches, and what that costs, on worlds never seen before.

    PYTHONPATH=. python -m tools.quality.activities --worlds 4 --first-seed 7101

Each world is watched as `lvm-edge run` does, and looked at in several ways with the runtime's own
recogniser: every third of a clip over two thirds (what ships), the newest clip, the last two clips, ten
clips at once (what a look does that has fallen far behind). An event is found by a row of its activity that
overlaps with it by tIoU of 0.3 or 0.5, each row for one event at most. Chance: the same rows, moved by a
quarter of the video. The last line of standard output is one JSON object.

Not covered: levels L2 and L3 unless asked for, real video, people's own activities.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.activity.occurrences import Occurrences
from edge_runtime.activity.recognizer import ActivityRecogniser, Detection
from edge_runtime.activity.row import Row
from edge_runtime.config.activities import ActivitySettings
from edge_runtime.config.paths import default_bundle
from edge_runtime.ingest.pipeline import Ingest
from edge_runtime.memory.samplers import make_sampler
from edge_runtime.memory.version import Version, empty_version
from edge_runtime.service.engine_pool import Engines
from edge_runtime.simulation.activities import find_activity
from edge_runtime.simulation.schedule import Event
from edge_runtime.sources.demo import parse_demo
from engines.bundle import Bundle
from engines.network_config import NetworkConfig
from tools.console import run_tool

Real = NDArray[np.float64]

PAIR = ("bag", "unbag")
"""These differ in direction only, which the default bundle hardly sees where it is asked about no product."""


@dataclass(frozen=True)
class Way:
    """A look every `stride` seconds over `window` seconds; `apart` counts each name that one may have."""

    name: str
    stride: float
    window: float
    apart: bool = False


@dataclass(frozen=True)
class Shown:
    """One world as it was remembered: versions by the second at which they were the newest."""

    versions: dict[int, Version]
    events: list[Event]
    ingest_ms: float


@dataclass(frozen=True)
class Told:
    """A row as it ended, and when it was first told."""

    row: Row
    at: float


def ways(network: NetworkConfig) -> list[Way]:
    clip = network.clip_frames / network.sample_fps
    return [
        Way("every third of a clip, two thirds (ships)", clip / 3, 2 * clip / 3),
        Way("the same, each name a row", clip / 3, 2 * clip / 3, apart=True),
        Way("the newest clip", clip, clip),
        Way("the last two clips", clip, 2 * clip),
        Way("ten clips at once", 10 * clip, 10 * clip),
    ]


def watch(engines: Engines, spec: str, seconds: int) -> Shown:
    network = engines.bundle.manifest.network
    demo = parse_demo(spec)
    ingest = Ingest(
        network, engines.backbone, make_sampler("neural", engines.sampler), empty_version(network)
    )
    every = max(1, network.clip_frames // 3)
    versions: dict[int, Version] = {}
    spent = 0.0
    source = iter(demo.open(sample_fps=network.sample_fps))
    for done in range(every, round(seconds * network.sample_fps) + 1, every):
        frames = [next(source) for _ in range(every)]
        started = time.perf_counter()
        versions[round(done / network.sample_fps)] = ingest.push(frames)
        spent += time.perf_counter() - started
    ingest.close()
    events = [one for one in demo.make_world().events(0, seconds) if 0 <= one.start < seconds]
    clips = seconds * network.sample_fps / network.clip_frames
    return Shown(versions, events, 1000 * spent / clips)


def recognised(
    recogniser: ActivityRecogniser, shown: Shown, way: Way, least: float
) -> tuple[list[Told], list[float]]:
    """The rows that this way of looking gives, and the ms of each look."""
    ids = iter(range(1, 1_000_000))
    joined = Occurrences(
        recogniser.names, recogniser.doing, lambda a, b: Row(next(ids), "", "", "", a, b, 0.0)
    )
    rows: dict[int, Told] = {}
    milliseconds = []
    for t, version in shown.versions.items():
        if t % way.stride or not version.memory.filled:
            continue
        started = time.perf_counter()
        found = recogniser.detect(version, max(0.0, t - way.window), t, min_confidence=least)
        milliseconds.append(1000 * (time.perf_counter() - started))
        recogniser.forget()
        if way.apart:
            found = [
                Detection({name: score}, one.start, one.end)
                for one in found
                for name, score in one.scores.items()
            ]
        for change in joined.join(found, t, recogniser.max_gap(1.0)):
            first = rows[change.after.id].at if change.after.id in rows else t
            rows[change.after.id] = Told(change.after, first)
    return list(rows.values()), milliseconds


def presences(recogniser: ActivityRecogniser, shown: Shown, clip: float) -> tuple[Real, NDArray[np.bool_]]:
    """For each clip and class the presence told, and whether at least a second of it happened. (K * C,)"""
    told, true = [], []
    for t, version in shown.versions.items():
        if t % clip or not version.memory.filled:
            continue
        told.append(recogniser.estimate_presence(version, t - clip, t))
        happened = np.zeros(len(recogniser.names), bool)
        for event in shown.events:
            if min(event.end, t) - max(event.start, t - clip) >= 1:
                happened[event.activity] = True
        true.append(happened)
    return np.concatenate(told), np.concatenate(true)


def overlap(row: Row, event: Event) -> float:
    """tIoU."""
    shared = max(0.0, min(row.end, event.end) - max(row.start, event.start))
    return shared / (row.end - row.start + event.end - event.start - shared)


def pairs(
    rows: Sequence[Told], events: Sequence[Event], least: float, same: Callable[[str, Event], bool]
) -> list[tuple[Told, Event]]:
    """Rows and the events that they found, one to one, the best overlap first."""
    every = sorted(
        (
            (overlap(told.row, event), i, j)
            for i, told in enumerate(rows)
            for j, event in enumerate(events)
            if same(told.row.activity, event)
        ),
        reverse=True,
    )
    used: tuple[set[int], set[int]] = (set(), set())
    found = []
    for share, i, j in every:
        if share >= least and i not in used[0] and j not in used[1]:
            used[0].add(i)
            used[1].add(j)
            found.append((rows[i], events[j]))
    return found


def is_named(name: str, event: Event) -> bool:
    return find_activity(name) == event.activity


def is_named_or_pair(name: str, event: Event) -> bool:
    pair = {find_activity(one) for one in PAIR}
    return is_named(name, event) or (name in PAIR and event.activity in pair)


def moved(rows: Sequence[Told], by: float, seconds: float) -> list[Told]:
    """The same rows elsewhere in the video."""
    found = []
    for told in rows:
        start = (told.row.start + by) % seconds
        found.append(Told(replace(told.row, start=start, end=start + told.row.end - told.row.start), told.at))
    return found


def average_precision(score: Real, true: NDArray[np.bool_]) -> float:
    hit = true[np.argsort(-score, kind="stable")]
    if not hit.any():
        return 0.0
    return float((np.cumsum(hit) / np.arange(1, len(hit) + 1))[hit].mean())


def rates(hits: int, rows: int, events: int) -> dict[str, float]:
    return {
        "precision": round(hits / max(rows, 1), 3),
        "recall": round(hits / max(events, 1), 3),
        "f1": round(2 * hits / max(rows + events, 1), 3),
    }


def judged(rows_of: Sequence[list[Told]], worlds: Sequence[Shown], seconds: float) -> dict[str, Any]:
    """Of one way, all worlds together; `f1_of_worlds` of each."""
    count, events = sum(map(len, rows_of)), sum(len(one.events) for one in worlds)

    def hits(least: float, same: Callable[[str, Event], bool], by: float = 0.0) -> list[tuple[Told, Event]]:
        return [
            pair
            for rows, world in zip(rows_of, worlds, strict=True)
            for pair in pairs(moved(rows, by, seconds) if by else rows, world.events, least, same)
        ]

    found = hits(0.3, is_named)
    each = [
        2 * len(pairs(rows, world.events, 0.3, is_named)) / max(len(rows) + len(world.events), 1)
        for rows, world in zip(rows_of, worlds, strict=True)
    ]
    delays = [told.at - event.start for told, event in hits(0.3, is_named_or_pair)]
    return {
        "rows": count,
        "events": events,
        "tiou_0.3": rates(len(found), count, events),
        "tiou_0.5": rates(len(hits(0.5, is_named)), count, events),
        "pair_as_one": rates(len(hits(0.3, is_named_or_pair)), count, events),
        "chance": rates(len(hits(0.3, is_named, seconds / 4)), count, events),
        "f1_of_worlds": [round(one, 3) for one in each],
        "delay_s": round(float(np.median(delays)), 1) if delays else None,
    }


def measure(engines: Engines, seeds: Sequence[int], level: str, seconds: int, least: float) -> dict[str, Any]:
    network = engines.bundle.manifest.network
    recogniser = ActivityRecogniser(engines.bundle.manifest, engines.reader)
    clip = network.clip_frames / network.sample_fps
    worlds: list[Shown] = []
    rows: dict[str, list[list[Told]]] = defaultdict(list)
    cost: dict[str, list[float]] = defaultdict(list)
    scores: list[Real] = []
    true: list[NDArray[np.bool_]] = []
    for seed in seeds:
        shown = watch(engines, f"demo?seed={seed}&level={level}", seconds)
        for way in ways(network):
            told, milliseconds = recognised(recogniser, shown, way, least)
            rows[way.name].append(told)
            cost[way.name] += milliseconds
        score, happened = presences(recogniser, shown, clip)
        scores.append(score)
        true.append(happened)
        worlds.append(replace(shown, versions={}))
        print(f"world {seed}: {len(shown.events)} events", flush=True)
    score, happened = np.concatenate(scores), np.concatenate(true)
    every = ways(network)
    return {
        "level": level,
        "seeds": list(seeds),
        "minutes": seconds / 60,
        "backend": engines.choice.backend,
        "min_confidence": least,
        "ways": {
            way.name: judged(rows[way.name], worlds, seconds)
            | {
                "look_ms": round(float(np.median(cost[way.name])), 1) if cost[way.name] else None,
                "looks_a_clip": round(clip / way.stride, 2),
            }
            for way in every
        },
        "clip_average_precision": round(average_precision(score, happened), 3),
        "clip_average_precision_chance": round(float(happened.mean()), 3),
        "ingest_ms_a_clip": round(float(np.median([one.ingest_ms for one in worlds])), 1),
        "clip_s": clip,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--worlds", type=int, default=4)
    parser.add_argument("--first-seed", type=int, default=7101)
    parser.add_argument("--level", default="L1", choices=("L0", "L1", "L2", "L3"))
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--min-confidence", type=float, default=ActivitySettings().min_confidence)
    given = parser.parse_args()
    engines = Engines.load(Bundle.open(default_bundle()), given.backend, given.threads)
    seeds = range(given.first_seed, given.first_seed + given.worlds)
    found = measure(engines, seeds, given.level, 60 * given.minutes, given.min_confidence)
    for name, one in found["ways"].items():
        print(
            f"{name:45} F1 {one['tiou_0.3']['f1']:.2f} (pair as one {one['pair_as_one']['f1']:.2f}, "
            f"chance {one['chance']['f1']:.2f}), told after {one['delay_s']} s, {one['look_ms']} ms a look"
        )
    print(json.dumps(found))
    engines.close()


if __name__ == "__main__":
    run_tool(main)
