"""Folders of photographs for tests: each photograph is one plain colour that says what it is of."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def product_folder(root: Path, products: int, photos: int) -> Path:
    """One sub-folder a product; photograph v of product p is of colour (40 + 20 p, 10 v, 200)."""
    for product in range(products):
        place = root / f"product-{product:02d}"
        place.mkdir(parents=True)
        for view in range(photos):
            image = np.full((60, 48, 3), (40 + 20 * product, 10 * view, 200), np.uint8)
            cv2.imwrite(str(place / f"{view:03d}.png"), image[:, :, ::-1])
    return root


def background_folder(root: Path, pictures: int) -> Path:
    """Pictures with a slope of grey from left to right and another one from top to bottom."""
    root.mkdir(parents=True)
    for number in range(pictures):
        y, x = np.mgrid[:90, :160]
        image = np.stack([x, 2 * y, np.full_like(x, 60 * number)], axis=2).astype(np.uint8)
        cv2.imwrite(str(root / f"{number}.png"), image[:, :, ::-1])
    return root
