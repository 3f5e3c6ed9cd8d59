"""The pictures of own videos as they lie in a cache: decoded once, mapped where they are looked at.

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


class Pictures(Protocol):
    """F pictures (S, S, 3), each read or drawn when it is asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, at: int, /) -> Any: ...


@dataclass(frozen=True)
class Decoded:
    """`frames` (F, S, S, 3) at `ticks` (F,); `crops` (I, V, S, S, 3) in the order of `instances` (I,)."""

    frames: Pictures
    ticks: NDArray[np.int64]
    crops: Images
    instances: NDArray[np.int64]


@dataclass(frozen=True)
class Kept:
    """One video in the cache: the folders of its `frames`, and of what is `labelled` in it.

    Another process gets the paths and nothing else. Frames of a checkout world are drawn.
    """

    frames: Path | WorldVideo
    labelled: Path

    def decoded(self) -> Decoded:
        """The pictures are mapped and not read."""
        try:
            crops = _mapped(self.labelled / "crops.npy")
            instances = np.load(self.labelled / "instances.npy")
            if isinstance(self.frames, WorldVideo):
                return Decoded(self.frames.frames(), self.frames.ticks(), crops, instances)
            frames, ticks = _mapped(self.frames / "frames.npy"), np.load(self.frames / "ticks.npy")
            return Decoded(frames, ticks, crops, instances)
        except FileNotFoundError as error:
            raise _gone(error) from error

    def truth(self) -> VideoTruth:
        try:
            return VideoTruth.load(self.labelled / "truth.npz")
        except FileNotFoundError as error:
            raise _gone(error) from error


def keep_frames(place: Path, frames: Iterable[Frame], size: int) -> int:
    """Write `frames` to the folder `place`, one at a time, at most one a tick; how many."""
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


def keep_labelled(place: Path, instances: NDArray[np.int64], crops: Images, truth: VideoTruth) -> None:
    """Write what is annotated of a video to the folder `place`: pictures of its products, and its events."""
    np.save(place / "instances.npy", instances)
    np.save(place / "crops.npy", crops)
    truth.save(place / "truth.npz")


def _write_header(file: BinaryIO, count: int, size: int) -> None:
    """Of (F, S, S, 3); it is as long for any F: numpy leaves room for the first axis to grow."""
    said = {"descr": "|u1", "fortran_order": False, "shape": (count, size, size, 3)}
    np.lib.format.write_array_header_1_0(file, said)


def _mapped(path: Path) -> Images:
    return np.asarray(np.load(path, mmap_mode="r"), np.uint8)


def _gone(error: FileNotFoundError) -> LvmError:
    return LvmError(
        f"{error.filename} is gone: the video or its annotations were changed, and another run has made it "
        "anew; start this one again"
    )
