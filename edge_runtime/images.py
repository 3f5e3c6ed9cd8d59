"""The one door for photos of objects: any file or bytes in, an upright RGB picture or one sentence out.

Size is checked in the header before a decoder runs, so a picture that would unpack to gigabytes costs
nothing. Transparent pictures are put on white, as shops photograph their goods.
"""

from __future__ import annotations

import stat
from os import PathLike
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.image_header import PNG_MAGIC, image_size, plain_png
from edge_runtime.quiet import hush_opencv
from engines.errors import LvmError

MAX_SCANS = 200
"""Passes over a progressive JPEG: real ones take about ten, and each costs a whole picture of work."""
EXPECTED = "expected a JPEG, PNG, WebP, GIF, BMP or TIFF picture"

MAX_BYTES = 50_000_000
"""Of one encoded picture."""


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
        name, data = str(source), _contents(Path(source), max_bytes)
    if len(data) > max_bytes:
        raise LvmError(f"{name} is too large: expected at most {max_bytes} bytes, got {len(data)}")
    _check_header(name, data, max_pixels)
    return _decode(name, data)


def _contents(path: Path, max_bytes: int) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise LvmError(f"{path} is no file: {EXPECTED}")
        if status.st_size > max_bytes:
            raise LvmError(f"{path} is too large: expected at most {max_bytes} bytes, got {status.st_size}")
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise LvmError(f"{path} cannot be read: {getattr(error, 'strerror', error)}") from error


def _check_header(name: str, data: bytes, max_pixels: int) -> None:
    if not data:
        raise LvmError(f"{name} is empty: {EXPECTED}")
    size = image_size(data)
    if size is None:
        raise LvmError(f"{name} is damaged or of another kind: {EXPECTED}")
    width, height = size
    if width < 1 or height < 1 or width * height > max_pixels:
        raise LvmError(f"{name} is {width} x {height}: expected 1 to {max_pixels} pixels; make it smaller")
    # Within compressed data FF is always followed by 00, so this counts scans.
    if data.startswith(b"\xff\xd8") and data.count(b"\xff\xda") > MAX_SCANS:
        raise LvmError(f"{name} is a JPEG of more than {MAX_SCANS} scans, save it again")


def _decode(name: str, data: bytes) -> NDArray[np.uint8]:
    plain = plain_png(data) if data.startswith(PNG_MAGIC) else data
    if plain is None:
        raise LvmError(f"{name} is damaged or cut short: save it again as JPEG or PNG")
    hush_opencv()
    encoded = np.frombuffer(plain, np.uint8)
    try:
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)  # (H, W, 3), upright, 8 bit
        # JPEG and BMP have no transparency worth the second decoding.
        alpha = None if data[:2] in (b"\xff\xd8", b"BM") else _alpha(encoded)
    except cv2.error as error:
        raise LvmError(f"{name} cannot be decoded ({error.err}): save it again as JPEG or PNG") from error
    if image is None:
        raise LvmError(f"{name} is damaged or cut short: save it again as JPEG or PNG")
    rgb = np.asarray(image, np.uint8)
    # Shapes differ where EXIF turned the picture by 90 degrees; then its hidden colours stay visible.
    return rgb if alpha is None or alpha.shape != rgb.shape[:2] else _on_white(rgb, alpha)


def _alpha(encoded: NDArray[np.uint8]) -> NDArray[np.float32] | None:
    """(H, W) opacity 0–1; None where everything is opaque."""
    image = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 3 or image.shape[2] != 4:
        return None
    alpha = image[..., 3]
    top = {"uint8": 255, "uint16": 65535}.get(alpha.dtype.name, 1)
    return None if alpha.min() == top else np.asarray(alpha, np.float32) / np.float32(top)


def _on_white(image: NDArray[np.uint8], alpha: NDArray[np.float32]) -> NDArray[np.uint8]:
    alpha = alpha[..., None]  # (H, W, 1)
    return np.asarray(image * alpha + 255 * (1 - alpha) + 0.5, np.uint8)
