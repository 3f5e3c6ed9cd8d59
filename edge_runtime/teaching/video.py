"""Describe the frames of a video file as a camera would have seen them."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edge_runtime.frame import Frame
from edge_runtime.ingest.pipeline import BATCH_FRAMES, preprocess, round_to_half
from edge_runtime.sources import is_live, open_source
from edge_runtime.system.errors import QueryError
from edge_runtime.teaching.descriptions import FrameDescriber, Frames, Numbers
from edge_runtime.teaching.examples import Video
from engines.errors import LvmError
from engines.network_config import NetworkConfig
from engines.spec import Engine

SAMPLINGS = 3
"""Times that a video is sampled at a camera's rate, each beginning at another moment: it has more frames than
the camera would have seen, and all of them teach."""


def sample_video(
    spec: str,
    network: NetworkConfig,
    backbone: Engine,
    *,
    sample_fps: float,
    mask: Callable[[Frame], Frame] = lambda frame: frame,
    samplings: int = SAMPLINGS,
) -> list[Frames]:
    """Return the frames of a video at `sample_fps`, sampled `samplings` times at other moments.

    `mask` blackens what the camera's privacy zones hide.

    Raises LvmError for what is no video, EngineFault.
    """
    if is_live(spec):
        raise LvmError(f"a video is a file, got {spec}; what a camera shows is taught while it is watched")
    parts: list[tuple[list[float], list[Numbers]]] = [([], []) for _ in range(samplings)]
    describers = [FrameDescriber() for _ in range(samplings)]
    with open_source(spec, sample_fps=sample_fps * samplings) as source:
        decoded = iter(source)
        while frames := list(itertools.islice(decoded, BATCH_FRAMES)):
            images = np.stack([preprocess(mask(frame), network.image_size) for frame in frames])
            tokens = round_to_half(backbone({"image": images})["tokens"])
            for frame, one in zip(frames, tokens, strict=True):
                part = int(frame.t * sample_fps * samplings + 1e-6) % samplings
                times, rows = parts[part]
                times.append(frame.t)
                rows.append(describers[part].describe(one))
    return [
        Frames(np.array(times, np.float64), np.array(rows, np.float32).reshape(len(times), -1))
        for times, rows in parts
    ]


def name_recording(pattern: str | None, file: str) -> str | None:
    """Return the recording that a video file is cut from, by its name: the groups of the regular expression,
    or all that it matches. None where it does not match, and without one.

    Raises QueryError for what is no regular expression.
    """
    if pattern is None:
        return None
    try:
        match = re.search(pattern, Path(file).name)
    except re.error as error:
        raise QueryError(f"--group-by must be a regular expression, got {pattern[:50]!r}: {error}") from None
    return None if match is None else " ".join(part or "" for part in (match.groups() or (match.group(),)))


def identify_video(path: Path, group: str | None = None) -> Video:
    """Return what identifies a video: its content, not its name, which others may have too.

    Raises LvmError.
    """
    try:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return Video(path.name, digest.hexdigest(), group)
    except OSError as error:
        raise LvmError(f"video {path} cannot be read: {error.strerror or error}") from None
