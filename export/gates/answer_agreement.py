"""Measure how far two runs agree: in their memory, their background, and their answers.

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
"""Intersection over union from which boxes or spans of two answers count as the same."""
MAX_GAP_S = 4.0
"""Seconds that boxes of two answers may be apart and still be compared: half of the gap that is bridged."""
STRONG_SHARE = 0.01
"""Share of the strongest direction from which a direction of the background counts: weaker directions are
noise, and their order depends on the last bit."""

TokenPosition = tuple[int, int]


def list_positions(tick: Ticks, cell: Cells) -> list[TokenPosition]:
    """Return (tick, cell) of each token, which identifies it."""
    return list(zip(tick.tolist(), cell.tolist(), strict=True))


def memory_overlap(reference: TokenMemory, got: TokenMemory) -> float:
    """Return the share of (tick, cell) that both memories hold, of the larger memory's size; 1 where both are
    empty."""
    a, b = (set(list_positions(memory.tokens().tick, memory.tokens().cell)) for memory in (reference, got))
    return len(a & b) / max(len(a), len(b)) if a or b else 1.0


def basis_angle_deg(reference: OnlineSVD, got: OnlineSVD) -> float:
    """Return the largest principal angle between the strong directions of either basis and the whole other,
    in degrees.

    A direction with at least 1 % of the first singular value is strong. The result is 90 where a direction
    has no counterpart, 0 where both are empty.
    """
    return max(_max_angle_deg(reference, got.basis), _max_angle_deg(got, reference.basis))


def _max_angle_deg(svd: OnlineSVD, other: Rows) -> float:
    """Compute the angle from the sine: the cosine of a small angle is 1 to the last bit."""
    if not len(svd.strength):
        return 0.0
    strong = np.asarray(svd.basis[svd.strength >= STRONG_SHARE * svd.strength[0]], np.float64)  # (r, d)
    basis = np.asarray(other, np.float64)  # (s, d)
    sines = np.linalg.svd(strong - (strong @ basis.T) @ basis, compute_uv=False)
    return math.degrees(math.asin(min(float(sines.max(initial=0.0)), 1.0)))


@dataclass(frozen=True)
class AnswerPair:
    """One question answered twice.

    `agrees`: the person who asked gets the same. Both abstain, or both answer with the same content; if only
    one abstains, they differ, whatever the content. `same_content`: the content is the same, abstention
    aside. `similarity`: 1 or 0 for the first activity, intersection over union of boxes or of the first span.
    `abstained`: both or neither did.
    """

    kind: str
    agrees: bool
    same_content: bool
    similarity: float
    abstained: bool


def compare_answers(reference: Answer, got: Answer) -> AnswerPair:
    """Compare two answers to one question."""
    alike = answer_similarity(reference, got)
    content = alike >= SAME_IOU
    same = reference.abstained == got.abstained
    return AnswerPair(reference.type, same and (reference.abstained or content), content, alike, same)


def compare_all(reference: Sequence[Answer], got: Sequence[Answer]) -> list[AnswerPair]:
    """Compare two lists of answers, pair by pair."""
    return [compare_answers(a, b) for a, b in zip(reference, got, strict=True)]


def answer_similarity(a: Answer, b: Answer) -> float:
    """Return the similarity of two answers: 1 for the same first activity, else intersection over union. Two
    empty answers have 1.

    Each box of either answer is compared with the other's box that is nearest in time, 0 where none lies
    within `MAX_GAP_S`: one token more moves a box to a neighbouring time.
    """
    if a.type == "activity":
        return float(
            [activity.activity for activity in a.activities[:1]]
            == [activity.activity for activity in b.activities[:1]]
        )
    if a.type == "time":
        if not a.spans or not b.spans:
            return float(bool(a.spans) == bool(b.spans))
        return _span_iou((a.spans[0].start, a.spans[0].end), (b.spans[0].start, b.spans[0].end))
    mine, theirs = ({box.t: box.box for box in answer.boxes} for answer in (a, b))
    if not mine and not theirs:
        return 1.0
    return float(np.concatenate([_nearest_ious(mine, theirs), _nearest_ious(theirs, mine)]).mean())


def _nearest_ious(mine: Mapping[float, Box], theirs: Mapping[float, Box]) -> NDArray[np.float64]:
    """Return the intersection over union of each box (by its time) with the nearest of the others. (n,)"""
    out = np.zeros(len(mine))
    if not theirs:
        return out
    times = np.array(sorted(theirs))
    for place, (t, box) in enumerate(mine.items()):
        nearest = float(times[np.abs(times - t).argmin()])
        if abs(nearest - t) <= MAX_GAP_S:
            out[place] = paired_ious([box], [theirs[nearest]])[0]
    return out


def paired_ious(a: Sequence[Box], b: Sequence[Box]) -> NDArray[np.float64]:
    """Return the intersection over union of xyxy boxes (n, 4), pair by pair; 1 for equal boxes, however thin.
    (n,)"""
    boxes_a, boxes_b = (np.asarray(boxes, np.float64).reshape(-1, 4) for boxes in (a, b))
    return np.where((boxes_a == boxes_b).all(axis=1), 1.0, box_iou(boxes_a, boxes_b))


def _span_iou(a: tuple[float, float], b: tuple[float, float]) -> float:
    return 1.0 if a == b else float(tiou(a, b))
