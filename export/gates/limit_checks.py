"""Find what is beyond a limit, since when, and because of which graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engines.manifest import GRAPHS, GraphName, Precision
from export.gates.finite_guard import RunEnded
from export.gates.limits import GateLimits, Limits, allowed_differences
from export.gates.result import Alone, Checkpoint, Finding, Quantity

Precisions = Mapping[GraphName, Precision]

_SHARE_MESSAGES: dict[Quantity, str] = {
    "answers": "answers agree on {share} of {questions} questions ({kinds})",
    "contents": "answers agree, abstention aside, on {share} of {questions} questions",
    "tokens": "the memories share {share} of their tokens",
    "kept": "after one clip from the same memory {share} of the tokens are the same",
    "box_iou": "boxes overlap by {share} in the mean",
    "span_iou": "spans overlap by {share} in the mean",
}


def make_end_finding(error: RunEnded, frames: int | None) -> Finding:
    """Report that the run ended because of `error`, after `frames` whole frames."""
    return Finding(
        quantity=error.quantity,
        frame=frames,
        value=None,
        limit=None,
        graph=error.graph,
        certain=True,
        words=error.words,
    )


def check_checkpoint(
    checkpoint: Checkpoint, limits: GateLimits, precisions: Precisions, known: Sequence[Finding]
) -> list[Finding]:
    """Return what is beyond its limit for the first time. Of a few questions a few may differ by chance."""
    whole = limits.for_precisions(precisions.values())
    agreement = checkpoint.agreement
    share = 1 - allowed_differences(agreement.questions, whole.answers) / agreement.questions
    return [
        *_check_graphs(checkpoint, limits, precisions, known),
        *_check_runs(checkpoint, whole, share, find_culprit(checkpoint, limits, precisions), known),
    ]


def check_final(
    checkpoint: Checkpoint, limits: GateLimits, precisions: Precisions, known: Sequence[Finding]
) -> list[Finding]:
    """Return what is beyond a limit after the last frame, where the many questions let every limit hold
    exactly."""
    whole = limits.for_precisions(precisions.values())
    agreement = checkpoint.agreement
    graph, certain = find_culprit(checkpoint, limits, precisions)
    checked: list[tuple[Quantity, float | None, float]] = [
        ("contents", agreement.contents, whole.contents),
        ("box_iou", agreement.box_iou, whole.box_iou),
        ("span_iou", agreement.span_iou, whole.span_iou),
    ]
    more = [
        _make_share_finding(quantity, value, limit, checkpoint, graph, certain)
        for quantity, value, limit in checked
        if value is not None and value < limit
    ]
    return [
        *_check_graphs(checkpoint, limits, precisions, known),
        *_check_runs(checkpoint, whole, whole.answers, (graph, certain), known),
        *more,
    ]


def find_culprit(
    checkpoint: Checkpoint, limits: GateLimits, precisions: Precisions
) -> tuple[GraphName | None, bool]:
    """Return the graph that is alone furthest beyond its limits, and True; False if it is only nearest to
    them."""
    strain = {
        name: _compute_strain(alone, limits.for_precisions([precisions[name]]))
        for name, alone in checkpoint.alone.items()
    }
    worst = max(GRAPHS, key=lambda name: strain.get(name, 0.0))
    return (worst, strain[worst] > 1) if strain.get(worst) else (None, False)


def _compute_strain(alone: Alone, limits: Limits) -> float:
    """Return the largest of its quantities, each as a multiple of what is allowed."""
    out = [alone.error / limits.error]
    if alone.kept is not None:
        out.append((1 - alone.kept) / max(1 - limits.kept, 1e-6))
    if alone.answers is not None:
        min_agreeing = alone.questions - allowed_differences(alone.questions, limits.answers)
        out.append((1 - alone.answers) / max(1 - min_agreeing / alone.questions, 1e-6))
    return max(out)


def _check_graphs(
    checkpoint: Checkpoint, limits: GateLimits, precisions: Precisions, known: Sequence[Finding]
) -> list[Finding]:
    out = []
    for name, alone in checkpoint.alone.items():
        own = limits.for_precisions([precisions[name]])
        if not alone.error <= own.error and not _is_reported("error", known, name):
            text = f"output {alone.output} differs by {alone.error:.2%} on the reference's own states"
            out.append(
                _make_finding(
                    "error", alone.error, own.error, checkpoint, name, f"{text}, at most {own.error:.2%}"
                )
            )
        if alone.kept is not None and alone.kept < own.kept and not _is_reported("kept", known, name):
            out.append(_make_share_finding("kept", alone.kept, own.kept, checkpoint, name, True))
    return out


def _check_runs(
    checkpoint: Checkpoint,
    whole: Limits,
    share: float,
    blamed: tuple[GraphName | None, bool],
    known: Sequence[Finding],
) -> list[Finding]:
    out = []
    limits_of_runs: list[tuple[Quantity, float, float]] = [
        ("tokens", checkpoint.tokens, whole.tokens),
        ("answers", checkpoint.agreement.answers, share),
    ]
    for quantity, value, limit in limits_of_runs:
        if value < limit and not _is_reported(quantity, known):
            out.append(_make_share_finding(quantity, value, limit, checkpoint, *blamed))
    angle = checkpoint.angle_deg
    if angle is not None and not angle <= whole.angle_deg and not _is_reported("angle_deg", known):
        text = f"the SVD bases lie {angle:.1f} degrees apart, at most {whole.angle_deg:g} expected"
        out.append(
            _make_finding("angle_deg", angle, whole.angle_deg, checkpoint, blamed[0], text, certain=blamed[1])
        )
    return out


def _is_reported(quantity: Quantity, known: Sequence[Finding], graph: GraphName | None = None) -> bool:
    return any(finding.quantity == quantity and graph in (None, finding.graph) for finding in known)


def _make_share_finding(
    quantity: Quantity, value: float, limit: float, at: Checkpoint, graph: GraphName | None, certain: bool
) -> Finding:
    kinds = ", ".join(f"{kind} {part:.1%}" for kind, part in at.agreement.by_kind.items())
    text = _SHARE_MESSAGES[quantity].format(
        share=f"{value:.2%}", questions=at.agreement.questions, kinds=kinds
    )
    return _make_finding(
        quantity, value, limit, at, graph, f"{text}, at least {limit:.2%} expected", certain=certain
    )


def _make_finding(
    quantity: Quantity,
    value: float,
    limit: float,
    at: Checkpoint,
    graph: GraphName | None,
    message: str,
    *,
    certain: bool = True,
) -> Finding:
    return Finding(
        quantity=quantity,
        frame=at.frame,
        value=value,
        limit=limit,
        graph=graph,
        certain=certain and graph is not None,
        words=message,
    )
