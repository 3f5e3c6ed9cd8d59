"""Questions about what a memory has been shown, drawn while it is shown: endless, never the same twice.

Letters: E events, C activities.

They are the questions of the published protocol (object and window: which activities; activity and window:
where; object and activity: when), restricted to what was visited: an answer must be in the memory's reach.
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
_LEAST_LOOSE_S = 30.0
_TRIES = 12


@dataclass(frozen=True)
class Question:
    """`start`, `end` ticks of the asked window, both inside; `event` the one it was drawn for (-1: negative).

    `instance` -1 where only an activity is given, `activity` -1 where only an object is.
    """

    kind: int
    instance: int
    view: int
    activity: int
    start: int
    end: int
    event: int

    def row(self) -> list[int]:
        return list(vars(self).values())


@dataclass(frozen=True)
class Asking:
    """How questions are drawn: `tight` windows are those of the event, `negatives` never happened.

    `unnamed` is the share of time questions without an activity.
    """

    views: int
    negatives: float
    tight: float
    unnamed: float


def matching(question: Question, truth: VideoTruth, visited: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which visited events (E,) the question is about: object and activity fit, and it shares time.

    A question of time is about events that lie inside its window.
    """
    found = visited & (truth.start <= question.end) & (truth.end > question.start)
    if KINDS[question.kind] == "time":
        found &= (truth.start >= question.start) & (truth.end <= question.end + 1)
    if question.instance >= 0:
        found &= truth.instance == question.instance
    if question.activity >= 0:
        found &= truth.activity == question.activity
    return found


def draw(
    truth: VideoTruth,
    visited: NDArray[np.bool_],
    fresh: NDArray[np.bool_],
    last_tick: int,
    asking: Asking,
    rng: np.random.Generator,
) -> Question | None:
    """One question about visited events (E,), half of the time about `fresh` ones; None where there are none.

    An object is asked for where only one event answers, a time where only one event is meant; a time without
    an activity is any time at which something was done with the object.
    """
    if not visited.any():
        return None
    kind = int(rng.choice(len(KINDS), p=KIND_SHARES))
    negative = rng.random() < asking.negatives
    for _ in range(_TRIES):
        among = fresh if fresh.any() and rng.random() < 0.5 else visited
        event = int(rng.choice(np.flatnonzero(among)))
        question = _about(kind, event, truth, last_tick, asking, rng)
        if negative:
            question = _never(question, truth, asking, rng)
        count = int(matching(question, truth, visited).sum())
        if negative and not count:
            return question
        if not negative and (count == 1 or (count and question.activity < 0)):
            return question
    return None


def _about(
    kind: int, event: int, truth: VideoTruth, last_tick: int, asking: Asking, rng: np.random.Generator
) -> Question:
    start, end = int(truth.start[event]), int(truth.end[event])
    if KINDS[kind] == "time":
        start, end = _window(start, end, float(rng.choice(list(DURATION_S.values()))), last_tick, rng)
    elif rng.random() >= asking.tight:
        # Short windows are asked for as often as long ones.
        longest = float(rng.choice(list(DURATION_S.values())))
        seconds = float(np.exp(rng.uniform(np.log(_LEAST_LOOSE_S), np.log(longest))))
        start, end = _window(start, end, seconds, last_tick, rng)
    unnamed = KINDS[kind] == "activity" or (KINDS[kind] == "time" and rng.random() < asking.unnamed)
    return Question(
        kind,
        instance=-1 if KINDS[kind] == "object" else int(truth.instance[event]),
        view=int(rng.integers(asking.views)),
        activity=-1 if unnamed else int(truth.activity[event]),
        start=start,
        end=max(start, end - 1),
        event=event,
    )


def _window(
    start: int, end: int, seconds: float, last_tick: int, rng: np.random.Generator
) -> tuple[int, int]:
    """A window of `seconds` around [start, end), placed at random, inside the video."""
    free = max(round(seconds * TICKS_PER_SECOND) - (end - start), 0)
    first = start - int(rng.integers(free + 1))
    return max(first, 0), min(max(first + free + (end - start), end), max(last_tick, end))


def _never(question: Question, truth: VideoTruth, asking: Asking, rng: np.random.Generator) -> Question:
    """Another object, or another activity, of the same video: what it asks for may not have happened."""
    changed = dict(vars(question), event=-1)
    if question.instance >= 0 and (question.activity < 0 or rng.random() < 0.5):
        changed["instance"] = int(rng.choice(np.unique(truth.instance)))  # others may have no photo
    else:
        changed["activity"] = int(rng.integers(int(truth.activity.max()) + 1))
    return Question(**changed)
