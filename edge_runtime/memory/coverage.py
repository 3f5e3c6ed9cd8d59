"""When somebody was watching: from, to and the gaps between, in a bounded list."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

Span = tuple[float, float]
Note = tuple[float, float | None, str]
"""From, to (None: still going on) and why nobody was watching then, or why nothing of it is left."""

PAUSED = "paused"
FORGOTTEN = "forgotten"

MAX_GAPS = 256
MAX_NOTES = 256


@dataclass(frozen=True)
class Coverage:
    """Watched time in seconds on the stream's clock. Immutable; `end` is exclusive.

    At most `MAX_GAPS` gaps are kept. Beyond that the two with the least watched time between them become
    one, so that what is forgotten is counted as unwatched and never the other way round. `notes`, in order
    and apart from each other, tell why; they count only where there is a gap.
    """

    start: float | None = None
    end: float | None = None
    gaps: tuple[Span, ...] = ()
    notes: tuple[Note, ...] = ()

    def observe(self, t: float, period: float) -> Coverage:
        """A sampled frame at `t` stands for [t, t + period). A jump of over half a period more is a gap."""
        if self.start is None or self.end is None:
            return Coverage(t, t + period, notes=self.notes)
        if t + period <= self.end:
            return self
        gaps = self.gaps
        if t - self.end > 0.5 * period:
            gaps = _bounded((*gaps, (self.end, t)))
        return replace(self, end=t + period, gaps=gaps)

    def within(self, start: float, end: float) -> Coverage:
        """The part inside [start, end); nothing but notes if they do not meet."""
        cut_notes = ((max(a, start), _least(b, end), why) for a, b, why in self.notes)
        notes = tuple((a, b, why) for a, b, why in cut_notes if a < b)
        if self.start is None or self.end is None or end <= self.start or start >= self.end:
            return Coverage(notes=notes)
        start, end = max(start, self.start), min(end, self.end)
        cut = ((max(a, start), min(b, end)) for a, b in self.gaps)
        return Coverage(start, end, tuple((a, b) for a, b in cut if a < b), notes)

    def explained(self, start: float, end: float | None, reason: str) -> Coverage:
        """With a note from `start` to `end`, None while it goes on. It replaces what was noted there."""
        kept: list[Note] = []
        for a, b, why in self.notes:
            if a < start:
                kept.append((a, _least(b, start), why))
            if end is not None and _least(b, math.inf) > end:
                kept.append((max(a, end), b, why))
        notes = sorted([*kept, (start, end, reason)], key=lambda note: note[0])
        return replace(self, notes=_bounded_notes(tuple(notes)))

    def ongoing(self) -> Note | None:
        """The note that has no end yet."""
        return self.notes[-1] if self.notes and self.notes[-1][1] is None else None

    def concluded(self, end: float) -> Coverage:
        """The ongoing note ends at `end`; it goes where that leaves nothing of it."""
        if (note := self.ongoing()) is None:
            return self
        last = ((note[0], end, note[2]),) if note[0] < end else ()
        return replace(self, notes=(*self.notes[:-1], *last))

    def forgotten(self, start: float, end: float) -> Coverage:
        """[start, end), as far as it was watched, becomes a gap that says why."""
        if self.start is None or self.end is None:
            return self
        start, end = max(start, self.start), min(end, self.end)
        if start >= end:
            return self
        before = [gap for gap in self.gaps if gap[1] < start]
        after = [gap for gap in self.gaps if gap[0] > end]
        met = [gap for gap in self.gaps if gap[1] >= start and gap[0] <= end]
        one = (min([start, *(a for a, _ in met)]), max([end, *(b for _, b in met)]))
        gaps = _bounded((*before, one, *after))
        return replace(self.explained(start, end, FORGOTTEN), gaps=gaps)

    def gaps_explained(self) -> tuple[tuple[float, float, str | None], ...]:
        """The gaps, cut where a note begins or ends: from, to, why (None where nobody knows)."""
        pieces: list[tuple[float, float, str | None]] = []
        for start, end in self.gaps:
            at = start
            for a, b, why in self.notes:
                a, b = max(a, at), _least(b, end)
                if a >= b:
                    continue
                if at < a:
                    pieces.append((at, a, None))
                pieces.append((a, b, why))
                at = b
            if at < end:
                pieces.append((at, end, None))
        return tuple(pieces)

    def reason(self) -> str | None:
        """Of the notes the one that lasted longest, None where there is none."""
        if not self.notes:
            return None
        return max(self.notes, key=lambda note: _least(note[1], math.inf) - note[0])[2]

    def watched(self) -> float:
        """Seconds watched."""
        if self.start is None or self.end is None:
            return 0.0
        return self.end - self.start - sum(b - a for a, b in self.gaps)


def _bounded(gaps: tuple[Span, ...]) -> tuple[Span, ...]:
    if len(gaps) <= MAX_GAPS:
        return gaps
    between = [gaps[i + 1][0] - gaps[i][1] for i in range(len(gaps) - 1)]
    i = between.index(min(between))
    return (*gaps[:i], (gaps[i][0], gaps[i + 1][1]), *gaps[i + 2 :])


def _least(end: float | None, limit: float) -> float:
    return limit if end is None else min(end, limit)


def _bounded_notes(notes: tuple[Note, ...]) -> tuple[Note, ...]:
    """At most MAX_NOTES: the two neighbours of one reason that lie closest become one, else the oldest goes.

    What lies between them is then explained only if it is a gap, and a gap between two pauses or two
    forgotten spans is the least wrong place for that.
    """
    if len(notes) <= MAX_NOTES:
        return notes
    pairs = [i for i in range(len(notes) - 1) if notes[i][2] == notes[i + 1][2]]
    if not pairs:
        return notes[1:]
    i = min(pairs, key=lambda k: notes[k + 1][0] - _least(notes[k][1], notes[k + 1][0]))
    return (*notes[:i], (notes[i][0], notes[i + 1][1], notes[i][2]), *notes[i + 2 :])
