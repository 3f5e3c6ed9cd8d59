"""Write the report of a soak as one HTML file: plots as inline SVG, faults as marks, and objections."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tools.reliability.soaking.record import Row

WIDTH, HEIGHT, LEFT, BOTTOM = 960, 150, 60, 18
COLOURS = ("#1f6f8b", "#c1440e", "#4b7f52", "#7a4fa3")
RATE_WINDOW = 10
Line = tuple[str, list[tuple[float, float]]]

_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}
td,th{padding:.2rem .8rem;border-bottom:1px solid #ddd;text-align:left}
svg{width:100%;height:auto;background:#fafafa}h2{font-size:1rem;margin:1.6rem 0 .3rem}
.bad{color:#a3131a;font-weight:600}.good{color:#2c6e38;font-weight:600}text{font:11px system-ui;fill:#555}
"""


def write_report(
    path: Path,
    samples: Sequence[Row],
    events: Sequence[Row],
    objections: Sequence[Row],
    result: dict[str, Any],
) -> None:
    """Write the report from the record of the soak."""
    plots = [
        ("Resident memory, MB", [("", _series(samples, lambda row: row["resident"] / 1e6))]),
        ("File descriptors and threads", [
            ("descriptors", _series(samples, lambda row: row["descriptors"])),
            ("threads", _series(samples, lambda row: row["threads"])),
        ]),
        ("Sampled frames a second, network cameras", _rates(samples, ("rtsp", "mjpeg", "steady"))),
        ("Sampled frames a second, demo", _rates(samples, ("demo",))),
        ("A question over HTTP, ms", [("", _series(samples, lambda row: row["ask"]["ms"]))]),
        ("Largest state folder and log, MB", [
            ("state", _series(samples, lambda row: row["state"] / 1e6)),
            ("log", _series(samples, lambda row: row["log"] / 1e6)),
        ]),
        ("Load average of the machine", [("", _series(samples, lambda row: row["load"]))]),
    ]  # fmt: skip
    end = max([row["t"] for row in samples] + [1.0])
    marks = [(row["began"], row["t"], row["fault"]) for row in events]
    drawn = "".join(
        f"<h2>{title}</h2>{_plot(lines, end, marks, [row['t'] for row in objections])}"
        for title, lines in plots
    )
    verdict = "<p class=good>The oracle has no objection.</p>"
    if result["objections"]:
        items = "".join(f"<li>{html.escape(objection)}" for objection in result["objections"])
        verdict = f"<p class=bad>The oracle objects:</p><ul>{items}</ul>"
    facts = "".join(
        f"<tr><th>{html.escape(key)}<td>{html.escape(json.dumps(value))}"
        for key, value in result.items()
        if key != "objections"
    )
    path.write_text(
        f"<!doctype html><meta charset=utf-8><title>lvm-edge soak</title><style>{_STYLE}</style>"
        f"<h1>Soak of {result['seconds']} s, {result['stream_hours']} h of stream</h1>{verdict}"
        f"<table>{facts}</table><p>Grey bands are faults, red lines objections; hover to read which.</p>"
        f"{drawn}<h2>Faults</h2>{_table(events)}",
        encoding="utf-8",
    )


def _series(samples: Sequence[Row], value: Callable[[Row], float]) -> list[tuple[float, float]]:
    return [(row["t"], value(row)) for row in samples]


def _rates(samples: Sequence[Row], names: Sequence[str]) -> list[Line]:
    """Return frames a second over the last samples of one life."""
    lines: list[Line] = []
    for name in names:
        points = []
        for early, late in zip(samples, samples[RATE_WINDOW:], strict=False):
            if early["life"] == late["life"] and late["t"] > early["t"]:
                count = late["cameras"][name]["frames"] - early["cameras"][name]["frames"]
                points.append((late["t"], count / (late["t"] - early["t"])))
        lines.append((name, points))
    return lines


def _plot(
    lines: Sequence[Line], end: float, marks: Sequence[tuple[float, float, str]], wrong: Sequence[float]
) -> str:
    top = max([y for _, points in lines for _, y in points] + [1e-9]) * 1.08

    def x(t: float) -> float:
        return LEFT + (WIDTH - LEFT - 5) * t / end

    def y(value: float) -> float:
        return (HEIGHT - BOTTOM) * (1 - value / top) + 2

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">']
    for began, ended, name in marks:
        wide = max(x(ended) - x(began), 1.0)
        parts.append(
            f'<rect x="{x(began):.1f}" y="0" width="{wide:.1f}" height="{HEIGHT - BOTTOM}" fill="#999" '
            f'opacity=".22"><title>{html.escape(name)} at {began:.0f} s</title></rect>'
        )
    parts += [
        f'<line x1="{x(t):.1f}" x2="{x(t):.1f}" y1="0" y2="{HEIGHT - BOTTOM}" stroke="#d00"/>' for t in wrong
    ]
    for value in (0.0, top / 2.16, top / 1.08):
        parts.append(f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.4g}</text>')
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - 5}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#ddd"/>'
        )
    for i in range(6):
        parts.append(
            f'<text x="{x(end * i / 5):.1f}" y="{HEIGHT - 4}" text-anchor="middle">{end * i / 5:.0f} s</text>'
        )
    for i, (name, points) in enumerate(lines):
        path = " ".join(f"{x(t):.1f},{y(value):.1f}" for t, value in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{COLOURS[i]}" stroke-width="1.2"/>')
        if name:
            parts.append(f'<text x="{LEFT + 8 + 90 * i}" y="12" style="fill:{COLOURS[i]}">{name}</text>')
    return "".join(parts) + "</svg>"


def _table(events: Sequence[Row]) -> str:
    rows = "".join(
        f"<tr><td>{row['began']:.0f} s<td>{html.escape(row['fault'])}<td>{_seconds(row['recover_s'])}"
        f"<td>{_seconds(row['remembered_s'])}<td>{row['lost']}<td>{html.escape(row['detail'])}"
        f"<td class=bad>{html.escape('; '.join(row['objections']))}"
        for row in events
    )
    heads = ("at", "fault", "back after", "frame after", "lost", "", "")
    return f"<table><tr>{''.join(f'<th>{head}' for head in heads)}{rows}</table>"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} s"
