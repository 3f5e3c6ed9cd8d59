"""Questions to answers: the right half of the straight line. No frame is read here, only a `Version`.

Letters: Q questions of one run, n = m + R tokens (memory and recency), d token width, r SVD rank,
L decoder steps, C classes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import TICKS_PER_SECOND, to_tick
from edge_runtime.memory.coverage import FORGOTTEN, PAUSED, Coverage
from edge_runtime.memory.version import Version
from edge_runtime.query import decode
from edge_runtime.query.answers import ActivityCandidate, Answer, Covered, Evidence, SpanCandidate, TimedBox
from edge_runtime.query.object_encoder import EncodesObjects
from edge_runtime.query.reader_inputs import MOST_TICKS, Context, make_context
from edge_runtime.query.schema import ActivityQuery, AnyQuery, ObjectQuery
from edge_runtime.query.timestamps import span
from edge_runtime.system.errors import QueryError
from edge_runtime.system.text import nearest
from engines.manifest import Manifest, TimeHead
from engines.spec import Array, Engine

MAX_BATCH = 16
"""Questions of one reader run: bounds resident memory, gains nothing beyond on a CPU."""
MAX_EVIDENCE = 16
NAMED = 16
"""Names that a refusal lists; a bundle may have thousands of classes."""
WINDOW_MARGIN_TICKS = 0
"""How far outside of the asked window a token is still read: a question is about its window only."""
_UNWATCHED: dict[str | None, str] = {
    None: "nobody was watching at that time",
    PAUSED: "watching was paused for privacy at that time",
    FORGOTTEN: "that time was forgotten on request",
}


@dataclass(frozen=True)
class Asked:
    """One question, resolved: what was watched of its window, which tokens (n,) are of it, and the rest.

    `read` are the tokens (n,) that the reader gets.
    """

    query: AnyQuery
    covered: Coverage
    inside: NDArray[np.bool_]
    read: NDArray[np.bool_]
    ticks: NDArray[np.int64]
    tokens: NDArray[np.float32] | None
    activity: int | None


@dataclass(frozen=True)
class Told:
    """An answer and what it was made of: `outputs` of the reader, none where the reader was not run."""

    answer: Answer
    asked: Asked
    context: Context
    outputs: dict[str, Array]


class Asker:
    """Answers questions about a version. Safe for several threads."""

    def __init__(self, manifest: Manifest, reader: Engine, objects: EncodesObjects) -> None:
        self._manifest = manifest
        self._network = manifest.network
        self._reader = reader
        self._objects = objects
        self._names = [one.name for one in manifest.classes]
        self._latest: tuple[Version, Context] | None = None

    def ask(self, query: AnyQuery, version: Version) -> Answer:
        """Answer one question. Raises QueryError for an unknown activity or an object that is not there."""
        return self.ask_all([query], version)[0]

    def ask_all(self, queries: Sequence[AnyQuery], version: Version) -> list[Answer]:
        """Answer several questions about one version; up to 16 share a run, whatever their kinds."""
        return [told.answer for told in self.tell_all(queries, version)]

    def forget(self) -> None:
        """Let go of what was kept of a version to answer faster."""
        self._latest = None

    def tell_all(self, queries: Sequence[AnyQuery], version: Version) -> list[Told]:
        """As `ask_all`, with what each answer was made of: for those who measure."""
        told: list[Told] = []
        for start in range(0, len(queries), MAX_BATCH):
            told += self._batch(queries[start : start + MAX_BATCH], version)
        return told

    def spans(self, told: Told, head: TimeHead) -> tuple[SpanCandidate, ...]:
        """The spans of a time question by one head, whichever the manifest names; best first."""
        return self._spans_by(head, told.asked, told.outputs, told.context) if told.outputs else ()

    def _batch(self, queries: Sequence[AnyQuery], version: Version) -> list[Told]:
        started = time.perf_counter()
        context = self._context(version)
        asked = [self._resolve(query, version, context) for query in queries]
        # A question about time that nobody watched, or of which nothing is remembered, costs no run.
        run = [one for one in asked if one.covered.watched_seconds() > 0 and one.inside.any()]
        outputs = self._reader(self._feeds(run, context)) if run else {}
        share = (time.perf_counter() - started) * 1000 / len(queries)
        rows = {id(one): {name: out[row] for name, out in outputs.items()} for row, one in enumerate(run)}
        told = []
        for one in asked:
            out = rows.get(id(one), {})
            answer = self._answer(one, context, out, version, share) if out else None
            told.append(Told(answer or self._nothing(one, version, share), one, context, out))
        return told

    # -- what was asked ------------------------------------------------------------------------------------

    def _resolve(self, query: AnyQuery, version: Version, context: Context) -> Asked:
        whole = version.coverage
        end = query.end if query.end is not None else (whole.end or 0.0)
        # What is older than the horizon has left the memory.
        oldest = max(whole.start or 0.0, (whole.end or 0.0) - self._network.horizon_s)
        start = query.start if query.start is not None else oldest
        covered = whole.within(start, end)
        tokens = None if isinstance(query, ObjectQuery) else self._objects.encode(query.object)
        named = None if isinstance(query, ActivityQuery) else query.activity
        activity = None if named is None else self._activity(named)
        inside, read = (_inside(covered, context, margin) for margin in (0, WINDOW_MARGIN_TICKS))
        ticks = self._ticks(query, covered, inside, context)
        return Asked(query, covered, inside, read, ticks, tokens, activity)

    def _activity(self, name: str) -> int:
        if name in self._names:
            return self._names.index(name)
        rest = f" and {len(self._names) - NAMED} more" if len(self._names) > NAMED else ""
        raise QueryError(
            f"activity {name[:50]!r} is not known; nearest is {nearest(name, self._names)!r}, "
            f"all: {', '.join(one[:50] for one in self._names[:NAMED])}{rest}"
        )

    def _ticks(
        self, query: AnyQuery, covered: Coverage, inside: NDArray[np.bool_], context: Context
    ) -> NDArray[np.int64]:
        """Decoder steps. A box can only be told where something is remembered, so there its steps lie."""
        if covered.start is None or covered.end is None:
            return np.zeros(0, np.int64)
        if isinstance(query, ObjectQuery):
            return decode.evidence_ticks(context.tick, inside, self._network.query_steps)
        return decode.spread_ticks(to_tick(covered.start), to_tick(covered.end), self._network.query_steps)

    # -- feeds ---------------------------------------------------------------------------------------------

    def _context(self, version: Version) -> Context:
        latest = self._latest
        if latest is not None and latest[0] is version:
            return latest[1]
        context = make_context(version, self._manifest.network)
        self._latest = (version, context)
        return context

    def _feeds(self, asked: Sequence[Asked], context: Context) -> dict[str, Array]:
        network, q = self._network, len(asked)
        shared = {
            "memory_features": context.features,
            "memory_tick": np.where(context.valid, context.tick - context.origin, 0).astype(np.int32),
            "memory_cell": context.cell,
            **context.svd,
        }
        feeds = {name: np.repeat(array[None], q, axis=0) for name, array in shared.items()}
        tokens = np.zeros((q, 49, network.d_backbone), np.float32)
        activity = np.zeros((q, network.activities), np.float32)
        tick = np.zeros((q, network.query_steps), np.int32)
        valid = np.zeros((q, network.query_steps), np.bool_)
        for row, one in enumerate(asked):
            if one.tokens is not None:
                tokens[row] = one.tokens
            if one.activity is not None:
                activity[row, one.activity] = 1
            steps = len(one.ticks)
            # A window may begin long before all that is remembered: it must not wrap to after it.
            tick[row, :steps] = np.clip(one.ticks - context.origin, -MOST_TICKS, 2 * MOST_TICKS - 1)
            valid[row, :steps] = True
        windows = [_ticks_of(one.covered) for one in asked]
        return (
            feeds
            | context.queue_feeds(windows)
            | {
                "memory_valid": np.stack([one.read for one in asked]),
                "object_tokens": tokens,
                "object_valid": np.array([one.tokens is not None for one in asked]),
                "activity": activity,
                "activity_valid": np.array([one.activity is not None for one in asked]),
                "query_tick": tick,
                "query_valid": valid,
            }
        )

    # -- answers -------------------------------------------------------------------------------------------

    def _answer(
        self, one: Asked, context: Context, out: dict[str, Array], version: Version, milliseconds: float
    ) -> Answer:
        thresholds = self._manifest.thresholds
        presence = float(decode.calibrated(out["presence_logit"], thresholds.presence_scaling))
        evidence = self._evidence(out["evidence"], one, context)
        seen = presence >= thresholds.presence
        parts: dict[str, object]
        if isinstance(one.query, ActivityQuery):
            parts = self._activities(out)
        elif isinstance(one.query, ObjectQuery):
            parts = self._boxes(one, out, context)
        else:
            parts = self._spans(one, out, context)
        confidence = float(parts.pop("confidence", presence))  # type: ignore[arg-type]
        reason = None if seen else "what was asked was not seen"
        if seen and isinstance(one.query, ObjectQuery) and not parts["boxes"]:
            seen, reason = False, "no evidence of a place is remembered in this window"
        return self._finished(
            one,
            version,
            milliseconds,
            confidence=confidence,
            abstained=not seen,
            reason=reason,
            evidence=evidence,
            **parts,
        )

    def _activities(self, out: dict[str, Array]) -> dict[str, object]:
        p = decode.calibrated(out["activity_logits"], self._manifest.thresholds.activity_scaling)
        ranked = [
            ActivityCandidate(activity=self._names[i], confidence=float(p[i]))
            for i in np.argsort(-out["activity_logits"], kind="stable")
        ]
        return {"activities": tuple(ranked), "confidence": ranked[0].confidence, "answer": ranked[0].activity}

    def _boxes(self, one: Asked, out: dict[str, Array], context: Context) -> dict[str, object]:
        steps = len(one.ticks)
        corners = decode.xyxy(out["boxes_cxcywh"][:steps])
        strong = one.read & (out["evidence"] >= self._manifest.thresholds.evidence * out["evidence"].max())
        supported = np.isin(one.ticks, context.tick[strong])
        most = round(self._manifest.thresholds.interpolate_s * TICKS_PER_SECOND)
        boxes = tuple(
            TimedBox(t=tick / TICKS_PER_SECOND, box=_box(box), interpolated=between)
            for tick, box, between in decode.bridged_boxes(corners, one.ticks, supported, most)
        )
        shown = f"{len(boxes)} boxes" if boxes else "no place"
        return {"boxes": boxes, "answer": shown}

    def _spans(self, one: Asked, out: dict[str, Array], context: Context) -> dict[str, object]:
        spans = self._spans_by(self._manifest.thresholds.time_head, one, out, context)
        return {"spans": spans, "answer": span(spans[0].start, spans[0].end, None)}

    def _spans_by(
        self, head: TimeHead, one: Asked, out: dict[str, Array], context: Context
    ) -> tuple[SpanCandidate, ...]:
        steps, scaling = len(one.ticks), self._manifest.thresholds.span_scaling
        if head == "bins":
            found = decode.spans_from_bins(out["start_logits"][:steps], out["end_logits"][:steps], one.ticks)
        else:
            logits = np.where(one.inside, out["pointer_logits"], np.float32(-1e9))
            found = decode.spans_from_pointer(logits, out["pointer_offsets"], context.tick)
        assert one.covered.start is not None and one.covered.end is not None
        low, high = one.covered.start, one.covered.end
        return tuple(
            SpanCandidate(
                start=min(max(s, low), high),
                end=min(max(e, low), high),
                confidence=decode.recalibrated(p, scaling),
            )
            for s, e, p in found
        )

    def _evidence(self, weights: Array, one: Asked, context: Context) -> tuple[Evidence, ...]:
        """The tokens with the largest shares of the answer's attention, most telling first."""
        weights = np.where(one.read, weights, 0)
        best = np.argsort(-weights, kind="stable")[:MAX_EVIDENCE]
        return tuple(
            Evidence(
                t=int(context.tick[i]) / TICKS_PER_SECOND,
                cell=int(context.cell[i]),
                box=decode.cell_box(int(context.cell[i])),
                weight=float(weights[i]),
            )
            for i in best
            if weights[i] > 0
        )

    def _nothing(self, one: Asked, version: Version, milliseconds: float) -> Answer:
        watched = one.covered.watched_seconds() > 0
        reason = "nothing is remembered of that time" if watched else _UNWATCHED[one.covered.main_reason()]
        return self._finished(
            one, version, milliseconds, answer=reason, confidence=0.0, abstained=True, reason=reason
        )

    def _finished(self, one: Asked, version: Version, milliseconds: float, **parts: object) -> Answer:
        trained = self._manifest.training.trained
        if parts["abstained"]:
            parts["answer"] = str(parts["reason"])
        if not trained:
            parts["answer"] = f"{parts['answer']} (untrained bundle: without meaning)"
        return Answer.model_validate(
            {
                "type": one.query.type,
                "coverage": Covered.of(one.covered),
                "trained": trained,
                "memory_version": version.memory.version,
                "milliseconds": milliseconds,
                **parts,
            }
        )


def _box(xyxy: Array) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (float(v) for v in xyxy)
    return x1, y1, x2, y2


def _inside(covered: Coverage, context: Context, margin: int) -> NDArray[np.bool_]:
    """Which tokens are of the asked window or at most `margin` ticks beside it. (n,)"""
    window = _ticks_of(covered)
    if window is None:
        return np.zeros(len(context.valid), np.bool_)
    return context.valid & (context.tick >= window[0] - margin) & (context.tick <= window[1] + margin)


def _ticks_of(covered: Coverage) -> tuple[int, int] | None:
    """First and last tick of what was watched of an asked window, None where nobody was watching."""
    if covered.start is None or covered.end is None:
        return None
    return to_tick(covered.start), to_tick(covered.end)
