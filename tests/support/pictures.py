"""Make folders of photographs, each of one plain colour that identifies its product and view."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def product_folder(root: Path, products: int, photos: int) -> Path:
    """Make one sub-folder for each product; photograph v of product p has colour (40 + 20 p, 10 v, 200)."""
    for product in range(products):
        place = root / f"product-{product:02d}"
        place.mkdir(parents=True)
        for view in range(photos):
            image = np.full((60, 48, 3), (40 + 20 * product, 10 * view, 200), np.uint8)
            cv2.imwrite(str(place / f"{view:03d}.png"), image[:, :, ::-1])
    return root


def background_folder(root: Path, pictures: int) -> Path:
    """Make pictures with a grey gradient from left to right and another from top to bottom."""
    root.mkdir(parents=True)
    for number in range(pictures):
        y, x = np.mgrid[:90, :160]
        image = np.stack([x, 2 * y, np.full_like(x, 60 * number)], axis=2).astype(np.uint8)
        cv2.imwrite(str(root / f"{number}.png"), image[:, :, ::-1])
    return root
