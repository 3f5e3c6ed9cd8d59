"""What is beyond a limit, since when, and because of which graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engines.manifest import GRAPHS, GraphName, Precision
from export.gates.finite_guard import Ended
from export.gates.limits import GateLimits, Limits, allowed_differences
from export.gates.result import Alone, Checkpoint, Finding, Quantity

Precisions = Mapping[GraphName, Precision]

_LEAST: dict[Quantity, str] = {
    "answers": "answers agree on {share} of {questions} questions ({kinds})",
    "contents": "answers agree, abstention aside, on {share} of {questions} questions",
    "tokens": "the memories share {share} of their tokens",
    "kept": "after one clip from the same memory {share} of the tokens are the same",
    "box_iou": "boxes overlap by {share} in the mean",
    "span_iou": "spans overlap by {share} in the mean",
}


def of_end(error: Ended, frames: int | None) -> Finding:
    """The run ended because of it, after `frames` whole frames."""
    return Finding(
        quantity=error.quantity,
        frame=frames,
        value=None,
        limit=None,
        graph=error.graph,
        certain=True,
        words=error.words,
    )


def of_checkpoint(
    found: Checkpoint, limits: GateLimits, precisions: Precisions, known: Sequence[Finding]
) -> list[Finding]:
    """What is beyond its limit for the first time. Of a few questions a few may differ by chance."""
    whole = limits.of(precisions.values())
    told = found.agreement
    share = 1 - allowed_differences(told.questions, whole.answers) / told.questions
    return [
        *_alone(found, limits, precisions, known),
        *_drifted(found, whole, share, blame(found, limits, precisions), known),
    ]


def of_final(
    found: Checkpoint, limits: GateLimits, precisions: Precisions, known: Sequence[Finding]
) -> list[Finding]:
    """After the last frame, where there are questions enough for every limit to hold as it stands."""
    whole = limits.of(precisions.values())
    told = found.agreement
    graph, certain = blame(found, limits, precisions)
    wanted: list[tuple[Quantity, float | None, float]] = [
        ("contents", told.contents, whole.contents),
        ("box_iou", told.box_iou, whole.box_iou),
        ("span_iou", told.span_iou, whole.span_iou),
    ]
    more = [
        _least(quantity, value, limit, found, graph, certain)
        for quantity, value, limit in wanted
        if value is not None and value < limit
    ]
    return [
        *_alone(found, limits, precisions, known),
        *_drifted(found, whole, whole.answers, (graph, certain), known),
        *more,
    ]


def blame(found: Checkpoint, limits: GateLimits, precisions: Precisions) -> tuple[GraphName | None, bool]:
    """The graph that is, alone, furthest beyond its limits; False where it is only nearest to them."""
    strain = {name: _strain(one, limits.of([precisions[name]])) for name, one in found.alone.items()}
    worst = max(GRAPHS, key=lambda name: strain.get(name, 0.0))
    return (worst, strain[worst] > 1) if strain.get(worst) else (None, False)


def _strain(one: Alone, limits: Limits) -> float:
    """Largest of its quantities, each as a multiple of what is allowed."""
    out = [one.error / limits.error]
    if one.kept is not None:
        out.append((1 - one.kept) / max(1 - limits.kept, 1e-6))
    if one.answers is not None:
        least = one.questions - allowed_differences(one.questions, limits.answers)
        out.append((1 - one.answers) / max(1 - least / one.questions, 1e-6))
    return max(out)


def _alone(
    found: Checkpoint, limits: GateLimits, precisions: Precisions, known: Sequence[Finding]
) -> list[Finding]:
    out = []
    for name, one in found.alone.items():
        own = limits.of([precisions[name]])
        if not one.error <= own.error and not _is_known("error", known, name):
            words = f"output {one.output} differs by {one.error:.2%} on the reference's own states"
            out.append(
                _found("error", one.error, own.error, found, name, f"{words}, at most {own.error:.2%}")
            )
        if one.kept is not None and one.kept < own.kept and not _is_known("kept", known, name):
            out.append(_least("kept", one.kept, own.kept, found, name, True))
    return out


def _drifted(
    found: Checkpoint,
    whole: Limits,
    share: float,
    blamed: tuple[GraphName | None, bool],
    known: Sequence[Finding],
) -> list[Finding]:
    out = []
    wanted: list[tuple[Quantity, float, float]] = [
        ("tokens", found.tokens, whole.tokens),
        ("answers", found.agreement.answers, share),
    ]
    for quantity, value, limit in wanted:
        if value < limit and not _is_known(quantity, known):
            out.append(_least(quantity, value, limit, found, *blamed))
    angle = found.angle_deg
    if angle is not None and not angle <= whole.angle_deg and not _is_known("angle_deg", known):
        words = f"the SVD bases lie {angle:.1f} degrees apart, at most {whole.angle_deg:g} expected"
        out.append(_found("angle_deg", angle, whole.angle_deg, found, blamed[0], words, certain=blamed[1]))
    return out


def _is_known(quantity: Quantity, known: Sequence[Finding], graph: GraphName | None = None) -> bool:
    return any(one.quantity == quantity and graph in (None, one.graph) for one in known)


def _least(
    quantity: Quantity, value: float, limit: float, at: Checkpoint, graph: GraphName | None, certain: bool
) -> Finding:
    kinds = ", ".join(f"{kind} {part:.1%}" for kind, part in at.agreement.by_kind.items())
    said = _LEAST[quantity].format(share=f"{value:.2%}", questions=at.agreement.questions, kinds=kinds)
    return _found(
        quantity, value, limit, at, graph, f"{said}, at least {limit:.2%} expected", certain=certain
    )


def _found(
    quantity: Quantity,
    value: float,
    limit: float,
    at: Checkpoint,
    graph: GraphName | None,
    words: str,
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
        words=words,
    )
