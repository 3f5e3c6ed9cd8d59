"""Measure how well activities are recognised that were taught from a few examples, on unseen worlds.

    PYTHONPATH=. python -m tools.quality.teach --worlds 6 --first-seed 7501

Of the events of the first half of the worlds, `--counts` of each activity are marked, drawn anew for each of
the `--seeds`, and all activities are taught at once; what is recognised in the other half is matched with its
events as by `tools.quality.activities` (tIoU 0.3). The recogniser of the bundle, which was trained with
thousands of each, stands beside it. Intervals are over worlds and seeds. The last line of standard output is
one JSON object.

Not covered: an activity that the bundle's training lacked. Its backbone has seen these ten.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.activity.recognizer import ActivityRecogniser
from edge_runtime.activity.row import Row
from edge_runtime.config.paths import default_bundle
from edge_runtime.config.schema import ActivitySettings
from edge_runtime.ingest.pipeline import BATCH_FRAMES, preprocess
from edge_runtime.service.engine_pool import Engines
from edge_runtime.simulation.activities import ACTIVITIES
from edge_runtime.simulation.schedule import Event
from edge_runtime.sources.demo import parse_demo
from edge_runtime.teaching.descriptions import Frames, RecentFrames
from edge_runtime.teaching.examples import Example, make_example
from edge_runtime.teaching.taught_classes import fit_classes
from engines.bundle import Bundle
from engines.errors import LvmError
from tools.console import finish, progress, run_tool, show
from tools.quality.activities import (
    LoggedRow,
    has_activity,
    ingest_world,
    list_cadences,
    match_rows,
    recognise,
)

_RESAMPLES = 1000


@dataclass(frozen=True)
class WatchedWorld:
    """The descriptions of a world's frames, its events, and what the bundle's own recogniser logs."""

    frames: Frames
    events: list[Event]
    rows: list[LoggedRow]


def watch_world(engines: Engines, spec: str, seconds: int, min_confidence: float) -> WatchedWorld:
    """Watch `seconds` of a drawn world."""
    network = engines.bundle.manifest.network
    recent = RecentFrames(1e9, 1 / network.sample_fps)
    demo = parse_demo(spec)
    source, count = iter(demo.open(sample_fps=network.sample_fps)), round(seconds * network.sample_fps)
    for first in range(0, count, BATCH_FRAMES):
        frames = [next(source) for _ in range(min(BATCH_FRAMES, count - first))]
        images = np.stack([preprocess(frame, network.image_size) for frame in frames])
        recent.add(engines.backbone({"image": images})["tokens"], [frame.t for frame in frames])
    ingested = ingest_world(engines, demo, seconds)
    recogniser = ActivityRecogniser(engines.bundle.manifest, engines.reader)
    rows, _ = recognise(recogniser, ingested, list_cadences(network)[0], min_confidence)
    return WatchedWorld(recent.take(), ingested.events, rows)


def draw_examples(
    worlds: Sequence[WatchedWorld], count: int, rng: np.random.Generator, model: str
) -> list[Example]:
    """Mark `count` events of each activity, fewer where there are fewer."""
    by_activity: dict[int, list[tuple[int, Event]]] = defaultdict(list)
    for number, world in enumerate(worlds):
        for event in world.events:
            by_activity[event.activity].append((number, event))
    examples: list[Example] = []
    for activity, events in sorted(by_activity.items()):
        for index in rng.permutation(len(events))[:count]:
            number, event = events[int(index)]
            name = ACTIVITIES[activity].name
            made = make_example([worlds[number].frames], name, event.start, event.end, model=model)
            # Each world is a stream of its own: its times are apart from those of the others.
            shift = 1e6 * number
            spans = tuple((start + shift, end + shift) for start, end in made.spans)
            examples.append(replace(made, id=len(examples) + 1, spans=spans))
    return examples


def find_rows(examples: Sequence[Example], world: WatchedWorld, model: str) -> list[LoggedRow]:
    """Return what is recognised in a world as rows."""
    classes = fit_classes(examples, model)
    return [
        LoggedRow(Row(0, "", classes.names[one.best], "", one.start, one.end, one.scores[one.best]), one.end)
        for one in classes.detect(world.frames, {})
    ]


def count_matches(rows: Sequence[LoggedRow], world: WatchedWorld) -> tuple[int, int, int]:
    """Return how many rows match an event, and how many rows and events there are."""
    return len(match_rows(rows, world.events, 0.3, has_activity)), len(rows), len(world.events)


def estimate_f1(counts: Sequence[tuple[int, int, int]], seed: int = 0) -> tuple[float, float, float]:
    """Return F1 over all of the counts, and its 95 % interval over them."""
    table = np.asarray(counts, float)
    rng = np.random.default_rng(seed)
    drawn = [table[rng.integers(len(table), size=len(table))].sum(0) for _ in range(_RESAMPLES)]
    low, high = np.percentile([_f1(one) for one in drawn], [2.5, 97.5])
    return _f1(table.sum(0)), float(low), float(high)


def _f1(sums: Any) -> float:
    matched, rows, events = sums
    return float(2 * matched / max(rows + events, 1))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--worlds", type=int, default=6)
    parser.add_argument("--first-seed", type=int, default=7501)
    parser.add_argument("--level", default="L1", choices=("L0", "L1", "L2", "L3"))
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 3, 10, 30])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--bundle", type=Path, default=default_bundle())
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(argv)
    if given.worlds < 2:
        raise LvmError(f"--worlds must be at least 2, half of them to teach, got {given.worlds}")
    engines = Engines.load(Bundle.open(given.bundle), given.backend, given.threads)
    size = engines.bundle.manifest.network.image_size
    worlds = []
    with progress(given.worlds) as step:
        for number in range(given.worlds):
            spec = f"demo?seed={given.first_seed + number}&level={given.level}&size={size}x{size}"
            minimum = ActivitySettings().min_confidence
            worlds.append(watch_world(engines, spec, 60 * given.minutes, minimum))
            step("worlds")
    engines.close()
    teaching, judging = worlds[: len(worlds) // 2], worlds[len(worlds) // 2 :]
    trained = estimate_f1([count_matches(world.rows, world) for world in judging])
    result: dict[str, Any] = {"trained": [round(value, 3) for value in trained], "taught": {}}
    rows: list[list[object]] = [["trained in full", *result["trained"]]]
    for count in given.counts:
        counts = []
        for seed in range(given.seeds):
            examples = draw_examples(teaching, count, np.random.default_rng([seed, count]), "m")
            counts += [count_matches(find_rows(examples, world, "m"), world) for world in judging]
        taught = [round(value, 3) for value in estimate_f1(counts)]
        result["taught"][str(count)] = taught
        rows.append([f"{count} examples", *taught])
    show(f"F1 in {len(judging)} worlds of {given.minutes} minutes", ["", "F1", "low", "high"], rows)
    finish(result)
    return 0


if __name__ == "__main__":
    run_tool(main)
