"""Fuzz video files: open them and read their sampled frames."""

from __future__ import annotations

import io
from fractions import Fraction
from itertools import islice
from pathlib import Path
from random import Random

import av
import numpy as np

from edge_runtime.sources.video import VideoFile
from tools.fuzzing.mutate import mutate_bytes

FRAMES = 60
WORDS = (
    b"moov", b"mdat", b"trak", b"stts", b"ctts", b"stsc", b"stsz", b"stco", b"co64", b"elst", b"mvhd",
    b"mdhd", b"tkhd",
    b"avc1", b"mp4v", b"moof", b"traf", b"trun", b"\x1a\x45\xdf\xa3", b"\xa3", b"\x1f\x43\xb6\x75",
    b"\x16\x54\xae\x6b",
    b"\xb0", b"\xba", b"RIFF", b"AVI ", b"hdrl", b"strh", b"strf", b"movi", b"idx1", b"00dc",
    b"\x00\x00\x01\xb3",
    b"\x00\x00\x01\xba", b"\x47\x40\x00\x10", b"FLV\x01", b"#EXTM3U\n", b"#EXTINF:1,\n", b"file:",
    b"ffconcat version 1.0\n",
    b"<MPD", b"v=0\r\n", b"YUV4MPEG2 W16 H16 F1:1\n", b"FRAME\n", b"DKIF", b"GIF89a", b"\x21\xf9\x04",
)  # fmt: skip


class Target:
    max_bytes = 16_384

    def __init__(self, folder: Path) -> None:
        self._file = folder / "case.video"

    def seeds(self) -> list[bytes]:
        kinds = [
            ("mp4", "mpeg4", {}),
            ("mp4", "mpeg4", {"movflags": "frag_keyframe+empty_moov"}),
            ("matroska", "mpeg4", {}),
            ("avi", "mjpeg", {}),
            ("mpegts", "mpeg2video", {}),
            ("mpeg", "mpeg1video", {}),
            ("flv", "flv", {}),
            ("gif", "gif", {}),
            ("mp4", "libx264", {}),
            ("ivf", "libvpx", {}),
            ("yuv4mpegpipe", "rawvideo", {}),
            ("mpjpeg", "mjpeg", {}),
        ]
        made = [_encode_video(kind, codec, options) for kind, codec, options in kinds]
        made += [
            b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\ncase.video\n#EXT-X-ENDLIST\n",
            b"ffconcat version 1.0\nfile case.video\nduration 1\n",
            b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\nm=video 5004 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n",
        ]
        return made

    def mutate(self, data: bytes, rng: Random) -> bytes | None:
        return mutate_bytes(data, rng, WORDS)

    def run(self, data: bytes) -> None:
        self._file.write_bytes(data)
        with VideoFile(self._file, sample_fps=1.0) as video:
            last = -1.0
            for frame in islice(video, FRAMES):
                assert frame.image.ndim == 3 and frame.image.shape[2] == 3 and frame.image.size
                assert frame.t > last, (frame.t, last)
                last = frame.t


def _encode_video(kind: str, codec: str, options: dict[str, str]) -> bytes:
    file = io.BytesIO()
    rng = np.random.default_rng(0)
    with av.open(file, "w", format=kind, options=options) as container:
        rate = 25 if codec in ("mpeg1video", "mpeg2video") else 2
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = 16, 16
        stream.pix_fmt = {"gif": "rgb8", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
        for number in range(4):
            image = rng.integers(0, 255, (16, 16, 3), np.uint8) // 16 * 16
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()
