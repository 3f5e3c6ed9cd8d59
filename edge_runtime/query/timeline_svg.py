"""Draw as SVG what was watched, what was found and what is remembered, for notebooks."""

from __future__ import annotations

from collections.abc import Iterable

_WIDTH = 600
_HEIGHT = 28
Span = tuple[float, float]
Part = tuple[float, float, float]
"""From, to (s), and how much of it was watched."""


def watched_parts(
    start: float | None, end: float | None, gaps: Iterable[tuple[float, float, Span | None]]
) -> list[Part]:
    """Return the parts of `start` to `end` (s) that were watched.

    The gaps are in order, each with the share of it that was watched, at least and at most.
    """
    if start is None or end is None:
        return []
    parts, at = [], start
    for a, b, share in gaps:
        parts.append((at, a, 1.0))
        if share is not None:
            parts.append((a, b, sum(share) / 2))
        at = b
    return [part for part in [*parts, (at, end, 1.0)] if part[0] < part[1]]


def draw_timeline(
    start: float | None,
    end: float | None,
    watched: Iterable[Part],
    spans: Iterable[Span],
    moments: Iterable[float],
) -> str:
    """Draw a time line as SVG: watched grey (paler in part), spans green, moments blue. Times in seconds."""
    if start is None or end is None or end <= start:
        return "nothing was watched"
    scale = _WIDTH / (end - start)

    def bar(a: float, b: float, colour: str, opacity: float) -> str:
        left, width = (a - start) * scale, max((b - a) * scale, 1.0)
        return (
            f'<rect x="{left:.1f}" y="2" width="{width:.1f}" height="16" fill="{colour}" '
            f'fill-opacity="{opacity}"/>'
        )

    inside = [t for t in moments if start <= t <= end]
    parts = [bar(a, b, "#999", round(0.3 * share, 3)) for a, b, share in watched]
    parts += [bar(max(a, start), min(b, end), "#2a2", 0.5) for a, b in spans if a < end and b > start]
    parts += [bar(t, t, "#26c", 0.8) for t in sorted(set(inside))]
    ends = (
        f'<text x="0" y="27" font-size="9">{start:.0f} s</text>'
        f'<text x="{_WIDTH}" y="27" font-size="9" text-anchor="end">{end:.0f} s</text>'
    )
    return f'<svg width="{_WIDTH}" height="{_HEIGHT}">{"".join(parts)}{ends}</svg>'
