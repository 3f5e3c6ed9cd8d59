"""What one batch added to a version: enough to take that step again without an engine, bit for bit.

Letters: B frames of the batch, P = 49 cells, d width of a token, m slots, k candidates of a clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_runtime.memory.background_model import stride
from edge_runtime.memory.recurrent_state import Carried
from edge_runtime.memory.token_memory import Features, Scores


@dataclass(frozen=True)
class Verdict:
    """What the sampler was given of a clip, what the memory chooses by (its scores, as
    `edge_runtime.memory.diversity` settled them), and what engines brought that is carried on
    (`edge_runtime.memory.recurrent_state`)."""

    kept: NDArray[np.intp] | None  # (k,) places in the clip, None: all
    scores: Scores  # (m + k,)
    brought: Carried = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """One batch of frames as a version took it in.

    `features` (B, 49, d) with zeros for tokens that are `beaten`, `residual` (B, 49) against the background,
    `times` (B,) seconds, each standing for `period`; `verdict` where the batch ended a clip.
    """

    features: Features  # (B, 49, d)
    residual: NDArray[np.float32]  # (B, 49)
    times: Sequence[float]
    period: float
    verdict: Verdict | None = None


def beaten(novelty: NDArray[np.float32], most: int, clip_frames: int) -> NDArray[np.bool_]:
    """Which tokens of a running clip can never matter again. novelty (f * 49) -> (f, 49)

    A clip offers its `most` most novel tokens to the memory and fewer to the reader, so one that so many
    others beat already is lost, unless it lies in one of the frames from which the background learns.
    """
    lost = np.ones(len(novelty), np.bool_)
    lost[np.argsort(-novelty, kind="stable")[:most]] = False
    frames = lost.reshape(-1, 49)
    frames[:: stride(clip_frames)] = False
    return frames
