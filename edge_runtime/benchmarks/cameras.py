"""Measure several cameras on this machine: demo cameras at full speed, one that stalls, and how many fit.

Three measurements, each a run of the real `Service` with a memory and a state folder for each camera:

`demo`     n demo cameras, each drawing its pictures as fast as they are ingested: frames a second of each,
           all together against one camera, and the slowest camera's share of the fastest's.
`stalled`  the same with one more camera whose source hangs after its first frames.
`density`  n live cameras at the bundle's rate, whose pictures are drawn in advance (640 × 360): the share
           that is dropped because a newer picture came first. Where all threads fit but the machine is not
           full, their clocks run faster, and a camera at twice the rate counts as two.

`same_in_any_batch` says whether the backbone gives a picture the same bits alone and in a batch: if so, live
cameras that share calls remember exactly what each would have remembered alone.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.frame import Frame
from edge_runtime.ingest.pipeline import BATCH_FRAMES, preprocess
from edge_runtime.service.camera_settings import CameraSettings
from edge_runtime.service.engine_pool import Engines
from edge_runtime.service.runtime import Service
from edge_runtime.simulation.config import WorldConfig
from edge_runtime.sources import open_source
from edge_runtime.sources.base import BaseSource, Source
from edge_runtime.sources.clocks import boot_time
from edge_runtime.sources.demo import DemoSource
from edge_runtime.sources.live_source import LiveSource, Supervision
from edge_runtime.sources.source_status import DropReason
from engines.bundle import Bundle
from engines.select import load_engine

Progress = Callable[[str], None]

WARM_S = 2.0
MIN_FRAMES = 5 * BATCH_FRAMES
"""Frames of each demo camera before a measurement ends: they come in batches, and fairness is their ratio."""
MAX_DROPS = 0.01
"""Share of sampled frames that may be dropped where cameras count as fitting."""
DENSITY_CAMERAS = (1, 2, 4, 8, 16, 32, 64)
DENSITY_SPEEDS = (2, 4, 8, 16, 32)
"""How much faster the clocks of the largest number of cameras run, until it is too much."""


SLOW: DropReason = "slow consumer"


@dataclass(frozen=True)
class Measurement:
    """What each camera did in `elapsed` seconds, and what the process spent on it in seconds of CPU time."""

    elapsed: float
    cpu_s: float
    remembered: tuple[int, ...]
    late: tuple[int, ...]

    def since(self, before: Measurement) -> Measurement:
        return Measurement(
            self.elapsed - before.elapsed,
            self.cpu_s - before.cpu_s,
            tuple(b - a for a, b in zip(before.remembered, self.remembered, strict=True)),
            tuple(b - a for a, b in zip(before.late, self.late, strict=True)),
        )

    @property
    def frames(self) -> int:
        return sum(self.remembered)

    @property
    def each(self) -> list[float]:
        return [frames / self.elapsed for frames in self.remembered]

    @property
    def frames_per_s(self) -> float:
        return self.frames / self.elapsed


class ReadyCamera(BaseSource):
    """A live camera with pictures drawn in advance, one a second of a clock that runs `speed` times fast."""

    def __init__(self, pictures: Sequence[Frame], *, start: float, speed: float, phase: float) -> None:
        super().__init__("ready", live=True)
        self._pictures, self._start, self._speed, self._phase = pictures, start, speed, phase

    def __iter__(self) -> Iterator[Frame]:
        begun = time.monotonic() + self._phase / self._speed
        k = 0
        while True:
            if self._closed.wait(max(begun + k / self._speed - time.monotonic(), 0)):
                return
            self.tally.seen += 1
            yield Frame(self._pictures[k % len(self._pictures)].image, self._start + k)
            k += 1


class StallingCamera(BaseSource):
    """Hangs after its first frames, until it is closed."""

    def __init__(self, pictures: Sequence[Frame]) -> None:
        super().__init__("stalling", live=True)
        self._pictures = pictures

    def __iter__(self) -> Iterator[Frame]:
        for frame in self._pictures:
            self.tally.seen += 1
            yield frame
        self._closed.wait()


def bench_cameras(
    bundle: Bundle,
    backend: str,
    max_cameras: int,
    *,
    rounds: int,
    seconds: float,
    threads: int | None,
    density: bool,
    progress: Progress,
) -> dict[str, Any]:
    """Measure 1, 2, 4 … `max_cameras` demo cameras, in alternating rounds of `seconds` each."""
    pictures = _pictures(16)
    counts = sorted({n for n in (1, 2, 4, 8, 16, 32) if n < max_cameras} | {max_cameras})
    demo: dict[int, list[Measurement]] = {count: [] for count in counts}
    stalled: dict[int, list[Measurement]] = {count: [] for count in counts}
    for number in range(rounds):
        for count in counts:
            progress(f"round {number + 1} of {rounds}: {count} demo cameras")
            demo[count].append(_demo(bundle, backend, threads, count, seconds))
            progress(f"round {number + 1} of {rounds}: {count} demo cameras beside one that stalls")
            stalled[count].append(_demo(bundle, backend, threads, count, seconds, pictures))
    results: dict[str, Any] = {
        "same_in_any_batch": _same_in_any_batch(bundle, backend, threads, pictures),
        "demo": {str(count): _rates(demo[count], demo[counts[0]]) for count in counts},
        "stalled": {str(count): _rates(stalled[count], demo[count]) for count in counts},
    }
    if density:
        results["density"] = _density(bundle, backend, threads, seconds, pictures, progress)
    return results


def _same_in_any_batch(bundle: Bundle, backend: str, threads: int | None, pictures: Sequence[Frame]) -> bool:
    size = bundle.manifest.network.image_size
    images = np.stack([preprocess(frame, size) for frame in pictures[:BATCH_FRAMES]])
    with load_engine(bundle, "backbone", backend, threads=threads) as backbone:
        alone = [backbone({"image": image[None]})["tokens"][0] for image in images]
        return all(
            np.array_equal(backbone({"image": images[:count]})["tokens"], alone[:count])
            for count in range(2, len(images) + 1)
        )


def _pictures(count: int) -> list[Frame]:
    with DemoSource(WorldConfig(seed=1), sample_fps=1.0) as source:
        return [frame for frame, _ in zip(source, range(count), strict=False)]


def _demo(
    bundle: Bundle,
    backend: str,
    threads: int | None,
    count: int,
    seconds: float,
    stalling: Sequence[Frame] | None = None,
) -> Measurement:
    def open_camera(spec: str, *, sample_fps: float, start: float, settings: Supervision) -> Source:
        if stalling is not None and spec.startswith("udp:"):
            return LiveSource(
                lambda at: StallingCamera(stalling), spec, sample_fps=sample_fps, settings=settings
            )
        return open_source(spec, sample_fps=sample_fps, start=start, settings=settings)

    sources = [f"demo?seed={seed}" for seed in range(count)]
    if stalling is not None:
        sources.append("udp://stalled")
    result = _run(bundle, backend, threads, sources, open_camera, seconds, counted=count)
    return replace(result, remembered=result.remembered[:count], late=result.late[:count])


def _density(
    bundle: Bundle,
    backend: str,
    threads: int | None,
    seconds: float,
    pictures: Sequence[Frame],
    progress: Progress,
) -> dict[str, Any]:
    curve: list[dict[str, Any]] = []
    points = [(count, 1) for count in DENSITY_CAMERAS]
    points += [(DENSITY_CAMERAS[-1], speed) for speed in DENSITY_SPEEDS]
    for count, speed in points:
        progress(f"{count} live cameras at {speed} times the rate")
        curve.append(_live(bundle, backend, threads, count, speed, seconds, pictures))
        if curve[-1]["dropped"] > MAX_DROPS:
            break
    fits = [point["cameras"] * point["speed"] for point in curve if point["dropped"] <= MAX_DROPS]
    return {"curve": curve, "most_cameras": max(fits, default=0)}


def _live(
    bundle: Bundle,
    backend: str,
    threads: int | None,
    count: int,
    speed: int,
    seconds: float,
    pictures: Sequence[Frame],
) -> dict[str, Any]:
    def open_camera(spec: str, *, sample_fps: float, start: float, settings: Supervision) -> Source:
        phase = int(spec.rpartition("/")[2]) * 0.618 % 1

        def ready(at: float) -> Source:
            return ReadyCamera(pictures, start=at, speed=speed * sample_fps, phase=phase)

        return LiveSource(
            ready,
            spec,
            sample_fps=sample_fps,
            start=start,
            settings=settings,
            clock=lambda: speed * boot_time(),
        )

    sources = [f"udp://ready/{number}" for number in range(count)]
    measured = _run(bundle, backend, threads, sources, open_camera, seconds)
    late = sum(measured.late)
    return {
        "cameras": count,
        "speed": speed,
        "frames_per_s": measured.frames_per_s,
        "dropped": late / max(measured.frames + late, 1),
        "cpu_ms_per_frame": measured.cpu_s / max(measured.frames, 1) * 1e3,
    }


def _rates(rounds: Sequence[Measurement], against: Sequence[Measurement]) -> dict[str, Any]:
    """Return medians over rounds. `ratio` compares within a round: machines drift, rounds are short."""
    return {
        "frames_per_s": _median([result.frames_per_s for result in rounds]),
        "each": [_median([result.each[i] for result in rounds]) for i in range(len(rounds[0].each))],
        "fairness": _median([min(result.each) / max(max(result.each), 1e-9) for result in rounds]),
        "ratio": _median([_share(a, b) for a, b in zip(rounds, against, strict=True)]),
        "cpu_ms_per_frame": _median([result.cpu_s / max(result.frames, 1) * 1e3 for result in rounds]),
    }


def _share(result: Measurement, reference: Measurement) -> float:
    return result.frames_per_s / max(reference.frames_per_s, 1e-9)


def _median(values: Sequence[float]) -> float:
    return float(np.median(values))


def _run(
    bundle: Bundle,
    backend: str,
    threads: int | None,
    sources: Sequence[str],
    open_camera: Callable[..., Source],
    seconds: float,
    counted: int = 0,
) -> Measurement:
    """Measure all cameras after they have warmed up, until each of the first `counted` has enough frames."""
    marks: list[Measurement] = []

    def mark(service: Service) -> None:
        cameras = service.cameras.values()
        frames, late = (c.version.frames for c in cameras), (c.drop_counter.by_reason[SLOW] for c in cameras)
        marks.append(Measurement(time.monotonic(), time.process_time(), tuple(frames), tuple(late)))

    with (
        tempfile.TemporaryDirectory() as folder,
        Service(Engines.load(bundle, backend, threads), opener=open_camera) as service,
    ):
        for number, source in enumerate(sources):
            service.add(CameraSettings(source, Path(folder) / str(number), str(number)))

        def check() -> None:
            now = time.monotonic()
            if not marks:
                if all(camera.version.frames for camera in service.cameras.values()):
                    mark(service)
            elif len(marks) == 1 and now - marks[0].elapsed >= min(WARM_S, seconds):
                mark(service)
            elif len(marks) == 2 and now - marks[1].elapsed >= seconds:
                cameras = list(service.cameras.values())[:counted]
                moved = (c.version.frames - m for c, m in zip(cameras, marks[1].remembered, strict=False))
                if all(frames >= MIN_FRAMES for frames in moved):
                    mark(service)
                    service.stop()

        service.run(on_progress=check)
    return marks[2].since(marks[1])
