"""The report of the gates: one HTML file that needs neither network nor script, and its numbers as JSON."""

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
    """Write `html` and, beside it, `.json`; each gets its name when it is whole. Raises OSError."""
    html.parent.mkdir(parents=True, exist_ok=True)
    _written(html, page(result))
    _written(html.with_suffix(".json"), result.model_dump_json(indent=1) + "\n")


def page(result: GateResult) -> str:
    """The report as HTML."""
    parts = [
        f"<h1>Gates of {escape(result.bundle)}</h1>",
        f'<p class="soft">{escape(result.backend)}; {_precisions(result)}; bundle {result.digest[:12]}; '
        f"seed {result.seed}; {result.seconds:.0f} s</p>",
        _verdict(result),
    ]
    for drift in result.drift:
        parts.append(_drift(drift, result.limits))
    if result.accuracy is not None:
        parts.append(_accuracy(result.accuracy, result.limits))
    title = f"Gates of {escape(result.bundle)}"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>{title}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _written(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def _precisions(result: GateResult) -> str:
    return ", ".join(f"{name} {precision}" for name, precision in result.precisions.items())


def _verdict(result: GateResult) -> str:
    if result.passed:
        return '<p class="verdict passed">Passed: the export answers like its network.</p>'
    found = "".join(_finding(source, one) for source, one in result.findings)
    words = "Failed: the export does not answer like its network."
    return f'<p class="verdict failed">{words}</p><ul class="findings">{found}</ul>'


def _finding(source: str, one: Finding) -> str:
    after = "" if one.frame is None else f", first after {one.frame:,} frames"
    place = f"{_graph(one)}; {source}{after}"
    return f'<li>{escape(one.words)}<p class="soft">{escape(place)}</p></li>'


def _graph(finding: Finding) -> str:
    if finding.graph is None:
        return "no graph alone"
    return finding.graph if finding.certain else f"no graph alone, {finding.graph} most likely"


def _drift(drift: Drift, limits: Limits) -> str:
    shown = f"{drift.frames:,} sampled frames, compared {len(drift.checkpoints)} times on the way"
    parts = [f"<h2>Drift over {escape(drift.source)}</h2>", f'<p class="soft">{shown}</p>']
    points = [*drift.checkpoints]
    if drift.final is not None:
        points = [one for one in points if one.frame != drift.final.frame] + [drift.final]
        parts.append(_final(drift.final, limits))
    if points:
        parts.append(f'<div class="plots">{"".join(_plots(points, limits))}</div>')
        parts.append(_alone(points))
    return "\n".join(parts)


def _final(final: Checkpoint, limits: Limits) -> str:
    """What has a limit first."""
    told, angle = final.agreement, final.angle_deg
    judged = [
        _least_of(f"answers agree, of {told.questions:,} questions", told.answers, limits.answers),
        _least_of("the same, abstention aside", told.contents, limits.contents),
        _least_of("overlap of boxes, mean IoU", told.box_iou, limits.box_iou),
        _least_of("overlap of spans, mean IoU", told.span_iou, limits.span_iou),
        _least_of("remembered tokens in common", final.tokens, limits.tokens),
    ]
    if angle is not None:
        shown = ("angle of the SVD bases", f"{angle:.3g}°", f"at most {limits.angle_deg:g}°")
        judged.append((shown, angle > limits.angle_deg))
    told_only = [
        *((f"answers to {kind} questions agree", share) for kind, share in told.by_kind.items()),
        ("both or neither abstain", told.abstention),
        ("the same first activity", told.activity),
    ]
    rows = [row for row in judged if row is not None]
    rows += [((name, f"{share:.2%}", ""), False) for name, share in told_only if share is not None]
    return _table(
        ["after the last frame", "measured", "limit"],
        [row for row, _ in rows],
        [missed for _, missed in rows],
    )


def _least_of(name: str, value: float | None, least: float) -> tuple[tuple[str, str, str], bool] | None:
    """A row, and whether it is below its limit; None where there is no value."""
    if value is None:
        return None
    return (name, f"{value:.2%}", f"at least {least:.2%}"), value < least


def _plots(points: Sequence[Checkpoint], limits: Limits) -> list[str]:
    def line(name: str, values: Iterable[float | None]) -> Line:
        pairs = zip(points, values, strict=True)
        return Line(name, [(one.frame, value) for one, value in pairs if value is not None])

    def told(field: str) -> list[float | None]:
        return [getattr(one.agreement, field) for one in points]

    tokens, angle = [one.tokens for one in points], [one.angle_deg for one in points]
    return [
        plot("Remembered tokens in common", [line("tokens", tokens)], limits.tokens, _percent),
        plot(
            "Largest principal angle between the SVD bases",
            [line("angle", angle)],
            limits.angle_deg,
            "{:.4g}°".format,
        ),
        plot(
            "Answers that agree",
            [
                line("told", told("answers")),
                line("abstention aside", told("contents")),
                line("activity", told("activity")),
                line("abstention", told("abstention")),
            ],
            limits.answers,
            _percent,
        ),
        plot(
            "Overlap of boxes and spans, mean IoU",
            [line("boxes", told("box_iou")), line("spans", told("span_iou"))],
            min(limits.box_iou, limits.span_iou),
            _percent,
        ),
        plot(
            "Relative error of each graph alone",
            [line(name, [_error(one, name) for one in points]) for name in GRAPHS],
            show=_small,
            log=True,
        ),
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.4g}%"


def _small(share: float) -> str:
    """Of an error, which may be tiny."""
    return _percent(share) if share >= 1e-4 else f"{share:.0e}".replace("e-0", "e-")


def _error(point: Checkpoint, graph: str) -> float | None:
    """None where there is none."""
    one = next((alone for name, alone in point.alone.items() if name == graph), None)
    return one.error if one is not None and one.error > 0 else None


def _alone(points: Sequence[Checkpoint]) -> str:
    rows = []
    for name in GRAPHS:
        of = [one.alone[name] for one in points if name in one.alone]
        if not of:
            continue
        worst = max(of, key=lambda one: one.error)
        kept, answers = _least([one.kept for one in of]), _least([one.answers for one in of])
        rows.append([name, worst.output, _small(worst.error), kept, answers])
    return "<h2>Each graph alone, on the reference's states</h2>" + _table(
        ["graph", "worst output", "largest relative error", "least tokens kept", "least answers"], rows
    )


def _least(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{min(known):.2%}" if known else ""


def _accuracy(accuracy: Accuracy, limits: Limits) -> str:
    rows = [
        [
            kind,
            f"{one.questions:,}",
            f"{one.reference:.3f}",
            f"{one.export:.3f}",
            f"{one.export - one.reference:+.3f}",
            f"{one.difference[0]:+.3f} to {one.difference[1]:+.3f}",
        ]
        for kind, one in accuracy.recall.items()
    ]
    return (
        f"<h2>Recall@1x on {escape(accuracy.data)}, {escape(accuracy.split)}</h2>"
        f'<p class="soft">At most {limits.recall_drop:.1%} may be lost of each kind.</p>'
        + _table(["questions", "number", "network", "export", "difference", "95 % interval"], rows)
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], missed: Sequence[bool] = ()) -> str:
    """`missed` rows stand out."""
    lines = ["<tr>" + "".join(f"<th>{escape(one)}</th>" for one in head) + "</tr>"]
    for number, row in enumerate(rows):
        start = '<tr class="missed">' if any(missed[number : number + 1]) else "<tr>"
        lines.append(start + "".join(f"<td>{escape(one)}</td>" for one in row) + "</tr>")
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'
