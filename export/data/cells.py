"""Find the cells of the 7 x 7 grid that a box covers: the rule by which a token is evidence."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

GRID = 7
EVIDENCE_OVERLAP = 0.25
"""A cell shows the content of a box if they share at least this part of the smaller area."""


def cell_shares(boxes: ArrayLike) -> NDArray[np.float64]:
    """Return the overlap of xyxy boxes (..., 4) with each cell as a share of the smaller area. (..., 49)"""
    x1, y1, x2, y2 = np.moveaxis(np.asarray(boxes, np.float64)[..., None], -2, 0)  # (..., 1) each
    edges = np.arange(GRID + 1) / GRID
    wide = np.clip(np.minimum(x2, edges[1:]) - np.maximum(x1, edges[:-1]), 0, None)  # (..., 7) columns
    high = np.clip(np.minimum(y2, edges[1:]) - np.maximum(y1, edges[:-1]), 0, None)  # (..., 7) rows
    shared = (high[..., :, None] * wide[..., None, :]).reshape(*wide.shape[:-1], GRID**2)
    area = np.clip(x2 - x1, 0, None) * np.clip(y2 - y1, 0, None)  # (..., 1)
    smaller = np.minimum(area, 1 / GRID**2)
    return np.asarray(np.divide(shared, smaller, out=np.zeros_like(shared), where=smaller > 0))


def evidence_cells(boxes: ArrayLike) -> NDArray[np.bool_]:
    """Return which cells show the content of xyxy boxes (F, 4). (F, 49)"""
    # The tolerance is for rounded boxes that cover exactly a quarter.
    return np.asarray(cell_shares(boxes) >= EVIDENCE_OVERLAP - 1e-6)
