"""Detections of one look after the other, joined to occurrences: what goes on, what has ended."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from edge_runtime.activity.recognizer import Detection
from edge_runtime.activity.row import Row

KEPT = 64
"""Ended occurrences that a later look may still find again."""


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
    """Those of one camera. `made` gives the row of a new one from its class and times."""

    def __init__(
        self, names: Sequence[str], doing: Sequence[str], made: Callable[[float, float], Row]
    ) -> None:
        self._names, self._doing, self._made = names, doing, made
        self._known: list[_Occurrence] = []

    def remember(self, rows: Iterable[Row]) -> None:
        """Rows from before a restart, so that what they tell is not told again."""
        for row in rows:
            named = [name for name in (row.activity, *row.alternatives) if name in self._names]
            if named:
                self._known.append(
                    _Occurrence(row, {self._names.index(name): row.confidence for name in named})
                )

    def join(self, detections: Iterable[Detection], until: float, gap: float) -> list[Change]:
        """Take in what a look that ended at `until` seconds found. What was seen up to `gap` seconds before
        its end goes on; all else has ended."""
        changes: list[Change] = []
        for one in detections:
            changes += self._taken(one, until, gap)
        changes += self._ended(until - gap)
        self._known = self._known[-KEPT:]
        return changes

    def close(self) -> list[Change]:
        """Nothing goes on any more."""
        return self._ended(float("inf"))

    def forget(self, start: float, end: float) -> None:
        """Drop what shares time with [start, end)."""
        self._known = [one for one in self._known if not one.row.matches((), start, end)]

    @property
    def ongoing(self) -> list[Row]:
        return [one.row for one in self._known if one.row.ongoing]

    def _taken(self, found: Detection, until: float, gap: float) -> list[Change]:
        known = next((one for one in reversed(self._known) if self._meets(one, found, gap)), None)
        if known is None:
            row = self._named(self._made(found.start, found.end), found.scores)
            self._known.append(_Occurrence(row, dict(found.scores)))
            return [Change("new", None, row)]
        for activity, score in found.scores.items():
            known.scores[activity] = max(score, known.scores.get(activity, 0.0))
        before = known.row
        row = dataclasses.replace(
            before, start=min(before.start, found.start), end=max(before.end, found.end)
        )
        # An activity that had seemed over goes on after all.
        row = dataclasses.replace(
            row, ongoing=before.ongoing or (row.end > before.end and row.end >= until - gap)
        )
        known.row = self._named(row, known.scores)
        return [] if known.row == before else [Change("update", before, known.row)]

    def _meets(self, known: _Occurrence, found: Detection, gap: float) -> bool:
        best = max(known.scores, key=lambda one: known.scores[one])
        near = found.start - known.row.end <= gap and known.row.start - found.end <= gap
        return near and (best in found.scores or found.best in known.scores)

    def _named(self, row: Row, scores: dict[int, float]) -> Row:
        best, *others = sorted(scores, key=lambda one: -scores[one])
        return dataclasses.replace(
            row,
            activity=self._names[best],
            description=self._doing[best],
            confidence=scores[best],
            alternatives=tuple(self._names[one] for one in others),
        )

    def _ended(self, before: float) -> list[Change]:
        changes = []
        for one in self._known:
            if one.row.ongoing and one.row.end < before:
                was, one.row = one.row, dataclasses.replace(one.row, ongoing=False)
                changes.append(Change("end", was, one.row))
        return changes
