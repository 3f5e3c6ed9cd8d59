"""Write the report of the gates: one HTML file without network or script, and its numbers as JSON.

Plots are lines over frames as inline SVG, drawn without a library; the page's style sheet sets the colours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from engines.manifest import GRAPHS
from export.gates.limits import Limits
from export.gates.result import Checkpoint, Drift, GateResult

Row = tuple[tuple[str, ...], bool]
"""The cells of a table's row, and whether it stands out because a limit is missed."""
WIDTH, HEIGHT = 400, 210
"""About the width of a phone, so that letters keep their size there."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 10, 12, 24
_DASHES = ("", "7 4", "2 3", "9 3 2 3")


def write_report(result: GateResult, html: Path) -> None:
    """Write `html` and, beside it, `.json`; each gets its name when it is complete. Raises OSError."""
    html.parent.mkdir(parents=True, exist_ok=True)
    _write_file(html, render_page(result))
    _write_file(html.with_suffix(".json"), result.model_dump_json(indent=1) + "\n")


def render_page(result: GateResult) -> str:
    """Render the report as HTML."""
    pages = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined,
    )  # fmt: skip
    recall = {} if result.accuracy is None else result.accuracy.recall
    return pages.get_template("report.html.jinja").render(
        result=result,
        drifts=[_describe_drift(drift, result.limits) for drift in result.drift],
        recalls=[
            (
                (
                    kind,
                    f"{figures.questions:,}",
                    f"{figures.reference:.3f}",
                    f"{figures.export:.3f}",
                    f"{figures.export - figures.reference:+.3f}",
                    f"{figures.difference[0]:+.3f} to {figures.difference[1]:+.3f}",
                ),
                False,
            )
            for kind, figures in recall.items()
        ],
    )


def _write_file(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def _describe_drift(drift: Drift, limits: Limits) -> dict[str, Any]:
    """Return the tables and plots of a drift; None for what was not measured."""
    points = [*drift.checkpoints]
    if drift.final is not None:
        points = [point for point in points if point.frame != drift.final.frame] + [drift.final]
    return {
        "drift": drift,
        "final": None if drift.final is None else _list_final(drift.final, limits),
        "plots": _render_plots(points, limits) if points else None,
        "alone": _list_graphs_alone(points),
    }


def _list_final(final: Checkpoint, limits: Limits) -> list[Row]:
    """Return the rows of the table after the last frame, quantities with a limit first."""
    agreement, angle = final.agreement, final.angle_deg
    limited = [
        _make_row(f"answers agree, of {agreement.questions:,} questions", agreement.answers, limits.answers),
        _make_row("the same, abstention aside", agreement.contents, limits.contents),
        _make_row("overlap of boxes, mean IoU", agreement.box_iou, limits.box_iou),
        _make_row("overlap of spans, mean IoU", agreement.span_iou, limits.span_iou),
        _make_row("remembered tokens in common", final.tokens, limits.tokens),
    ]
    if angle is not None:
        cells = ("angle of the SVD bases", f"{angle:.3g}°", f"at most {limits.angle_deg:g}°")
        limited.append((cells, angle > limits.angle_deg))
    told_only = [
        *((f"answers to {kind} questions agree", share) for kind, share in agreement.by_kind.items()),
        ("both or neither abstain", agreement.abstention),
        ("the same first activity", agreement.activity),
    ]
    rows = [row for row in limited if row is not None]
    return rows + [((name, f"{share:.2%}", ""), False) for name, share in told_only if share is not None]


def _make_row(name: str, value: float | None, limit: float) -> Row | None:
    """Return a row, and whether it is below its limit; None where there is no value."""
    if value is None:
        return None
    return (name, f"{value:.2%}", f"at least {limit:.2%}"), value < limit


def _render_plots(points: Sequence[Checkpoint], limits: Limits) -> list[str]:
    def line(name: str, values: Iterable[float | None]) -> Line:
        pairs = zip(points, values, strict=True)
        return Line(name, [(point.frame, value) for point, value in pairs if value is not None])

    def values(field: str) -> list[float | None]:
        return [getattr(point.agreement, field) for point in points]

    tokens, angle = [point.tokens for point in points], [point.angle_deg for point in points]
    return [
        plot("Remembered tokens in common", [line("tokens", tokens)], limits.tokens, _format_percent),
        plot(
            "Largest principal angle between the SVD bases",
            [line("angle", angle)],
            limits.angle_deg,
            "{:.4g}°".format,
        ),
        plot(
            "Answers that agree",
            [
                line("told", values("answers")),
                line("abstention aside", values("contents")),
                line("activity", values("activity")),
                line("abstention", values("abstention")),
            ],
            limits.answers,
            _format_percent,
        ),
        plot(
            "Overlap of boxes and spans, mean IoU",
            [line("boxes", values("box_iou")), line("spans", values("span_iou"))],
            min(limits.box_iou, limits.span_iou),
            _format_percent,
        ),
        plot(
            "Relative error of each graph alone",
            [line(name, [_find_error(point, name) for point in points]) for name in GRAPHS],
            show=_format_small,
            log=True,
        ),
    ]


def _format_percent(share: float) -> str:
    return f"{100 * share:.4g}%"


def _format_small(share: float) -> str:
    """Format an error, which may be tiny."""
    return _format_percent(share) if share >= 1e-4 else f"{share:.0e}".replace("e-0", "e-")


def _find_error(point: Checkpoint, graph: str) -> float | None:
    """Return the relative error of a graph alone; None where there is none or it is 0."""
    graph_alone = next((alone for name, alone in point.alone.items() if name == graph), None)
    return graph_alone.error if graph_alone is not None and graph_alone.error > 0 else None


def _list_graphs_alone(points: Sequence[Checkpoint]) -> list[Row]:
    rows: list[Row] = []
    for name in GRAPHS:
        measured = [point.alone[name] for point in points if name in point.alone]
        if not measured:
            continue
        worst = max(measured, key=lambda alone: alone.error)
        tokens = _format_minimum([alone.kept for alone in measured])
        answers = _format_minimum([alone.answers for alone in measured])
        rows.append(((name, worst.output, _format_small(worst.error), tokens, answers), False))
    return rows


def _format_minimum(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{min(known):.2%}" if known else ""


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
