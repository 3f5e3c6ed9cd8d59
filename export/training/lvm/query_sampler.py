"""Draw random questions about the clips that a memory has seen.

Letters: E events, C activities.

The questions are those of the published protocol (object and window: which activities; activity and window:
where; object and activity: when), restricted to visited clips: the memory must be able to hold the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import TICKS_PER_SECOND
from export.data.records import DURATION_S
from export.data.video_labels import VideoTruth

Kind = Literal["activity", "object", "time"]
KINDS: tuple[Kind, ...] = ("activity", "object", "time")
KIND_SHARES = (0.5, 0.25, 0.25)
_MIN_LOOSE_S = 30.0
_TRIES = 12


@dataclass(frozen=True)
class SampledQuestion:
    """A question: `start`, `end` are the window's first and last tick, `event` the answer (-1: negative).

    `instance` is -1 if only an activity is given, `activity` is -1 if only an object is; `photo` is the
    number of the object's photo. The order of the fields is that of checkpoints.
    """

    kind: int
    instance: int
    photo: int
    activity: int
    start: int
    end: int
    event: int

    def row(self) -> list[int]:
        """Return the fields in order, for a checkpoint."""
        return list(vars(self).values())


@dataclass(frozen=True)
class QueryMix:
    """Shares of kinds of questions: `tight` windows equal the event's, `negatives` never happened.

    `unnamed` is the share of time questions without an activity, `photos` the number of photos of an object.
    """

    photos: int
    negatives: float
    tight: float
    unnamed: float


def match_events(
    question: SampledQuestion, truth: VideoTruth, visited: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return the visited events (E,) with the question's object and activity that overlap its window.

    For a time question they must lie inside the window.
    """
    matches = visited & (truth.start <= question.end) & (truth.end > question.start)
    if KINDS[question.kind] == "time":
        matches &= (truth.start >= question.start) & (truth.end <= question.end + 1)
    if question.instance >= 0:
        matches &= truth.instance == question.instance
    if question.activity >= 0:
        matches &= truth.activity == question.activity
    return matches


def draw_question(
    truth: VideoTruth,
    visited: NDArray[np.bool_],
    fresh: NDArray[np.bool_],
    last_tick: int,
    mix: QueryMix,
    rng: np.random.Generator,
) -> SampledQuestion | None:
    """Draw a question about visited events (E,), half of the time about `fresh` ones; None if there are none.

    Questions for an object or a time have exactly one event as answer, except a time without an activity: any
    time at which something was done with the object.
    """
    if not visited.any():
        return None
    kind = int(rng.choice(len(KINDS), p=KIND_SHARES))
    negative = rng.random() < mix.negatives
    for _ in range(_TRIES):
        candidates = fresh if fresh.any() and rng.random() < 0.5 else visited
        event = int(rng.choice(np.flatnonzero(candidates)))
        question = _make_positive(kind, event, truth, last_tick, mix, rng)
        if negative:
            question = _make_negative(question, truth, mix, rng)
        count = int(match_events(question, truth, visited).sum())
        if negative and not count:
            return question
        if not negative and (count == 1 or (count and question.activity < 0)):
            return question
    return None


def _make_positive(
    kind: int, event: int, truth: VideoTruth, last_tick: int, mix: QueryMix, rng: np.random.Generator
) -> SampledQuestion:
    start, end = int(truth.start[event]), int(truth.end[event])
    if KINDS[kind] == "time":
        start, end = _draw_window(start, end, float(rng.choice(list(DURATION_S.values()))), last_tick, rng)
    elif rng.random() >= mix.tight:
        # Short windows are drawn as often as long ones.
        longest = float(rng.choice(list(DURATION_S.values())))
        seconds = float(np.exp(rng.uniform(np.log(_MIN_LOOSE_S), np.log(longest))))
        start, end = _draw_window(start, end, seconds, last_tick, rng)
    unnamed = KINDS[kind] == "activity" or (KINDS[kind] == "time" and rng.random() < mix.unnamed)
    return SampledQuestion(
        kind,
        instance=-1 if KINDS[kind] == "object" else int(truth.instance[event]),
        photo=int(rng.integers(mix.photos)),
        activity=-1 if unnamed else int(truth.activity[event]),
        start=start,
        end=max(start, end - 1),
        event=event,
    )


def _draw_window(
    start: int, end: int, seconds: float, last_tick: int, rng: np.random.Generator
) -> tuple[int, int]:
    """Draw a window of `seconds` that contains [start, end) and lies inside the video."""
    free = max(round(seconds * TICKS_PER_SECOND) - (end - start), 0)
    first = start - int(rng.integers(free + 1))
    return max(first, 0), min(max(first + free + (end - start), end), max(last_tick, end))


def _make_negative(
    question: SampledQuestion, truth: VideoTruth, mix: QueryMix, rng: np.random.Generator
) -> SampledQuestion:
    """Replace the object or the activity by another one of the video; the result may be a negative."""
    changed = dict(vars(question), event=-1)
    if question.instance >= 0 and (question.activity < 0 or rng.random() < 0.5):
        changed["instance"] = int(rng.choice(np.unique(truth.instance)))  # other instances may have no photo
    else:
        changed["activity"] = int(rng.integers(int(truth.activity.max()) + 1))
    return SampledQuestion(**changed)
