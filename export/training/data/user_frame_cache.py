"""Cache the pictures of users' own videos: decoded once, memory-mapped when they are used.

An hour at one picture a second and 224 pixels is 0.54 GB: no process holds it, and none sends it to another.

Letters: F frames at the sampling rate, S picture side, I instances, V pictures of each.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import Frame, to_tick
from edge_runtime.ingest.pipeline import preprocess
from engines.errors import LvmError
from export.data.video_labels import VideoTruth
from export.training.data.user_worlds import WorldVideo

Images = NDArray[np.uint8]


class FrameArray(Protocol):
    """F pictures (S, S, 3), each read or drawn when it is used."""

    def __len__(self) -> int: ...

    def __getitem__(self, at: int, /) -> Any: ...


@dataclass(frozen=True)
class DecodedVideo:
    """`frames` (F, S, S, 3) at `ticks` (F,); `crops` (I, V, S, S, 3) in the order of `instances` (I,)."""

    frames: FrameArray
    ticks: NDArray[np.int64]
    crops: Images
    instances: NDArray[np.int64]


@dataclass(frozen=True)
class CachedVideo:
    """A video in the cache: the folders of its `frames` and of its `labels`.

    Another process receives only the paths. Frames of a checkout world are drawn, not stored.
    """

    frames: Path | WorldVideo
    labels: Path

    def open(self) -> DecodedVideo:
        """Return the video with its pictures memory-mapped. Raises LvmError if the cache has replaced it."""
        try:
            crops = _map_array(self.labels / "crops.npy")
            instances = np.load(self.labels / "instances.npy")
            if isinstance(self.frames, WorldVideo):
                return DecodedVideo(self.frames.frames(), self.frames.ticks(), crops, instances)
            frames, ticks = _map_array(self.frames / "frames.npy"), np.load(self.frames / "ticks.npy")
            return DecodedVideo(frames, ticks, crops, instances)
        except FileNotFoundError as error:
            raise _missing_error(error) from error

    def load_truth(self) -> VideoTruth:
        """Return the annotations. Raises LvmError if the cache has replaced them."""
        try:
            return VideoTruth.load(self.labels / "truth.npz")
        except FileNotFoundError as error:
            raise _missing_error(error) from error


def write_frames(place: Path, frames: Iterable[Frame], size: int) -> int:
    """Write `frames` to the folder `place` one by one, at most one a tick; return their number."""
    ticks: list[int] = []
    with (place / "frames.npy").open("wb") as file:
        _write_header(file, 0, size)
        for frame in frames:
            tick = to_tick(frame.t)
            if not ticks or tick > ticks[-1]:
                file.write(preprocess(frame, size).tobytes())
                ticks.append(tick)
        file.seek(0)
        _write_header(file, len(ticks), size)
    np.save(place / "ticks.npy", np.array(ticks, np.int64))
    return len(ticks)


def write_labels(place: Path, instances: NDArray[np.int64], crops: Images, truth: VideoTruth) -> None:
    """Write a video's annotations to the folder `place`: pictures of its products, and its events."""
    np.save(place / "instances.npy", instances)
    np.save(place / "crops.npy", crops)
    truth.save(place / "truth.npz")


def _write_header(file: BinaryIO, count: int, size: int) -> None:
    """Write the header of (F, S, S, 3). Its length is the same for any F: numpy reserves space for growth."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, size, size, 3)}
    np.lib.format.write_array_header_1_0(file, header)


def _map_array(path: Path) -> Images:
    return np.asarray(np.load(path, mmap_mode="r"), np.uint8)


def _missing_error(error: FileNotFoundError) -> LvmError:
    return LvmError(
        f"{error.filename} is gone: the video or its annotations were changed, and another run has made it "
        "again; restart this run"
    )
