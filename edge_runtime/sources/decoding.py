"""Pictures with exact times from anything that FFmpeg reads: files and network streams alike.

PyAV brings its own FFmpeg, gives every picture's presentation time, and leaves the conversion to RGB to us,
so that it is paid for sampled pictures only.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import chain

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.sidedata.sidedata import SideData
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from edge_runtime.frame import Frame
from edge_runtime.sources.base import SampleClock, Tally
from engines.errors import LvmError

log = logging.getLogger(__name__)

MAX_PIXELS = 64_000_000
"""Larger pictures are refused by the decoders, before they take the memory."""
DECODER_THREADS = 2
"""Enough for several times real time at 1080p; the other cores belong to the networks."""
MAX_DAMAGED_READS = 16
"""Reads in a row that may fail with damaged data before a file counts as unreadable."""
RESTARTED = 1.0
"""Seconds by which time must go back to mean that the clock was set, not that pictures were shuffled."""
JUMPED = 5.0
"""Seconds by which a live stream's clock may run ahead of ours between two pictures."""
USUAL_RATE = Fraction(25)
CLOCK_MAY_RESTART = 0x0200
"""FFmpeg's AVFMT_TS_DISCONT: MPEG streams, whose time stamps may begin again within one file."""


class Timeline:
    """Seconds since the first picture plus `start`, never going back.

    Pictures without a time stamp are put one average period after the one before. Where the clock of the
    stream was set (concatenated files, cameras that learn the time), time goes on where it was.
    """

    def __init__(self, stream: VideoStream, name: str, *, start: float, live: bool) -> None:
        self._time_base = stream.time_base or Fraction(1, 90_000)
        self.period = float(1 / (stream.average_rate or stream.guessed_rate or USUAL_RATE))
        self._name, self._start, self._live = name, start, live
        self._offset: Fraction | None = None  # seconds of the stream's clock at our zero
        self._last: float | None = None
        self._arrival = 0.0
        self._said_missing = False

    def time_of(self, pts: int | None) -> float:
        """Our time of the next picture, whose presentation time in the stream's units is `pts`."""
        expected = self._expected()
        self._last = self._place(pts, expected)
        return self._last

    def ticks(self, t: float) -> int | None:
        """`t` seconds in the stream's units; None before a picture with a time stamp was seen."""
        return None if self._offset is None else int((Fraction(t) + self._offset) / self._time_base)

    def forget_last(self) -> None:
        """The next picture may lie anywhere: for after a seek."""
        self._last = None

    def _expected(self) -> float:
        elapsed = time.monotonic() - self._arrival
        self._arrival += elapsed
        if self._last is None:
            return self._start
        return self._last + (elapsed if self._live else self.period)

    def _place(self, pts: int | None, expected: float) -> float:
        if pts is None:
            self._say_missing()
            return expected
        stamp = pts * self._time_base
        if self._offset is None:
            self._offset = stamp - Fraction(expected)
        t = float(stamp - self._offset)
        if self._last is None:
            return t
        if t < self._last - RESTARTED or (self._live and t > expected + JUMPED):
            log.warning("%s: its clock jumped by %.1f s at %.1f s", self._name, t - expected, expected)
            self._offset = stamp - Fraction(expected)
            return expected
        return max(t, self._last)

    def _say_missing(self) -> None:
        if not self._said_missing:
            self._said_missing = True
            rate = 1 / self.period
            log.warning("%s: pictures without time stamps, timed at %.3g a second", self._name, rate)


