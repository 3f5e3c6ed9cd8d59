"""Measure what a long history costs: questions, state and resident memory after 36,000 frames and after 60.

    python -m tools.reliability.history --frames 36000

One process ingests the demo at the bundle's picture size, stores the version after 60 frames and continues.
Then both versions get the same questions, 2,000 of each kind, in alternating order. Reported: the ratio of
the median latencies (target: within 3 % for each kind), the ratio of the 99th percentiles with a bootstrap
interval over rounds (target: the interval begins at or below 1.1), the bytes of the state as arrays and as
a file, and the slope of resident memory over the second half of the run (target: zero within its interval,
falling, or less than a thousandth of the resident memory). Exit status 3 where a target is missed.

Not covered: cameras and decoders, the HTTP server, and whether the answers are right.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from safetensors.numpy import save

from edge_runtime.config.paths import default_bundle
from edge_runtime.ingest.pipeline import Ingest
from edge_runtime.memory.samplers import make_sampler
from edge_runtime.memory.version import Version, empty_version
from edge_runtime.persistence import Header, Snapshot, StateFolder, model_digest, to_arrays
from edge_runtime.query.executor import Asker
from edge_runtime.query.object_encoder import ObjectEncoder
from edge_runtime.query.schema import AnyQuery
from edge_runtime.service.engine_pool import Engines
from edge_runtime.simulation.config import WorldConfig
from edge_runtime.simulation.world import World
from edge_runtime.sources.demo import DemoSource
from engines.bundle import Bundle
from tools.console import Step, finish, progress, run_tool, show
from tools.demo_queries import KINDS, make_questions

MAX_MEDIAN_DEVIATION = 0.03
MAX_P99_RATIO = 1.1
FLAT = 1e-3
"""Share of resident memory that may be added over half the run: a few pages make a clean slope too."""
HEADER_BYTES = 256
"""Bytes by which two files may differ: the header writes counts in decimal and is padded to 8."""


@dataclass(frozen=True)
class HistoryRun:
    """The versions after few and after all frames, and the resident bytes after every clip."""

    young: Version
    old: Version
    resident: NDArray[np.int64]
    seconds: float


def ingest_history(engines: Engines, young_frames: int, frames: int, seed: int, step: Step) -> HistoryRun:
    network = engines.bundle.manifest.network
    sampler = make_sampler("neural", engines.sampler)
    ingest = Ingest(network, engines.backbone, sampler, empty_version(network))
    size = (network.image_size, network.image_size)
    process, young = psutil.Process(), ingest.version
    # Allocated beforehand, so that the samples themselves are no growth.
    resident = np.zeros(-(-frames // network.clip_frames), np.int64)
    started = time.perf_counter()
    with DemoSource(WorldConfig(seed=seed), sample_fps=network.sample_fps, size=size) as source:
        stream = iter(source)
        for done in range(0, frames, network.clip_frames):
            ingest.push([next(stream) for _ in range(min(network.clip_frames, frames - done))])
            resident[done // network.clip_frames] = process.memory_info().rss
            if ingest.version.frames <= young_frames:
                young = ingest.version
            step("ingest", network.clip_frames)
    return HistoryRun(young, ingest.version, resident, time.perf_counter() - started)


def ask(
    history: HistoryRun, askers: tuple[Asker, Asker], asked: dict[str, list[AnyQuery]], count: int, step: Step
) -> dict[str, NDArray[np.float64]]:
    """Return milliseconds (rounds, 2) of each kind: young and old, which of them is first alternates."""
    pairs = ((askers[0], history.young), (askers[1], history.old))
    ms: dict[str, list[list[float]]] = {kind: [] for kind in asked}
    for queries in asked.values():  # pictures and contexts are cached from here on
        for query in queries:
            for asker, version in pairs:
                asker.ask(query, version)
    gc.collect()
    for i in range(count):
        kind = KINDS[i % len(KINDS)]
        queries = asked[kind]
        query, round_ms = queries[i // len(KINDS) % len(queries)], [0.0, 0.0]
        for which in (0, 1) if i // len(KINDS) % 2 else (1, 0):
            asker, version = pairs[which]
            started = time.perf_counter()
            asker.ask(query, version)
            round_ms[which] = (time.perf_counter() - started) * 1e3
        ms[kind].append(round_ms)
        step("questions")
    return {kind: np.array(rounds) for kind, rounds in ms.items()}


def summarise_latency(ms: NDArray[np.float64], repeats: int = 1000) -> dict[str, Any]:
    """Return medians and 99th percentiles of `ms` (rounds, 2), and their ratios old over young."""
    picks = np.random.default_rng(0).integers(0, len(ms), (repeats, len(ms)))
    boot = np.array([np.percentile(ms[pick], 99, axis=0) for pick in picks])  # (repeats, 2)
    low, high = np.percentile(boot[:, 1] / boot[:, 0], [2.5, 97.5])
    median, p99 = np.percentile(ms, 50, axis=0), np.percentile(ms, 99, axis=0)
    return {
        "p50_ms": {"young": float(median[0]), "old": float(median[1])},
        "p99_ms": {"young": float(p99[0]), "old": float(p99[1])},
        "median_ratio": float(median[1] / median[0]),
        "p99_ratio": float(p99[1] / p99[0]),
        "p99_interval": [float(low), float(high)],
        "questions_each": len(ms),
    }


def measure_state(version: Version, bundle: Bundle) -> dict[str, int]:
    """Return the bytes of the arrays alone and of the file with its header."""
    header = Header(
        model=model_digest(bundle), bundle="", source="demo", sampler="neural", epoch=0.0, sample_fps=1.0
    )
    with tempfile.TemporaryDirectory() as folder, StateFolder(Path(folder)) as state:
        return {
            "arrays": len(save(to_arrays(version))),
            "file": state.save(Snapshot(header, version)),
        }


def fit_slope(resident: NDArray[np.int64], clip_frames: int) -> dict[str, Any]:
    """Return bytes per 1,000 frames over the second half, with a 95 % interval from blocks of residuals."""
    half = resident[len(resident) // 2 :].astype(np.float64)
    if len(half) < 4:
        return {"per_1000_frames": None, "interval": None, "growth": None, "last": int(resident[-1])}
    x = np.arange(len(half)) * clip_frames / 1000
    line = np.polyfit(x, half, 1)
    rest, rng = half - np.polyval(line, x), np.random.default_rng(0)
    block = max(1, len(half) // 20)  # neighbours are alike, so whole stretches are drawn
    starts = rng.integers(0, len(half) - block + 1, (500, -(-len(half) // block)))
    drawn = [np.concatenate([rest[s : s + block] for s in draw])[: len(half)] for draw in starts]
    slopes = [np.polyfit(x, np.polyval(line, x) + noise, 1)[0] for noise in drawn]
    low, high = np.percentile(slopes, [2.5, 97.5])
    return {
        "per_1000_frames": float(line[0]),
        "interval": [float(low), float(high)],
        "growth": float(half[-1] - half[0]),
        "last": int(resident[-1]),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=default_bundle())
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--frames", type=int, default=36_000)
    parser.add_argument("--young-frames", type=int, default=60)
    parser.add_argument("--questions", type=int, default=6000, help="to each version, all kinds together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report-only", action="store_true", help="exit 0 even where a target is missed")
    arguments = parser.parse_args()
    bundle = Bundle.open(arguments.bundle)
    engines = Engines.load(bundle, arguments.backend, arguments.threads)
    network = bundle.manifest.network
    with progress(arguments.frames + arguments.questions) as step:
        history = ingest_history(engines, arguments.young_frames, arguments.frames, arguments.seed, step)
        askers = (_asker(engines), _asker(engines))
        asked = make_questions(World(WorldConfig(seed=arguments.seed)), bundle.manifest)
        ms = ask(history, askers, asked, arguments.questions, step)
    engines.close()
    result: dict[str, Any] = {
        "backend": engines.choice.backend,
        "trained": bundle.manifest.training.trained,
        "frames": {"young": history.young.frames, "old": history.old.frames},
        "ingest_frames_per_s": history.old.frames / history.seconds,
        "latency": {kind: summarise_latency(rounds) for kind, rounds in ms.items()},
        "all": summarise_latency(np.concatenate(list(ms.values()))),
        "state": {
            name: measure_state(version, bundle)
            for name, version in (("young", history.young), ("old", history.old))
        },
        "resident": fit_slope(history.resident, network.clip_frames),
    }
    result["held"] = check_targets(result)
    result["ok"] = all(result["held"].values())
    _print(result)
    finish(result)
    return 0 if result["ok"] or arguments.report_only else 3


def check_targets(result: dict[str, Any]) -> dict[str, bool]:
    """Return whether each target is met."""
    young, old = result["state"]["young"], result["state"]["old"]
    resident, latencies = result["resident"], result["latency"].values()
    interval = resident["interval"]
    return {
        "median": all(abs(row["median_ratio"] - 1) <= MAX_MEDIAN_DEVIATION for row in latencies),
        "p99": all(row["p99_interval"][0] <= MAX_P99_RATIO for row in latencies),
        "state_arrays": young["arrays"] == old["arrays"],
        "state_file": abs(young["file"] - old["file"]) <= HEADER_BYTES,
        "resident": interval is None or interval[0] <= 0 or resident["growth"] <= FLAT * resident["last"],
    }


def _asker(engines: Engines) -> Asker:
    manifest = engines.bundle.manifest
    objects = ObjectEncoder(engines.backbone, manifest.network, frame_at=None, catalogue=None)
    return Asker(manifest, engines.reader, objects)


def _print(result: dict[str, Any]) -> None:
    columns = ["questions", "young p50 ms", "old p50 ms", "ratio"]
    columns += ["young p99 ms", "old p99 ms", "ratio", "95 %"]
    rows: list[list[object]] = []
    for name, summary in [*result["latency"].items(), ("all", result["all"])]:
        low, high = summary["p99_interval"]
        row: list[object] = [f"{name} ({summary['questions_each']} each)", *summary["p50_ms"].values()]
        row += [summary["median_ratio"], *summary["p99_ms"].values(), summary["p99_ratio"]]
        rows.append([*row, f"{low:.3f} {high:.3f}"])
    young, old = result["frames"]["young"], result["frames"]["old"]
    show(f"After {young} and after {old} frames on {result['backend']}", columns, rows)
    sizes = [[name, state["arrays"], state["file"]] for name, state in result["state"].items()]
    show("State, bytes", ["version", "arrays", "file"], sizes)
    resident = [[name, value] for name, value in result["resident"].items()]
    show("Resident bytes, second half of the run", ["what", "value"], resident)


if __name__ == "__main__":
    run_tool(main)
