"""Metrics for Prometheus at /metrics: base units, and labels with a bounded number of values."""

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

from edge_runtime.interfaces.http.auth import AccessMiddleware
from edge_runtime.interfaces.http.routes.events import Listeners
from edge_runtime.interfaces.http.routes.info import precision_name
from edge_runtime.memory.coverage import FORGOTTEN, PAUSED
from edge_runtime.query.answers import Answer
from edge_runtime.service.camera import CameraRun
from edge_runtime.service.camera_health import FAULT
from edge_runtime.service.runtime import Service
from edge_runtime.sources.live_source import LiveSource
from edge_runtime.sources.source_status import DropReason
from edge_runtime.system.malloc import read_malloc_use
from edge_runtime.system.release import read_version
from edge_runtime.system.timings import BOUNDS_S, DurationHistogram

BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
MAX_SENSORS = 32
KINDS = ("activity", "object", "time")
UNKNOWN = "unknown"
LOST = dict.fromkeys((*get_args(DropReason), FAULT), 0)
GAPS = dict.fromkeys((PAUSED, FORGOTTEN, UNKNOWN), 0.0)
"""Reported from the start: Prometheus sees no increase in a counter that appears with its first one."""


def add_metrics_route(
    app: FastAPI, service: Service, listeners: Listeners, counts: AccessMiddleware.Counts
) -> None:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(ServiceCollector(service, listeners, counts))
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


class ServiceCollector(Collector):
    """Reads the service at each scrape."""

    def __init__(self, service: Service, listeners: Listeners, counts: AccessMiddleware.Counts) -> None:
        self._service, self._listeners, self._counts = service, listeners, counts

    def collect(self) -> Iterable[Metric]:
        watched, late = self._service.cameras_and_errors
        cameras = list(watched.values())
        yield from self._camera_metrics(cameras, late)
        yield from _timing_metrics(cameras)
        engines = self._service.engines
        info = {
            "backend": engines.choice.backend,
            "precision": precision_name(engines),
            "sha": engines.bundle.digest[:16],
            "version": read_version(),
        }
        yield InfoMetricFamily("lvm_engine", "What runs the graphs", value=info)
        responses = CounterMetricFamily("lvm_http_responses", "Responses by status", labels=["code"])
        for code, count in sorted(self._counts.by_status.items()):
            responses.add_metric([str(code)], count)
        yield responses
        yield GaugeMetricFamily("lvm_event_listeners", "WebSockets that listen", self._listeners.now)
        yield CounterMetricFamily(
            "lvm_event_listeners_cut_off", "Listeners that were too slow", self._listeners.cut_off
        )
        yield from _heap_metrics()
        yield from _temperature_metrics()

    def _camera_metrics(self, cameras: list[CameraRun], late: Iterable[str]) -> Iterator[Metric]:
        labels = ["camera"]
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
        metrics: dict[str, GaugeMetricFamily | CounterMetricFamily] = {
            name: GaugeMetricFamily(name, words, labels=labels) for name, words in gauges.items()
        }
        metrics |= {name: CounterMetricFamily(name, words, labels=labels) for name, words in counters.items()}
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
            metrics["lvm_memory_tokens"].add_metric(name, version.memory.filled)
            metrics["lvm_memory_bytes"].add_metric(name, _array_bytes(version.memory))
            metrics["lvm_coverage_seconds"].add_metric(name, version.coverage.watched_seconds())
            metrics["lvm_frames"].add_metric(name, version.frames)
            metrics["lvm_state_written_bytes"].add_metric(name, camera.folder.saving.written)
            if isinstance(source, LiveSource):
                status = source.status
                metrics["lvm_camera_fps"].add_metric(name, status.rate or 0.0)
                metrics["lvm_camera_reconnects"].add_metric(name, status.reconnects)
            for reason, frames in (LOST | camera.drop_counter.by_reason).items():
                dropped.add_metric([camera.name, reason], frames)
            for why, seconds in _gap_seconds(camera).items():
                gaps.add_metric([camera.name, why], seconds)
            condition.add_metric([camera.name, camera.condition], 1)
        yield from (*metrics.values(), dropped, gaps, condition)


def _timing_metrics(cameras: list[CameraRun]) -> Iterator[Metric]:
    """Yield how long the stages of each ingest and its snapshots take."""
    stages = HistogramMetricFamily(
        "lvm_stage_seconds", "Time of a stage of the ingest", labels=["camera", "stage"]
    )
    saves = HistogramMetricFamily("lvm_state_save_seconds", "Time of writing a snapshot", labels=["camera"])
    for camera in cameras:
        for stage, timing in vars(camera.ingest.stages).items():
            _add_timing(stages, [camera.name, stage], timing)
        _add_timing(saves, [camera.name], camera.folder.save_seconds)
    yield from (stages, saves)


def _add_timing(family: HistogramMetricFamily, labels: list[str], timing: DurationHistogram) -> None:
    counts, seconds = timing.read()
    bounds = [*map(str, BOUNDS_S), "+Inf"]
    family.add_metric(labels, list(zip(bounds, counts, strict=True)), seconds)


def _array_bytes(memory: object) -> int:
    """Return the bytes of all arrays in an object, at any depth."""
    if isinstance(memory, np.ndarray):
        return int(memory.nbytes)
    return sum(map(_array_bytes, vars(memory).values())) if hasattr(memory, "__dict__") else 0


def _gap_seconds(camera: CameraRun) -> dict[str, float]:
    metrics = dict(GAPS)
    for gap in camera.version.coverage.gaps_with_reasons():
        seconds = gap.end - gap.start - gap.max_watched
        metrics[gap.reason or UNKNOWN] = metrics.get(gap.reason or UNKNOWN, 0.0) + seconds
    return metrics


def _heap_metrics() -> Iterator[Metric]:
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


def _temperature_metrics() -> Iterator[Metric]:
    read = getattr(psutil, "sensors_temperatures", None)  # not on every system
    family = GaugeMetricFamily("lvm_device_temperature_celsius", "Of a sensor", labels=["sensor"])
    seen: dict[str, float] = {}
    for chip, sensors in (read() if read is not None else {}).items():
        for number, sensor in enumerate(sensors):
            seen[f"{chip} {sensor.label or number}"[:64]] = sensor.current
    for name, celsius in sorted(seen.items())[:MAX_SENSORS]:
        family.add_metric([name], celsius)
    yield family
