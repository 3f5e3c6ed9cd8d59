"""Measure the speed of every engine of this machine in one interleaved run.

`ingest.ratio` compares `Ingest` with the same engines called bare on ready arrays (backbone, sampler, SVD),
so it shows the cost of our own bookkeeping. Rounds of all engines alternate, medians are taken over rounds:
machines drift, ratios within a round do not.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from edge_runtime.ingest.pipeline import BATCH_FRAMES, Ingest
from edge_runtime.memory.background_model import FRAMES_PER_CLIP, Background
from edge_runtime.memory.samplers import make_sampler
from edge_runtime.memory.version import empty_version
from edge_runtime.persistence import to_arrays
from edge_runtime.query.executor import Asker
from edge_runtime.query.object_encoder import ObjectEncoder
from edge_runtime.query.schema import ActivityQuery, AnyQuery, ObjectQuery, Photos, TimeQuery
from edge_runtime.service.engine_pool import Engines
from edge_runtime.simulation.config import WorldConfig
from edge_runtime.sources.demo import DemoSource
from engines.bundle import Bundle

Images = NDArray[np.uint8]

RSS_RUN_STREAM_S = 120
CLIPS = 4
"""Clips of one round: ingest works ahead, so a single clip would show its start and end only."""


@dataclass
class _EngineBench:
    """One backend under test and its measured times."""

    engines: Engines
    ingest: Ingest
    asker: Asker
    t: float = 0.0
    ratio: list[float] = field(default_factory=list)
    ingest_s: list[float] = field(default_factory=list)
    backbone_ms: list[float] = field(default_factory=list)
    sampler_ms: list[float] = field(default_factory=list)
    svd_ms: list[float] = field(default_factory=list)
    query_ms: dict[str, list[float]] = field(default_factory=dict)


def bench_engines(
    bundle: Bundle,
    backends: Sequence[str],
    *,
    rounds: int,
    questions: int,
    threads: int | None,
    progress: Callable[[str, float], None],
) -> dict[str, Any]:
    """Measure each backend and return its fields. `progress(step, share done)` is called between steps."""
    network = bundle.manifest.network
    images = draw_demo_images(network.image_size, network.clip_frames)
    benches = {name: _make_bench(bundle, name, threads) for name in backends}
    warm = 2 + -(-network.memory_tokens // network.clip_candidates)
    for bench in benches.values():
        _push_clips(bench, images, warm)  # a full memory is the steady state
    for i in range(rounds):
        progress("ingest", i / rounds)
        for bench in benches.values():
            # Run a few clips bare and as many through `Ingest`, in alternating order.
            bare_first = len(bench.ratio) % 2 == 0
            bare = _bare(bench, images) if bare_first else 0.0
            started = time.perf_counter()
            _push_clips(bench, images, CLIPS)
            whole = time.perf_counter() - started
            bare = bare or _bare(bench, images)
            bench.ratio.append(bare / whole)
            bench.ingest_s.append(whole)
    queries = _make_queries(bundle, images)
    for i in range(questions):
        progress("questions", i / questions)
        for bench in benches.values():
            for kind, query in queries.items():
                bench.query_ms.setdefault(kind, []).append(_ask_ms(bench, query))
    results = {}
    for i, (name, bench) in enumerate(benches.items()):
        progress("resident memory", i / len(benches))
        results[name] = _result(bench, name, threads)
        bench.ingest.close()
        bench.engines.close()
    return results


def draw_demo_images(size: int, count: int) -> list[Images]:
    """Draw the first `count` pictures of the demo world at one a second, (size, size, 3) each."""
    source = DemoSource(WorldConfig(seed=1), sample_fps=1.0, size=(size, size))
    images = []
    with source:
        for frame in source:
            images.append(frame.image)
            if len(images) == count:
                break
    return images


def _make_bench(bundle: Bundle, backend: str, threads: int | None) -> _EngineBench:
    engines = Engines.load(bundle, backend, threads)
    network = bundle.manifest.network
    ingest = Ingest(
        network, engines.backbone, make_sampler("neural", engines.sampler), empty_version(network)
    )
    objects = ObjectEncoder(engines.backbone, network, frame_at=None, catalogue=None)
    return _EngineBench(engines, ingest, Asker(bundle.manifest, engines.reader, objects))


def _push_clips(bench: _EngineBench, images: list[Images], clips: int) -> None:
    fps = bench.ingest.network.sample_fps
    many = images * clips
    bench.ingest.push_images(many, [bench.t + i / fps for i in range(len(many))])
    bench.t += len(many) / fps


def _bare(bench: _EngineBench, images: list[Images]) -> float:
    """Return the seconds of the same engine calls and SVD updates on ready arrays, for `CLIPS` clips."""
    return sum(_bare_clip(bench, *_make_feeds(bench, images)) for _ in range(CLIPS))


def _bare_clip(
    bench: _EngineBench, feeds: dict[str, Any], rows: NDArray[np.float32], background: Background | None
) -> float:
    started = time.perf_counter()
    for batch in feeds["backbone"]:
        bench.engines.backbone(batch)
    backbone = time.perf_counter()
    bench.engines.sampler(feeds["sampler"])
    sampler = time.perf_counter()
    if background is not None:
        background.svd.update(rows)
    stopped = time.perf_counter()
    bench.backbone_ms.append((backbone - started) * 1e3)
    bench.sampler_ms.append((sampler - backbone) * 1e3)
    bench.svd_ms.append((stopped - sampler) * 1e3)
    return stopped - started


def _make_feeds(
    bench: _EngineBench, images: list[Images]
) -> tuple[dict[str, Any], NDArray[np.float32], Background | None]:
    network, version = bench.ingest.network, bench.ingest.version
    batches = [{"image": np.stack(images[i : i + BATCH_FRAMES])} for i in range(0, len(images), BATCH_FRAMES)]
    n, m = network.sampler_tokens, network.memory_tokens
    features = np.zeros((1, n, network.d_backbone), np.float32)
    features[0, :m] = version.memory.features
    features[0, m:] = version.memory.features[np.arange(n - m) % m]
    sampler = {
        "features": features,
        "cell": (np.arange(n, dtype=np.int32) % network.cells)[None],
        "novelty": np.zeros((1, n), np.float32),
        "valid": np.ones((1, n), np.bool_),
    }
    silent = {
        spec.name: np.zeros([1, *(int(side) for side in spec.shape[1:])], spec.dtype)
        for spec in bench.engines.sampler.inputs
    }
    # Rows like those of a clip: linearly dependent rows would take the SVD's slow path.
    rows = np.random.default_rng(0).normal(size=(FRAMES_PER_CLIP, network.d_backbone)).astype(np.float32)
    feeds = {
        "backbone": batches,
        "sampler": {name: sampler.get(name, zeros) for name, zeros in silent.items()},
    }
    return feeds, rows, version.background


def _make_queries(bundle: Bundle, images: list[Images]) -> dict[str, AnyQuery]:
    import cv2

    photo = Photos(photos=(cv2.imencode(".png", images[0])[1].tobytes(),))
    activity = bundle.manifest.classes[0].name
    return {
        "activity": ActivityQuery(object=photo),
        "object": ObjectQuery(activity=activity),
        "time": TimeQuery(activity=activity, object=photo),
    }


def _result(bench: _EngineBench, backend: str, threads: int | None) -> dict[str, Any]:
    frames = bench.ingest.network.clip_frames
    return {
        "ingest": {
            "ratio": float(np.median(bench.ratio)),
            "frames_per_s": frames * CLIPS / float(np.median(bench.ingest_s)),
        },
        "backbone": {"ms": float(np.median(bench.backbone_ms)) / frames},
        "sampler": {"ms": float(np.median(bench.sampler_ms))},
        "svd": {"ms": float(np.median(bench.svd_ms))},
        "query": {
            kind: {"p50_ms": float(np.percentile(ms, 50)), "p99_ms": float(np.percentile(ms, 99))}
            for kind, ms in bench.query_ms.items()
        },
        "state": {"bytes": len(save(to_arrays(bench.ingest.version)))},
        "rss": {"bytes": _measure_resident(backend, bench.engines.bundle.path, threads)},
    }


def _measure_resident(backend: str, bundle: Path, threads: int | None) -> int:
    """Return the resident bytes of a separate `lvm-edge run` after two minutes of demo stream."""
    with tempfile.TemporaryDirectory() as state:
        config = Path(state) / "config.yaml"
        config.write_text(f"version: 1\nmodel: {{threads: {threads or 'null'}}}\n", encoding="utf-8")
        command = [
            sys.executable, "-m", "edge_runtime.interfaces.cli.main", "run", "--source", "demo",
            "--for", str(RSS_RUN_STREAM_S), "--json", "--no-http", "--backend", backend,
            "--bundle", str(bundle), "--state", state, "--config", str(config),
        ]  # fmt: skip
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    return int(json.loads(done.stdout.splitlines()[-1])["resident_bytes"])


def _ask_ms(bench: _EngineBench, query: AnyQuery) -> float:
    started = time.perf_counter()
    bench.asker.ask(query, bench.ingest.version)
    return (time.perf_counter() - started) * 1e3
