"""How alike two runs are: what they remember, what they call usual, what they answer.

Letters: r, s rows of two bases, d width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.memory.online_svd import OnlineSVD, Rows
from edge_runtime.memory.token_memory import Cells, Ticks, TokenMemory
from edge_runtime.query.answers import Answer, Box
from export.data.metrics import box_iou, tiou

SAME_IOU = 0.5
"""Intersection over union from which boxes or spans of two answers say the same."""
NEAR_S = 4.0
"""Seconds that boxes of two answers may be apart and still be compared: half of the gap that is bridged."""
STRONG = 0.01
"""Share of the strongest direction from which a direction of the background counts: weaker ones are noise,
and which noise comes last is decided by the last bit."""

Place = tuple[int, int]


def places_of(tick: Ticks, cell: Cells) -> list[Place]:
    """(tick, cell) of each token: what a token is known by."""
    return list(zip(tick.tolist(), cell.tolist(), strict=True))


def overlap(wanted: TokenMemory, got: TokenMemory) -> float:
    """Share of (tick, cell) that both memories hold, of all that one of the larger could; 1 where both are
    empty."""
    a, b = (set(places_of(one.tokens().tick, one.tokens().cell)) for one in (wanted, got))
    return len(a & b) / max(len(a), len(b)) if a or b else 1.0


def angle_deg(wanted: OnlineSVD, got: OnlineSVD) -> float:
    """Largest principal angle between the strong directions of either basis and the whole other, in degrees.

    Strong is what has at least 1 % of the first singular value. 90 where a direction has no counterpart, 0
    where both are empty.
    """
    return max(_outside(wanted, got.basis), _outside(got, wanted.basis))


def _outside(svd: OnlineSVD, other: Rows) -> float:
    """By the sine: the cosine of a small angle is 1 to the last bit."""
    if not len(svd.strength):
        return 0.0
    strong = np.asarray(svd.basis[svd.strength >= STRONG * svd.strength[0]], np.float64)  # (r, d)
    basis = np.asarray(other, np.float64)  # (s, d)
    sines = np.linalg.svd(strong - (strong @ basis.T) @ basis, compute_uv=False)
    return math.degrees(math.asin(min(float(sines.max(initial=0.0)), 1.0)))


@dataclass(frozen=True)
class Pair:
    """One question answered twice.

    `told`: the same to the person who asked. Both abstain, or both answer and say the same; that one abstains
    and the other does not is a difference, whatever else they say. `content`: what they say is the same,
    whether or not they dared to tell it. `likeness`: 1 or 0 for the first activity, intersection over union
    of boxes or of the first span. `abstained`: both or neither did.
    """

    kind: str
    told: bool
    content: bool
    likeness: float
    abstained: bool


def compared(wanted: Answer, got: Answer) -> Pair:
    """Two answers to one question."""
    alike = likeness(wanted, got)
    content = alike >= SAME_IOU
    same = wanted.abstained == got.abstained
    return Pair(wanted.type, same and (wanted.abstained or content), content, alike, same)


def all_compared(wanted: Sequence[Answer], got: Sequence[Answer]) -> list[Pair]:
    """As `compared`, one by one."""
    return [compared(a, b) for a, b in zip(wanted, got, strict=True)]


def likeness(a: Answer, b: Answer) -> float:
    """1: the same first answer; boxes and spans by intersection over union. Nothing is like nothing.

    Each box of either answer is compared with the other's box that is nearest in time, 0 where none lies
    within `NEAR_S`: one token more moves a moment to its neighbour.
    """
    if a.type == "activity":
        return float([one.activity for one in a.activities[:1]] == [one.activity for one in b.activities[:1]])
    if a.type == "time":
        if not a.spans or not b.spans:
            return float(bool(a.spans) == bool(b.spans))
        return _shared((a.spans[0].start, a.spans[0].end), (b.spans[0].start, b.spans[0].end))
    mine, theirs = ({one.t: one.box for one in answer.boxes} for answer in (a, b))
    if not mine and not theirs:
        return 1.0
    return float(np.concatenate([_met(mine, theirs), _met(theirs, mine)]).mean())


def _met(mine: Mapping[float, Box], theirs: Mapping[float, Box]) -> NDArray[np.float64]:
    """Of each box (by its time) the intersection over union with the nearest of the others. (n,)"""
    out = np.zeros(len(mine))
    if not theirs:
        return out
    times = np.array(sorted(theirs))
    for place, (t, box) in enumerate(mine.items()):
        nearest = float(times[np.abs(times - t).argmin()])
        if abs(nearest - t) <= NEAR_S:
            out[place] = same_boxes([box], [theirs[nearest]])[0]
    return out


def same_boxes(a: Sequence[Box], b: Sequence[Box]) -> NDArray[np.float64]:
    """Intersection over union of xyxy boxes (n, 4), one to one; 1 for equal ones, however thin. (n,)"""
    one, two = (np.asarray(boxes, np.float64).reshape(-1, 4) for boxes in (a, b))
    return np.where((one == two).all(axis=1), 1.0, box_iou(one, two))


def _shared(a: tuple[float, float], b: tuple[float, float]) -> float:
    return 1.0 if a == b else float(tiou(a, b))
