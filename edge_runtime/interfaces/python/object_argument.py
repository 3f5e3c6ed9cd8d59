"""Turn the object argument of a Python call into the object of a query."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from edge_runtime.catalogue.photos import MAX_PHOTOS
from edge_runtime.imaging.decode import read_file
from edge_runtime.query.schema import BoxInFrame, Photos, Product
from edge_runtime.system.errors import QueryError
from engines.errors import LvmError

Image = NDArray[np.uint8]
PhotoArgument = str | os.PathLike[str] | bytes | Image
ObjectArgument = PhotoArgument | Sequence[PhotoArgument]
Box = Sequence[float]

EXPECTED = "expected a photo (path, bytes or array), several in a list, a product's name, or box= and at="


def parse_object(
    object: ObjectArgument | None, box: Box | None, at: float | None
) -> Photos | BoxInFrame | Product:
    """Return the object of a query. Raises QueryError if it is invalid, missing or given twice."""
    if (object is None) == (box is None):
        raise QueryError(f"name the object once: {EXPECTED}")
    if box is not None:
        return _parse_box(box, at)
    if at is not None:
        raise QueryError("at= is the time of the picture that box= lies in; a photo has none")
    if isinstance(object, str) and not Path(object).is_file():
        if os.sep in object or Path(object).suffix.lower() in {".jpg", ".jpeg", ".png", ".webp", ".bmp"}:
            raise QueryError(f"there is no photo {object[:200]!r}")
        return Product(product=object[:200] or " ")
    photos = object if isinstance(object, (list, tuple)) else [object]
    if not 1 <= len(photos) <= MAX_PHOTOS:
        raise QueryError(f"an object is shown by 1 to {MAX_PHOTOS} photos, got {len(photos)}")
    return Photos(photos=tuple(_read_photo(photo) for photo in photos))


def check_image(image: Any, what: str) -> Image:
    """Return `image` if it is (H, W, 3) uint8 RGB, else raise LvmError, which calls it `what`."""
    if not isinstance(image, np.ndarray):
        raise LvmError(f"{what} must be a numpy array (H, W, 3) of uint8, RGB, got {type(image).__name__}")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise LvmError(f"{what} must be (H, W, 3) of uint8, RGB, got {image.shape} of {image.dtype}")
    return image


def _parse_box(box: Box, at: float | None) -> BoxInFrame:
    if at is None:
        raise QueryError("box= needs at=, the seconds at which the picture was shown")
    try:
        corners = tuple(float(corner) for corner in box)
        return BoxInFrame.model_validate({"box": corners, "t": float(at)})
    except (ValidationError, TypeError, ValueError) as error:
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise QueryError(f"box: {first.removeprefix('Value error, ')}") from None


def _read_photo(photo: Any) -> bytes:
    if isinstance(photo, bytes):
        return photo
    if isinstance(photo, (str, os.PathLike)):
        return read_file(Path(photo))
    image = check_image(photo, "a photo")
    success, data = cv2.imencode(".png", image[..., ::-1])  # PNG is lossless
    assert success, "an array of pixels can always be encoded"
    return bytes(data)
