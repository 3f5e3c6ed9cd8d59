"""The report of the gates: one HTML file that needs neither network nor script, and its numbers as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from export.gates.limits import Limits
from export.gates.plot import Line, plot
from export.gates.result import Accuracy, Checkpoint, Drift, Finding, GateResult
from export.networks.model import GRAPHS

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1e; --soft: #66666c; --rule: #d8d8de; --paper: #fff;
  --good: #1a7f37; --bad: #c0272d; --c0: #0b62c4; --c1: #b3540c; --c2: #6a2fb0; --c3: #0c7a6b; }
@media (prefers-color-scheme: dark) { :root { --ink: #ececf0; --soft: #a3a3ab; --rule: #3a3a40;
  --paper: #161618; --good: #56c271; --bad: #ff7b76;
  --c0: #6cb0ff; --c1: #f0a05a; --c2: #c49bff; --c3: #5fd0bf; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.2rem 4rem; max-width: 62rem;
  background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem; overflow-wrap: anywhere; }
.soft, figcaption, .key, .tick { color: var(--soft); }
.verdict { font-weight: 600; } .passed { color: var(--good); } .failed { color: var(--bad); }
.wide { overflow-x: auto; } table { border-collapse: collapse; margin: .6rem 0; }
th, td { padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--rule); text-align: right; }
th:first-child, td:first-child, td.words { text-align: left; }
th { font-weight: 600; } td { font-variant-numeric: tabular-nums; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { font-size: .85rem; } svg { width: 100%; height: auto; }
svg text { fill: var(--soft); font-size: 11px; }
.grid { stroke: var(--rule); stroke-width: 1; }
.limit { stroke: var(--bad); stroke-width: 1.5; stroke-dasharray: 3 3; }
.line { fill: none; stroke-width: 2; }
.line.c0 { stroke: var(--c0); } .line.c1 { stroke: var(--c1); }
.line.c2 { stroke: var(--c2); } .line.c3 { stroke: var(--c3); }
.dot.c0 { fill: var(--c0); } .dot.c1 { fill: var(--c1); }
.dot.c2 { fill: var(--c2); } .dot.c3 { fill: var(--c3); }
"""


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
        f"<title>{title}</title><style>{_STYLE}</style></head>\n<body>\n"
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
    rows = [
        [_graph(one), source, "" if one.frame is None else f"{one.frame:,}", one.quantity, one.words]
        for source, one in result.findings
    ]
    return '<p class="verdict failed">Failed: the export does not answer like its network.</p>' + _table(
        ["graph", "where", "first after frame", "quantity", "what"], rows, words=True
    )


def _graph(finding: Finding) -> str:
    if finding.graph is None:
        return "none alone"
    return finding.graph if finding.certain else f"none alone, {finding.graph} most likely"


def _drift(drift: Drift, limits: Limits) -> str:
    shown = f"{drift.frames:,} sampled frames, {len(drift.checkpoints)} checkpoints"
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
    told = final.agreement
    wanted: list[tuple[str, float | None, str]] = [
        (f"answers agree, of {told.questions:,} questions", told.answers, f"at least {limits.answers:.2%}"),
        ("the same, abstention aside", told.contents, f"at least {limits.contents:.2%}"),
        *((f"answers to {kind} questions agree", share, "") for kind, share in told.by_kind.items()),
        ("both or neither abstain", told.abstention, ""),
        ("the same first activity", told.activity, ""),
        ("overlap of boxes, mean IoU", told.box_iou, f"at least {limits.box_iou:.2%}"),
        ("overlap of spans, mean IoU", told.span_iou, f"at least {limits.span_iou:.2%}"),
        ("remembered tokens in common", final.tokens, f"at least {limits.tokens:.2%}"),
    ]
    rows = [[name, f"{value:.3%}", limit] for name, value, limit in wanted if value is not None]
    if final.angle_deg is not None:
        rows.append(
            ["angle between the SVD bases", f"{final.angle_deg:.3g}°", f"at most {limits.angle_deg:g}°"]
        )
    return _table(["after the last frame", "", "limit"], rows)


def _plots(points: Sequence[Checkpoint], limits: Limits) -> list[str]:
    def line(name: str, values: Iterable[float | None]) -> Line:
        pairs = zip(points, values, strict=True)
        return Line(name, [(one.frame, value) for one, value in pairs if value is not None])

    def told(field: str) -> list[float | None]:
        return [getattr(one.agreement, field) for one in points]

    return [
        plot("Remembered tokens in common", [line("tokens", [one.tokens for one in points])], limits.tokens),
        plot(
            "Largest principal angle between the SVD bases",
            [line("angle", [one.angle_deg for one in points])],
            limits.angle_deg,
            "°",
        ),
        plot(
            "Answers that agree",
            [
                line("told", told("answers")),
                line("said", told("contents")),
                line("activity", told("activity")),
                line("abstention", told("abstention")),
            ],
            limits.answers,
        ),
        plot(
            "Overlap of boxes and spans",
            [line("boxes", told("box_iou")), line("spans", told("span_iou"))],
            min(limits.box_iou, limits.span_iou),
        ),
        plot(
            "Error of each graph alone, powers of ten",
            [line(name, [_power(one, name) for one in points]) for name in GRAPHS],
        ),
    ]


def _power(point: Checkpoint, graph: str) -> float | None:
    """Logarithm to base 10 of the error; None where there is none."""
    one = next((alone for name, alone in point.alone.items() if name == graph), None)
    return math.log10(one.error) if one is not None and one.error > 0 else None


def _alone(points: Sequence[Checkpoint]) -> str:
    rows = []
    for name in GRAPHS:
        of = [one.alone[name] for one in points if name in one.alone]
        if not of:
            continue
        worst = max(of, key=lambda one: one.error)
        rows.append(
            [
                name,
                worst.output,
                f"{worst.error:.3g}",
                _least([one.kept for one in of]),
                _least([one.answers for one in of]),
            ]
        )
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


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, words: bool = False) -> str:
    cell = '<td class="words">' if words else "<td>"
    lines = ["<tr>" + "".join(f"<th>{escape(one)}</th>" for one in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"{cell}{escape(one)}</td>" for one in row) + "</tr>" for row in rows]
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'
