"""Coverage: the time that was watched, from, to and the gaps between, in bounded memory.

The newest `MAX_GAPS` gaps are exact. Older ones that lie close together become one `Gap`, which keeps how
many of its seconds were watched, so precision is lost and truth is not: of a window it is known that at least
and at most so much was watched. Within the horizon no such gap is longer than `PRECISION` of the horizon;
before it they may be longer the older they are, so that they stay few, however long was watched.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import NamedTuple

Span = tuple[float, float]
Note = tuple[float, float | None, str]
"""From, to (None: still going on) and the reason why nothing was watched then, or nothing of it is left."""

PAUSED = "paused"
FORGOTTEN = "forgotten"

MAX_GAPS = 2048
MAX_MERGED = 1 << 17
"""More than there can be at any horizon: each two neighbours are longer than `_max_length`."""
MAX_LISTED = 256
"""Gaps in answers and in a status."""
MAX_NOTES = 256
PRECISION = 1e-4
"""Length of a merged gap as a share of the horizon. A window of 1 % of the horizon that begins and ends in
two of them is known within 1 %."""
MAX_FRAMES = 5
"""Of the newest frames: so many of a slow source come before its rate is known."""
_ROUNDING_S = 1e-3
"""Added on both sides where a merged gap is cut: sums of floats must not turn nothing into something."""


class Gap(NamedTuple):
    """Time of which at least `min_watched` and at most `max_watched` seconds were watched, mostly none."""

    start: float
    end: float
    reason: str | None = None
    min_watched: float = 0.0
    max_watched: float = 0.0

    @property
    def watched_share(self) -> Span | None:
        """Which share of it was watched, at least and at most; None where none was."""
        length = self.end - self.start
        return (
            (min(1.0, self.min_watched / length), min(1.0, self.max_watched / length))
            if self.max_watched
            else None
        )


@dataclass(frozen=True)
class Coverage:
    """Watched time in seconds on the stream's clock. Immutable; `end` is exclusive.

    `gaps` are the newest ones and exact, `merged` come before them. `notes`, in order and without overlap,
    hold the reasons; they count only where there is a gap. `frames` are the times of the newest frames, the
    last of which stands for `period` seconds.
    """

    start: float | None = None
    end: float | None = None
    gaps: tuple[Span, ...] = ()
    notes: tuple[Note, ...] = ()
    merged: tuple[Gap, ...] = ()
    frames: tuple[float, ...] = ()
    period: float | None = None

    def observe(self, t: float, period: float, horizon_s: float) -> Coverage:
        """Add a sampled frame, which stands for [t, t + period).

        A jump of over half a period more is a gap, and so is any in which there is a note. When the period
        grows because a source turns out to be slow, what lay between its newest frames is no gap any more.
        `horizon_s` is that of the memory.
        """
        t = float(t)  # as it is read from a file
        if self.start is None or self.end is None:
            return Coverage(t, t + period, notes=self.notes, frames=(t,), period=period)
        gaps, is_gap = self.gaps, t - self.end > 0.5 * period
        if self.frames and self.period is not None and period > self.period:
            gaps = self._without_gaps_within(1.5 * period)
            is_gap = is_gap and t - self.frames[-1] > 1.5 * period
        if is_gap or (t > self.end and self._is_noted(self.end, t)):
            gaps = (*gaps, (self.end, t))
        after = replace(
            self,
            end=max(self.end, t + period),
            gaps=gaps,
            frames=(*self.frames[1 - MAX_FRAMES :], t),
            period=period,
        )
        return after if len(gaps) <= MAX_GAPS else after._move_oldest()._merge(horizon_s)

    def within(self, start: float, end: float) -> Coverage:
        """Return the part inside [start, end); only notes where they do not overlap."""
        cut_notes = ((max(a, start), _min_end(b, end), why) for a, b, why in self.notes)
        notes = tuple((a, b, why) for a, b, why in cut_notes if a < b)
        if self.start is None or self.end is None or end <= start or end <= self.start or start >= self.end:
            return Coverage(notes=notes)
        start, end = max(start, self.start), min(end, self.end)
        gaps = self.gaps[_first_after(self.gaps, start) : bisect_left(self.gaps, (end,))]
        merged = self.merged[_first_after(self.merged, start) : bisect_left(self.merged, (end,))]
        return Coverage(
            start,
            end,
            tuple((max(a, start), min(b, end)) for a, b in gaps),
            notes,
            tuple(part for gap in merged if (part := _cut(gap, start, end)) is not None),
        )

    def add_note(self, start: float, end: float | None, reason: str) -> Coverage:
        """Add a note from `start` to `end`, None while it goes on. It replaces older notes there.

        A frame stands for nothing of a time that a note goes on for.
        """
        others: list[Note] = []
        for a, b, why in self.notes:
            if a < start:
                others.append((a, _min_end(b, start), why))
            if end is not None and _min_end(b, math.inf) > end:
                others.append((max(a, end), b, why))
        notes = sorted([*others, (start, end, reason)], key=lambda note: note[0])
        watched_until = self.end
        if end is None and self.end is not None and self.frames:
            watched_until = min(self.end, max(start, self.frames[-1]))
        return replace(self, end=watched_until, notes=self._limit_notes(tuple(notes)))

    def ongoing_note(self) -> Note | None:
        """Return the note that has no end yet."""
        return self.notes[-1] if self.notes and self.notes[-1][1] is None else None

    def end_note(self, end: float) -> Coverage:
        """End the ongoing note at `end`; drop it where that leaves nothing of it."""
        if (note := self.ongoing_note()) is None:
            return self
        last = ((note[0], end, note[2]),) if note[0] < end else ()
        return replace(self, notes=(*self.notes[:-1], *last))

    def forget(self, start: float, end: float) -> Coverage:
        """Make [start, end), from the first to the last moment of it that was watched, a gap with the reason
        `FORGOTTEN`."""
        part = self.within(start, end)
        unwatched = [gap for gap in part._all_gaps() if not gap.max_watched]
        if part.start is None or part.end is None or part.watched_range()[1] == 0:
            return self
        start, end = part.start, part.end
        for gap in unwatched:
            start = gap.end if gap.start == start else start
        for gap in reversed(unwatched):
            end = gap.start if gap.end == end else end
        before = [gap for gap in self.gaps if gap[1] < start]
        after = [gap for gap in self.gaps if gap[0] > end]
        joined = [gap for gap in self.gaps if gap[1] >= start and gap[0] <= end]
        union = (min([start, *(a for a, _ in joined)]), max([end, *(b for _, b in joined)]))
        outside = ((-math.inf, union[0]), (union[1], math.inf))
        parts = (_cut(gap, *span) for gap in self.merged for span in outside)
        merged = [part for part in parts if part is not None and part.min_watched < part.end - part.start]
        if merged and union[0] < merged[-1].end:
            merged = sorted([*merged, Gap(*union)])
            gaps = (*before, *after)
        else:
            gaps = (*before, union, *after)
        forgotten = replace(
            self.add_note(start, end, FORGOTTEN),
            gaps=gaps,
            merged=tuple(merged),
            frames=tuple(t for t in self.frames if t >= end),
        )
        return forgotten if len(gaps) <= MAX_GAPS else forgotten._move_oldest()

    def gaps_with_reasons(self) -> tuple[Gap, ...]:
        """Return the gaps, cut where a note begins or ends, in order; no reason where it is unknown."""
        pieces: list[Gap] = []
        for gap in self._all_gaps():
            at = gap.start
            for i in range(_first_note_after(self.notes, at), len(self.notes)):
                a, b, why = self.notes[i]
                a, b = max(a, at), _min_end(b, gap.end)
                if a >= gap.end:
                    break
                pieces += _pieces(gap, (at, a, None), (a, b, why))
                at = max(at, b)
            pieces += _pieces(gap, (at, gap.end, None))
        return tuple(pieces)

    def list_gaps(self, limit: int = MAX_LISTED) -> tuple[Gap, ...]:
        """Return the gaps as `gaps_with_reasons`, those closest to each other as one where they are more than
        `limit`."""
        pieces = self.gaps_with_reasons()
        if len(pieces) <= limit:
            return pieces
        joints = [i for i in range(1, len(pieces)) if pieces[i - 1].reason == pieces[i].reason]
        joints.sort(key=lambda i: (pieces[i].reason is not None, pieces[i].start - pieces[i - 1].end))
        closed = set(joints[: len(pieces) - limit])
        listed: list[Gap] = []
        for i, piece in enumerate(pieces):
            if i in closed:
                listed[-1] = _join(listed[-1], piece)
            else:
                listed.append(piece)
        return tuple(listed)

    @property
    def gap_count(self) -> int:
        """Number of gaps; each merged one counts once."""
        return len(self.merged) + len(self.gaps)

    def main_reason(self) -> str | None:
        """Return the reason for most of the time that was not watched, None where that is not known."""
        seconds: dict[str | None, float] = {None: 0.0}
        for gap in self.gaps_with_reasons():
            seconds[gap.reason] = seconds.get(gap.reason, 0.0) + gap.end - gap.start
        for note in self.notes:
            start, end, reason = note[0], _min_end(note[1], math.inf), note[2]
            counted = 0.0  # of what was watched, a note counts where there is a gap
            if self.start is not None and self.end is not None:
                counted = max(0.0, min(end, self.end) - max(start, self.start))
            seconds[reason] = seconds.get(reason, 0.0) + (end - start - counted)
        return max(seconds, key=lambda reason: (seconds[reason], reason is not None))

    def watched_range(self) -> Span:
        """Return how many seconds were watched, at least and at most."""
        if self.start is None or self.end is None:
            return 0.0, 0.0
        known, least, greatest, at = 0.0, 0.0, 0.0, self.start
        for gap in self._all_gaps():
            known += max(0.0, gap.start - at)  # exactly 0 where two gaps meet
            least, greatest = least + gap.min_watched, greatest + gap.max_watched
            at = gap.end
        known += max(0.0, self.end - at)
        return known + least, known + greatest

    def watched_share(self) -> Span:
        """Return which share of `start` to `end` was watched, at least and at most."""
        if self.start is None or self.end is None or self.end <= self.start:
            return 0.0, 0.0
        least, greatest = self.watched_range()
        length = self.end - self.start
        return min(1.0, least / length), min(1.0, greatest / length)

    def watched_seconds(self) -> float:
        """Return the seconds that were watched for certain."""
        return self.watched_range()[0]

    # -- inside --------------------------------------------------------------------------------------------

    def _all_gaps(self) -> Iterator[Gap]:
        return chain(self.merged, (Gap(a, b) for a, b in self.gaps))

    def _without_gaps_within(self, distance: float) -> tuple[Span, ...]:
        """Return `gaps` without those between two of the newest frames that are at most so far apart."""
        pairs = [(a, b) for a, b in zip(self.frames, self.frames[1:], strict=False) if b - a <= distance]
        if not pairs:
            return self.gaps
        first = _first_after(self.gaps, self.frames[0])
        recent = (
            gap
            for gap in self.gaps[first:]
            if self._is_noted(*gap) or not any(a <= gap[0] and gap[1] <= b for a, b in pairs)
        )
        return (*self.gaps[:first], *recent)

    def _is_noted(self, start: float, end: float) -> bool:
        """Return whether there is a note within [start, end)."""
        i = _first_note_after(self.notes, start)
        return i < len(self.notes) and self.notes[i][0] < end

    def _limit_notes(self, notes: tuple[Note, ...]) -> tuple[Note, ...]:
        """Return at most MAX_NOTES of `notes`: of two with the same reason between which all was watched one,
        else the oldest has to go, and its gap loses its reason. An outage is never given one."""
        while len(notes) > MAX_NOTES:
            pairs = (i for i in range(len(notes) - 1) if self._may_join(notes[i], notes[i + 1]))
            first = next(pairs, None)
            if first is None:
                notes = notes[1:]
            else:
                (start, _, reason), (_, end, _) = notes[first : first + 2]
                notes = (*notes[:first], (start, end, reason), *notes[first + 2 :])
        return notes

    def _may_join(self, first: Note, second: Note) -> bool:
        """Return whether two notes have the same reason and there is no gap between them."""
        start, end = first[1], second[0]
        if first[2] != second[2] or start is None or self.start is None or self.end is None:
            return False
        if start == end:
            return True
        exact, merged = _first_after(self.gaps, start), _first_after(self.merged, start)
        next_gaps = [gaps[i][0] for gaps, i in ((self.gaps, exact), (self.merged, merged)) if i < len(gaps)]
        return self.start <= start and end <= self.end and all(gap >= end for gap in next_gaps)

    def _move_oldest(self) -> Coverage:
        """Return the same with the older half of `gaps` in `merged`."""
        half = MAX_GAPS // 2
        moved = (Gap(a, b) for a, b in self.gaps[:half])
        return replace(self, gaps=self.gaps[half:], merged=(*self.merged, *moved))

    def _merge(self, horizon_s: float) -> Coverage:
        """Return the same with each `merged` gap joined with the ones before it as far as its age allows."""
        assert self.end is not None
        joined: list[Gap] = []
        has_notes = bool(self.notes)  # without them all gaps are of one place
        for gap in self.merged:
            if (
                joined
                and gap.end - joined[-1].start <= _max_length(self.end - gap.end, horizon_s)
                and not (has_notes and self._place(joined[-1]) != self._place(gap))
            ):
                joined[-1] = _join(joined[-1], gap)
            else:
                joined.append(gap)
        return replace(self, merged=tuple(joined))

    def _place(self, gap: Gap) -> tuple[int, float]:
        """Return where a gap lies among the notes; only gaps of one place may become one."""
        i = bisect_left(self.notes, (gap.end,))
        if i == 0 or _min_end(self.notes[i - 1][1], math.inf) <= gap.start:
            return i, math.inf
        start, end, _ = self.notes[i - 1]
        inside = start <= gap.start and gap.end <= _min_end(end, math.inf)
        return i, -math.inf if inside else gap.start


def _max_length(age: float, horizon_s: float) -> float:
    """Return the seconds that a merged gap may be long which ended `age` seconds ago."""
    return PRECISION * horizon_s * max(1.0, age / horizon_s) ** 2


def _first_after(gaps: Sequence[tuple[float, ...] | Gap], t: float) -> int:
    """Return the index of the first gap that ends after `t`."""
    return bisect_right(gaps, t, key=lambda gap: gap[1])


def _first_note_after(notes: Sequence[Note], t: float) -> int:
    """Return the index of the first note that ends after `t`."""
    return bisect_right(notes, t, key=lambda note: _min_end(note[1], math.inf))


def _cut(gap: Gap, start: float, end: float) -> Gap | None:
    """Return the part of a gap inside [start, end), None where there is none."""
    a, b = max(gap.start, start), min(gap.end, end)
    if a >= b:
        return None
    inside, outside = b - a, (a - gap.start) + (gap.end - b)
    if outside == 0 or gap.max_watched == 0:
        return gap._replace(start=a, end=b)
    least = gap.min_watched - outside - _ROUNDING_S
    return Gap(a, b, gap.reason, max(0.0, least), min(gap.max_watched + _ROUNDING_S, inside))


def _pieces(gap: Gap, *spans: tuple[float, float, str | None]) -> Iterable[Gap]:
    parts = ((_cut(gap, start, end), why) for start, end, why in spans)
    return [part._replace(reason=why) for part, why in parts if part is not None]


def _join(first: Gap, second: Gap) -> Gap:
    """Return two gaps and the watched time between them as one."""
    between = max(0.0, second.start - first.end)
    return Gap(
        first.start,
        second.end,
        first.reason,
        first.min_watched + between + second.min_watched,
        first.max_watched + between + second.max_watched,
    )


def _min_end(end: float | None, limit: float) -> float:
    return limit if end is None else min(end, limit)
