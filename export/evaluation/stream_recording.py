"""Let the runtime remember a stream, and record what simpler methods need of the same frames.

Letters: F frames, d width of a token, B bins.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_runtime.ingest.pipeline import Batch, Ingest, batch_size
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
class _WorldFrames:
    """Frames of a world, in the batches of the runtime, and their colour histograms."""

    world: World
    size: int
    clip_frames: int
    times: NDArray[np.float64]
    histograms: list[Real] = field(default_factory=list)

    def batches(self) -> Iterator[Batch]:
        """Yield pictures (B, S, S, 3) with their times, split where the runtime splits them."""
        start = 0
        while start < len(self.times):
            stop = min(start + batch_size(start % self.clip_frames, self.clip_frames), len(self.times))
            times = [float(t) for t in self.times[start:stop]]
            images = np.stack([self.world.frame(t, (self.size, self.size)) for t in times])
            self.histograms += [make_cell_histograms(image) for image in images]
            yield Batch(images, times)
            start = stop


def record_stream(
    engines: Engines, world: World, seconds: float, *, sampler: str = "neural"
) -> RecordedStream:
    """Ingest the first `seconds` of `world` at the bundle's rate, as `lvm-edge run` does."""
    network = engines.bundle.manifest.network
    times = np.arange(round(seconds * network.sample_fps)) / network.sample_fps
    film = _WorldFrames(world, network.image_size, network.clip_frames, times)
    backbone = _TokenRecorder(engines.backbone)
    ingest = Ingest(network, backbone, make_sampler(sampler, engines.sampler), empty_version(network))
    try:
        for _ in ingest.stream(film.batches()):
            pass
    finally:
        ingest.close()
    return RecordedStream(ingest.version, times, np.concatenate(backbone.features), np.stack(film.histograms))
