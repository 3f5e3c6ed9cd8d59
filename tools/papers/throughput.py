"""Measure what answers cost: a memory that is filled once, against a network that reads frames per query.

    python -m tools.papers.throughput --run runs/tiny-0 --bundle my-bundle --data DATA --output
    throughput.json

Both answer the same queries in turns on the same machine: LVM-Net in mixed batches by the engines of its
bundle, modified TubeDETR one query after the other. Three systems are timed:

    lvm-net           stage 1 (backbone, sampler, background) once for the video, then the queries
    tubedetr          backbone and network on the frames of every query's window
    tubedetr cached   backbone once for the video, then the network on cached tokens

Seconds are extrapolated to a video of 27 minutes and 1,500 queries of a kind
(`export.evaluation.cost_model`). The time of a backbone does not depend on the picture, so stage 1 is timed
on random pictures. The last line of standard output is one JSON object. The figures mean little while other
programs run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from edge_runtime.ingest.pipeline import BATCH_FRAMES, Ingest
from edge_runtime.memory.samplers import make_sampler
from edge_runtime.memory.version import Version, empty_version
from edge_runtime.query.executor import MAX_BATCH, Asker
from edge_runtime.query.schema import AnyQuery
from edge_runtime.service.engine_pool import Engines
from engines.bundle import Bundle
from engines.errors import LvmError
from engines.network_config import NetworkConfig
from engines.spec import Engine
from export.data.checks import read_data_folder
from export.data.records import DURATION_S, QueryRecord, Split
from export.data.token_cache import VideoCache
from export.evaluation.baseline import choose_clip_length, read_rows, select_rows, to_clip_query
from export.evaluation.cost_model import (
    MIN_MEASURED,
    REST_VIDEO_S,
    Cost,
    Window,
    compare_costs,
    extrapolate_to_rest,
)
from export.evaluation.evaluate import CachedObjects, to_query
from export.evaluation.report import Cell
from export.evaluation.run_folders import TrainedRun
from export.evaluation.stream_run import Model, build_memory
from export.evaluation.videos import open_caches
from export.networks.tubedetr import TubeDETR
from tools.console import finish, run_tool, show

OURS, BASELINE, CACHED = "lvm-net", "tubedetr", "tubedetr cached"
SYSTEMS = (OURS, BASELINE, CACHED)
_POOL = 64
"""Number of different random pictures that a backbone is timed on."""
_WARM_CLIPS = 2


@dataclass(frozen=True)
class PreparedVideo:
    """One video prepared for both systems, and its queries in a fixed random order."""

    cache: VideoCache
    version: Version
    asker: Asker
    queries: list[QueryRecord]
    questions: list[AnyQuery]


@dataclass
class Timing:
    """Seconds of each measured query by system and cell."""

    seconds: dict[str, dict[Cell, list[float]]] = field(
        default_factory=lambda: {system: defaultdict(list) for system in SYSTEMS}
    )

    def count(self, query: QueryRecord) -> int:
        return len(self.seconds[BASELINE][to_cell(query)])

    def add(self, system: str, query: QueryRecord, seconds: float) -> None:
        self.seconds[system][to_cell(query)].append(seconds)


def to_cell(query: QueryRecord) -> Cell:
    return query.type, query.duration


def time_stage_1(model: Model, clips: int) -> tuple[float, float]:
    """Return the seconds a frame of all that is done once, and of the backbone alone, on random pictures."""
    network = model.network
    rng, size = np.random.default_rng(0), network.image_size
    images = rng.integers(0, 255, (network.clip_frames, size, size, 3), np.uint8)
    sampler = make_sampler("neural", model.sampler)
    ingest = Ingest(network, model.backbone, sampler, empty_version(network))
    try:
        seconds = []
        for clip in range(clips + _WARM_CLIPS):
            times = [(clip * network.clip_frames + k) / network.sample_fps for k in range(len(images))]
            started = time.perf_counter()
            ingest.push_images(list(images), times)
            seconds.append(time.perf_counter() - started)
    finally:
        ingest.close()
    whole = float(np.mean(seconds[_WARM_CLIPS:])) / network.clip_frames
    pool = rng.integers(0, 255, (_POOL, size, size, 3), np.uint8)
    seconds = [time_backbone(model.backbone, pool, network.clip_frames) for _ in range(clips)]
    return whole, float(np.mean(seconds)) / network.clip_frames


def time_backbone(backbone: Engine, pool: NDArray[np.uint8], frames: int) -> float:
    """Return the seconds that a backbone takes for `frames` pictures."""
    started = time.perf_counter()
    for first in range(0, frames, BATCH_FRAMES):
        count = min(BATCH_FRAMES, frames - first)
        backbone({"image": pool[(first + np.arange(count)) % len(pool)]})
    return time.perf_counter() - started


def time_queries(
    videos: Sequence[PreparedVideo],
    network: TubeDETR,
    clip_frames: int,
    config: NetworkConfig,
    backbone: Engine,
    min_queries: int,
    window: Window,
) -> Timing:
    """Time queries until every cell that occurs has `min_queries` of them."""
    timing = Timing()
    pool = np.random.default_rng(1).integers(
        0, 255, (_POOL, config.image_size, config.image_size, 3), np.uint8
    )
    for video in videos:  # contexts and kernels are warm from here on
        video.asker.ask_all(video.questions[:MAX_BATCH], video.version)
    for video, batch in _batches(videos, timing, min_queries):
        started = time.perf_counter()
        video.asker.ask_all([video.questions[i] for i in batch], video.version)
        share = (time.perf_counter() - started) / len(batch)
        for i in batch:
            query = video.queries[i]
            if timing.count(query) >= min_queries:
                continue
            timing.add(OURS, query, share)
            rows = select_rows(query, video.cache.ticks, config.sample_fps, window)
            given = to_clip_query(config, video.cache, query, {})
            started = time.perf_counter()
            read_rows(network, choose_clip_length(query, rows, clip_frames), video.cache, rows, given)
            cached = time.perf_counter() - started
            timing.add(CACHED, query, cached)
            timing.add(BASELINE, query, cached + time_backbone(backbone, pool, len(rows)))
    return timing


def _batches(
    videos: Sequence[PreparedVideo], timing: Timing, min_queries: int
) -> Iterator[tuple[PreparedVideo, list[int]]]:
    """Yield mixed batches of every video in turn, again and again, as long as a cell lacks queries."""
    cells = {to_cell(query): query for video in videos for query in video.queries}
    first = 0
    while any(timing.count(query) < min_queries for query in cells.values()):
        for video in videos:
            at = (first + np.arange(min(MAX_BATCH, len(video.queries)))) % len(video.queries)
            yield video, at.tolist()
        first += MAX_BATCH


def estimate_costs(
    timing: Timing, config: NetworkConfig, once: float, backbone: float, window: Window
) -> dict[Cell, dict[str, Cost]]:
    """Return the seconds for a video and its queries as in ReST; `once`, `backbone` are seconds a frame."""
    frames = REST_VIDEO_S * config.sample_fps
    costs = {}
    for cell in timing.seconds[OURS]:
        # A query's cost grows with its window only where all frames of the window are read.
        long = DURATION_S[cell[1]] if cell[0] != "time" and window == "query" else None
        seconds = {system: timing.seconds[system][cell] for system in SYSTEMS}
        costs[cell] = {
            OURS: extrapolate_to_rest(seconds[OURS], once_s=once * frames),
            BASELINE: extrapolate_to_rest(seconds[BASELINE], window_s=long),
            CACHED: extrapolate_to_rest(seconds[CACHED], once_s=backbone * frames, window_s=long),
        }
    return costs


def summarise(costs: dict[Cell, dict[str, Cost]]) -> dict[str, Any]:
    """Return by cell the minutes and milliseconds a query of each system, and our speed-up."""
    return {
        f"{kind}/{duration}": {
            "minutes": {system: cost.total_s / 60 for system, cost in systems.items()},
            "query_ms": {system: 1e3 * float(cost.query_s.mean()) for system, cost in systems.items()},
            "measured": len(systems[OURS].query_s),
            "speed_up": list(compare_costs(systems[BASELINE], systems[OURS])),
            "speed_up_cached": list(compare_costs(systems[CACHED], systems[OURS])),
        }
        for (kind, duration), systems in costs.items()
    }


def prepare_videos(
    run: TrainedRun, model: Model, data: Path, split: Split, cache: Path
) -> list[PreparedVideo]:
    """Return every video of the split with its memory, made by the bundle's engines.

    The tokens come from the run's own backbone, whose weights name the cache: the bundle's engine may be
    int8.
    """
    folder = read_data_folder(data)
    backbone = Model.from_network(run.network, run.card).backbone
    names = [activity.name for activity in model.manifest.classes]
    videos = []
    for video in open_caches(folder, split, run.config, backbone, run.backbone_digest(), cache):
        queries = [query for query in folder.queries if query.video == video.name]
        if not queries:
            continue
        order = np.random.default_rng(0).permutation(len(queries))
        queries = [queries[int(i)] for i in order]
        version = build_memory(model, video, make_sampler("neural", model.sampler))
        asker = Asker(model.manifest, model.reader, CachedObjects(video, queries, {}))
        questions = [to_query(query, names) for query in queries]
        videos.append(PreparedVideo(video, version, asker, queries, questions))
    if not videos:
        raise LvmError(f"{data} asks nothing of split {split}: run python -m export.data queries {data}")
    return videos


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(arguments.threads)
    run, bundle = TrainedRun.open(arguments.run), Bundle.open(arguments.bundle)
    for what, got, expected in (
        ("network", bundle.manifest.network, run.config),
        ("recipe", bundle.manifest.training.recipe, run.card.training.recipe),
        ("seed", bundle.manifest.training.seed, run.card.training.seed),
    ):
        if got != expected:
            raise LvmError(f"{arguments.bundle} must be an export of {arguments.run}, it has another {what}")
    engines = Engines.load(bundle, arguments.backend, arguments.threads)
    cache = arguments.cache or arguments.run.parent / "cache"
    model = Model.from_engines(engines)
    videos = prepare_videos(run, model, arguments.data, cast(Split, arguments.split), cache)
    baseline, clip_frames = run.baseline()
    once, backbone = time_stage_1(model, arguments.clips)
    timing = time_queries(
        videos, baseline, clip_frames, run.config, engines.backbone, arguments.queries, arguments.window
    )
    once_after, backbone_after = time_stage_1(model, arguments.clips)
    once, backbone = (once + once_after) / 2, (backbone + backbone_after) / 2
    engines.close()
    costs = estimate_costs(timing, run.config, once, backbone, arguments.window)
    return {
        "machine": {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "threads": arguments.threads,
        "backend": engines.choice.backend,
        "window": arguments.window,
        "stage_one_ms_a_frame": 1e3 * once,
        "backbone_ms_a_frame": 1e3 * backbone,
        "cells": summarise(costs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, required=True, help="export of the run")
    parser.add_argument("--data", type=Path, required=True, help="data folder with queries")
    parser.add_argument("--split", default="test", choices=["train", "val", "test"])
    parser.add_argument("--cache", type=Path, help="tokens of videos; default beside the run")
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--queries", type=int, default=MIN_MEASURED, help="measured in each cell")
    parser.add_argument("--clips", type=int, default=4, help="of stage 1 to time, before and after")
    parser.add_argument(
        "--window", default="query", choices=["query", "property"], help="frames that the baseline reads"
    )
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    result = measure(arguments)
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    columns = ["query", *(f"{system} min" for system in SYSTEMS), "x", "x cached"]
    rows = [
        [name, *cell["minutes"].values(), cell["speed_up"][0], cell["speed_up_cached"][0]]
        for name, cell in result["cells"].items()
    ]
    show("27 minutes of video and 1,500 queries of a kind", columns, rows)
    finish(result)


if __name__ == "__main__":
    run_tool(main)
