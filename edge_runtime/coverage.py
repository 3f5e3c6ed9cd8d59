"""When somebody was watching: from, to and the gaps between, in a bounded list."""

from __future__ import annotations

from dataclasses import dataclass

Span = tuple[float, float]

MAX_GAPS = 256


@dataclass(frozen=True)
class Coverage:
    """Watched time in seconds on the stream's clock. Immutable; `end` is exclusive.

    At most `MAX_GAPS` gaps are kept. Beyond that the two with the least watched time between them become
    one, so that what is forgotten is counted as unwatched and never the other way round.
    """

    start: float | None = None
    end: float | None = None
    gaps: tuple[Span, ...] = ()

    def observe(self, t: float, period: float) -> Coverage:
        """A sampled frame at `t` stands for [t, t + period). A jump of over half a period more is a gap."""
        if self.start is None or self.end is None:
            return Coverage(t, t + period)
        if t + period <= self.end:
            return self
        gaps = self.gaps
        if t - self.end > 0.5 * period:
            gaps = _bounded((*gaps, (self.end, t)))
        return Coverage(self.start, t + period, gaps)

    def within(self, start: float, end: float) -> Coverage:
        """The part inside [start, end); empty (None, None) if they do not meet."""
        if self.start is None or self.end is None or end <= self.start or start >= self.end:
            return Coverage()
        start, end = max(start, self.start), min(end, self.end)
        cut = ((max(a, start), min(b, end)) for a, b in self.gaps)
        return Coverage(start, end, tuple((a, b) for a, b in cut if a < b))

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
