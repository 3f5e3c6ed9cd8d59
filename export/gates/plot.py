"""Lines over frames as inline SVG: no library, no script, colours by the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 460, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 14, 46
_DASHES = ("", "7 4", "2 3", "9 3 2 3")


class Line(NamedTuple):
    """One quantity: (frame, value) in the order of frames; what was not measured is left out."""

    name: str
    points: Sequence[tuple[int, float]]


def plot(title: str, lines: Sequence[Line], limit: float | None = None, unit: str = "") -> str:
    """An SVG figure of at most four lines, and the limit as a dotted one where there is one."""
    lines = [line for line in lines if line.points]
    if not lines:
        return ""
    frames = [frame for line in lines for frame, _ in line.points]
    values = [value for line in lines for _, value in line.points]
    low, high = _range([*values, *([] if limit is None else [limit])])
    first, last = min(frames), max(max(frames), min(frames) + 1)

    def x(frame: float) -> float:
        return _LEFT + (frame - first) / (last - first) * (WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _TOP + (high - value) / (high - low) * (HEIGHT - _TOP - _BOTTOM)

    right, base = WIDTH - _RIGHT, HEIGHT - _BOTTOM
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title, quote=True)}">']
    for value in _ticks(low, high):
        at = y(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(_text("tick", _LEFT - 6, at + 3, f"{value:.4g}{unit}", "end"))
    parts.append(_text("tick", _LEFT, base + 15, str(first), "start"))
    parts.append(_text("tick", right, base + 15, f"{last} frames", "end"))
    if limit is not None:
        at = y(limit)
        parts.append(f'<line class="limit" x1="{_LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>')
    for number, line in enumerate(lines):
        dash = f' stroke-dasharray="{_DASHES[number]}"' if _DASHES[number] else ""
        places = [(f"{x(frame):.1f}", f"{y(value):.1f}") for frame, value in line.points]
        points = " ".join(",".join(place) for place in places)
        parts.append(f'<polyline class="line c{number}" points="{points}"{dash}/>')
        parts += [f'<circle class="dot c{number}" cx="{a}" cy="{b}" r="2.5"/>' for a, b in places]
        key, foot = _LEFT + number * (right - _LEFT) / 4, HEIGHT - 12
        ends = f'x1="{key:.0f}" x2="{key + 18:.0f}" y1="{foot}" y2="{foot}"'
        parts.append(f'<line class="line c{number}" {ends}{dash}/>')
        parts.append(_text("key", key + 23, foot + 4, line.name, "start"))
    return f"<figure>{''.join(parts)}</svg><figcaption>{escape(title)}</figcaption></figure>"


def _text(kind: str, x: float, y: float, words: str, anchor: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _range(values: Sequence[float]) -> tuple[float, float]:
    """From a little below the least to a little above the largest; never empty."""
    low, high = min(values), max(values)
    margin = (high - low) * 0.08 or max(abs(high) * 0.02, 1e-9)
    return low - margin, high + margin


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers between the two."""
    step = 10.0 ** math.floor(math.log10((high - low) / 3))
    step *= next(m for m in (5, 2, 1) if (high - low) / (m * step) >= 3) if (high - low) / step >= 3 else 1
    start = math.ceil(low / step)
    return [number * step for number in range(start, math.floor(high / step) + 1)]
