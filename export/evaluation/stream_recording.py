"""Let the runtime remember a stream, and record what simpler methods need of the same frames.

Letters: F frames, d width of a token, B bins.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_runtime.ingest.pipeline import Batch, Image, Ingest, batch_size
from edge_runtime.memory.samplers import make_sampler
from edge_runtime.memory.version import Version, empty_version
from edge_runtime.service.engine_pool import Engines
from edge_runtime.simulation.world import World
from engines.spec import Array, Engine, Feeds
from export.evaluation.histogram_baseline import make_cell_histograms

Real = NDArray[np.float32]


@dataclass(frozen=True)
class RecordedStream:
    """`version` is all that a question reads; the rest was recorded frame by frame, at `times` (F,)."""

    version: Version
    times: NDArray[np.float64]  # (F,)
    features: Real  # (F, 49, d)
    histograms: Real  # (F, 49, B)


class _TokenRecorder(Engine):
    """Runs the backbone and records its tokens: frames are encoded once for all methods."""

    def __init__(self, backbone: Engine) -> None:
        self.backend, self.inputs, self.outputs = backbone.backend, backbone.inputs, backbone.outputs
        self._backbone = backbone
        self.features: list[Real] = []

    def _run(self, feeds: Feeds) -> dict[str, Array]:
        outputs = self._backbone(feeds)
        self.features.append(outputs["tokens"].astype(np.float32))
        return outputs


@dataclass
class _Batches:
    """Frames in the batches of the runtime, with their times and colour histograms."""

    frames: Iterable[tuple[float, Image]]
    clip_frames: int
    times: list[float] = field(default_factory=list)
    histograms: list[Real] = field(default_factory=list)

    def __iter__(self) -> Iterator[Batch]:
        """Yield pictures (B, S, S, 3) with their times, split where the runtime splits them."""
        batch: list[Image] = []
        for t, image in self.frames:
            self.times.append(t)
            self.histograms.append(make_cell_histograms(image))
            batch.append(image)
            done = len(self.times) - len(batch)
            if len(batch) == batch_size(done % self.clip_frames, self.clip_frames):
                yield Batch(np.stack(batch), self.times[done:])
                batch = []
        if batch:
            yield Batch(np.stack(batch), self.times[-len(batch) :])


def record_frames(
    engines: Engines, frames: Iterable[tuple[float, Image]], *, sampler: str = "neural"
) -> RecordedStream:
    """Ingest `frames`, times in seconds and pictures (S, S, 3) of the bundle's size, as a run does."""
    network = engines.bundle.manifest.network
    batches = _Batches(frames, network.clip_frames)
    backbone = _TokenRecorder(engines.backbone)
    ingest = Ingest(network, backbone, make_sampler(sampler, engines.sampler), empty_version(network))
    try:
        for _ in ingest.stream(batches):
            pass
    finally:
        ingest.close()
    return RecordedStream(
        ingest.version,
        np.array(batches.times),
        np.concatenate(backbone.features),
        np.stack(batches.histograms),
    )


def record_stream(engines: Engines, world: World, seconds: float) -> RecordedStream:
    """Ingest the first `seconds` of `world` at the bundle's rate."""
    network = engines.bundle.manifest.network
    times = np.arange(round(seconds * network.sample_fps)) / network.sample_fps
    size = (network.image_size, network.image_size)
    return record_frames(engines, ((float(t), world.frame(float(t), size)) for t in times))
