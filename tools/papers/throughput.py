"""What answering costs: a memory that is filled once, against a network that reads frames for each query.

    python -m tools.papers.throughput --run runs/tiny-0 --bundle my-bundle --data DATA --output
    throughput.json

Both answer the same queries, in turns, on the same machine: LVM-Net in mixed batches by the engines of its
bundle, modified TubeDETR one query after the other. Three systems are timed:

    lvm-net           stage 1 (backbone, sampler, background) once for the video, then the queries
    tubedetr          backbone and network on the frames of every query's window
    tubedetr cached   backbone once for the video, then the network on cached tokens

Seconds are extrapolated to a video of 27 minutes and 1,500 queries of a kind
(`export.evaluation.cost_model`). What a backbone takes does not depend on what is to be seen, so stage 1 is
timed on random pictures. The last line of standard output is one JSON object. Beside other programs the
figures mean little.
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
from export.evaluation.paper_figures import Cell
from export.evaluation.run_folders import TrainedRun
from export.evaluation.stream_run import Model, build_memory
from export.evaluation.videos import open_caches
from export.networks.tubedetr import TubeDETR
from tools.console import finish, run_tool, show

OURS, BASELINE, CACHED = "lvm-net", "tubedetr", "tubedetr cached"
SYSTEMS = (OURS, BASELINE, CACHED)
_POOL = 64
"""Different random pictures that a backbone is timed on."""
_WARM_CLIPS = 2


@dataclass(frozen=True)
class Lane:
    """One video that both systems know, and its queries in a fixed random order."""

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
        return len(self.seconds[BASELINE][cell_of(query)])

    def add(self, system: str, query: QueryRecord, seconds: float) -> None:
        self.seconds[system][cell_of(query)].append(seconds)


def cell_of(query: QueryRecord) -> Cell:
    return query.type, query.duration


def stage_one(model: Model, clips: int) -> tuple[float, float]:
    """Seconds a frame of all that is done once, and of the backbone alone; random pictures."""
    network = model.network
    rng, size = np.random.default_rng(0), network.image_size
    images = rng.integers(0, 255, (network.clip_frames, size, size, 3), np.uint8)
    sampler = make_sampler("neural", model.sampler)
    ingest = Ingest(network, model.backbone, sampler, empty_version(network))
    try:
        taken = []
        for clip in range(clips + _WARM_CLIPS):
            times = [(clip * network.clip_frames + k) / network.sample_fps for k in range(len(images))]
            started = time.perf_counter()
            ingest.push_images(list(images), times)
            taken.append(time.perf_counter() - started)
    finally:
        ingest.close()
    whole = float(np.mean(taken[_WARM_CLIPS:])) / network.clip_frames
    pool = rng.integers(0, 255, (_POOL, size, size, 3), np.uint8)
    seconds = [see(model.backbone, pool, network.clip_frames) for _ in range(clips)]
    return whole, float(np.mean(seconds)) / network.clip_frames


def see(backbone: Engine, pool: NDArray[np.uint8], frames: int) -> float:
    """Seconds that a backbone takes for so many pictures."""
    started = time.perf_counter()
    for first in range(0, frames, BATCH_FRAMES):
        count = min(BATCH_FRAMES, frames - first)
        backbone({"image": pool[(first + np.arange(count)) % len(pool)]})
    return time.perf_counter() - started


def answer_in_turns(
    lanes: Sequence[Lane],
    network: TubeDETR,
    clip_frames: int,
    config: NetworkConfig,
    backbone: Engine,
    least: int,
    window: Window,
) -> Timing:
    """Time queries until every cell that occurs has `least` of them."""
    timing = Timing()
    pool = np.random.default_rng(1).integers(
        0, 255, (_POOL, config.image_size, config.image_size, 3), np.uint8
    )
    for lane in lanes:  # contexts and kernels are warm from here on
        lane.asker.ask_all(lane.questions[:MAX_BATCH], lane.version)
    for lane, some in _batches(lanes, timing, least):
        started = time.perf_counter()
        lane.asker.ask_all([lane.questions[i] for i in some], lane.version)
        share = (time.perf_counter() - started) / len(some)
        for i in some:
            query = lane.queries[i]
            if timing.count(query) >= least:
                continue
            timing.add(OURS, query, share)
            rows = select_rows(query, lane.cache.ticks, config.sample_fps, window)
            given = to_clip_query(config, lane.cache, query, {})
            started = time.perf_counter()
            read_rows(network, choose_clip_length(query, rows, clip_frames), lane.cache, rows, given)
            cached = time.perf_counter() - started
            timing.add(CACHED, query, cached)
            timing.add(BASELINE, query, cached + see(backbone, pool, len(rows)))
    return timing


def _batches(lanes: Sequence[Lane], timing: Timing, least: int) -> Iterator[tuple[Lane, list[int]]]:
    """Mixed batches of every lane in turn, again and again, as long as a cell lacks queries."""
    wanted = {cell_of(query): query for lane in lanes for query in lane.queries}
    first = 0
    while any(timing.count(query) < least for query in wanted.values()):
        for lane in lanes:
            at = (first + np.arange(min(MAX_BATCH, len(lane.queries)))) % len(lane.queries)
            yield lane, at.tolist()
        first += MAX_BATCH


def costs(
    timing: Timing, config: NetworkConfig, once: float, backbone: float, window: Window
) -> dict[Cell, dict[str, Cost]]:
    """Seconds for a video and its queries as in ReST. `once` and `backbone` are seconds a frame."""
    frames = REST_VIDEO_S * config.sample_fps
    found = {}
    for cell in timing.seconds[OURS]:
        # Only where all frames of the query window are read does a query's cost grow with it.
        long = DURATION_S[cell[1]] if cell[0] != "time" and window == "query" else None
        seconds = {system: timing.seconds[system][cell] for system in SYSTEMS}
        found[cell] = {
            OURS: extrapolate_to_rest(seconds[OURS], once_s=once * frames),
            BASELINE: extrapolate_to_rest(seconds[BASELINE], window_s=long),
            CACHED: extrapolate_to_rest(seconds[CACHED], once_s=backbone * frames, window_s=long),
        }
    return found


def summary(found: dict[Cell, dict[str, Cost]]) -> dict[str, Any]:
    """Minutes of each system by cell, milliseconds of a query, and how many times faster ours is."""
    return {
        f"{kind}/{duration}": {
            "minutes": {system: cost.total_s / 60 for system, cost in one.items()},
            "query_ms": {system: 1e3 * float(cost.query_s.mean()) for system, cost in one.items()},
            "measured": len(one[OURS].query_s),
            "speed_up": list(compare_costs(one[BASELINE], one[OURS])),
            "speed_up_cached": list(compare_costs(one[CACHED], one[OURS])),
        }
        for (kind, duration), one in found.items()
    }


def lanes_of(run: TrainedRun, model: Model, data: Path, split: Split, cache: Path) -> list[Lane]:
    """Every video of the split, remembered by the bundle's engines.

    Its pictures are seen by the run's own backbone, by whose weights the cache is named: the bundle's
    engine may be int8.
    """
    folder = read_data_folder(data)
    backbone = Model.from_network(run.network, run.card).backbone
    names = [one.name for one in model.manifest.classes]
    lanes = []
    for video in open_caches(folder, split, run.config, backbone, run.backbone_digest(), cache):
        queries = [one for one in folder.queries if one.video == video.name]
        if not queries:
            continue
        order = np.random.default_rng(0).permutation(len(queries))
        queries = [queries[int(i)] for i in order]
        version = build_memory(model, video, make_sampler("neural", model.sampler))
        asker = Asker(model.manifest, model.reader, CachedObjects(video, queries, {}))
        lanes.append(Lane(video, version, asker, queries, [to_query(one, names) for one in queries]))
    if not lanes:
        raise LvmError(f"{data} asks nothing of split {split}: run python -m export.data queries {data}")
    return lanes


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(arguments.threads)
    run, bundle = TrainedRun.open(arguments.run), Bundle.open(arguments.bundle)
    for what, got, wanted in (
        ("network", bundle.manifest.network, run.config),
        ("recipe", bundle.manifest.training.recipe, run.card.training.recipe),
        ("seed", bundle.manifest.training.seed, run.card.training.seed),
    ):
        if got != wanted:
            raise LvmError(f"{arguments.bundle} must be an export of {arguments.run}, it has another {what}")
    engines = Engines.load(bundle, arguments.backend, arguments.threads)
    cache = arguments.cache or arguments.run.parent / "cache"
    model = Model.from_engines(engines)
    lanes = lanes_of(run, model, arguments.data, cast(Split, arguments.split), cache)
    baseline, clip_frames = run.baseline()
    once, backbone = stage_one(model, arguments.clips)
    timing = answer_in_turns(
        lanes, baseline, clip_frames, run.config, engines.backbone, arguments.queries, arguments.window
    )
    once_after, backbone_after = stage_one(model, arguments.clips)
    once, backbone = (once + once_after) / 2, (backbone + backbone_after) / 2
    engines.close()
    found = costs(timing, run.config, once, backbone, arguments.window)
    return {
        "machine": {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "threads": arguments.threads,
        "backend": engines.choice.backend,
        "window": arguments.window,
        "stage_one_ms_a_frame": 1e3 * once,
        "backbone_ms_a_frame": 1e3 * backbone,
        "cells": summary(found),
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
        [name, *one["minutes"].values(), one["speed_up"][0], one["speed_up_cached"][0]]
        for name, one in result["cells"].items()
    ]
    show("27 minutes of video and 1,500 queries of a kind", columns, rows)
    finish(result)


if __name__ == "__main__":
    run_tool(main)
