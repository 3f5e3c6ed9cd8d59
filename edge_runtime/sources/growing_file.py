"""A video file that somebody else is still writing: read as it grows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from os import PathLike
from pathlib import Path

from edge_runtime.frame import Frame
from edge_runtime.sources.base import Counting, SampleClock
from edge_runtime.sources.decoding import FORMATS, Media, sampled
from engines.errors import LvmError

POLL_S = 0.05
QUIET_S = 10.0
"""Seconds without growth after which a file counts as complete."""


class GrowingVideo(Counting):
    """A file in a format that can be read while it is written (MPEG-TS, MKV, fragmented MP4), every sampled
    frame of it; the iteration ends when the file has not grown for `quiet_s` seconds.

    Frames before `start` seconds are read and left out. Raises LvmError where no video comes.
    """

    paced = True
    """The next frame is not there yet: whoever gathers batches had better not wait for a full one."""

    def __init__(
        self, path: str | PathLike[str], *, sample_fps: float, start: float = 0.0, quiet_s: float = QUIET_S
    ) -> None:
        super().__init__(str(path), live=False)
        if not quiet_s > 0:
            raise ValueError(f"quiet_s must be a positive number of seconds, got {quiet_s}")
        self._path, self._sample_fps, self._start, self._quiet_s = Path(path), sample_fps, start, quiet_s
        SampleClock(sample_fps)  # a wrong rate fails here, not in the first iteration

    def __iter__(self) -> Iterator[Frame]:
        if self.closed:
            return
        with GrowingFile(self._path, quiet_s=self._quiet_s, stopped=self._closed.is_set) as file:
            options = {"protocol_whitelist": "file", "format_whitelist": FORMATS, "fpsprobesize": "0"}
            try:
                media = Media(file, self.tally, options=options, stopped=self._closed.is_set)
            except LvmError:
                if self.closed:  # while it waited for a beginning
                    return
                raise
            with media:
                clock = SampleClock(self._sample_fps)
                yield from sampled(media.pictures(), clock, self.tally, self._start)
        if not self.seen and not self.closed:
            raise LvmError(f"{self.name}: no picture in it could be decoded ({self.errors} damaged packets)")


class GrowingFile:
    """The bytes of a file, and those that are still to come. No seeking: there is no end to seek from."""

    def __init__(self, path: Path, *, quiet_s: float, stopped: Callable[[], bool]) -> None:
        try:
            self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by __exit__
        except OSError as error:
            raise LvmError(f"{path} cannot be read: {error.strerror}") from None
        self._quiet_s, self._stopped = quiet_s, stopped

    def read(self, size: int) -> bytes:
        """At most `size` bytes as soon as there are any; b"" once the file has been quiet, or at a stop."""
        began = time.monotonic()
        while not self._stopped():
            data = os.read(self._file.fileno(), size)
            if data or time.monotonic() - began >= self._quiet_s:
                return data
            time.sleep(POLL_S)
        return b""

    def __enter__(self) -> GrowingFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
