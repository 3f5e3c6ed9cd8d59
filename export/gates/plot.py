"""Draw lines over frames as inline SVG: no library, no script; the page's style sheet sets the colours."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 400, 210
"""About the width of a phone, so that letters keep their size there."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 10, 12, 24
_DASHES = ("", "7 4", "2 3", "9 3 2 3")


class Line(NamedTuple):
    """One quantity: (frame, value) in the order of frames; missing values are left out."""

    name: str
    points: Sequence[tuple[int, float]]


def plot(
    title: str,
    lines: Sequence[Line],
    limit: float | None = None,
    show: Callable[[float], str] = "{:.4g}".format,
    *,
    log: bool = False,
) -> str:
    """Draw an SVG figure of at most four lines, and the limit, if any, as a dotted line.

    `show` formats a value beside the axis; `log` draws powers of ten at equal distances, so all values must
    be positive.
    """
    lines = [line for line in lines if line.points]
    if not lines:
        return ""
    frames = [frame for line in lines for frame, _ in line.points]
    values = [value for line in lines for _, value in line.points] + ([] if limit is None else [limit])
    low, high = _find_range([math.log10(value) for value in values] if log else values)
    first, last = min(frames), max(max(frames), min(frames) + 1)

    def x(frame: float) -> float:
        return _LEFT + (frame - first) / (last - first) * (WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _TOP + (high - (math.log10(value) if log else value)) / (high - low) * (
            HEIGHT - _TOP - _BOTTOM
        )

    right, foot = WIDTH - _RIGHT, HEIGHT - 6
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title, quote=True)}">']
    for value in _choose_powers(low, high) if log else _choose_ticks(low, high):
        at = y(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(_render_text("tick", _LEFT - 6, at + 4, show(value), "end"))
    parts.append(_render_text("tick", _LEFT, foot, f"{first:,}", "start"))
    parts.append(_render_text("tick", right, foot, f"{last:,} frames", "end"))
    if limit is not None:
        at = y(limit)
        parts.append(f'<line class="limit" x1="{_LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>')
    for number, line in enumerate(lines):
        places = [(f"{x(frame):.1f}", f"{y(value):.1f}") for frame, value in line.points]
        points = " ".join(",".join(place) for place in places)
        parts.append(f'<polyline class="line c{number}" points="{points}"{_format_dashes(number)}/>')
        parts += [f'<circle class="dot c{number}" cx="{a}" cy="{b}" r="2.5"/>' for a, b in places]
    if limit is not None:
        at = y(limit)  # drawn last, over the lines; below the limit line where there is no space above
        parts.append(_render_text("limit", right, at + (13 if at < _TOP + 14 else -5), "limit", "end"))
    keys = (
        "".join(_render_key(number, line.name) for number, line in enumerate(lines)) if len(lines) > 1 else ""
    )
    keys = f'<div class="keys">{keys}</div>' if keys else ""
    return f"<figure><figcaption>{escape(title)}</figcaption>{keys}{''.join(parts)}</svg></figure>"


def _render_key(number: int, name: str) -> str:
    """Render the key of a line: outside the drawing, where letters keep their size."""
    sample = f'<line class="line c{number}" x1="0" x2="26" y1="4" y2="4"{_format_dashes(number)}/>'
    return f'<span class="key"><svg viewBox="0 0 26 8" aria-hidden="true">{sample}</svg>{escape(name)}</span>'


def _format_dashes(number: int) -> str:
    return f' stroke-dasharray="{_DASHES[number]}"' if _DASHES[number] else ""


def _render_text(kind: str, x: float, y: float, text: str, anchor: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _find_range(values: Sequence[float]) -> tuple[float, float]:
    """Return a range from a little below the minimum to a little above the maximum; never empty."""
    low, high = min(values), max(values)
    margin = (high - low) * 0.08 or max(abs(high) * 0.02, 1e-9)
    return low - margin, high + margin


def _choose_ticks(low: float, high: float) -> list[float]:
    """Choose three to six round numbers between the two."""
    step = 10.0 ** math.floor(math.log10((high - low) / 3))
    step *= next(m for m in (5, 2, 1) if (high - low) / (m * step) >= 3) if (high - low) / step >= 3 else 1
    start = math.ceil(low / step)
    return [number * step for number in range(start, math.floor(high / step) + 1)]


def _choose_powers(low: float, high: float) -> list[float]:
    """Choose values between 10 ** low and 10 ** high: powers of ten, with multiples of them where few fit."""
    for steps in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)):
        powers = [
            step * 10.0**power
            for power in range(math.floor(low), math.ceil(high) + 1)
            for step in steps
            if low <= math.log10(step) + power <= high
        ]
        if len(powers) >= 3:
            break
    return powers or [10.0 ** ((low + high) / 2)]
