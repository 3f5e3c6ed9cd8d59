"""Read a video file that another program is still writing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from os import PathLike
from pathlib import Path

from edge_runtime.frame import Frame
from edge_runtime.sources.base import BaseSource
from edge_runtime.sources.clocks import SampleClock
from edge_runtime.sources.decoding import FORMATS, VideoContainer, sample_frames
from engines.errors import LvmError

POLL_S = 0.05
SILENT_S = 10.0
"""Seconds without growth after which a file counts as complete."""


class GrowingVideo(BaseSource):
    """A file in a format that can be read while it is written (MPEG-TS, MKV, fragmented MP4), every sampled
    frame of it. The iteration ends when the file has not grown for `silent_s` seconds.

    Frames before `start` seconds are read and skipped. Raises LvmError where no video comes.
    """

    paced = True
    """The next frame does not exist yet: a consumer should not wait for a full batch."""

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        sample_fps: float,
        start: float = 0.0,
        silent_s: float = SILENT_S,
        track: int | None = None,
    ) -> None:
        super().__init__(str(path), live=False)
        if not silent_s > 0:
            raise ValueError(f"silent_s must be a positive number of seconds, got {silent_s}")
        self._path, self._sample_fps, self._start, self._silent_s = Path(path), sample_fps, start, silent_s
        self._track = track
        SampleClock(sample_fps)  # a wrong rate fails here, not in the first iteration

    def __iter__(self) -> Iterator[Frame]:
        if self.closed:
            return
        with GrowingFile(self._path, silent_s=self._silent_s, is_stopped=self._closed.is_set) as file:
            options = {"protocol_whitelist": "file", "format_whitelist": FORMATS, "fpsprobesize": "0"}
            try:
                media = VideoContainer(
                    file, self.tally, options=options, is_stopped=self._closed.is_set, track=self._track
                )
            except LvmError:
                if self.closed:  # while it waited for a beginning
                    return
                raise
            with media:
                clock = SampleClock(self._sample_fps)
                yield from sample_frames(media.pictures(), clock, self.tally, self._start)
        if not self.seen and not self.closed:
            raise LvmError(f"{self.name}: no picture in it could be decoded ({self.errors} damaged packets)")


class GrowingFile:
    """The bytes of a file, present and future. It cannot seek: its end is not known."""

    def __init__(self, path: Path, *, silent_s: float, is_stopped: Callable[[], bool]) -> None:
        try:
            self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by __exit__
        except OSError as error:
            raise LvmError(f"{path} cannot be read: {error.strerror}") from None
        self._silent_s, self._is_stopped = silent_s, is_stopped

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes as soon as there are any; b"" at its end or a stop."""
        began = time.monotonic()
        while not self._is_stopped():
            data = os.read(self._file.fileno(), size)
            if data or time.monotonic() - began >= self._silent_s:
                return data
            time.sleep(POLL_S)
        return b""

    def __enter__(self) -> GrowingFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
