"""Read the width and height of an image from its header, before any decoder sees it.

Covers JPEG, PNG, WebP, GIF, BMP and TIFF. A header that lies about its size costs nothing: decoders allocate
what the same header says, and that was checked.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

Size = tuple[int, int]
"""Width, height in pixels."""
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
PNG_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"IDAT", b"IEND"})


def read_size(data: bytes) -> Size | None:
    """Return the size of the image; None where `data` has no known format or a damaged header."""
    for magic, parse in PARSERS:
        if data.startswith(magic):
            try:
                return parse(data)
            except (struct.error, IndexError):  # the header is cut short
                return None
    return None


def strip_png(data: bytes) -> bytes | None:
    """Return the PNG without animation, texts and profiles; None where a chunk is longer than the file.

    OpenCV 5 trusts the stated length of a chunk: four changed bytes cost it 4 GB and 14 s.
    """
    parts = [PNG_MAGIC]
    at = len(PNG_MAGIC)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length  # length, kind, content, checksum
        if end > len(data):
            return None
        if kind in PNG_CHUNKS:
            parts.append(data[at:end])
        if kind == b"IEND":
            return b"".join(parts)
        at = end
    return None


def read_orientation(data: bytes) -> int:
    """Return the EXIF orientation, 1 to 8, of a PNG or WebP; 1 (upright) where it has none or is neither."""
    if data.startswith(PNG_MAGIC):
        at, order, after = len(PNG_MAGIC), ">I4s", 4  # a checksum follows each chunk
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        at, order, after = 12, "<4sI", 0
    else:
        return 1
    while at + 8 <= len(data):
        first, second = struct.unpack_from(order, data, at)
        length, kind = (first, second) if order[0] == ">" else (second, first)
        if kind in (b"eXIf", b"EXIF"):
            return _parse_exif(data[at + 8 : at + 8 + length].removeprefix(b"Exif\0\0"))
        at += 8 + length + after + (length % 2 if order[0] == "<" else 0)
    return 1


def _parse_exif(tiff: bytes) -> int:
    order = "<" if tiff[:2] == b"II" else ">"
    try:
        (at,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, at)
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, entry)
            if tag == 0x0112:
                return value if 1 <= value <= 8 else 1
    except struct.error:  # cut short
        pass
    return 1


def _parse_png(data: bytes) -> Size | None:
    if data[12:16] != b"IHDR":
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _parse_gif(data: bytes) -> Size | None:
    width, height = struct.unpack_from("<HH", data, 6)
    return width, height


def _parse_bmp(data: bytes) -> Size | None:
    (header_size,) = struct.unpack_from("<I", data, 14)
    if header_size == 12:
        width, height = struct.unpack_from("<HH", data, 18)
        return width, height
    width, height = struct.unpack_from("<ii", data, 18)
    return width, abs(height)  # negative: rows from the top down


def _parse_webp(data: bytes) -> Size | None:
    if data[8:12] != b"WEBP":
        return None
    kind = data[12:16]
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _parse_jpeg(data: bytes) -> Size | None:
    """Read the first start-of-frame segment; thumbnails lie inside APP segments, which are skipped."""
    at = 2
    while True:
        at = data.find(b"\xff", at)
        if at < 0:
            return None
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        at += 1
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 3)
            return width, height
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:
            continue  # no length follows
        if marker in (0xD9, 0xDA):
            return None  # pixels, or the end, without a size
        at += struct.unpack_from(">H", data, at)[0]


def _parse_tiff(data: bytes) -> Size | None:
    """Read width and height of the first page."""
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, at)
    sizes: dict[int, int] = {}  # the largest where a tag is repeated: decoders differ in which they use
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        if tag in (256, 257):
            (value,) = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, entry + 8)
            sizes[tag] = max(value, sizes.get(tag, 0))
    return (sizes[256], sizes[257]) if len(sizes) == 2 else None


PARSERS: tuple[tuple[bytes, Callable[[bytes], Size | None]], ...] = (
    (b"\xff\xd8\xff", _parse_jpeg),
    (PNG_MAGIC, _parse_png),
    (b"RIFF", _parse_webp),
    (b"GIF87a", _parse_gif),
    (b"GIF89a", _parse_gif),
    (b"BM", _parse_bmp),
    (b"II*\0", _parse_tiff),
    (b"MM\0*", _parse_tiff),
)
