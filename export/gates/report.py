"""Write the report of the gates: one HTML file without network or script, and its numbers as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from engines.manifest import GRAPHS
from export.gates.limits import Limits
from export.gates.plot import Line, plot
from export.gates.result import Accuracy, Checkpoint, Drift, Finding, GateResult
from export.gates.style import STYLE


def write_report(result: GateResult, html: Path) -> None:
    """Write `html` and, beside it, `.json`; each gets its name when it is complete. Raises OSError."""
    html.parent.mkdir(parents=True, exist_ok=True)
    _write_file(html, render_page(result))
    _write_file(html.with_suffix(".json"), result.model_dump_json(indent=1) + "\n")


def render_page(result: GateResult) -> str:
    """Render the report as HTML."""
    parts = [
        f"<h1>Gates of {escape(result.bundle)}</h1>",
        f'<p class="soft">{escape(result.backend)}; {_list_precisions(result)}; bundle {result.digest[:12]}; '
        f"seed {result.seed}; {result.seconds:.0f} s</p>",
        _render_outcome(result),
    ]
    for drift in result.drift:
        parts.append(_render_drift(drift, result.limits))
    if result.accuracy is not None:
        parts.append(_render_accuracy(result.accuracy, result.limits))
    title = f"Gates of {escape(result.bundle)}"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>{title}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _write_file(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def _list_precisions(result: GateResult) -> str:
    return ", ".join(f"{name} {precision}" for name, precision in result.precisions.items())


def _render_outcome(result: GateResult) -> str:
    if result.passed:
        return '<p class="verdict passed">Passed: the export answers like its network.</p>'
    items = "".join(_render_finding(source, finding) for source, finding in result.findings)
    message = "Failed: the export does not answer like its network."
    return f'<p class="verdict failed">{message}</p><ul class="findings">{items}</ul>'


def _render_finding(source: str, finding: Finding) -> str:
    after = "" if finding.frame is None else f", first after {finding.frame:,} frames"
    place = f"{_name_graph(finding)}; {source}{after}"
    return f'<li>{escape(finding.words)}<p class="soft">{escape(place)}</p></li>'


def _name_graph(finding: Finding) -> str:
    if finding.graph is None:
        return "no graph alone"
    return finding.graph if finding.certain else f"no graph alone, {finding.graph} most likely"


def _render_drift(drift: Drift, limits: Limits) -> str:
    summary = f"{drift.frames:,} sampled frames, compared {len(drift.checkpoints)} times on the way"
    parts = [f"<h2>Drift over {escape(drift.source)}</h2>", f'<p class="soft">{summary}</p>']
    points = [*drift.checkpoints]
    if drift.final is not None:
        points = [point for point in points if point.frame != drift.final.frame] + [drift.final]
        parts.append(_render_final(drift.final, limits))
    if points:
        parts.append(f'<div class="plots">{"".join(_render_plots(points, limits))}</div>')
        parts.append(_render_graphs_alone(points))
    return "\n".join(parts)


def _render_final(final: Checkpoint, limits: Limits) -> str:
    """Render the table after the last frame, quantities with a limit first."""
    agreement, angle = final.agreement, final.angle_deg
    limited = [
        _make_row(f"answers agree, of {agreement.questions:,} questions", agreement.answers, limits.answers),
        _make_row("the same, abstention aside", agreement.contents, limits.contents),
        _make_row("overlap of boxes, mean IoU", agreement.box_iou, limits.box_iou),
        _make_row("overlap of spans, mean IoU", agreement.span_iou, limits.span_iou),
        _make_row("remembered tokens in common", final.tokens, limits.tokens),
    ]
    if angle is not None:
        shown = ("angle of the SVD bases", f"{angle:.3g}°", f"at most {limits.angle_deg:g}°")
        limited.append((shown, angle > limits.angle_deg))
    told_only = [
        *((f"answers to {kind} questions agree", share) for kind, share in agreement.by_kind.items()),
        ("both or neither abstain", agreement.abstention),
        ("the same first activity", agreement.activity),
    ]
    rows = [row for row in limited if row is not None]
    rows += [((name, f"{share:.2%}", ""), False) for name, share in told_only if share is not None]
    return _render_table(
        ["after the last frame", "measured", "limit"],
        [row for row, _ in rows],
        [missed for _, missed in rows],
    )


def _make_row(name: str, value: float | None, limit: float) -> tuple[tuple[str, str, str], bool] | None:
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


def _render_graphs_alone(points: Sequence[Checkpoint]) -> str:
    rows = []
    for name in GRAPHS:
        measured = [point.alone[name] for point in points if name in point.alone]
        if not measured:
            continue
        worst = max(measured, key=lambda alone: alone.error)
        tokens, answers = (
            _format_minimum([alone.kept for alone in measured]),
            _format_minimum([alone.answers for alone in measured]),
        )
        rows.append([name, worst.output, _format_small(worst.error), tokens, answers])
    return "<h2>Each graph alone, on the reference's states</h2>" + _render_table(
        ["graph", "worst output", "largest relative error", "least tokens kept", "least answers"], rows
    )


def _format_minimum(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{min(known):.2%}" if known else ""


def _render_accuracy(accuracy: Accuracy, limits: Limits) -> str:
    rows = [
        [
            kind,
            f"{recall.questions:,}",
            f"{recall.reference:.3f}",
            f"{recall.export:.3f}",
            f"{recall.export - recall.reference:+.3f}",
            f"{recall.difference[0]:+.3f} to {recall.difference[1]:+.3f}",
        ]
        for kind, recall in accuracy.recall.items()
    ]
    return (
        f"<h2>Recall@1x on {escape(accuracy.data)}, {escape(accuracy.split)}</h2>"
        f'<p class="soft">At most {limits.recall_drop:.1%} may be lost of each kind.</p>'
        + _render_table(["questions", "number", "network", "export", "difference", "95 % interval"], rows)
    )


def _render_table(head: Sequence[str], rows: Sequence[Sequence[str]], missed: Sequence[bool] = ()) -> str:
    """Render a table; `missed` rows stand out."""
    lines = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"]
    for number, row in enumerate(rows):
        start = '<tr class="missed">' if any(missed[number : number + 1]) else "<tr>"
        lines.append(start + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>")
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'
