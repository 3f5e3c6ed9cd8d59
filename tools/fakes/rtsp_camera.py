"""An RTSP camera on loopback that can be made to fail: for tests, source_faults.py and soak runs.

It speaks RTSP 1.0 with H.264 in RTP over the RTSP connection (RFC 2326, 6184) and nothing else: so the
runtime and most recorders read cameras. It is all Python and PyAV, so the tests need no media server. Each
client gets an encoder of its own, which begins with a key frame. Pictures carry the number of 25ths of a
second since the server began.

    python tools/fakes/rtsp_camera.py --port 8554      # a process, to be stopped with SIGSTOP or killed
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import itertools
import re
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from fractions import Fraction

import av

from tools.fakes.numbered_pictures import make_picture

RTP_CLOCK = 90_000
PAYLOAD = 96
MAX_UNIT_BYTES = 60_000  # bytes of one NAL unit in one interleaved packet; its length has 16 bits
SESSION = "Session: 1;timeout=60\r\n"


class RtspServer:
    """A camera at `url`. Its attributes may be changed while clients watch; use it as a context manager."""

    def __init__(
        self,
        port: int = 0,
        *,
        size: tuple[int, int] = (160, 96),
        fps: float = 25.0,
        password: str | None = None,
        began: float | None = None,
    ) -> None:
        self.size = size
        """Width and height; a change shows in the running streams, as when a camera is reconfigured."""
        self.fps = fps
        self.password = password
        """Password of user "kiosk"; None for a camera without one."""
        self.silent = False
        """Connections stay open and nothing is sent."""
        self.mute = False
        """Requests are not answered either."""
        self.pace = 1.0
        """Below 1 the link is too slow and drops nothing: pictures come later and later."""
        self.stamp_offset = 0.0
        """Seconds added to the time stamps: the camera's clock was set."""
        self.stamp_still = False
        """All pictures have the same time stamp."""
        self.damage = False
        """The inside of every picture but the key frames is overwritten."""
        self.gop = 25
        self.clients = 0
        """Connections accepted so far."""
        self.began = time.monotonic() if began is None else began
        self._stop = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", port), backlog=64)
        self.port = int(self._socket.getsockname()[1])
        self._open: set[socket.socket] = set()
        self._acceptor = threading.Thread(target=self._accept, daemon=True)

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/live"

    def now(self) -> int:
        """Return the number of the picture that is taken now."""
        return int((time.monotonic() - self.began) * 25)

    def __enter__(self) -> RtspServer:
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        # shutdown as well as close: a thread that waits in accept would go on waiting.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self.break_connections()
        self._acceptor.join(5)

    def break_connections(self) -> None:
        """End every client's connection now; new ones are accepted."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(5)
            self.clients += 1
            self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, contextlib.suppress(OSError, ValueError):
                while self._answer(connection):
                    pass
                while not self._stop.is_set() and self._play(connection):
                    pass
        finally:
            self._open.discard(connection)

    def _answer(self, connection: socket.socket) -> bool:
        """Answer one request; return False after PLAY, when pictures follow."""
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            piece = connection.recv(1)
            if not piece:
                raise OSError("the client has gone")
            request += piece
        while self.mute and not self._stop.is_set():
            time.sleep(0.01)
        text = request.decode("latin-1")
        method = text.split(" ", 1)[0]
        number = re.search(r"(?i)cseq: *(\d+)", text)
        answer = f"RTSP/1.0 {self._reply(method, text)}"
        sequence = f"\r\nCSeq: {number.group(1) if number else 0}\r\n"
        connection.sendall(answer.replace("\r\n", sequence, 1).encode())
        return method != "PLAY"

    def _reply(self, method: str, request: str) -> str:
        if method == "OPTIONS":
            return "200 OK\r\nPublic: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n\r\n"
        if not self._allowed(request):
            return '401 Unauthorized\r\nWWW-Authenticate: Basic realm="camera"\r\n\r\n'
        if method == "DESCRIBE":
            sdp = (
                "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n"
                f"m=video 0 RTP/AVP {PAYLOAD}\r\na=rtpmap:{PAYLOAD} H264/{RTP_CLOCK}\r\n"
                f"a=fmtp:{PAYLOAD} packetization-mode=1\r\na=control:video\r\n"
            )
            kind = f"Content-Type: application/sdp\r\nContent-Base: {self.url}/\r\n"
            return f"200 OK\r\n{kind}Content-Length: {len(sdp)}\r\n\r\n{sdp}"
        if method == "SETUP":
            return f"200 OK\r\n{SESSION}Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n"
        return f"200 OK\r\n{SESSION}Range: npt=0.000-\r\n\r\n"

    def _allowed(self, request: str) -> bool:
        if self.password is None:
            return True
        right = base64.b64encode(f"kiosk:{self.password}".encode()).decode()
        return f"Basic {right}" in request

    def _play(self, connection: socket.socket) -> bool:
        """Send pictures until size or rate change; return False when the client has left."""
        size, fps = self.size, self.fps
        first, began = (time.monotonic() - self.began), time.monotonic()
        encoder = self._encoder(size, fps)
        sequence = itertools.count()
        due = began
        for index in itertools.count():
            if (size, fps) != (self.size, self.fps):
                return True
            # A link that becomes slow sends on from where it is; one that recovers sends its backlog at once.
            due = began + index / fps if self.pace >= 1 or not index else due + 1 / fps / self.pace
            if not self._listen(connection, max(0.0, due - time.monotonic())):
                return False
            if self.silent:
                continue
            t = first + index / fps
            picture = av.VideoFrame.from_ndarray(make_picture(int(t * 25), size), format="rgb24")
            picture.pts = index
            stamp = self.stamp_offset + (0.0 if self.stamp_still else t)
            for packet in encoder.encode(picture.reformat(format="yuv420p")):
                data = bytes(packet)
                if self.damage and not packet.is_keyframe:
                    data = data[:12] + bytes(max(0, len(data) - 12))
                connection.sendall(b"".join(_rtp(data, int(stamp * RTP_CLOCK), sequence)))
        return False

    def _encoder(self, size: tuple[int, int], fps: float) -> av.VideoCodecContext:
        encoder = av.CodecContext.create("libx264", "w")
        assert isinstance(encoder, av.VideoCodecContext)
        encoder.width, encoder.height = size
        encoder.pix_fmt = "yuv420p"
        encoder.time_base, encoder.framerate = 1 / Fraction(fps), Fraction(fps)
        encoder.gop_size = self.gop
        encoder.thread_count = 1
        encoder.options = {"preset": "ultrafast", "tune": "zerolatency", "crf": "28"}
        return encoder

    def _listen(self, connection: socket.socket, seconds: float) -> bool:
        """Wait and discard what the client sends (receiver reports, keep-alives); False when it left."""
        end = time.monotonic() + seconds
        while not self._stop.is_set():
            ready, _, _ = select.select([connection], [], [], max(0.0, min(0.1, end - time.monotonic())))
            if ready:
                data = connection.recv(4096)
                if not data or data.startswith(b"TEARDOWN"):
                    return False
            if time.monotonic() >= end:
                return True
        return False


def _rtp(data: bytes, stamp: int, sequence: Iterator[int]) -> Iterator[bytes]:
    """Yield the NAL units of one picture as interleaved RTP packets; the last one has the marker."""
    units = [unit.rstrip(b"\0") for unit in re.split(rb"\x00\x00\x00?\x01", data)]
    units = [unit for unit in units if unit]
    for index, unit in enumerate(units):
        if len(unit) > MAX_UNIT_BYTES:
            raise ValueError(f"a picture's part has at most {MAX_UNIT_BYTES} bytes here, got {len(unit)}")
        last = index == len(units) - 1
        head = struct.pack(
            ">BBHII", 0x80, PAYLOAD | last << 7, next(sequence) & 0xFFFF, stamp & 0xFFFFFFFF, 0x1F2E3D4C
        )
        yield struct.pack(">cBH", b"$", 0, len(head) + len(unit)) + head + unit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--size", default="160x96")
    parser.add_argument("--fps", type=float, default=25.0)
    parser.add_argument("--began", type=float, default=None, help="monotonic time of picture 0")
    chosen = parser.parse_args()
    width, height = map(int, chosen.size.split("x"))
    with RtspServer(chosen.port, size=(width, height), fps=chosen.fps, began=chosen.began) as server:
        print(server.port, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
