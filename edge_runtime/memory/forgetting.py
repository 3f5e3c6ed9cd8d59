"""Forgetting an interval: what is removed, what is marked, and what stays in sums over all frames."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import MAX_T, TICKS_PER_SECOND
from edge_runtime.memory.background_model import CELL_MEAN_RATE, FRAMES_PER_CLIP, Background
from edge_runtime.memory.recurrent_state import forget_ticks
from edge_runtime.memory.token_memory import TokenMemory
from edge_runtime.memory.version import Version
from engines.errors import LvmError


@dataclass(frozen=True)
class Forgotten:
    """What was done. Times in seconds of the stream.

    `svd_share` and `cell_share` estimate, from how many clips ago it was, how much of the background's SVD
    and cell means came from the interval; 0 where the background was reset or there is none.
    """

    start: float
    end: float
    tokens: int
    pending_frames: int
    svd_share: float
    cell_share: float
    background_reset: bool = False
    thumbnails: int = 0
    activities: int = 0
    log_lines: int = 0

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "remains": self.remains()}

    def remains(self) -> str:
        """What is only approximately gone, as one sentence."""
        if self.background_reset:
            return "nothing of it: the background was emptied too and learns anew"
        if max(self.svd_share, self.cell_share) < 5e-4:
            return "nothing of it that could be told: less than 0.1 % of the background came from then"
        return (
            f"of the background (what is usual in each cell) about {self.svd_share:.1%} of the SVD's rows "
            f"and {self.cell_share:.1%} of the cell means came from then; they are sums over all frames, "
            "hold no picture and fade with every clip; --reset-background empties them"
        )


def checked_span(start: float, end: float) -> tuple[float, float]:
    """Raises LvmError unless there is something between `start` and `end`."""
    if not (np.isfinite(start) and np.isfinite(end) and start < end):
        raise LvmError(f"--from must be before --to, both finite, got {start:g} and {end:g}")
    return start, end


def ticks_of(start: float, end: float) -> tuple[int, int]:
    """First and last tick, both included, that a picture of [start, end) may have.

    A tick is a time rounded to 0.2 s, so this reaches up to 0.2 s too far rather than 0.1 s too short. What
    lies beyond `MAX_T` has no tick.
    """
    start, end = (min(max(t, -MAX_T), MAX_T) for t in (start, end))
    return (
        int(np.ceil(start * TICKS_PER_SECOND - 0.5 - 1e-9)),
        int(np.floor(end * TICKS_PER_SECOND + 0.5 + 1e-9)),
    )


def forget_span(
    version: Version, start: float, end: float, *, clip_s: float, clip_frames: int, reset: bool = False
) -> tuple[Version, Forgotten]:
    """`version` without [start, end) seconds, as far as it was watched, and what that came to.

    `clip_s` seconds and `clip_frames` frames of one clip; `reset` empties the background.
    """
    start, end = checked_span(start, end)
    first, last = ticks_of(start, end)
    svd_share, cell_share = _shares(version, start, end, clip_s, clip_frames)
    memory, tokens = _without(version.memory, first, last)
    kept = [i for i, tick in enumerate(version.pending_ticks) if not first <= tick <= last]
    background = version.background
    if background is not None and reset:
        svd = background.svd
        background = Background.empty(svd.rank, svd.basis.shape[1], svd.forgetting)
    reset = reset and background is not None
    after = replace(
        version,
        memory=memory,
        background=background,
        coverage=version.coverage.forgotten(start, end),
        pending=tuple(version.pending[i] for i in kept),
        pending_residual=tuple(version.pending_residual[i] for i in kept),
        pending_ticks=tuple(version.pending_ticks[i] for i in kept),
        recurrent_state=forget_ticks(version.recurrent_state, first, last),
    )
    told = Forgotten(
        start,
        end,
        tokens=tokens,
        pending_frames=len(version.pending) - len(kept),
        svd_share=0.0 if reset else svd_share,
        cell_share=0.0 if reset else cell_share,
        background_reset=reset,
    )
    return after, told


def _without(memory: TokenMemory, first: int, last: int) -> tuple[TokenMemory, int]:
    """The memory without the tokens of these ticks: the others move up, what is left over is zero."""
    kept = np.flatnonzero(memory.valid & ~((memory.tick >= first) & (memory.tick <= last)))
    gone = memory.filled - len(kept)
    if gone == 0:
        return memory, 0
    n = len(kept)

    def moved_up(array: NDArray[Any]) -> NDArray[Any]:
        new = np.zeros_like(array)
        new[:n] = array[kept]
        return new

    after = TokenMemory(
        moved_up(memory.features),
        moved_up(memory.tick),
        moved_up(memory.cell),
        moved_up(memory.score),
        moved_up(memory.valid),
        memory.version + 1,
    )
    return after, gone


def _shares(
    version: Version, start: float, end: float, clip_s: float, clip_frames: int
) -> tuple[float, float]:
    """Of the SVD's rows and of the cell means, by how many clips ago the interval ended and began.

    A clip's rows weigh forgetting² less with each clip after them, its cell means 1 - CELL_MEAN_RATE.
    """
    background, coverage = version.background, version.coverage
    if background is None or background.cell_means is None or coverage.end is None:
        return 0.0, 0.0
    svd, clips = background.svd, float(background.svd.updates)
    waiting = len(version.pending) / clip_frames

    def ago(t: float) -> float:
        watched = coverage.within(t, coverage.end or t).watched() if t < (coverage.end or t) else 0.0
        return float(np.clip(watched / clip_s - waiting, 0.0, clips))

    near, far = ago(end), ago(start)
    rows = len(range(0, clip_frames, -(-clip_frames // FRAMES_PER_CLIP)))
    keep = svd.forgetting**2
    if keep < 1:
        weight = rows * (keep**near - keep**far) / (1 - keep)
    else:
        weight = rows * (far - near)
    rate = 1 - CELL_MEAN_RATE
    # The first clip's means have no older ones beside them.
    oldest = 0.0 if far >= clips - 1e-6 and far > near else rate**far
    cells = max(0.0, rate**near - oldest) if far > near else 0.0
    return float(min(1.0, weight / max(svd.rows_effective, 1e-9))), float(cells)
