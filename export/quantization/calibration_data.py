"""What int8 is calibrated on: pictures that a person names, and the states that the runtime reaches with
them.

The network watches the pictures as a device would, with a memory and an SVD state of its own, and is asked
questions after every clip; what its graphs were fed on the way is kept. Ranges that are measured on random
memories would be those of random memories.

Letters: S picture side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from edge_runtime.ingest.pipeline import preprocess
from engines.errors import LvmError
from engines.manifest import GRAPHS, GraphName, Manifest
from engines.spec import Array, Engine, Feeds
from export.networks.model import LvmNet
from export.networks.torch_engine import TorchEngine
from export.stream_runs.footage import footage_of
from export.stream_runs.session import Lane

FRAMES = 600
DEMO_SEED = 7_001
"""Of the world that a bare `demo` stands for here."""
_QUESTIONS = 6
_KEPT: dict[GraphName, int] = {"backbone": 64, "sampler": 32, "reader": 48}
"""Feeds of each graph that are kept, evenly spread over the run."""


@dataclass(frozen=True)
class Calibration:
    """`feeds` of each graph, and the digest of the pictures that they come from.

    Ranges are taken from every other one (`fitting`), errors are measured on the rest (`held_out`).
    """

    feeds: dict[GraphName, list[dict[str, Array]]]
    digest: str
    source: str

    def fitting(self, name: GraphName) -> list[dict[str, Array]]:
        """What ranges are taken from."""
        return self.feeds[name][::2]

    def held_out(self, name: GraphName) -> list[dict[str, Array]]:
        """What no range was taken from; where there is one feed only, that one."""
        return self.feeds[name][1::2] or self.feeds[name]


def calibrate(
    network: LvmNet,
    manifest: Manifest,
    sources: Sequence[str],
    *,
    frames: int = FRAMES,
    seed: int = 0,
    report: Callable[[str], None] = lambda words: None,
) -> Calibration:
    """Watch `frames` sampled pictures of each of `sources` (demo, a video, a folder) and keep what graphs
    are fed.

    Equal arguments give equal feeds. Raises LvmError for a source that is not there or gives no picture.
    """
    noted = {name: _Noting(TorchEngine(network, name), _KEPT[name]) for name in GRAPHS}
    digest = hashlib.sha256()
    size, step = manifest.network.image_size, manifest.network.clip_frames
    for footage in footage_of([_other_day(source) for source in sources], (), seed):
        report(f"calibrating on {footage.name}")
        lane = Lane(manifest, noted)
        try:
            pictures = islice(footage.frames(manifest.network.sample_fps), frames)
            while part := list(islice(pictures, step)):
                images = [preprocess(frame, size) for frame in part]
                for image in images:
                    digest.update(np.ascontiguousarray(image).tobytes())
                times = [frame.t for frame in part]
                version = lane.ingest.push_images(images, times)
                footage.noted(images, times, version)
                names = [one.name for one in manifest.classes]
                lane.ask(footage.asking(names).draw(_QUESTIONS, times[-1], seed + version.frames))
        finally:
            lane.ingest.close()
    feeds = {name: one.kept() for name, one in noted.items()}
    if lacking := [name for name, kept in feeds.items() if not kept]:
        raise LvmError(
            f"{', '.join(sources)} gave too few pictures to calibrate {lacking[0]}: at least {step} "
            "sampled frames are needed"
        )
    return Calibration(feeds, digest.hexdigest(), ", ".join(sources))


def _other_day(source: str) -> str:
    """The answer gate watches `demo`: calibrated on another day of it, what is compared there is new."""
    return f"demo?seed={DEMO_SEED}" if source in ("demo", "demo://") else source


class _Noting(Engine):
    """Runs another engine and keeps copies of its feeds: at most `most`, each call with an equal share."""

    def __init__(self, inner: Engine, most: int) -> None:
        self.backend, self.inputs, self.outputs = inner.backend, inner.inputs, inner.outputs
        self._inner, self._most = inner, most
        self._every, self._calls = 1, 0
        self._feeds: list[dict[str, Array]] = []

    def _run(self, feeds: Feeds) -> dict[str, Array]:
        if self._calls % self._every == 0:
            self._feeds.append({name: array.copy() for name, array in feeds.items()})
            if len(self._feeds) >= 2 * self._most:  # every other one goes, and every other one comes
                self._feeds, self._every = self._feeds[::2], self._every * 2
        self._calls += 1
        return self._inner(feeds)

    def kept(self) -> list[dict[str, Array]]:
        """The feeds, oldest first."""
        stride = max(1, -(-len(self._feeds) // self._most))
        return self._feeds[::stride]
