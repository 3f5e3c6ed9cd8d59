"""Join the detections of successive passes to occurrences: what goes on, what has ended."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from edge_runtime.activity.recognizer import Detection
from edge_runtime.activity.row import Row

MAX_RECENT = 64
"""Occurrences that a later pass may still detect again."""


@dataclass(frozen=True)
class Change:
    """What happened to a row; `before` is None for a new one."""

    type: Literal["new", "update", "end"]
    before: Row | None
    after: Row


@dataclass
class _Occurrence:
    row: Row
    scores: dict[int, float]


class Occurrences:
    """The occurrences of one camera. `make_row` makes the row of a new one from its start and end."""

    def __init__(
        self, names: Sequence[str], doing: Sequence[str], make_row: Callable[[float, float], Row]
    ) -> None:
        self._names, self._doing, self._make_row = names, doing, make_row
        self._recent: list[_Occurrence] = []

    def restore(self, rows: Iterable[Row]) -> None:
        """Take rows from before a restart, so that their occurrences are not logged again."""
        for row in rows:
            known = [name for name in (row.activity, *row.alternatives) if name in self._names]
            if known:
                scores = {self._names.index(name): row.confidence for name in known}
                self._recent.append(_Occurrence(row, scores))

    def join(
        self, detections: Iterable[Detection], until: float, gap: float, *, pause: float | None = None
    ) -> list[Change]:
        """Add the detections of a pass that ended at `until` seconds.

        What was seen less than `gap` seconds before `until` goes on; all else has ended. Detections that lie
        up to `pause` seconds apart, by default `gap`, are one occurrence.
        """
        changes: list[Change] = []
        for detection in detections:
            changes += self._add(detection, until, gap, gap if pause is None else pause)
        changes += self._end_before(until - gap)
        self._recent = self._recent[-MAX_RECENT:]
        return changes

    def close(self) -> list[Change]:
        """End all occurrences."""
        return self._end_before(float("inf"))

    def forget(self, start: float, end: float) -> None:
        """Drop what shares time with [start, end)."""
        self._recent = [known for known in self._recent if not known.row.matches((), start, end)]

    @property
    def ongoing(self) -> list[Row]:
        return [known.row for known in self._recent if known.row.ongoing]

    def _add(self, detection: Detection, until: float, gap: float, pause: float) -> list[Change]:
        known = next(
            (known for known in reversed(self._recent) if self._is_same(known, detection, pause)), None
        )
        if known is None:
            row = self._name(self._make_row(detection.start, detection.end), detection.scores)
            self._recent.append(_Occurrence(row, dict(detection.scores)))
            return [Change("new", None, row)]
        for activity, score in detection.scores.items():
            known.scores[activity] = max(score, known.scores.get(activity, 0.0))
        before = known.row
        start, end = min(before.start, detection.start), max(before.end, detection.end)
        # An activity that seemed to have ended may go on after all.
        ongoing = before.ongoing or (end > before.end and end >= until - gap)
        row = dataclasses.replace(before, start=start, end=end, ongoing=ongoing)
        known.row = self._name(row, known.scores)
        return [] if known.row == before else [Change("update", before, known.row)]

    def _is_same(self, known: _Occurrence, detection: Detection, gap: float) -> bool:
        best = max(known.scores, key=lambda activity: known.scores[activity])
        near = detection.start - known.row.end <= gap and known.row.start - detection.end <= gap
        return near and (best in detection.scores or detection.best in known.scores)

    def _name(self, row: Row, scores: dict[int, float]) -> Row:
        best, *others = sorted(scores, key=lambda activity: -scores[activity])
        return dataclasses.replace(
            row,
            activity=self._names[best],
            description=self._doing[best],
            confidence=scores[best],
            alternatives=tuple(self._names[activity] for activity in others),
        )

    def _end_before(self, t: float) -> list[Change]:
        changes = []
        for known in self._recent:
            if known.row.ongoing and known.row.end < t:
                before, known.row = known.row, dataclasses.replace(known.row, ongoing=False)
                changes.append(Change("end", before, known.row))
        return changes
