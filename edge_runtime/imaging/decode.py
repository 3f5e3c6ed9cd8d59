"""Decode photos of objects: from a file or bytes to an upright RGB picture, or an error of one sentence.

The size is checked in the header before a decoder runs, so a picture that would unpack to gigabytes costs
nothing. Transparent pictures are blended with white, as shops photograph their goods.
"""

from __future__ import annotations

import contextlib
import stat
import threading
from os import PathLike
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.imaging.header import PNG_MAGIC, read_orientation, read_size, strip_png
from edge_runtime.system.text import printable
from engines.errors import LvmError

MAX_SCANS = 200
"""Passes over a progressive JPEG: real ones take about ten, and each costs a whole picture of work."""
MAX_VALUE = {"uint8": 255, "uint16": 65535}
BLEND_ROWS = 64
EXPECTED = "expected a JPEG, PNG, WebP, GIF, BMP or TIFF picture"

MAX_BYTES = 50_000_000
"""Of one encoded picture."""

LARGE_PIXELS = 5_000_000
_large_lock = threading.Lock()
"""Larger pictures are decoded one at a time: one of 50 million pixels takes up to 600 MB for a moment, and
questions come from many threads at once."""
MAX_PATH_CHARS = 120
"""Of a path in a message; each character may become ten where it is not printable."""


def read_image(
    source: str | PathLike[str] | bytes,
    *,
    max_pixels: int = 50_000_000,
    max_bytes: int = MAX_BYTES,
) -> NDArray[np.uint8]:
    """Return (H, W, 3) uint8 RGB, turned upright by EXIF orientation; of an animation the first picture.

    Raises LvmError where there is no such file, where it is larger than `max_bytes` or its picture than
    `max_pixels`, and where it cannot be decoded.
    """
    if isinstance(source, bytes):
        name, data = "the picture", source
    else:
        name, data = printable(str(source)), read_file(Path(source), max_bytes)
    if len(data) > max_bytes:
        raise LvmError(f"{name} is too large: expected at most {max_bytes} bytes, got {len(data)}")
    pixels = _check_header(name, data, max_pixels)
    plain = strip_png(data) if data.startswith(PNG_MAGIC) else data
    if plain is None:
        raise LvmError(f"{name} is damaged or cut short: save it again as JPEG or PNG")
    silence_opencv()
    encoded = np.frombuffer(plain, np.uint8)
    # JPEG and BMP have no transparency: spare them the second decoding.
    opaque = data[:2] in (b"\xff\xd8", b"BM")
    try:
        with _large_lock if pixels > LARGE_PIXELS else contextlib.nullcontext():
            image = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)  # (H, W, 3), upright, 8 bit
            alpha = None if opaque else _decode_alpha(encoded)
            # OpenCV applies EXIF to the colours only: decode colours and transparency unturned, then turn.
            orientation = read_orientation(plain) if alpha is not None else 1
            if orientation != 1:
                image = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise LvmError(f"{name} cannot be decoded ({error.err}): save it again as JPEG or PNG") from error
    if image is None:
        raise LvmError(f"{name} is damaged or cut short: save it again as JPEG or PNG")
    rgb = np.asarray(image, np.uint8)
    if alpha is not None and alpha.shape == rgb.shape[:2]:
        _blend_with_white(rgb, alpha)
    return np.ascontiguousarray(_turn_upright(rgb, orientation))


def read_file(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the bytes of a picture's file. Raises LvmError if it is not a file, too large or unreadable."""
    # A path for a message: whole, or its end where it is very long.
    text = str(path)
    name = printable(text if len(text) <= MAX_PATH_CHARS else f"…{text[-MAX_PATH_CHARS:]}")
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe may block, a device has no end
            raise LvmError(f"{name} is no file: {EXPECTED}")
        if status.st_size > max_bytes:
            raise LvmError(f"{name} is too large: expected at most {max_bytes} bytes, got {status.st_size}")
        with path.open("rb") as file:
            return file.read(max_bytes + 1)  # it may grow meanwhile
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise LvmError(f"{name} cannot be read: {getattr(error, 'strerror', error)}") from error


def _check_header(name: str, data: bytes, max_pixels: int) -> int:
    """Return the number of pixels of the picture. Raises LvmError where it must not be decoded."""
    if not data:
        raise LvmError(f"{name} is empty: {EXPECTED}")
    size = read_size(data)
    if size is None:
        raise LvmError(f"{name} is damaged or of another kind: {EXPECTED}")
    width, height = size
    if width < 1 or height < 1:
        raise LvmError(f"{name} is damaged: it says that it is {width} x {height} pixels large")
    if width * height > max_pixels:
        raise LvmError(f"{name} is {width} x {height}: expected at most {max_pixels} pixels; make it smaller")
    # In compressed data FF is always followed by 00, so this counts scans.
    if data.startswith(b"\xff\xd8") and data.count(b"\xff\xda") > MAX_SCANS:
        raise LvmError(f"{name} is a JPEG of more than {MAX_SCANS} scans, save it again")
    return width * height


def _turn_upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn (H, W, 3) by EXIF orientation: 5 to 8 lie on their side, 2 to 4 are mirrored or upside down."""
    if orientation > 4:
        image = image.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return image[:, ::-1] if orientation in (2, 3, 6, 7) else image


def _decode_alpha(encoded: NDArray[np.uint8]) -> NDArray[Any] | None:
    """Return (H, W) opacity, 0 to the type's largest value; None where everything is opaque."""
    image = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 3 or image.shape[2] != 4 or image.dtype.name not in MAX_VALUE:
        return None
    alpha = image[..., 3]
    return None if alpha.min() == MAX_VALUE[alpha.dtype.name] else alpha


def _blend_with_white(image: NDArray[np.uint8], alpha: NDArray[Any]) -> None:
    """Blend in place, some rows at a time: a whole picture in floats would take a gigabyte."""
    full = np.float32(MAX_VALUE[alpha.dtype.name])
    for start in range(0, len(image), BLEND_ROWS):
        rows = image[start : start + BLEND_ROWS]  # (rows, W, 3)
        opaque = alpha[start : start + BLEND_ROWS, :, None] / full  # (rows, W, 1), 0–1
        rows[:] = 255.5 - opaque * (np.float32(255) - rows)


def silence_opencv() -> None:
    """Turn OpenCV's log off in this process. Cheap; call it before a decoder that may log."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
