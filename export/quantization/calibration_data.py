"""Collect calibration data for int8: from pictures that a person names, and the states that the runtime
reaches.

The network watches the pictures as a device would, with its own memory and SVD state, and is asked questions
after every clip; the feeds of its graphs are recorded. Ranges measured on random memories would be those of
random memories.

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
from export.networks.model import LvmNet, TorchEngine
from export.stream_runs.footage import open_footage
from export.stream_runs.session import StreamSession

FRAMES = 600
DEMO_SEED = 7_001
"""Seed of the world that a bare `demo` means here."""
_QUESTIONS = 6
_MAX_FEEDS: dict[GraphName, int] = {"backbone": 64, "sampler": 32, "reader": 48}
"""Recorded feeds of each graph, evenly spread over the run."""


@dataclass(frozen=True)
class Calibration:
    """`feeds` of each graph, and the digest of the pictures that they come from.

    Ranges are taken from every second feed (`fitting`), errors are measured on the rest (`held_out`).
    """

    feeds: dict[GraphName, list[dict[str, Array]]]
    digest: str
    source: str

    def fitting(self, name: GraphName) -> list[dict[str, Array]]:
        """Return the feeds that ranges are taken from."""
        return self.feeds[name][::2]

    def held_out(self, name: GraphName) -> list[dict[str, Array]]:
        """Return the feeds that ranges are not taken from; if there is only one feed, that one."""
        return self.feeds[name][1::2] or self.feeds[name]


def calibrate(
    network: LvmNet,
    manifest: Manifest,
    sources: Sequence[str],
    *,
    frames: int = FRAMES,
    seed: int = 0,
    report: Callable[[str], None] = lambda message: None,
) -> Calibration:
    """Watch `frames` sampled pictures of each source (demo, a video, a folder) and record the feeds of the
    graphs.

    Equal arguments give equal feeds. Raises LvmError for a source that is missing or gives no picture.
    """
    noted = {name: _FeedRecorder(TorchEngine(network, name), _MAX_FEEDS[name]) for name in GRAPHS}
    digest = hashlib.sha256()
    size, step = manifest.network.image_size, manifest.network.clip_frames
    for footage in open_footage([_choose_other_day(source) for source in sources], (), seed):
        report(f"calibrating on {footage.name}")
        session = StreamSession(manifest, noted)
        try:
            pictures = islice(footage.frames(manifest.network.sample_fps), frames)
            while part := list(islice(pictures, step)):
                images = [preprocess(frame, size) for frame in part]
                for image in images:
                    digest.update(np.ascontiguousarray(image).tobytes())
                times = [frame.t for frame in part]
                version = session.ingest.push_images(images, times)
                footage.note_clip(images, times, version, manifest.network.grid)
                names = [activity.name for activity in manifest.classes]
                session.ask(
                    footage.make_question_generator(names).draw(_QUESTIONS, times[-1], seed + version.frames)
                )
        finally:
            session.ingest.close()
    feeds = {name: recorder.list_feeds() for name, recorder in noted.items()}
    if lacking := [name for name, recorded in feeds.items() if not recorded]:
        raise LvmError(
            f"{', '.join(sources)} gave too few pictures to calibrate {lacking[0]}: at least {step} "
            "sampled frames are needed"
        )
    return Calibration(feeds, digest.hexdigest(), ", ".join(sources))


def _choose_other_day(source: str) -> str:
    """Replace a bare `demo` by another day of it: the answer gate watches `demo`, so what is compared there
    is new."""
    return f"demo?seed={DEMO_SEED}" if source in ("demo", "demo://") else source


class _FeedRecorder(Engine):
    """Runs another engine and records copies of its feeds: at most `limit`, evenly spread over the calls."""

    def __init__(self, inner: Engine, limit: int) -> None:
        self.backend, self.inputs, self.outputs = inner.backend, inner.inputs, inner.outputs
        self._inner, self._limit = inner, limit
        self._every, self._calls = 1, 0
        self._feeds: list[dict[str, Array]] = []

    def _run(self, feeds: Feeds) -> dict[str, Array]:
        if self._calls % self._every == 0:
            self._feeds.append({name: array.copy() for name, array in feeds.items()})
            if len(self._feeds) >= 2 * self._limit:  # drop every second feed, and record half as often
                self._feeds, self._every = self._feeds[::2], self._every * 2
        self._calls += 1
        return self._inner(feeds)

    def list_feeds(self) -> list[dict[str, Array]]:
        """Return the recorded feeds, oldest first."""
        stride = max(1, -(-len(self._feeds) // self._limit))
        return self._feeds[::stride]
