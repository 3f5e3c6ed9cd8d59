"""Coverage: the time that was watched, from, to and the gaps between, in a bounded list."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

Span = tuple[float, float]
Note = tuple[float, float | None, str]
"""From, to (None: still going on) and the reason why nothing was watched then, or nothing of it is left."""

PAUSED = "paused"
FORGOTTEN = "forgotten"

MAX_GAPS = 256
MAX_NOTES = 256


@dataclass(frozen=True)
class Coverage:
    """Watched time in seconds on the stream's clock. Immutable; `end` is exclusive.

    There are at most `MAX_GAPS` gaps. Beyond that the two with the shortest watched time between them become
    one, so watched time may be counted as unwatched and never the other way round. `notes`, in order and
    without overlap, hold the reasons; they count only where there is a gap.
    """

    start: float | None = None
    end: float | None = None
    gaps: tuple[Span, ...] = ()
    notes: tuple[Note, ...] = ()

    def observe(self, t: float, period: float) -> Coverage:
        """Add a sampled frame, which stands for [t, t + period). A jump of over half a period more is a
        gap."""
        if self.start is None or self.end is None:
            return Coverage(t, t + period, notes=self.notes)
        if t + period <= self.end:
            return self
        gaps = self.gaps
        if t - self.end > 0.5 * period:
            gaps = _limit_gaps((*gaps, (self.end, t)))
        return replace(self, end=t + period, gaps=gaps)

    def within(self, start: float, end: float) -> Coverage:
        """Return the part inside [start, end); only notes where they do not overlap."""
        cut_notes = ((max(a, start), _min_end(b, end), why) for a, b, why in self.notes)
        notes = tuple((a, b, why) for a, b, why in cut_notes if a < b)
        if self.start is None or self.end is None or end <= self.start or start >= self.end:
            return Coverage(notes=notes)
        start, end = max(start, self.start), min(end, self.end)
        cut = ((max(a, start), min(b, end)) for a, b in self.gaps)
        return Coverage(start, end, tuple((a, b) for a, b in cut if a < b), notes)

    def add_note(self, start: float, end: float | None, reason: str) -> Coverage:
        """Add a note from `start` to `end`, None while it goes on. It replaces older notes there."""
        others: list[Note] = []
        for a, b, why in self.notes:
            if a < start:
                others.append((a, _min_end(b, start), why))
            if end is not None and _min_end(b, math.inf) > end:
                others.append((max(a, end), b, why))
        notes = sorted([*others, (start, end, reason)], key=lambda note: note[0])
        return replace(self, notes=_limit_notes(tuple(notes)))

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
        """Make [start, end), as far as it was watched, a gap with the reason `FORGOTTEN`."""
        if self.start is None or self.end is None:
            return self
        start, end = max(start, self.start), min(end, self.end)
        if start >= end:
            return self
        before = [gap for gap in self.gaps if gap[1] < start]
        after = [gap for gap in self.gaps if gap[0] > end]
        joined = [gap for gap in self.gaps if gap[1] >= start and gap[0] <= end]
        union = (min([start, *(a for a, _ in joined)]), max([end, *(b for _, b in joined)]))
        gaps = _limit_gaps((*before, union, *after))
        return replace(self.add_note(start, end, FORGOTTEN), gaps=gaps)

    def gaps_with_reasons(self) -> tuple[tuple[float, float, str | None], ...]:
        """Return the gaps, cut where a note begins or ends: from, to, reason (None where unknown)."""
        pieces: list[tuple[float, float, str | None]] = []
        for start, end in self.gaps:
            at = start
            for a, b, why in self.notes:
                a, b = max(a, at), _min_end(b, end)
                if a >= b:
                    continue
                if at < a:
                    pieces.append((at, a, None))
                pieces.append((a, b, why))
                at = b
            if at < end:
                pieces.append((at, end, None))
        return tuple(pieces)

    def main_reason(self) -> str | None:
        """Return the reason of the longest note, None where there is none."""
        if not self.notes:
            return None
        return max(self.notes, key=lambda note: _min_end(note[1], math.inf) - note[0])[2]

    def watched_seconds(self) -> float:
        """Return the seconds that were watched."""
        if self.start is None or self.end is None:
            return 0.0
        return self.end - self.start - sum(b - a for a, b in self.gaps)


def _limit_gaps(gaps: tuple[Span, ...]) -> tuple[Span, ...]:
    if len(gaps) <= MAX_GAPS:
        return gaps
    between = [gaps[i + 1][0] - gaps[i][1] for i in range(len(gaps) - 1)]
    i = between.index(min(between))
    return (*gaps[:i], (gaps[i][0], gaps[i + 1][1]), *gaps[i + 2 :])


def _min_end(end: float | None, limit: float) -> float:
    return limit if end is None else min(end, limit)


def _limit_notes(notes: tuple[Note, ...]) -> tuple[Note, ...]:
    """Keep at most MAX_NOTES: join the two closest neighbours of the same reason, else drop the oldest.

    The time between them then has a reason only if it is a gap, and a gap between two pauses or two
    forgotten spans is where that does least harm.
    """
    if len(notes) <= MAX_NOTES:
        return notes
    pairs = [i for i in range(len(notes) - 1) if notes[i][2] == notes[i + 1][2]]
    if not pairs:
        return notes[1:]
    i = min(pairs, key=lambda k: notes[k + 1][0] - _min_end(notes[k][1], notes[k + 1][0]))
    return (*notes[:i], (notes[i][0], notes[i + 1][1], notes[i][2]), *notes[i + 2 :])
