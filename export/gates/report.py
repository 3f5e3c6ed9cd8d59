"""Write the report of the gates: one HTML file without network or script, and its numbers as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from engines.manifest import GRAPHS
from export.gates.limits import Limits
from export.gates.plot import Line, plot
from export.gates.result import Checkpoint, Drift, GateResult

Row = tuple[tuple[str, ...], bool]
"""The cells of a table's row, and whether it stands out because a limit is missed."""


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
