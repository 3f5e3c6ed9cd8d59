"""Make a folder of products with coloured photos."""

from __future__ import annotations

import colorsys
from pathlib import Path

import cv2
import numpy as np


def product_folder(folder: Path, count: int, *, photos: int = 6, first: int = 0) -> Path:
    """Make `count` products, each with a hue of its own; no two photos are equal."""
    for i in range(count):
        place = folder / f"product-{first + i:02}"
        place.mkdir(parents=True)
        colour = np.array(colorsys.hsv_to_rgb(i / count, 1.0, 0.9)) * 255
        for number in range(photos):
            image = np.full((64, 64, 3), 90 + 10 * number, np.uint8)
            image[4:60, 4:60] = colour
            image[10 + number : 20 + number, 12:50] = 230
            cv2.imwrite(str(place / f"{number}.png"), image[..., ::-1])
    return folder
