"""Make tiny videos whose pictures carry their numbers, and find the folder of real media."""

from __future__ import annotations

import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

BITS = 10
HEIGHT, WIDTH = 48, 16 * BITS


def make_picture(number: int) -> np.ndarray:
    """Return (48, 160, 3): the number in black and white blocks, most significant bit on the left."""
    bits = [number >> bit & 1 for bit in reversed(range(BITS))]
    row = np.repeat(np.array(bits, np.uint8) * 255, 16)
    return np.ascontiguousarray(np.broadcast_to(row[None, :, None], (HEIGHT, WIDTH, 3)))


def read_number(image: np.ndarray) -> int:
    blocks = image.mean(axis=(0, 2)).reshape(BITS, 16).mean(axis=1) > 127
    return int("".join("01"[int(block)] for block in blocks), 2)


def write_video(
    path: Path,
    times_ms: Iterable[int],
    *,
    codec: str = "libx264",
    rotation: int = 0,
    gop: int = 12,
    options: dict[str, str] | None = None,
    size: tuple[int, int] | None = None,
    first: int = 0,
) -> Path:
    """Write a video whose picture i has the number first + i and is at times_ms[i]; `options` go to the
    muxer."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = size or (WIDTH, HEIGHT)
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.gop_size = gop
        if rotation:
            stream.set_display_rotation(rotation)
        for number, time_ms in enumerate(times_ms, first):
            frame = av.VideoFrame.from_ndarray(make_picture(number), format="rgb24")
            if size:
                frame = frame.reformat(*size)
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def real_media() -> Path:
    """Return the folder of real media; skip the test if there is none."""
    folder = os.environ.get("LVM_EDGE_MEDIA")
    if not folder:
        pytest.skip("LVM_EDGE_MEDIA names no folder of real media")
    return Path(folder)
