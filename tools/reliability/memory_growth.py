"""Measure whether memory grows: the slope of resident memory over many sampled frames of the whole pipeline.

    python -m tools.reliability.memory_growth --frames 60000

Source, ingest, journal and a question now and then run in this process as `lvm-edge run` runs them, as fast
as possible. After --warm frames the growth is fitted: medians of 20 parts of the run, a straight line through
them and its standard error. Exit status 3 where memory grows: by more than 1 % of the resident memory over
the run, and by more than three standard errors. The last line of standard output is one JSON object.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import ArrayLike, NDArray

from edge_runtime.config.paths import default_bundle
from edge_runtime.query.schema import ObjectQuery, QueryRequest
from edge_runtime.service.camera_settings import CameraSettings
from edge_runtime.service.engine_pool import Engines
from edge_runtime.service.runtime import Service
from edge_runtime.sources import canonicalise
from edge_runtime.system.malloc import TRIM_EVERY_S, trim_malloc
from engines.bundle import Bundle
from tools.console import finish, progress, run_tool

SMALL_DEMO = "demo?size=160x120"
WARM_FRAMES = 24_000
"""After 600 frames the token memory is full, the frame ring has wrapped and every buffer has its final size.
But the demo's world caches the schedule of its last 512 events, four hours of it (1.95 MB more over 4,000
frames after 600)."""
PARTS = 20
FRAMES_PER_QUESTION = 100
GROWN_SHARE = 0.01
ERRORS = 3.0
SAMPLES = 400
FRAMES, RESIDENT, THREADS, DESCRIPTORS = range(4)
"""Columns of the samples."""
Floats = NDArray[np.float64]
Samples = NDArray[np.int64]  # (samples, 4)


@dataclass(frozen=True)
class Growth:
    """A line through resident memory: `grown_mb` over the whole span, with its standard error `error_mb`."""

    span: float
    resident_mb: float
    grown_mb: float
    error_mb: float
    parts_mb: tuple[float, ...]
    """Medians of the parts, in order; they show whether a growth levels off."""

    @property
    def grows(self) -> bool:
        """Whether the growth is beyond noise and large enough to matter."""
        enough = self.grown_mb > GROWN_SHARE * self.resident_mb
        return enough and self.grown_mb > ERRORS * self.error_mb


def fit_growth(at: ArrayLike, resident: ArrayLike, parts: int = PARTS) -> Growth:
    """Fit a line through `resident` bytes over `at` (frames or seconds).

    Raises ValueError for fewer than 3 samples.
    """
    positions, values = np.asarray(at, float), np.asarray(resident, float)
    if len(positions) < 3 or len(positions) != len(values):
        raise ValueError(
            f"growth needs 3 samples or more, got {len(positions)} positions of {len(values)} values"
        )
    x, y = _part_medians(positions, values / 1e6, parts)
    around = x - x.mean()
    slope = float(around @ y / (around @ around))
    rest = y - y.mean() - slope * around
    error = math.sqrt(float(rest @ rest) / max(len(x) - 2, 1) / float(around @ around))
    span = float(positions.max() - positions.min())
    parts_mb = tuple(round(float(median), 2) for median in y)
    return Growth(span, float(y.mean()), slope * span, error * span, parts_mb)


def _part_medians(x: Floats, y: Floats, parts: int) -> tuple[Floats, Floats]:
    pieces = [piece for piece in np.array_split(np.argsort(x), min(parts, len(x))) if len(piece)]
    return np.array([np.median(x[p]) for p in pieces]), np.array([np.median(y[p]) for p in pieces])


def sample_run(source: str, frames: int, backend: str) -> Samples:
    """Run the service over `frames` frames of the source and return samples at even distances."""
    # Allocated at once: a growing list would add 300 bytes a sample.
    samples, count = np.zeros((SAMPLES + 2, 4), np.int64), 0
    process, questions_asked, trimmed = psutil.Process(), 0, 0
    engines = Engines.load(Bundle.open(default_bundle()), backend)
    fps = engines.bundle.manifest.network.sample_fps
    seconds = frames / fps
    question = ObjectQuery(activity=engines.bundle.manifest.classes[0].name)
    with tempfile.TemporaryDirectory(prefix="lvm-edge-slope-") as folder, progress(frames) as step:
        with Service(engines) as service:
            camera = service.add(CameraSettings(canonicalise(source), Path(folder)))

            def take_sample() -> None:
                nonlocal questions_asked, count, trimmed
                now, before = camera.version.frames, int(samples[count - 1, FRAMES])
                if now - trimmed >= TRIM_EVERY_S * fps:  # as often in its stream as a run does by the clock
                    trimmed = now
                    trim_malloc()
                if count and now - before < frames / SAMPLES:
                    return
                if now // FRAMES_PER_QUESTION > questions_asked:
                    questions_asked = now // FRAMES_PER_QUESTION
                    service.ask(QueryRequest(question))
                resident = process.memory_info().rss
                samples[count] = now, resident, process.num_threads(), process.num_fds()
                count += 1
                step(f"{resident / 1e6:.1f} MB", now - before)

            service.run(seconds, take_sample)
    return samples[:count]


def measure(
    frames: int, warm: int, source: str = SMALL_DEMO, backend: str = "onnxruntime"
) -> dict[str, object]:
    """Return the result that the last line prints."""
    if not 0 <= warm < frames:
        raise ValueError(f"the warm-up must be shorter than the run of {frames} frames, got {warm}")
    samples = sample_run(source, frames, backend)
    samples = samples[samples[:, FRAMES] >= warm]
    growth = fit_growth(samples[:, FRAMES], samples[:, RESIDENT])
    return {
        "source": source, "backend": backend, "warm": warm,
        "frames": int(samples[-1, FRAMES]), **asdict(growth),
        "kb_per_1000_frames": growth.grown_mb / growth.span * 1e6,
        "error_kb_per_1000_frames": growth.error_mb / growth.span * 1e6,
        "threads": np.unique(samples[:, THREADS]).tolist(),
        "descriptors": np.unique(samples[:, DESCRIPTORS]).tolist(),
        "grows": growth.grows,
    }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=60_000, help="the warm-up among them")
    parser.add_argument("--warm", type=int, default=WARM_FRAMES)
    parser.add_argument("--source", default=SMALL_DEMO, help="a demo or a video long enough")
    parser.add_argument("--backend", default="onnxruntime")
    given = parser.parse_args(argv)
    result = measure(given.frames, given.warm, given.source, given.backend)
    finish(result)
    return 3 if result["grows"] else 0


if __name__ == "__main__":
    run_tool(main)
