"""Read video files: no sampled frame is lost, each has its exact presentation time."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

from av.video.frame import VideoFrame

from edge_runtime.frame import Frame
from edge_runtime.sources.base import BaseSource
from edge_runtime.sources.clocks import PACE_PICTURES, SampleClock
from edge_runtime.sources.decoding import FORMATS, RgbConverter, VideoContainer, sample_frames, to_frame
from engines.errors import LvmError


class Recording(BaseSource):
    """A recording that FFmpeg reads, `sample_fps` frames a second; `_open` says from where.

    With `start` seconds, it gives exactly those frames of an uninterrupted run whose time is `start` or
    later. Iterating raises LvmError where there is no video.
    """

    def __init__(self, name: str, *, sample_fps: float, start: float = 0.0) -> None:
        super().__init__(name, live=False)
        self._sample_fps, self._start = sample_fps, start
        self._period = 0.0
        SampleClock(sample_fps)  # a wrong rate fails here, not in the first iteration

    def __iter__(self) -> Iterator[Frame]:
        clock = SampleClock(self._sample_fps)
        # From the start of the period: the first frame depends on whether its period already has one. Of a
        # slow source from earlier: how long the first frame stands for depends on the pictures before it.
        since = clock.period_start(self._start)
        if self._period * self._sample_fps > 0.5:
            since -= (PACE_PICTURES + 1) * self._period
        pictures = self._pictures(since)
        yield from sample_frames(pictures, clock, self.tally, self._start)
        if not self.seen and not self.closed:
            raise LvmError(
                f"{self.name}: no picture in it could be decoded ({self.errors} damaged packets); "
                "the file is cut short, damaged or its pictures are too large"
            )

    def frame_at(self, t: float) -> Frame:
        """Return the picture that is shown at `t` seconds. Raises LvmError outside the file's times."""
        current = None
        for time, picture in self._pictures(t):
            if current is not None and time > t:
                break
            current = time, picture
        else:
            last = current[0] + self._period if current else 0.0
            if t > max(last, self.duration or 0.0):
                current = None
        frame = to_frame(*current, self.tally, RgbConverter()) if current is not None and t >= 0 else None
        if frame is None:
            length = "of unknown length" if self.duration is None else f"{self.duration:.3f} s long"
            raise LvmError(f"{self.name} shows no picture at {t:.3f} s: it is {length}")
        return frame

    def frame_times(self) -> list[float]:
        """Return the time of every picture in order: those that annotation tools number.

        Pictures are decoded only where their packets do not tell. Raises LvmError where reading fails.
        """
        with self._open_noted() as media:
            times = media.times_undecoded()
        if times is None:
            with self._open_noted() as media:
                times = [t for t, _ in media.pictures()]
        return times

    @abstractmethod
    def _open(self) -> VideoContainer:
        """Open the recording at its beginning. Raises LvmError."""

    def _pictures(self, since: float) -> Iterator[tuple[float, VideoFrame]]:
        """Yield all pictures from a key frame at or before `since` on."""
        if since > 0:
            with self._open_noted() as media:
                pictures = media.pictures_from(since)
                for t, picture in pictures or ():
                    if t < since and self.repairs:
                        break  # its stamps are not what the seek took them for
                    yield t, picture
                else:
                    if pictures is not None:
                        return
        with self._open_noted() as media:
            yield from media.pictures()

    def _open_noted(self) -> VideoContainer:
        """Open the recording and note its length."""
        media = self._open()
        self.duration, self._period = media.duration, media.period
        return media


class VideoFile(Recording):
    """A file that FFmpeg reads (MP4, MKV, WebM, GIF, raw H.264, …).

    Raises LvmError where there is no such file, or no video in it.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        sample_fps: float,
        start: float = 0.0,
        track: int | None = None,
    ) -> None:
        self._path, self._track = check_file(Path(path)), track
        super().__init__(str(path), sample_fps=sample_fps, start=start)
        with self._open_noted():
            pass  # what cannot be opened fails here, and its length is known

    def _open(self) -> VideoContainer:
        # Only this one file: a playlist inside it must not make us read others or call the network.
        # And "file:" so that a colon in a name does not count as a protocol.
        options = {"protocol_whitelist": "file", "format_whitelist": FORMATS}
        return VideoContainer(
            f"file:{self._path}",
            self.tally,
            options=options,
            is_stopped=self._closed.is_set,
            track=self._track,
        )


def check_file(path: Path) -> Path:
    """Return `path` if it is a file that is not empty. Raises LvmError otherwise."""
    if not os.path.exists(path):  # path.exists() raises for names that are too long
        raise LvmError(f"{path}: there is no such file")
    if not path.is_file():
        raise LvmError(f"{path} is no file: expected a video")
    if path.stat().st_size == 0:
        raise LvmError(f"{path} is empty: expected a video")
    return path
