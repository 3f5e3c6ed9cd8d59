"""What a fixed camera always sees, and how new a token is against it.

Letters: F frames, P = 49 cells, d width of a token, k tokens.

A running mean for each cell takes the still scene away; an `OnlineSVD` of what varies takes away lighting and
whatever else comes back all the time. The length of the residual, compared with what is usual in that cell,
is the novelty. It costs two small matrix products a frame and is known before any network has judged the
frame, so it thins out the candidates.

Usual in that cell and not in the picture, because an advert or a door always has long residuals: of the
tokens that show an event, the most novel fifth of a clip holds 0.87 instead of 0.65 (demo level L1; 0.54
instead of 0.38 on L2). Which rows the SVD gets hardly matters, the cell means matter most
(tools/novelty_rows.py, docs/measurements.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import CELLS
from edge_runtime.memory import Tokens
from edge_runtime.svd import OnlineSVD

Features = NDArray[np.floating[Any]]

ROWS_PER_CLIP = 16
"""Rows of one SVD update: bounds its cost whatever the clip length."""
CELL_MEAN_RATE = 0.1
"""Share of a clip's median in the running cell means: half of the old scene is forgotten in seven clips."""
_SCALE_RATE = 0.1
_LEAST_DEVIATION = 0.5
"""Of the mean over all cells: in a cell where nothing ever moves, noise must not count as news."""


@dataclass(frozen=True)
class Background:
    """Immutable; `update` with each clip returns the next one.

    `cell_means` (49, d) float32, `svd` of what varies around them, `scale` (2, 49) float32 mean and standard
    deviation of each cell's recent residuals, by which novelty is standardised. None before the first clip.
    """

    svd: OnlineSVD
    cell_means: Features | None = None
    scale: Features | None = None  # (2, 49)

    @classmethod
    def empty(cls, rank: int, width: int, forgetting: float) -> Background:
        """Before the first clip. float32 throughout: 1,000 clips stay within 1e-3 of float64 (test_svd)."""
        return cls(OnlineSVD.empty(rank, width, forgetting=forgetting, dtype=np.float32))

    def novelty(self, tokens: Tokens) -> NDArray[np.float32]:
        """How new each token is, in (-1, 1); 0 is usual. All 0 before the first clip. (k,)"""
        if self.cell_means is None or self.scale is None:
            return np.zeros(len(tokens), np.float32)
        mean, deviation = self.scale  # (49,) each
        deviation = np.maximum(deviation, max(_LEAST_DEVIATION * float(deviation.mean()), 1e-6))
        around = self._residual(tokens) - mean[tokens.cell]
        return np.asarray(np.tanh(around / deviation[tokens.cell]), np.float32)

    def update(self, frames: Features) -> Background:
        """Take in a clip's features (F, 49, d). Raises ValueError for NaN or Inf; this state stays usable."""
        if frames.ndim != 3 or frames.shape[1] != CELLS:
            raise ValueError(f"frames must be (F, {CELLS}, d), got {frames.shape}")
        frames = frames.astype(np.float32)
        median = np.median(frames, axis=0)  # (49, d)
        means = median if self.cell_means is None else self.cell_means
        svd = self.svd.update(_rows(frames - means))
        moved = replace(self, svd=svd, cell_means=means + CELL_MEAN_RATE * (median - means))
        return replace(moved, scale=moved._rescaled(frames))

    def _residual(self, tokens: Tokens) -> NDArray[np.float32]:
        assert self.cell_means is not None
        around = tokens.features.astype(np.float32) - self.cell_means[tokens.cell]
        return self.svd.residual(around).astype(np.float32)

    def _rescaled(self, frames: Features) -> Features:
        assert self.cell_means is not None
        f, p, d = frames.shape
        rest = self.svd.residual((frames - self.cell_means).reshape(f * p, d)).reshape(f, p)
        now = np.stack([rest.mean(axis=0), rest.std(axis=0)]).astype(np.float32)  # (2, 49)
        return now if self.scale is None else self.scale + np.float32(_SCALE_RATE) * (now - self.scale)


def _rows(around: Features) -> Features:
    """At most 16 rows that sum up a clip: means over all cells of consecutive frames. (F, 49, d) -> (n, d)"""
    groups = np.array_split(around.mean(axis=1), min(ROWS_PER_CLIP, len(around)))
    return np.stack([group.mean(axis=0) for group in groups])
