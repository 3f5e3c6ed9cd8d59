"""Read network cameras and recordings by their address through FFmpeg: one connection, no reconnecting."""

from __future__ import annotations

import contextlib
import logging
import math
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from edge_runtime.frame import Frame
from edge_runtime.sources.base import BaseSource, NoVideo, Recorded, TransportRefused
from edge_runtime.sources.clocks import SampleClock
from edge_runtime.sources.decoding import NETWORK_FORMATS, VideoContainer, sample_and_show
from edge_runtime.sources.failures import explain_connection
from edge_runtime.sources.live_source import DEFAULT_SUPERVISION, Supervision
from edge_runtime.sources.video import Recording
from edge_runtime.system.backoff import Backoff
from edge_runtime.system.secrets import show_source
from engines.errors import LvmError

log = logging.getLogger(__name__)

# Not "fflags=nobuffer": it drops the data that was read to recognise the stream, with it the first key frame,
# so a camera with a key frame every 10 s is blind for 10 s after connecting (measured: first picture at
# 10.1 s instead of 1.2 s, and no difference in lag after that).
# "fpsprobesize=0": otherwise FFmpeg reads 20 pictures to guess a rate that a live stream does not need, and
# delivers them late (measured, RTSP at 25 pictures a second: first picture at 0.33 s instead of 1.16 s).
OPTIONS = {"fpsprobesize": "0", "format_whitelist": NETWORK_FORMATS}
HASTY = {"framerate": "1/100", "formatprobesize": "65536"}
"""Of a stream without time stamps FFmpeg reads 5 s before it begins; so that is one picture. And to recognise
JPEGs without anything around them it would read a megabyte."""
WEB = {"protocol_whitelist": "http,https,httpproxy,tls,tcp,crypto,data"}
"""For HTTP: an HLS playlist must not name files of this machine."""
RETRYING = {"reconnect": "1", "reconnect_on_network_error": "1", "reconnect_delay_max": "4"}
"""For recordings: FFmpeg asks again for the rest of a file whose connection broke."""

PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443, "rtmp": 1935, "rtmps": 443}
"""Addresses whose servers can be asked for a connection beforehand."""
PROBE_S = 0.5
LONG_PROBE_S = 1.5
"""Of every eighth probe, for slow networks."""
MAX_FAILURES = 5
"""Failures in a row, without a frame between them, after which a recording cannot be read on."""


class NetworkStream(BaseSource):
    """A live stream by its URL, `sample_fps` frames a second; times count from the first picture + `start`.

    Iterating connects, once; an address that gives one picture a request is asked again for each sample. It
    raises LvmError where connecting or reading takes longer than `settings` allow and where the connection
    breaks, and Recorded as they ask; it ends where the server ends the stream.
    """

    def __init__(
        self,
        url: str,
        *,
        sample_fps: float,
        start: float = 0.0,
        settings: Supervision = DEFAULT_SUPERVISION,
    ) -> None:
        super().__init__(show_source(url), live=True)
        self._url, self._sample_fps, self._start, self._settings = url, sample_fps, start, settings
        self.finished = False
        """Whether this was a recording of known length, and has come to its end."""
        SampleClock(sample_fps)  # a wrong rate fails here, not in the first iteration

    def __iter__(self) -> Iterator[Frame]:
        clock = SampleClock(self._sample_fps)
        began = time.monotonic()
        start = self._start
        again = not self.closed
        while again:
            with open_stream(self, self._url, self._settings, live=True, start=start) as media:
                if self._settings.kind == "ask" and media.is_recording:
                    raise Recorded(f"{self.name} is a recording")
                before = self.seen
                yield from sample_and_show(self, media.pictures(), clock)
                again = media.is_still and self.seen > before and not self.closed
                self.finished = not again and media.is_recording and bool(self.seen) and not self.closed
            if again:
                self._closed.wait(1 / self._sample_fps)
                start = self._start + time.monotonic() - began
        if not self.seen and not self.closed:
            raise LvmError(f"{self.name} ended without a picture")


class RecordedStream(Recording):
    """A recording by its URL (a film over HTTP, a playlist with an end): every sampled frame of it.

    Where the connection breaks, it is read on from there. Raises LvmError as `Recording`.
    """

    def __init__(
        self,
        url: str,
        *,
        sample_fps: float,
        start: float = 0.0,
        settings: Supervision = DEFAULT_SUPERVISION,
    ) -> None:
        super().__init__(show_source(url), sample_fps=sample_fps, start=start)
        self._url, self._settings = url, settings

    def __iter__(self) -> Iterator[Frame]:
        waits, failures = Backoff(0.5, 8.0), 0
        while True:
            try:
                for frame in super().__iter__():
                    self._start = math.nextafter(frame.t, math.inf)
                    failures = 0
                    waits.reset()
                    yield frame
                return
            except LvmError as error:
                failures += 1
                if self.closed or failures > MAX_FAILURES:
                    raise
                log.warning("%s; it is read on from %.1f s", error, self._start)
                self._closed.wait(waits.next())

    def _open(self) -> VideoContainer:
        return open_stream(self, self._url, self._settings, live=False)


def open_stream(
    source: BaseSource, url: str, settings: Supervision, *, live: bool, start: float = 0.0
) -> VideoContainer:
    """Connect to an address. Raises LvmError where that fails."""
    web = url.startswith("http")
    options = OPTIONS | (WEB if web else {}) | (HASTY if live else RETRYING)

    def connect(transport: str = "tcp", format: str | None = None) -> VideoContainer:
        return VideoContainer(
            url,
            source.tally,
            options=options | {"rtsp_transport": transport},
            is_stopped=lambda: source.closed,
            live=live,
            start=start,
            timeout=(settings.open_timeout_s, settings.read_timeout_s),
            format=format,
            track=settings.video_track,
        )

    if settings.transport != "auto":
        return connect(settings.transport)
    try:
        return connect()
    except TransportRefused:
        return connect("udp")
    except NoVideo as error:
        # JPEGs with anything between them, as cameras send that forget the first boundary.
        if not (web and live):
            raise
        with contextlib.suppress(LvmError):
            media = connect(format="mjpeg")
            if media.stream.width:
                return media
            media.__exit__()
        raise error from None


def probe(url: str, attempt: int) -> None:
    """Check quickly that a server answers at the address of `url`. Raises LvmError where none does.

    Opening a stream of a host without power lasts until it times out, and the host that came back meanwhile
    would be noticed too late. Only servers of `PORTS` are asked: others may take no second connection, or
    are reached without one.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or PORTS.get(parts.scheme)
    except ValueError:
        return
    if not host or port is None or parts.scheme not in PORTS:
        return
    try:
        socket.create_connection((host, port), LONG_PROBE_S if attempt % 8 == 0 else PROBE_S).close()
    except OSError as error:
        raise LvmError(f"{show_source(url)} cannot be reached: {explain_connection(error)}") from None
