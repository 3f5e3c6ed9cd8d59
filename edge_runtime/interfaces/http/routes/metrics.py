"""What Prometheus reads at /metrics: base units, and labels of a bounded number of values."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import get_args

import numpy as np
import psutil
from fastapi import FastAPI, Response
from prometheus_client import CollectorRegistry, Histogram, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from edge_runtime.interfaces.http.auth import Gate
from edge_runtime.interfaces.http.routes.events import Listeners
from edge_runtime.interfaces.http.routes.info import precision_of
from edge_runtime.memory.coverage import FORGOTTEN, PAUSED
from edge_runtime.query.answers import Answer
from edge_runtime.service.camera import CameraRun
from edge_runtime.service.camera_health import FAULT
from edge_runtime.service.runtime import Service
from edge_runtime.sources.source_status import DropReason
from edge_runtime.sources.supervised import SupervisedSource
from edge_runtime.system.malloc import read_malloc_use
from edge_runtime.system.release import read_version
from edge_runtime.system.timings import BOUNDS_S, DurationHistogram

BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
MAX_SENSORS = 32
KINDS = ("activity", "object", "time")
UNKNOWN = "unknown"
LOST = dict.fromkeys((*get_args(DropReason), FAULT), 0)
GAPS = dict.fromkeys((PAUSED, FORGOTTEN, UNKNOWN), 0.0)
"""Told from the start: of a counter that appears with its first increase, Prometheus sees no increase."""


def add_metrics_route(app: FastAPI, service: Service, listeners: Listeners, counts: Gate.Counts) -> None:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(_OfService(service, listeners, counts))
    took = Histogram("lvm_query_seconds", "Time of a question", ["type"], buckets=BUCKETS, registry=registry)
    for kind in KINDS:
        took.labels(kind)

    def observe(answer: Answer) -> None:
        took.labels(answer.type).observe(answer.milliseconds / 1000)

    service.answer_history.observers.append(observe)

    @app.get("/metrics", response_class=Response)
    def metrics() -> Response:
        """In the text format of Prometheus."""
        return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


class _OfService(Collector):
    """Looks at the service whenever it is asked."""

    def __init__(self, service: Service, listeners: Listeners, counts: Gate.Counts) -> None:
        self._service, self._listeners, self._counts = service, listeners, counts

    def collect(self) -> Iterable[Metric]:
        wanted, late = self._service.cameras_and_errors
        cameras = list(wanted.values())
        yield from self._of_cameras(cameras, late)
        yield from _seconds(cameras)
        engines = self._service.engines
        about = {
            "backend": engines.choice.backend,
            "precision": precision_of(engines),
            "sha": engines.bundle.digest[:16],
            "version": read_version(),
        }
        yield InfoMetricFamily("lvm_engine", "What runs the graphs", value=about)
        responses = CounterMetricFamily("lvm_http_responses", "Responses by status", labels=["code"])
        for code, count in sorted(self._counts.by_status.items()):
            responses.add_metric([str(code)], count)
        yield responses
        yield GaugeMetricFamily("lvm_event_listeners", "WebSockets that listen", self._listeners.now)
        yield CounterMetricFamily(
            "lvm_event_listeners_cut_off", "Listeners that were too slow", self._listeners.cut_off
        )
        yield from _heaps()
        yield from _temperatures()

    def _of_cameras(self, cameras: list[CameraRun], late: Iterable[str]) -> Iterator[Metric]:
        one = ["camera"]
        gauges = {
            "lvm_camera_fps": "Pictures a second that the source gives",
            "lvm_memory_tokens": "Tokens remembered",
            "lvm_memory_bytes": "Bytes of the remembered tokens",
            "lvm_coverage_seconds": "Seconds watched, gaps not counted",
        }
        counters = {
            "lvm_frames": "Sampled frames remembered",
            "lvm_camera_reconnects": "Tries to open this source after the first",
            "lvm_state_written_bytes": "Bytes written for this memory",
        }
        found: dict[str, GaugeMetricFamily | CounterMetricFamily] = {
            name: GaugeMetricFamily(name, words, labels=one) for name, words in gauges.items()
        }
        found |= {name: CounterMetricFamily(name, words, labels=one) for name, words in counters.items()}
        dropped = CounterMetricFamily(
            "lvm_frames_dropped", "Sampled frames not remembered", labels=["camera", "reason"]
        )
        gaps = CounterMetricFamily("lvm_gap_seconds", "Seconds not watched", labels=["camera", "reason"])
        condition = GaugeMetricFamily(
            "lvm_camera_condition", "1 for the one it is in", labels=["camera", "condition"]
        )
        for awaited in late:
            condition.add_metric([awaited, "awaited"], 1)
        for camera in cameras:
            name, version, source = [camera.name], camera.version, camera.source
            found["lvm_memory_tokens"].add_metric(name, version.memory.filled)
            found["lvm_memory_bytes"].add_metric(name, _bytes_of(version.memory))
            found["lvm_coverage_seconds"].add_metric(name, version.coverage.watched())
            found["lvm_frames"].add_metric(name, version.frames)
            found["lvm_state_written_bytes"].add_metric(name, camera.folder.saving.written)
            if isinstance(source, SupervisedSource):
                status = source.status
                found["lvm_camera_fps"].add_metric(name, status.rate or 0.0)
                found["lvm_camera_reconnects"].add_metric(name, status.reconnects)
            for reason, frames in (LOST | camera.drop_counter.by_reason).items():
                dropped.add_metric([camera.name, reason], frames)
            for why, seconds in _gap_seconds(camera).items():
                gaps.add_metric([camera.name, why], seconds)
            condition.add_metric([camera.name, camera.condition], 1)
        yield from (*found.values(), dropped, gaps, condition)


def _seconds(cameras: list[CameraRun]) -> Iterator[Metric]:
    """How long the stages of each ingest take, and its snapshots."""
    stages = HistogramMetricFamily(
        "lvm_stage_seconds", "Time of a stage of the ingest", labels=["camera", "stage"]
    )
    saves = HistogramMetricFamily("lvm_state_save_seconds", "Time of writing a snapshot", labels=["camera"])
    for camera in cameras:
        for stage, timing in vars(camera.ingest.stages).items():
            _observed(stages, [camera.name, stage], timing)
        _observed(saves, [camera.name], camera.folder.save_seconds)
    yield from (stages, saves)


def _observed(family: HistogramMetricFamily, labels: list[str], timing: DurationHistogram) -> None:
    counts, seconds = timing.read()
    bounds = [*map(str, BOUNDS_S), "+Inf"]
    family.add_metric(labels, list(zip(bounds, counts, strict=True)), seconds)


def _bytes_of(memory: object) -> int:
    """Of all arrays in it, however deep."""
    if isinstance(memory, np.ndarray):
        return int(memory.nbytes)
    return sum(map(_bytes_of, vars(memory).values())) if hasattr(memory, "__dict__") else 0


def _gap_seconds(camera: CameraRun) -> dict[str, float]:
    found = dict(GAPS)
    for start, end, why in camera.version.coverage.gaps_explained():
        found[why or UNKNOWN] = found.get(why or UNKNOWN, 0.0) + end - start
    return found


def _heaps() -> Iterator[Metric]:
    use = read_malloc_use()
    family = GaugeMetricFamily(
        "lvm_heap_bytes", "Address space of malloc, given out or between that", labels=["state"]
    )
    for state, size in ({} if use is None else use._asdict()).items():
        family.add_metric([state], size)
    yield family
    yield GaugeMetricFamily(
        "lvm_python_blocks", "Small blocks that Python gave out", sys.getallocatedblocks()
    )


def _temperatures() -> Iterator[Metric]:
    read = getattr(psutil, "sensors_temperatures", None)  # not on every system
    family = GaugeMetricFamily("lvm_device_temperature_celsius", "Of a sensor", labels=["sensor"])
    seen: dict[str, float] = {}
    for chip, sensors in (read() if read is not None else {}).items():
        for number, sensor in enumerate(sensors):
            seen[f"{chip} {sensor.label or number}"[:64]] = sensor.current
    for name, celsius in sorted(seen.items())[:MAX_SENSORS]:
        family.add_metric([name], celsius)
    yield family
