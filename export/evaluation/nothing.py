"""Ask of videos in which nothing of it happened whether each activity did: what calibration else lacks.

Drawn worlds and a shop's own annotated videos show their activities all the time. A network that has seen
nothing else is sure of something wherever something moves; results of such videos teach its confidence.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from edge_runtime.activity.recognizer import ActivityRecogniser
from edge_runtime.ingest.pipeline import Ingest
from edge_runtime.memory.recurrent_state import STRANGENESS
from edge_runtime.memory.samplers import make_sampler
from edge_runtime.memory.version import Version, empty_version
from edge_runtime.service.activity_recorder import PASSES_PER_CLIP
from edge_runtime.service.engine_pool import Engines
from edge_runtime.sources import open_source
from engines.errors import LvmError
from export.evaluation.results import Result


def list_videos(paths: Sequence[Path]) -> list[Path]:
    """Return the files, and the files of folders, by name. Raises LvmError where there is none."""
    files = [
        file
        for path in paths
        for file in (sorted(f for f in path.iterdir() if f.is_file()) if path.is_dir() else [path])
    ]
    if not files:
        raise LvmError("at least one video is needed, got none")
    return files


def ask_of_nothing(engines: Engines, videos: Sequence[Path], seed: int = 0) -> list[Result]:
    """Ask of each window of each video whether each activity was seen in it. Raises LvmError."""
    return [result for video in videos for result in _ask_of_video(engines, video, seed)]


def _as_familiar(version: Version) -> Version:
    """Return a version whose camera counts as familiar, so that the network is asked whatever it sees."""
    state = {name: array for name, array in version.recurrent_state.items() if name != STRANGENESS}
    return replace(version, recurrent_state=state)


def _ask_of_video(engines: Engines, video: Path, seed: int) -> Iterator[Result]:
    network = engines.bundle.manifest.network
    recogniser = ActivityRecogniser(engines.bundle.manifest, engines.reader)
    sampler = make_sampler("neural", engines.sampler)
    ingest = Ingest(network, engines.backbone, sampler, empty_version(network))
    part_frames = max(network.clip_frames // PASSES_PER_CLIP, 1)
    window = 2 * part_frames / network.sample_fps  # as in a run
    try:
        with open_source(str(video), sample_fps=network.sample_fps) as source:
            pictures = iter(source)
            while part := list(itertools.islice(pictures, part_frames)):
                version, end = _as_familiar(ingest.push(part)), part[-1].t + 1 / network.sample_fps
                logits = recogniser.list_presence_logits(version, max(end - window, 0.0), end)
                for name, logit in zip(recogniser.names, logits, strict=True):
                    if logit is not None:
                        yield Result(
                            qid=f"{video.stem}-{end:.1f}-{name}",
                            video=video.name,
                            seed=seed,
                            type="object",
                            duration="short",
                            window="tight",
                            happened=False,
                            abstained=False,
                            presence_logit=logit,
                        )
    finally:
        ingest.close()
