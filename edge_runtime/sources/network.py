"""Read network cameras over RTSP, HTTP(S), MJPEG and UDP through FFmpeg: one connection, no reconnecting."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

from edge_runtime.frame import Frame
from edge_runtime.sources.base import BaseSource
from edge_runtime.sources.clocks import SampleClock
from edge_runtime.sources.decoding import FORMATS, VideoContainer, sample_and_show
from edge_runtime.system.secrets import redact
from engines.errors import LvmError

# TCP: UDP loses packets as soon as a picture is large, so RTSP over UDP is unusable on shop networks.
# Not "fflags=nobuffer": it drops the data that was read to recognise the stream, with it the first key frame,
# so a camera with a key frame every 10 s is blind for 10 s after connecting (measured: first picture at
# 10.1 s instead of 1.2 s, and no difference in lag after that).
# "fpsprobesize=0": otherwise FFmpeg reads 20 pictures to guess a rate that a live stream does not need, and
# delivers them late (measured, RTSP at 25 pictures a second: first picture at 0.33 s instead of 1.16 s).
OPTIONS = {
    "rtsp_transport": "tcp",
    "fpsprobesize": "0",
    "format_whitelist": f"{FORMATS},hls,live_flv,rtsp,rtp,rtp_mpegts,jpeg_pipe,png_pipe,webp_pipe",
}
"""A server in the camera's place must not make us open it endlessly (concat) or open a port (SDP)."""
WEB = {"protocol_whitelist": "http,https,httpproxy,tls,tcp,crypto,data"}
"""For HTTP: an HLS playlist must not name files of this machine."""

PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
PROBE_S = 0.5
LONG_PROBE_S = 1.5
"""Of every eighth probe, for slow networks."""


class NetworkStream(BaseSource):
    """A live stream by its URL, `sample_fps` frames a second; times count from the first picture + `start`.

    Iterating connects, once. It raises LvmError where connecting takes longer than `open_timeout` seconds,
    where no data comes for `read_timeout` seconds, and where the connection breaks; it ends where the server
    ends the stream.
    """

    def __init__(
        self,
        url: str,
        *,
        sample_fps: float,
        start: float = 0.0,
        open_timeout: float = 10.0,
        read_timeout: float = 5.0,
    ) -> None:
        super().__init__(redact(url), live=True)
        self._url, self._sample_fps, self._start = url, sample_fps, start
        self._timeout = (open_timeout, read_timeout)
        self.finished = False
        """Whether this was a recording of known length, and has come to its end."""
        SampleClock(sample_fps)  # a wrong rate fails here, not in the first iteration

    def __iter__(self) -> Iterator[Frame]:
        if self.closed:
            return
        with self._open() as media:
            yield from sample_and_show(self, media.pictures(), SampleClock(self._sample_fps))
            self.finished = media.duration is not None and bool(self.seen) and not self.closed
        if not self.seen and not self.closed:
            raise LvmError(f"{self.name} ended without a picture")

    def _open(self) -> VideoContainer:
        return VideoContainer(
            self._url,
            self.tally,
            options=OPTIONS | (WEB if self._url.lower().startswith("http") else {}),
            is_stopped=self._closed.is_set,
            live=True,
            start=self._start,
            timeout=self._timeout,
        )


def probe(url: str, attempt: int) -> None:
    """Check quickly that a server answers at the address of `url`. Raises LvmError where none does.

    Opening a stream of a host without power lasts until it times out, and the host that came back meanwhile
    would be noticed too late. UDP, and addresses that only FFmpeg understands, are not checked.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or PORTS.get(parts.scheme)
    except ValueError:
        return
    if not host or port is None:
        return
    try:
        socket.create_connection((host, port), LONG_PROBE_S if attempt % 8 == 0 else PROBE_S).close()
    except OSError as error:
        why = error.strerror or "no answer in time"
        raise LvmError(f"{redact(url)} cannot be reached: {why}") from None
