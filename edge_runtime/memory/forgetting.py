"""Forget an interval: remove its tokens, mark it in the coverage, estimate what stays in running sums."""

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
class ForgetResult:
    """What forgetting an interval removed, of which at most `watched_s` were watched. Times in seconds of the
    stream.

    `svd_share` and `cell_share` estimate, from how many clips ago it was, how much of the background's SVD
    and cell means came from the interval; 0 where the background was reset or there is none. `earlier`
    memories of other bundles were removed as a whole.
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
    examples: int = 0
    earlier: int = 0
    log_lines: int = 0
    watched_s: float = 0.0
    clock_from: str | None = None
    clock_to: str | None = None
    """`start` and `end` on the clock of the machine that watches; None for a recording."""

    @property
    def removed(self) -> int:
        """Number of all things that were removed."""
        rows = self.activities + self.examples + self.log_lines
        return self.tokens + self.pending_frames + self.thumbnails + rows

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "removed": self.removed, "remains": self.remains()}

    def remains(self) -> str:
        """Return what is only approximately gone, as one sentence."""
        if self.background_reset:
            return "nothing of it: the background was emptied too and learns anew"
        if max(self.svd_share, self.cell_share) < 5e-4:
            return "nothing of it that could be told: less than 0.1 % of the background came from then"
        return (
            f"of the background (what is usual in each cell) about {self.svd_share:.1%} of the SVD's rows "
            f"and {self.cell_share:.1%} of the cell means came from then; they are sums over all frames, "
            "hold no picture and fade with every clip; --reset-background empties them"
        )


def check_span(start: float, end: float) -> tuple[float, float]:
    """Return both. Raises LvmError unless they are finite and `start` is before `end`."""
    if not (np.isfinite(start) and np.isfinite(end) and start < end):
        raise LvmError(f"--from must be before --to, both finite, got {start:g} and {end:g}")
    return start, end


def to_tick_range(start: float, end: float) -> tuple[int, int]:
    """Return the first and last tick, both included, that a frame of [start, end) may have.

    A tick is a time rounded to 0.2 s, so this reaches up to 0.2 s too far rather than 0.1 s too short. Times
    beyond `MAX_T` have no tick.
    """
    start, end = (min(max(t, -MAX_T), MAX_T) for t in (start, end))
    return (
        int(np.ceil(start * TICKS_PER_SECOND - 0.5 - 1e-9)),
        int(np.floor(end * TICKS_PER_SECOND + 0.5 + 1e-9)),
    )


def forget_span(
    version: Version, start: float, end: float, *, clip_s: float, clip_frames: int, reset: bool = False
) -> tuple[Version, ForgetResult]:
    """Return `version` without [start, end) seconds, as far as they were watched, and what was removed.

    `clip_s` seconds and `clip_frames` frames of one clip; `reset` empties the background.
    """
    start, end = check_span(start, end)
    first, last = to_tick_range(start, end)
    svd_share, cell_share = _background_shares(version, start, end, clip_s, clip_frames)
    memory, tokens = _remove_ticks(version.memory, first, last)
    rest = [i for i, tick in enumerate(version.pending_ticks) if not first <= tick <= last]
    background = version.background
    if background is not None and reset:
        svd = background.svd
        background = Background.empty(svd.rank, svd.basis.shape[1], svd.forgetting)
    reset = reset and background is not None
    after = replace(
        version,
        memory=memory,
        background=background,
        coverage=version.coverage.forget(start, end),
        pending=tuple(version.pending[i] for i in rest),
        pending_residual=tuple(version.pending_residual[i] for i in rest),
        pending_ticks=tuple(version.pending_ticks[i] for i in rest),
        recurrent_state=forget_ticks(version.recurrent_state, first, last),
    )
    result = ForgetResult(
        start,
        end,
        tokens=tokens,
        pending_frames=len(version.pending) - len(rest),
        svd_share=0.0 if reset else svd_share,
        cell_share=0.0 if reset else cell_share,
        background_reset=reset,
        watched_s=version.coverage.within(start, end).watched_range()[1],
    )
    return after, result


def _remove_ticks(memory: TokenMemory, first: int, last: int) -> tuple[TokenMemory, int]:
    """Return the memory without the tokens of these ticks, and their number. The others move up."""
    rest = np.flatnonzero(memory.valid & ~((memory.tick >= first) & (memory.tick <= last)))
    gone = memory.filled - len(rest)
    if gone == 0:
        return memory, 0
    n = len(rest)

    def move_up(array: NDArray[Any]) -> NDArray[Any]:
        new = np.zeros_like(array)
        new[:n] = array[rest]
        return new

    after = TokenMemory(
        move_up(memory.features),
        move_up(memory.tick),
        move_up(memory.cell),
        move_up(memory.score),
        move_up(memory.valid),
        memory.version + 1,
    )
    return after, gone


def _background_shares(
    version: Version, start: float, end: float, clip_s: float, clip_frames: int
) -> tuple[float, float]:
    """Estimate the interval's shares of the SVD's rows and of the cell means.

    By how many clips ago it ended and began: each later clip multiplies the weight of a clip's rows by
    forgetting², that of its cell means by 1 - CELL_MEAN_RATE.
    """
    background, coverage = version.background, version.coverage
    if background is None or background.cell_means is None or coverage.end is None:
        return 0.0, 0.0
    svd, clips = background.svd, float(background.svd.updates)
    waiting = len(version.pending) / clip_frames

    def clips_ago(t: float) -> float:
        watched = coverage.within(t, coverage.end or t).watched_seconds() if t < (coverage.end or t) else 0.0
        return float(np.clip(watched / clip_s - waiting, 0.0, clips))

    near, far = clips_ago(end), clips_ago(start)
    rows = len(range(0, clip_frames, -(-clip_frames // FRAMES_PER_CLIP)))
    keep = svd.forgetting**2
    if keep < 1:
        weight = rows * (keep**near - keep**far) / (1 - keep)
    else:
        weight = rows * (far - near)
    rate = 1 - CELL_MEAN_RATE
    # The first clip's means have no older ones below them.
    oldest = 0.0 if far >= clips - 1e-6 and far > near else rate**far
    cells = max(0.0, rate**near - oldest) if far > near else 0.0
    return float(min(1.0, weight / max(svd.rows_effective, 1e-9))), float(cells)