class Media:
    """One open container: its best video stream as timed pictures. For one thread."""

    def __init__(
        self,
        url: str,
        tally: Tally,
        *,
        options: dict[str, str],
        stopped: Callable[[], bool],
        live: bool = False,
        start: float = 0.0,
        timeout: tuple[float, float] | None = None,
    ) -> None:
        self._tally, self._stopped = tally, stopped
        options = {"max_pixels": str(MAX_PIXELS), **options}
        try:
            self._container: InputContainer = av.open(url, options=options, timeout=timeout)
        except (av.error.FFmpegError, ValueError) as error:
            # Not chained: the cause's text holds the address with its password.
            raise LvmError(f"{tally.name} cannot be opened: {reason(error)}") from None
        try:
            self.stream = self._best_stream()
        except LvmError:
            self._container.close()
            raise
        # Frame threads hold back one picture each, so a live stream does without.
        self.stream.thread_type = "SLICE" if live else "AUTO"
        self.stream.codec_context.thread_count = DECODER_THREADS
        self.stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        self._timeline = Timeline(self.stream, tally.name, start=start, live=live)

    def _best_stream(self) -> VideoStream:
        stream = self._container.streams.best("video")
        # A song's cover is no video.
        if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
            raise LvmError(f"{self._tally.name} holds no video: expected a stream of pictures")
        if stream.width * stream.height > MAX_PIXELS:
            raise LvmError(
                f"{self._tally.name}: pictures of at most {MAX_PIXELS // 10**6} million pixels can be read, "
                f"got {stream.width} x {stream.height}"
            )
        return stream

    @property
    def duration(self) -> float | None:
        """Seconds, as the file states it; None where it does not."""
        if self.stream.duration and self.stream.time_base:
            return float(self.stream.duration * self.stream.time_base)
        return self._container.duration / av.time_base if self._container.duration else None

    @property
    def period(self) -> float:
        """Average seconds from picture to picture."""
        return self._timeline.period

    def pictures(self) -> Iterator[tuple[float, VideoFrame]]:
        """Time and picture, from where the container stands. Raises LvmError where reading fails."""
        for packet in self._packets():
            if self._stopped():
                return
            for picture in self._decoded(packet):
                self._tally.seen += 1
                yield self._timeline.time_of(picture.pts), picture

    def pictures_from(self, t: float) -> Iterator[tuple[float, VideoFrame]] | None:
        """Pictures from the key frame at or before `t` seconds on, for a container that was just opened.

        None where the container gives no way to be sure of that: then decode from the beginning.
        """
        if self._container.format.flags & CLOCK_MAY_RESTART:
            return None  # its clock may restart within the file, so a time is no place
        if next(self.pictures(), None) is None or (ticks := self._timeline.ticks(t)) is None:
            return None
        try:
            self._container.seek(ticks, stream=self.stream)
        except av.error.FFmpegError:
            return None
        self._timeline.forget_last()
        rest = self.pictures()
        head = next(rest, None)
        if head is None or head[1].pts is None or head[0] > t:
            return None
        return chain([head], rest)

    def _packets(self) -> Iterator[Packet[VideoStream]]:
        damaged = 0
        while True:
            try:
                for packet in self._container.demux(self.stream):
                    damaged = 0
                    yield packet
                return
            except av.error.InvalidDataError:
                self._tally.skip("damaged data")
                damaged += 1
                if damaged > MAX_DAMAGED_READS:
                    raise LvmError(f"{self._tally.name} is damaged and cannot be read on") from None
            except av.error.FFmpegError as error:
                raise LvmError(f"{self._tally.name} cannot be read on: {reason(error)}") from None

    def _decoded(self, packet: Packet[VideoStream]) -> list[VideoFrame]:
        if packet.has_sidedata("encryption_info"):
            raise LvmError(f"{self._tally.name} is encrypted: expected a video without copy protection")
        try:
            pictures = packet.decode()
        except av.error.FFmpegError as error:
            self._tally.skip(f"a packet that cannot be decoded ({reason(error)})")
            return []
        whole = [picture for picture in pictures if not picture.is_corrupt]
        for _ in range(len(pictures) - len(whole)):
            self._tally.skip("a damaged picture")
        return whole

    def __enter__(self) -> Media:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()


def reason(error: Exception) -> str:
    """Why FFmpeg failed, without the address that its own text repeats."""
    if isinstance(error, av.error.ExitError):
        return "no answer in time"
    text = getattr(error, "strerror", None) or type(error).__name__
    return str(text).rstrip(".")


def sampled(
    pictures: Iterator[tuple[float, VideoFrame]], clock: SampleClock, tally: Tally, since: float = 0.0
) -> Iterator[Frame]:
    """The frames that `clock` wants, from `since` seconds on; only they are converted to RGB."""
    for t, picture in pictures:
        if clock.wants(t) and t >= since:
            frame = frame_of(t, picture, tally)
            if frame is not None:
                yield frame


def frame_of(t: float, picture: VideoFrame, tally: Tally) -> Frame | None:
    """The picture as a frame; None, and counted, where its pixels cannot be converted."""
    try:
        return Frame(rgb(picture), t)
    except (av.error.FFmpegError, ValueError) as error:
        tally.skip(f"a picture that cannot be converted to RGB ({type(error).__name__})")
        return None


def rgb(picture: VideoFrame) -> NDArray[np.uint8]:
    """The picture as it is meant to be seen: (H, W, 3) uint8 RGB, contiguous, turned upright."""
    image = np.asarray(picture.to_ndarray(format="rgb24"), np.uint8)
    matrix = picture.side_data.get("DISPLAYMATRIX")
    if isinstance(matrix, SideData):
        image = upright(image, np.frombuffer(bytes(matrix), np.int32))
    return np.ascontiguousarray(image)


def upright(image: NDArray[np.uint8], matrix: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Apply a display matrix (nine numbers, a b u c d v x y w): x' = a x + c y, y' = b x + d y."""
    a, b, _, c, d = (int(value) for value in matrix[:5])
    across, down = a, d
    if abs(a) < abs(b):
        image = image.transpose(1, 0, 2)
        across, down = c, b
    return image[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]
