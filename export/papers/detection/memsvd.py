"""MeMSVD: the past as a low-rank basis, onto which regions are projected before the classifier.

Letters: B clips, R regions, n clips of a video, N rows of a window, k components, d width.

    h ← h + (h Uᵀ) U        (Eq. 3; no parameter is learned)

Offline, U are the first right singular vectors of all rows of a window, exactly or by a randomised SVD;
online (oMeMSVD) Brand's update carries it from clip to clip with a forgetting factor, at a cost that does not
depend on how much is remembered. Rows are not centred. The window is the past alone: the paper's own reaches
as far into the future.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from edge_runtime.memory.online_svd import OnlineSVD, decompose
from engines.errors import LvmError
from export.papers.detection.bank import count_clips
from export.papers.detection.clips import RegionVideo
from export.papers.detection.head import MemoryPart, ReadPast

Rows = NDArray[np.floating[Any]]
_OVERSAMPLES, _POWER_ITERATIONS = 8, 2
_MIN_STRENGTH = 1e-5
"""Directions shorter than this share of the longest one are rounding errors of float32."""


class Basis(NamedTuple):
    """`rows` (B, k, d): orthonormal, the rest of a basis that has fewer is zero."""

    rows: Tensor


class SVDProjection(MemoryPart):
    """Eq. 3 with some basis. It stores the bases of a video for as long as the video lives."""

    def __init__(self, components: int) -> None:
        super().__init__()
        self.components = components
        self._known: WeakKeyDictionary[RegionVideo, Tensor] = WeakKeyDictionary()

    @abstractmethod
    def bases(self, video: RegionVideo) -> Rows:
        """Return the basis before each clip, padded with zeros. (n, k, d)"""

    def watch(self, video: RegionVideo) -> ReadPast:
        if video not in self._known:
            self._known[video] = torch.from_numpy(self.bases(video))
        bases = self._known[video]
        return lambda clips: Basis(bases[torch.from_numpy(clips)])

    def forward(self, regions: Tensor, valid: Tensor, past: Basis) -> Tensor:
        return (regions @ past.rows.transpose(1, 2)) @ past.rows


class WindowSVD(SVDProjection):
    """Offline: the SVD of all region rows of the `seconds` before a clip; `randomised` after Halko."""

    def __init__(self, components: int = 10, seconds: float = 61.0, randomised: bool = False) -> None:
        super().__init__(components)
        self.seconds, self.randomised = seconds, randomised

    def bases(self, video: RegionVideo) -> Rows:
        steps = count_clips(video, self.seconds)
        out = np.zeros((len(video), self.components, video.features.shape[-1]), video.features.dtype)
        for clip in range(1, len(video)):
            past = slice(max(0, clip - steps), clip)
            rows = video.features[past][video.valid[past]]  # (N, d)
            basis = (make_randomised_basis if self.randomised else make_exact_basis)(rows, self.components)
            out[clip, : len(basis)] = basis
        return out


class ForgettingSVD(SVDProjection):
    """Online: oMeMSVD, updated once with each clip. `forgetting` is that of one clip."""

    def __init__(self, components: int = 10, forgetting: float = 0.95) -> None:
        super().__init__(components)
        self.forgetting = forgetting

    def bases(self, video: RegionVideo) -> Rows:
        width, kind = video.features.shape[-1], video.features.dtype
        svd = OnlineSVD.empty(self.components, width, forgetting=self.forgetting, dtype=kind.type)
        out = np.zeros((len(video), self.components, width), kind)
        for clip in range(len(video)):
            out[clip, : len(svd.basis)] = svd.basis
            svd = svd.update(video.features[clip][video.valid[clip]])
        return out


class TruncatedProjection(MemoryPart):
    """Eq. 3 with the first components of another projection's basis: those of an exact SVD are the exact
    SVD's own."""

    def __init__(self, whole: SVDProjection, components: int) -> None:
        super().__init__()
        if not 1 <= components <= whole.components:
            raise LvmError(f"components must be 1 to {whole.components} of the basis, got {components}")
        self.whole, self.components = whole, components

    def watch(self, video: RegionVideo) -> ReadPast:
        before = self.whole.watch(video)
        return lambda clips: Basis(before(clips).rows[:, : self.components])

    def forward(self, regions: Tensor, valid: Tensor, past: Basis) -> Tensor:
        return self.whole(regions, valid, past)  # type: ignore[no-any-return]


class GatedProjection(MemoryPart):
    """h ← h + g ⊙ (h Uᵀ) U with one learned number a channel, at first 0: our own addition to Eq. 3.

    Where it falls below 0 it takes away what the past explains: novelty instead of memory.
    """

    def __init__(self, projection: MemoryPart, width: int) -> None:
        super().__init__()
        self.projection = projection
        self.gate = nn.Parameter(torch.zeros(width))

    def watch(self, video: RegionVideo) -> ReadPast:
        return self.projection.watch(video)

    def forward(self, regions: Tensor, valid: Tensor, past: Basis) -> Tensor:
        return self.gate * self.projection(regions, valid, past)  # type: ignore[no-any-return]


class ProbedProjection(MemoryPart):
    """h ← h + W relu(V s), s_j = |p_j Uᵀ|² / |p_j|²: how much of each of J learned directions the past
    explains.

    Our own addition, on the same basis. Eq. 3 adds to a region what the past shares with that region; it
    cannot express anything seen that does not look like the region. This adds that, equally to all regions.
    """

    def __init__(self, projection: MemoryPart, width: int, probes: int = 32) -> None:
        super().__init__()
        self.projection = projection
        self.probes = nn.Parameter(torch.randn(probes, width))
        self.inner = nn.Linear(probes, width)
        self.outer = nn.Linear(width, width)
        nn.init.zeros_(self.outer.weight)  # training starts from the head without memory
        nn.init.zeros_(self.outer.bias)

    def watch(self, video: RegionVideo) -> ReadPast:
        return self.projection.watch(video)

    def forward(self, regions: Tensor, valid: Tensor, past: Basis) -> Tensor:
        probes = functional.normalize(self.probes, dim=1)
        explained = (past.rows @ probes.T).square().sum(dim=1)  # (B, J) of 0..1
        added: Tensor = self.outer(functional.relu(self.inner(explained)))  # (B, d)
        return added[:, None].expand_as(regions)


def make_exact_basis(rows: Rows, components: int) -> Rows:
    """Return the first right singular vectors of rows (N, d), as many as there are directions. (≤ k, d)"""
    if not len(rows):
        return rows
    if rows.dtype == np.float32 and len(rows) >= rows.shape[1]:
        # By the Gram matrix in double precision, which holds its squares: about half the time.
        wide = rows.astype(np.float64)
        squares, vectors = np.linalg.eigh(wide.T @ wide)
        values, right = np.sqrt(np.maximum(squares[::-1], 0)), vectors[:, ::-1].T.astype(np.float32)
    else:
        values, right = decompose(rows)
    return np.asarray(right[:components][values[:components] > _MIN_STRENGTH * values[0]])


def make_randomised_basis(rows: Rows, components: int) -> Rows:
    """Return the basis from a random sketch: O(k N d). The same rows give the same basis."""
    sketch = components + _OVERSAMPLES
    if min(rows.shape) <= sketch:
        return make_exact_basis(rows, components)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _, values, right = torch.svd_lowrank(torch.from_numpy(rows), sketch, niter=_POWER_ITERATIONS)
    basis = right.T[:components].numpy()
    return np.asarray(basis[values[:components].numpy() > _MIN_STRENGTH * float(values[0])])
