"""Pictures with exact times from anything that FFmpeg reads: files and network streams alike.

PyAV brings its own FFmpeg, gives every picture's presentation time, and leaves the conversion to RGB to us,
so that it is paid for sampled pictures only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Protocol

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from edge_runtime.frame import Frame
from edge_runtime.sources.base import Counting, Refused, SampleClock, Tally
from edge_runtime.sources.pts_clock import Timeline
from edge_runtime.sources.rgb import Rgb
from engines.errors import LvmError

FORMATS = (
    "mov,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,vvc,obu,ivf,flv,ogg,asf,gif,apng,mjpeg,"
    "mpjpeg,mxf,rm,dv,nut,wtv,yuv4mpegpipe,mp3,flac,wav,aac"
)
"""Containers only. Playlists (HLS, DASH, concat) open what they name, other files and themselves alike:
48 bytes of ffconcat took every file descriptor of the process."""
MAX_PIXELS = 64_000_000
"""Larger pictures are refused by the decoders, before they take the memory."""
DECODER_THREADS = 2
"""Enough for several times real time at 1080p; the other cores belong to the networks."""
MAX_DAMAGED_READS = 16
"""Reads in a row that may fail with damaged data before a file counts as unreadable."""
DOUBT_S = 2.0
"""After damage, a live stream's pictures are left out until a key frame comes, or for this long: a stream
that renews itself piece by piece has no key frames, and is whole again after a second or two."""
NO_TIME_STAMPS = 0x0080
"""FFmpeg's AVFMT_NOTIMESTAMPS: it makes up 25 a second, on a live stream far from the truth."""
NO_ANSWER = "no answer in time"
REFUSALS = (
    av.error.HTTPUnauthorizedError,
    av.error.HTTPForbiddenError,
    av.error.ProtocolNotFoundError,
    av.error.PermissionError,
)
"""Not "404": a relay answers that as long as the camera behind it has not come back."""
CLOCK_MAY_RESTART = 0x0200
"""FFmpeg's AVFMT_TS_DISCONT: MPEG streams, whose time stamps may begin again within one file."""


class Readable(Protocol):
    """Bytes from something that FFmpeg itself does not know how to read."""

    def read(self, size: int) -> bytes: ...


class Media:
    """One open container: its best video stream as timed pictures. For one thread."""

    def __init__(
        self,
        url: str | Readable,
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
        began = time.monotonic()
        try:
            self._container: InputContainer = av.open(url, "r", options=options, timeout=timeout)
        except (av.error.FFmpegError, ValueError) as error:
            late = timeout is not None and time.monotonic() - began >= timeout[0]
            why = NO_ANSWER if late else reason(error)
            kind = Refused if isinstance(error, REFUSALS) else LvmError
            # Not chained: the cause's text holds the address with its password.
            raise kind(f"{tally.name} cannot be opened: {why}") from None
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
        self._live = live
        self._doubted_until = 0.0
        self._timed = not (live and self._container.format.flags & NO_TIME_STAMPS)

    def _best_stream(self) -> VideoStream:
        stream = self._container.streams.best("video")
        # A song's cover is no video.
        if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
            raise LvmError(f"{self._tally.name} holds no video: expected a stream of pictures")
        if stream.codec_context is None:  # so PyAV says that no decoder knows the codec
            raise LvmError(
                f"{self._tally.name} is in a video format that is not known here: convert it to H.264"
            )
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
                yield self._timeline.time_of(picture.pts if self._timed else None), picture

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
            except IndexError:
                # PyAV, at the end of a file in which a further stream turned up after opening. Ours has a
                # lower number, so the end has reached its decoder already.
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
        if packet.is_corrupt:
            # Cut short on the way. A JPEG's decoder would fill the missing half with grey and call it whole.
            self._damaged("a packet that was cut short")
            return []
        try:
            pictures = packet.decode()
        except av.error.FFmpegError as error:
            self._damaged(f"a packet that cannot be decoded ({reason(error)})")
            return []
        whole = [picture for picture in pictures if not picture.is_corrupt]
        for _ in range(len(pictures) - len(whole)):
            self._damaged("a damaged picture")
        return [picture for picture in whole if self._trusted(picture)]

    def _damaged(self, what: str) -> None:
        self._tally.skip(what)
        if self._live:
            self._doubted_until = time.monotonic() + DOUBT_S

    def _trusted(self, picture: VideoFrame) -> bool:
        """Whether a picture does not rest on a damaged one, which no decoder says of it."""
        if picture.key_frame or time.monotonic() >= self._doubted_until:
            self._doubted_until = 0.0
            return True
        self._tally.skip("a picture that rests on a damaged one")
        return False

    def __enter__(self) -> Media:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()


def reason(error: Exception) -> str:
    """Why FFmpeg failed, without the address that its own text repeats."""
    if isinstance(error, av.error.ExitError):
        return NO_ANSWER
    text = getattr(error, "strerror", None) or type(error).__name__
    return str(text).rstrip(".")


def sampled(
    pictures: Iterator[tuple[float, VideoFrame]], clock: SampleClock, tally: Tally, since: float = 0.0
) -> Iterator[Frame]:
    """The frames that `clock` wants, from `since` seconds on; only they are converted to RGB."""
    rgb = Rgb()
    for t, picture in pictures:
        if clock.wants(t) and t >= since:
            frame = frame_of(t, picture, tally, rgb)
            if frame is not None:
                yield frame


def sampled_and_shown(
    source: Counting, pictures: Iterator[tuple[float, VideoFrame]], clock: SampleClock
) -> Iterator[Frame]:
    """As `sampled`; in between, pictures are converted and shown while somebody looks at `source`."""
    rgb = Rgb()
    for t, picture in pictures:
        wanted = clock.wants(t)
        if wanted or source.watched:
            frame = frame_of(t, picture, source.tally, rgb)
            if frame is not None:
                source.show(frame)
                if wanted:
                    yield frame


def frame_of(t: float, picture: VideoFrame, tally: Tally, rgb: Rgb) -> Frame | None:
    """The picture as a frame; None, and counted, where its pixels cannot be converted."""
    try:
        return Frame(rgb(picture), t)
    except (av.error.FFmpegError, ValueError) as error:
        tally.skip(f"a picture that cannot be converted to RGB ({type(error).__name__})")
        return None
