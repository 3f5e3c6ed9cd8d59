"""Fuzz photos of objects: any bytes to an upright RGB picture, and on to the backbone's mosaic."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from random import Random

import cv2
import numpy as np

from edge_runtime.imaging.decode import read_image
from edge_runtime.query.photo_mosaic import mosaic
from tools.fuzzing.mutate import mutate_bytes, mutate_number

MANY_PIXELS = 1_000_000
"""Few cases get the true limit: decoding 50 million pixels is allowed, but would take all of a run's time."""
WORDS = (
    b"\xff\xd8\xff", b"\xff\xc0\x00\x11\x08", b"\xff\xc2", b"\xff\xda", b"\xff\xd9", b"\xff\xe1",
    b"Exif\0\0", b"II*\0",
    b"MM\0*", b"\x89PNG\r\n\x1a\n", b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"acTL", b"fcTL", b"fdAT", b"iCCP",
    b"IDAT",
    b"IEND", b"RIFF", b"WEBP", b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"GIF89a", b"GIF87a",
    b"\x21\xf9",
    b"\x2c", b"BM", struct.pack("<I", 12), struct.pack("<I", 40), struct.pack("<I", 124),
    struct.pack("<HH", 256, 4),
    struct.pack("<HH", 257, 3), struct.pack("<HH", 0x0112, 3), struct.pack("<HH", 322, 4),
    struct.pack("<HH", 259, 3),
)  # fmt: skip


class Target:
    max_bytes = 4096

    def __init__(self, folder: Path) -> None:
        pass

    def seeds(self) -> list[bytes]:
        rng = np.random.default_rng(0)
        colour = rng.integers(0, 255, (9, 12, 3), np.uint8)
        pictures = {
            "colour": colour,
            "gray": colour[..., 0],
            "alpha": np.dstack([colour, colour[..., :1]]),
            "deep": colour.astype(np.uint16) * 257,
            "pixel": colour[:1, :1],
        }
        formats: list[tuple[str, list[int]]] = [
            (".jpg", []),
            (".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 1]),
            (".png", []),
            (".webp", []),
            (".webp", [cv2.IMWRITE_WEBP_QUALITY, 101]),
            (".gif", []),
            (".bmp", []),
            (".tiff", []),
            (".tiff", [cv2.IMWRITE_TIFF_COMPRESSION, 1]),
            (".tiff", [cv2.IMWRITE_TIFF_COMPRESSION, 8]),
        ]
        made = []
        for suffix, flags in formats:
            for picture in pictures.values():
                try:
                    ok, data = cv2.imencode(suffix, picture, flags)
                except cv2.error:  # not every format can store every picture
                    continue
                if ok:
                    made.append(data.tobytes())
        jpeg = made[0]
        exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0)
        made.append(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:])
        return made

    def mutate(self, data: bytes, rng: Random) -> bytes | None:
        if data.startswith(b"\x89PNG") and rng.random() < 0.7:
            return _mutate_png(data, rng)
        return mutate_bytes(data, rng, WORDS)

    def run(self, data: bytes) -> None:
        rare = zlib.crc32(data) % 512 == 0
        image = read_image(data) if rare else read_image(data, max_pixels=MANY_PIXELS)
        assert image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8 and image.size
        if image.size < 100_000:
            mosaic(image, 32)


def _mutate_png(data: bytes, rng: Random) -> bytes:
    """Change chunks and correct their checksums: decoders stop at a wrong checksum."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    if not chunks:
        return data
    index = rng.randrange(len(chunks))
    kind, body = chunks[index]
    if kind == b"IDAT" and rng.random() < 0.7:
        try:
            body = zlib.compress(mutate_number(zlib.decompress(body), rng))
        except zlib.error:
            body = mutate_number(body, rng)
    else:
        body = mutate_number(body, rng) if rng.random() < 0.8 else mutate_bytes(body, rng, WORDS)
    if rng.random() < 0.1:
        kind = rng.choice((b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"acTL", b"fcTL", b"IDAT", b"IEND"))
    chunks[index : index + 1] = [(kind, body)] * rng.choice((1, 1, 1, 1, 2, 0))
    out = [data[:8]]
    for kind, body in chunks:
        out.append(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)))
    return b"".join(out)
