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
from export.papers.detection.clips import RegionVideo
from export.papers.detection.head import Before, MemoryPart
from export.papers.detection.past import clips_in

Rows = NDArray[np.floating[Any]]
_OVERSAMPLES, _POWER_ITERATIONS = 8, 2
_LEAST = 1e-5
"""Directions shorter than this share of the longest one are rounding errors of float32."""


class Basis(NamedTuple):
    """`rows` (B, k, d): orthonormal, the rest of a basis that has fewer is zero."""

    rows: Tensor


class Projection(MemoryPart):
    """Eq. 3 with some basis. It keeps what it found of a video for as long as the video lives."""

    def __init__(self, components: int) -> None:
        super().__init__()
        self.components = components
        self._known: WeakKeyDictionary[RegionVideo, Tensor] = WeakKeyDictionary()

    @abstractmethod
    def bases(self, video: RegionVideo) -> Rows:
        """The basis before each clip, padded with zeros. (n, k, d)"""

    def watch(self, video: RegionVideo) -> Before:
        if video not in self._known:
            self._known[video] = torch.from_numpy(self.bases(video))
        bases = self._known[video]
        return lambda clips: Basis(bases[torch.from_numpy(clips)])

    def forward(self, regions: Tensor, valid: Tensor, past: Basis) -> Tensor:
        return (regions @ past.rows.transpose(1, 2)) @ past.rows


class WindowSVD(Projection):
    """Offline: the SVD of all region rows of the `seconds` before a clip; `randomised` after Halko."""

    def __init__(self, components: int = 10, seconds: float = 61.0, randomised: bool = False) -> None:
        super().__init__(components)
        self.seconds, self.randomised = seconds, randomised

    def bases(self, video: RegionVideo) -> Rows:
        steps = clips_in(video, self.seconds)
        out = np.zeros((len(video), self.components, video.features.shape[-1]), video.features.dtype)
        for clip in range(1, len(video)):
            past = slice(max(0, clip - steps), clip)
            rows = video.features[past][video.valid[past]]  # (N, d)
            basis = (randomised_basis if self.randomised else exact_basis)(rows, self.components)
            out[clip, : len(basis)] = basis
        return out


class ForgettingSVD(Projection):
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


class FirstOf(MemoryPart):
    """Eq. 3 with the first components of another projection's basis: those of an exact SVD are its own."""

    def __init__(self, whole: Projection, components: int) -> None:
        super().__init__()
        if not 1 <= components <= whole.components:
            raise LvmError(f"components must be 1 to {whole.components} of the basis, got {components}")
        self.whole, self.components = whole, components

    def watch(self, video: RegionVideo) -> Before:
        before = self.whole.watch(video)
        return lambda clips: Basis(before(clips).rows[:, : self.components])

    def forward(self, regions: Tensor, valid: Tensor, past: Basis) -> Tensor:
        return self.whole(regions, valid, past)  # type: ignore[no-any-return]


class Gated(MemoryPart):
    """h ← h + g ⊙ (h Uᵀ) U with one learned number a channel, at first 0: our own addition to Eq. 3.

    Where it falls below 0 it takes away what the past explains: novelty instead of memory.
    """

    def __init__(self, projection: MemoryPart, width: int) -> None:
        super().__init__()
        self.projection = projection
        self.gate = nn.Parameter(torch.zeros(width))

    def watch(self, video: RegionVideo) -> Before:
        return self.projection.watch(video)

    def forward(self, regions: Tensor, valid: Tensor, past: Basis) -> Tensor:
        return self.gate * self.projection(regions, valid, past)  # type: ignore[no-any-return]


class Probed(MemoryPart):
    """h ← h + W relu(V s), s_j = |p_j Uᵀ|² / |p_j|²: how far the past explains each of J learned directions.

    Our own addition, on the same basis. Eq. 3 gives a region back what the past shares with *it*: of what was
    seen and does not look like the region it can say nothing. This says that, to all regions alike.
    """

    def __init__(self, projection: MemoryPart, width: int, probes: int = 32) -> None:
        super().__init__()
        self.projection = projection
        self.probes = nn.Parameter(torch.randn(probes, width))
        self.inner = nn.Linear(probes, width)
        self.outer = nn.Linear(width, width)
        nn.init.zeros_(self.outer.weight)  # the first head of a training is the one without memory
        nn.init.zeros_(self.outer.bias)

    def watch(self, video: RegionVideo) -> Before:
        return self.projection.watch(video)

    def forward(self, regions: Tensor, valid: Tensor, past: Basis) -> Tensor:
        probes = functional.normalize(self.probes, dim=1)
        explained = (past.rows @ probes.T).square().sum(dim=1)  # (B, J) of 0..1
        said: Tensor = self.outer(functional.relu(self.inner(explained)))  # (B, d)
        return said[:, None].expand_as(regions)


def exact_basis(rows: Rows, components: int) -> Rows:
    """The first right singular vectors of rows (N, d), as many as there are directions. (≤ k, d)"""
    if not len(rows):
        return rows
    if rows.dtype == np.float32 and len(rows) >= rows.shape[1]:
        # By the Gram matrix in double, where its squares have room: about half the time.
        wide = rows.astype(np.float64)
        squares, vectors = np.linalg.eigh(wide.T @ wide)
        values, right = np.sqrt(np.maximum(squares[::-1], 0)), vectors[:, ::-1].T.astype(np.float32)
    else:
        values, right = decompose(rows)
    return np.asarray(right[:components][values[:components] > _LEAST * values[0]])


def randomised_basis(rows: Rows, components: int) -> Rows:
    """As `exact_basis`, of a random sketch: O(k N d). The same rows give the same basis."""
    sketch = components + _OVERSAMPLES
    if min(rows.shape) <= sketch:
        return exact_basis(rows, components)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _, values, right = torch.svd_lowrank(torch.from_numpy(rows), sketch, niter=_POWER_ITERATIONS)
    found = right.T[:components].numpy()
    return np.asarray(found[values[:components].numpy() > _LEAST * float(values[0])])
