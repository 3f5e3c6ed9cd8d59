"""Video files: every sampled frame counts, at its exact presentation time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

from av.video.frame import VideoFrame

from edge_runtime.frame import Frame
from edge_runtime.sources.base import Counting, SampleClock
from edge_runtime.sources.decoding import FORMATS, Media, frame_of, sampled
from edge_runtime.sources.rgb import Rgb
from engines.errors import LvmError


class VideoFile(Counting):
    """A file that FFmpeg reads (MP4, MKV, WebM, GIF, raw H.264, …), `sample_fps` frames a second.

    With `start` seconds, exactly those frames of an uninterrupted run come whose time is `start` or later.
    Raises LvmError where there is no such file, or no video in it.
    """

    def __init__(self, path: str | PathLike[str], *, sample_fps: float, start: float = 0.0) -> None:
        self._path = checked(Path(path))
        super().__init__(str(path), live=False)
        self._sample_fps, self._start = sample_fps, start
        SampleClock(sample_fps)  # a wrong rate fails here, not in the first iteration
        with self._open() as media:
            self.duration = media.duration
            self._period = media.period

    def __iter__(self) -> Iterator[Frame]:
        clock = SampleClock(self._sample_fps)
        # From the start of the period: whether it has had its frame already decides on the first one.
        pictures = self._pictures(clock.start_of_period(self._start))
        yield from sampled(pictures, clock, self.tally, self._start)
        if not self.seen and not self.closed:
            raise LvmError(
                f"{self.name}: no picture in it could be decoded ({self.errors} damaged packets); "
                "the file is cut short, damaged or its pictures are too large"
            )

    def shown_at(self, t: float) -> Frame:
        """The picture that is on the screen at `t` seconds. Raises LvmError outside the file's times."""
        shown = None
        for time, picture in self._pictures(t):
            if shown is not None and time > t:
                break
            shown = time, picture
        else:
            last = shown[0] + self._period if shown else 0.0
            if t > max(last, self.duration or 0.0):
                shown = None
        frame = frame_of(*shown, self.tally, Rgb()) if shown is not None and t >= 0 else None
        if frame is None:
            length = "of unknown length" if self.duration is None else f"{self.duration:.3f} s long"
            raise LvmError(f"{self.name} shows no picture at {t:.3f} s: it is {length}")
        return frame

    def _open(self) -> Media:
        # Only this one file: a playlist inside it must not make us read others or call the network.
        # And "file:" so that a colon in a name is no protocol.
        options = {"protocol_whitelist": "file", "format_whitelist": FORMATS}
        return Media(f"file:{self._path}", self.tally, options=options, stopped=self._closed.is_set)

    def _pictures(self, since: float) -> Iterator[tuple[float, VideoFrame]]:
        """All pictures from a key frame at or before `since` on."""
        if since > 0:
            with self._open() as media:
                pictures = media.pictures_from(since)
                if pictures is not None:
                    yield from pictures
                    return
        with self._open() as media:
            yield from media.pictures()


def frame_at(path: str | PathLike[str], t: float) -> Frame:
    """The picture that the file shows at `t` seconds. Raises LvmError outside the file's times."""
    with VideoFile(path, sample_fps=1.0) as video:
        return video.shown_at(t)


def checked(path: Path) -> Path:
    """`path` if it is a file with something in it; else LvmError."""
    if not os.path.exists(path):  # path.exists() raises for names that are too long
        raise LvmError(f"{path}: there is no such file")
    if not path.is_file():
        raise LvmError(f"{path} is no file: expected a video")
    if path.stat().st_size == 0:
        raise LvmError(f"{path} is empty: expected a video")
    return path
