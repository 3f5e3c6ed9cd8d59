"""Network cameras: RTSP, HTTP(S), MJPEG and UDP through FFmpeg. One connection; no reconnecting here."""

from __future__ import annotations

from collections.abc import Iterator

from edge_runtime.frame import Frame
from edge_runtime.sources.base import Counting, SampleClock, redacted
from edge_runtime.sources.decoding import Media, sampled
from engines.errors import LvmError

OPTIONS = {
    # UDP loses packets as soon as a picture is large; TCP is what makes RTSP usable on shop networks.
    "rtsp_transport": "tcp",
    "fflags": "nobuffer",
}


class NetworkStream(Counting):
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
        read_timeout: float = 10.0,
    ) -> None:
        super().__init__(redacted(url), live=True)
        self._url, self._sample_fps, self._start = url, sample_fps, start
        self._timeout = (open_timeout, read_timeout)
        SampleClock(sample_fps)  # a wrong rate fails here, not in the first iteration

    def __iter__(self) -> Iterator[Frame]:
        if self.closed:
            return
        with self._open() as media:
            yield from sampled(media.pictures(), SampleClock(self._sample_fps), self.tally)
        if not self.seen and not self.closed:
            raise LvmError(f"{self.name} ended without a picture")

    def _open(self) -> Media:
        return Media(
            self._url,
            self.tally,
            options=OPTIONS,
            stopped=self._closed.is_set,
            live=True,
            start=self._start,
            timeout=self._timeout,
        )
