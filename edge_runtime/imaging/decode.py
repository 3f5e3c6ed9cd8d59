"""The one door for photos of objects: any file or bytes in, an upright RGB picture or one sentence out.

Size is checked in the header before a decoder runs, so a picture that would unpack to gigabytes costs
nothing. Transparent pictures are put on white, as shops photograph their goods.
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

from edge_runtime.imaging.header import PNG_MAGIC, image_size, orientation, plain_png
from edge_runtime.system.text import printable
from engines.errors import LvmError

MAX_SCANS = 200
"""Passes over a progressive JPEG: real ones take about ten, and each costs a whole picture of work."""
TOP = {"uint8": 255, "uint16": 65535}
BLEND_ROWS = 64
EXPECTED = "expected a JPEG, PNG, WebP, GIF, BMP or TIFF picture"

MAX_BYTES = 50_000_000
"""Of one encoded picture."""

LARGE_PIXELS = 5_000_000
_large = threading.Lock()
"""Larger pictures are decoded one at a time: one of 50 million pixels takes up to 600 MB for a moment, and
questions come from many threads at once."""


def read_image(
    source: str | PathLike[str] | bytes,
    *,
    max_pixels: int = 50_000_000,
    max_bytes: int = MAX_BYTES,
) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB, turned upright by its EXIF orientation; of an animation, the first picture.

    Raises LvmError where there is no such file, where it is larger than `max_bytes` or its picture than
    `max_pixels`, and where it cannot be decoded.
    """
    if isinstance(source, bytes):
        name, data = "the picture", source
    else:
        name, data = printable(str(source)), contents(Path(source), max_bytes)
    if len(data) > max_bytes:
        raise LvmError(f"{name} is too large: expected at most {max_bytes} bytes, got {len(data)}")
    return _decode(name, data, _check_header(name, data, max_pixels))


MAX_SHOWN = 120
"""Characters of a path in a sentence; each may become ten where it is not printable."""


def contents(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """The bytes of a picture's file. Raises LvmError for what is none, is too large or cannot be read."""
    name = _shown(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for, a device has no end
            raise LvmError(f"{name} is no file: {EXPECTED}")
        if status.st_size > max_bytes:
            raise LvmError(f"{name} is too large: expected at most {max_bytes} bytes, got {status.st_size}")
        with path.open("rb") as file:
            return file.read(max_bytes + 1)  # it may grow meanwhile
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise LvmError(f"{name} cannot be read: {getattr(error, 'strerror', error)}") from error


def _shown(path: Path) -> str:
    """A path in a sentence: whole, or its end where it is longer than anybody reads."""
    text = str(path)
    return printable(text if len(text) <= MAX_SHOWN else f"…{text[-MAX_SHOWN:]}")


def _check_header(name: str, data: bytes, max_pixels: int) -> int:
    """Pixels of the picture."""
    if not data:
        raise LvmError(f"{name} is empty: {EXPECTED}")
    size = image_size(data)
    if size is None:
        raise LvmError(f"{name} is damaged or of another kind: {EXPECTED}")
    width, height = size
    if width < 1 or height < 1:
        raise LvmError(f"{name} is damaged: it says that it is {width} x {height} pixels large")
    if width * height > max_pixels:
        raise LvmError(f"{name} is {width} x {height}: expected at most {max_pixels} pixels; make it smaller")
    # Within compressed data FF is always followed by 00, so this counts scans.
    if data.startswith(b"\xff\xd8") and data.count(b"\xff\xda") > MAX_SCANS:
        raise LvmError(f"{name} is a JPEG of more than {MAX_SCANS} scans, save it again")
    return width * height


def _decode(name: str, data: bytes, pixels: int) -> NDArray[np.uint8]:
    plain = plain_png(data) if data.startswith(PNG_MAGIC) else data
    if plain is None:
        raise LvmError(f"{name} is damaged or cut short: save it again as JPEG or PNG")
    silence_opencv()
    encoded = np.frombuffer(plain, np.uint8)
    # JPEG and BMP have no transparency worth the second decoding.
    opaque = data[:2] in (b"\xff\xd8", b"BM")
    try:
        with _large if pixels > LARGE_PIXELS else contextlib.nullcontext():
            image = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)  # (H, W, 3), upright, 8 bit
            alpha = None if opaque else _alpha(encoded)
            # OpenCV turns the colours by EXIF and never the transparency: both as they lie, then turned.
            turn = orientation(plain) if alpha is not None else 1
            if turn != 1:
                image = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise LvmError(f"{name} cannot be decoded ({error.err}): save it again as JPEG or PNG") from error
    if image is None:
        raise LvmError(f"{name} is damaged or cut short: save it again as JPEG or PNG")
    rgb = np.asarray(image, np.uint8)
    if alpha is not None and alpha.shape == rgb.shape[:2]:
        _put_on_white(rgb, alpha)
    return np.ascontiguousarray(_upright(rgb, turn))


def _upright(image: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    """(H, W, 3) by EXIF orientation: 5 to 8 lie on their side, the others are mirrored or upside down."""
    if turn > 4:
        image = image.transpose(1, 0, 2)
    if turn in (3, 4, 7, 8):
        image = image[::-1]
    return image[:, ::-1] if turn in (2, 3, 6, 7) else image


def _alpha(encoded: NDArray[np.uint8]) -> NDArray[Any] | None:
    """(H, W) opacity, 0 to the type's largest value; None where everything is opaque."""
    image = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 3 or image.shape[2] != 4 or image.dtype.name not in TOP:
        return None
    alpha = image[..., 3]
    return None if alpha.min() == TOP[alpha.dtype.name] else alpha


def _put_on_white(image: NDArray[np.uint8], alpha: NDArray[Any]) -> None:
    """Blend in place, some rows at a time: whole pictures in floats would take a gigabyte."""
    top = np.float32(TOP[alpha.dtype.name])
    for at in range(0, len(image), BLEND_ROWS):
        rows = image[at : at + BLEND_ROWS]  # (rows, W, 3)
        opaque = alpha[at : at + BLEND_ROWS, :, None] / top  # (rows, W, 1), 0–1
        rows[:] = 255.5 - opaque * (np.float32(255) - rows)


def silence_opencv() -> None:
    """Turn OpenCV's log off in this process. Cheap; call it before a decoder that may complain."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
