"""Write the report of a soak as one HTML file: plots as inline SVG, faults as marks, and objections."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from tools.reliability.soaking.record import Row

WIDTH, HEIGHT, LEFT, BOTTOM = 960, 150, 60, 18
COLOURS = ("#1f6f8b", "#c1440e", "#4b7f52", "#7a4fa3")
RATE_WINDOW = 10
Line = tuple[str, list[tuple[float, float]]]


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
    wrong = [row["t"] for row in objections]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["px"] = "{:.1f}".format
    page = environment.get_template("report.html.jinja").render(
        result=result, events=events, dumps=json.dumps,
        plots=[_plot(title, lines, end, marks, wrong) for title, lines in plots],
        width=WIDTH, height=HEIGHT, left=LEFT, bottom=HEIGHT - BOTTOM,
    )  # fmt: skip
    path.write_text(page, encoding="utf-8")


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
    title: str,
    lines: Sequence[Line],
    end: float,
    marks: Sequence[tuple[float, float, str]],
    wrong: Sequence[float],
) -> dict[str, Any]:
    """Return the places of everything in a drawing, in its own pixels."""
    top = max([y for _, points in lines for _, y in points] + [1e-9]) * 1.08

    def x(t: float) -> float:
        return LEFT + (WIDTH - LEFT - 5) * t / end

    def y(value: float) -> float:
        return (HEIGHT - BOTTOM) * (1 - value / top) + 2

    return {
        "title": title,
        "marks": [(x(began), x(ended), f"{name} at {began:.0f} s") for began, ended, name in marks],
        "wrong": [x(t) for t in wrong],
        "levels": [(y(value), value) for value in (0.0, top / 2.16, top / 1.08)],
        "times": [(x(end * i / 5), end * i / 5) for i in range(6)],
        "lines": [
            (name, " ".join(f"{x(t):.1f},{y(value):.1f}" for t, value in points), colour)
            for (name, points), colour in zip(lines, COLOURS, strict=False)
        ],
    }
