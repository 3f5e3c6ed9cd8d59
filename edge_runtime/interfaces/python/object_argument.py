"""What a Python program means by an object, as the question that every door understands."""

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
One = str | os.PathLike[str] | bytes | Image
Wanted = One | Sequence[One]
Box = Sequence[float]

EXPECTED = "expected a photo (path, bytes or array), several in a list, a product's name, or box= and at="


def wanted(object: Wanted | None, box: Box | None, at: float | None) -> Photos | BoxInFrame | Product:
    """The object of a question. Raises QueryError for what is none, or is named twice or not at all."""
    if (object is None) == (box is None):
        raise QueryError(f"name the object once: {EXPECTED}")
    if box is not None:
        return _boxed(box, at)
    if at is not None:
        raise QueryError("at= is the time of the picture that box= lies in; a photo has none")
    if isinstance(object, str) and not Path(object).is_file():
        if os.sep in object or Path(object).suffix.lower() in {".jpg", ".jpeg", ".png", ".webp", ".bmp"}:
            raise QueryError(f"there is no photo {object[:200]!r}")
        return Product(product=object[:200] or " ")
    several = object if isinstance(object, (list, tuple)) else [object]
    if not 1 <= len(several) <= MAX_PHOTOS:
        raise QueryError(f"an object is shown by 1 to {MAX_PHOTOS} photos, got {len(several)}")
    return Photos(photos=tuple(_photo(one) for one in several))


def picture(image: Any, what: str) -> Image:
    """`image` if it is (H, W, 3) uint8 RGB. Raises LvmError with what it is otherwise."""
    if not isinstance(image, np.ndarray):
        raise LvmError(f"{what} must be a numpy array (H, W, 3) of uint8, RGB, got {type(image).__name__}")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise LvmError(f"{what} must be (H, W, 3) of uint8, RGB, got {image.shape} of {image.dtype}")
    return image


def _boxed(box: Box, at: float | None) -> BoxInFrame:
    if at is None:
        raise QueryError("box= needs at=, the seconds at which the picture was shown")
    try:
        corners = tuple(float(one) for one in box)
        return BoxInFrame.model_validate({"box": corners, "t": float(at)})
    except (ValidationError, TypeError, ValueError) as error:
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise QueryError(f"box: {first.removeprefix('Value error, ')}") from None


def _photo(one: Any) -> bytes:
    if isinstance(one, bytes):
        return one
    if isinstance(one, (str, os.PathLike)):
        return read_file(Path(one))
    image = picture(one, "a photo")
    done, data = cv2.imencode(".png", image[..., ::-1])  # as it is: PNG loses nothing
    assert done, "an array of pixels can always be encoded"
    return bytes(data)
