"""A unique picture (canary), a video that shows it, and searches for it in images and bytes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from edge_runtime.imaging.decode import silence_opencv

HEIGHT, WIDTH = 240, 320
TOP, LEFT, SIDE = 60, 100, 96
ZONE = tuple(
    (x / WIDTH, y / HEIGHT)
    for x, y in (
        (LEFT - 4, TOP - 4),
        (LEFT + SIDE + 4, TOP - 4),
        (LEFT + SIDE + 4, TOP + SIDE + 4),
        (LEFT - 4, TOP + SIDE + 4),
    )
)
NEEDLE_BYTES = 24
"""Bytes of random pixels: 192 bits do not occur by accident."""
# Blocks of 8 pixels that survive JPEG and scaling, with noise on top that does not and makes bytes unique.
_RNG = np.random.default_rng(20261122)
_BLOCKS = np.kron(_RNG.integers(60, 196, (SIDE // 8, SIDE // 8, 3)), np.ones((8, 8, 1)))
CANARY = np.asarray(_BLOCKS + _RNG.integers(-60, 60, (SIDE, SIDE, 3)), np.uint8)


def picture(number: int, *, shown: bool) -> np.ndarray:
    """Make a picture (240, 320, 3): a bright square that moves, and the canary if `shown`."""
    image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    image[180:220, 10 + number * 5 : 50 + number * 5] = (230, 40, 40)
    if shown:
        image[TOP : TOP + SIDE, LEFT : LEFT + SIDE] = CANARY
    return image


def write_video(path: Path, seconds: int, shown: range) -> Path:
    """Write one picture a second, lossless, so that the decoded canary is equal to the bit."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=1)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "bgr0"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(seconds):
            frame = av.VideoFrame.from_ndarray(picture(number, shown=number in shown), format="rgb24")
            frame = frame.reformat(format="bgr0")
            frame.pts, frame.time_base = number * 1000, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _needles() -> list[bytes]:
    """Return parts of the canary's rows as in memory: interleaved or planar, RGB, BGR or grey, scaled."""
    whole = picture(0, shown=True)
    needles = []
    for height, width in ((HEIGHT, WIDTH), (224, 224), (112, 112), (HEIGHT // 2, WIDTH // 2)):
        scaled = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)
        y, x = (TOP + 8) * height // HEIGHT, (LEFT + 8) * width // WIDTH
        rows = scaled[y : y + (SIDE - 16) * height // HEIGHT, x : x + (SIDE - 16) * width // WIDTH]
        planes = [rows, rows[:, :, ::-1], cv2.cvtColor(rows, cv2.COLOR_RGB2GRAY)]
        planes += [rows[:, :, channel] for channel in range(3)]
        for plane in planes:
            for row in plane[::12]:
                data = np.ascontiguousarray(row).tobytes()
                needles += [data[:NEEDLE_BYTES], data[-NEEDLE_BYTES:]]
                as_float = np.ascontiguousarray(row).astype(np.float32).tobytes()
                needles += [as_float[:48], np.ascontiguousarray(row).astype(np.float16).tobytes()[:48]]
    return [needle for needle in needles if len(needle) >= 16]


NEEDLES = _needles()
_MAGICS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"GIF8")  # BMP and the like hold raw rows


def in_pixels(data: bytes) -> bool:
    """Return whether `data` contains pixels of the canary."""
    return any(needle in data for needle in NEEDLES)


def in_bytes(data: bytes) -> bool:
    """Return whether `data` contains pixels of the canary, raw or inside an encoded picture."""
    if in_pixels(data):
        return True
    silence_opencv()
    for magic in _MAGICS:
        at = data.find(magic)
        while at >= 0:
            image = cv2.imdecode(np.frombuffer(data[at:], np.uint8), cv2.IMREAD_COLOR_RGB)
            if image is not None and in_image(image):
                return True
            at = data.find(magic, at + 1)
    return False


def in_image(image: np.ndarray) -> bool:
    """Return whether `image` (H, W, 3) of any size shows the canary in its place."""
    scaled = cv2.resize(np.ascontiguousarray(image), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    part = scaled[TOP : TOP + SIDE, LEFT : LEFT + SIDE]
    small = [cv2.resize(picture, (12, 12), interpolation=cv2.INTER_AREA) for picture in (part, CANARY)]
    a, b = (image.astype(np.float64).ravel() - image.mean() for image in small)
    norm = np.sqrt((a @ a) * (b @ b))
    return bool(norm > 0 and a @ b / norm > 0.3)
