"""Answer questions about a memory: the right half of the straight line. Reads a `Version`, no frames.

Letters: Q questions of one run, n = m + R tokens (memory and recency), d token width, r SVD rank,
L decoder steps, C classes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import TICKS_PER_SECOND, to_tick
from edge_runtime.memory.coverage import FORGOTTEN, PAUSED, Coverage
from edge_runtime.memory.familiarity import WITHHELD, is_familiar
from edge_runtime.memory.version import Version
from edge_runtime.query import decode
from edge_runtime.query.answers import (
    ActivityCandidate,
    Answer,
    Covered,
    Evidence,
    SpanCandidate,
    TimedBox,
    Window,
)
from edge_runtime.query.matching import match_appearance
from edge_runtime.query.object_encoder import ObjectTokens
from edge_runtime.query.photo_mosaic import take_whole
from edge_runtime.query.reader_inputs import MAX_TICKS, Context, make_context
from edge_runtime.query.schema import ActivityQuery, AnyQuery, ObjectQuery, TimeQuery
from edge_runtime.query.timestamps import format_span
from edge_runtime.system.errors import QueryError
from edge_runtime.system.text import nearest
from engines.manifest import Manifest, Scaling, TimeHead
from engines.spec import Array, Engine

MAX_BATCH = 16
"""Questions in one run of the reader: bounds resident memory; more gain nothing on a CPU."""
MAX_EVIDENCE = 16
MAX_SPANS = 16
"""Times from the activity log, the surest first."""
MAX_NAMES = 16
"""Names that an error lists; a bundle may have thousands of classes."""
_NOT_WATCHED: dict[str | None, str] = {
    None: "nobody was watching at that time",
    PAUSED: "watching was paused for privacy at that time",
    FORGOTTEN: "that time was forgotten on request",
}


@dataclass(frozen=True)
class ResolvedQuery:
    """A question with what it means for one version.

    `asked` is its window if it has one, `covered` what was watched of that, `inside` (n,) the tokens of the
    window, which the reader reads, `ticks` (L,) the decoder steps, `tokens` (49, d) the object, `activity`
    the number of its class.
    """

    query: AnyQuery
    asked: Window | None
    covered: Coverage
    inside: NDArray[np.bool_]  # (n,)
    ticks: NDArray[np.int64]  # (L,)
    tokens: NDArray[np.float32] | None  # (49, d)
    activity: int | None

    @property
    def logged(self) -> bool:
        """Whether the activity log answers it: when was this done at all?"""
        return isinstance(self.query, TimeQuery) and self.query.object is None


@dataclass(frozen=True)
class AnswerWithOutputs:
    """An answer and what it was made of; `outputs` of the reader are empty where it was not run.

    `full` has its boxes also where it abstains, for measurements.
    """

    full: Answer
    resolved: ResolvedQuery
    context: Context
    outputs: dict[str, Array]

    @property
    def answer(self) -> Answer:
        """The answer for whoever asked: one that says no shows no boxes."""
        return self.full.model_copy(update={"boxes": ()}) if self.full.abstained else self.full


class LoggedTimes(Protocol):
    """What was recognised on a camera, as its activity log has it."""

    def list_taught(self) -> Sequence[str]:
        """Return the names of the activities that the camera was taught."""

    def find_times(self, activity: str, start: float, end: float) -> Sequence[decode.Span] | None:
        """Return start, end and confidence of the rows of an activity in [start, end), the surest first; None
        where nothing is logged."""


class Asker:
    """Answers questions about a version. Safe for several threads."""

    def __init__(
        self,
        manifest: Manifest,
        reader: Engine,
        objects: ObjectTokens,
        logged: LoggedTimes | None = None,
    ) -> None:
        """`logged` is what was recognised, None where that is not known."""
        self._manifest = manifest
        self._network = manifest.network
        self._reader = reader
        self._objects = objects
        self._logged = logged
        self._names = [activity.name for activity in manifest.classes]
        self._latest: tuple[Version, Context] | None = None

    def ask(self, query: AnyQuery, version: Version) -> Answer:
        """Answer one question. Raises QueryError for an unknown activity or a missing object."""
        return self.ask_all([query], version)[0]

    def ask_all(self, queries: Sequence[AnyQuery], version: Version) -> list[Answer]:
        """Answer several questions of any kinds about one version; up to 16 share a run of the reader."""
        return [result.answer for result in self.answer_with_outputs(queries, version)]

    def forget(self) -> None:
        """Drop what is cached of a version."""
        self._latest = None

    def answer_with_outputs(self, queries: Sequence[AnyQuery], version: Version) -> list[AnswerWithOutputs]:
        """Answer as `ask_all`, with the outputs of the reader, for measurements."""
        results: list[AnswerWithOutputs] = []
        for start in range(0, len(queries), MAX_BATCH):
            results += self._batch(queries[start : start + MAX_BATCH], version)
        return results

    def spans(self, result: AnswerWithOutputs, head: TimeHead) -> tuple[SpanCandidate, ...]:
        """Return the spans of a time question by this head, whichever the manifest names; best first."""
        return self._spans_by(head, result.resolved, result.outputs, result.context) if result.outputs else ()

    def _batch(self, queries: Sequence[AnyQuery], version: Version) -> list[AnswerWithOutputs]:
        started = time.perf_counter()
        context = self._context(version)
        questions = [self._resolve(query, version, context) for query in queries]
        familiar = is_familiar(version.recurrent_state)
        # A question about time that was not watched, or of which nothing is remembered, needs no run.
        run = [
            resolved
            for resolved in questions
            if resolved.covered.watched_range()[1] > 0
            and resolved.inside.any()
            and familiar
            and not resolved.logged
        ]
        outputs = self._reader(self._feeds(run, context)) if run else {}
        share = (time.perf_counter() - started) * 1000 / len(queries)
        rows = {
            id(resolved): {name: out[row] for name, out in outputs.items()}
            for row, resolved in enumerate(run)
        }
        results = []
        for resolved in questions:
            out = rows.get(id(resolved), {})
            if resolved.logged:
                answer = self._answer_from_log(resolved, version, share)
            elif not familiar and resolved.inside.any():
                answer = self._answer_by_appearance(resolved, context, version, share)
            elif out:
                answer = self._answer(resolved, context, out, version, share)
            else:
                answer = self._unanswered(resolved, version, share)
            results.append(AnswerWithOutputs(answer, resolved, context, out))
        return results

    # -- questions -----------------------------------------------------------------------------------------

    def _resolve(self, query: AnyQuery, version: Version, context: Context) -> ResolvedQuery:
        whole = version.coverage
        end = query.end if query.end is not None else (whole.end or 0.0)
        # What is older than the horizon has left the memory.
        oldest = max(whole.start or 0.0, (whole.end or 0.0) - self._network.horizon_s)
        start = query.start if query.start is not None else oldest
        covered = whole.within(start, end)
        has_window = query.start is not None or query.end is not None
        asked = Window(start=start, end=end) if has_window else None
        shown = None if isinstance(query, ObjectQuery) else query.object
        name = _activity_name(query)
        activity = None if name is None else self._activity(name, query)
        tokens = None if shown is None else self._objects.encode(shown)
        inside = _inside(covered, context)
        ticks = self._ticks(query, covered, inside, context)
        return ResolvedQuery(query, asked, covered, inside, ticks, tokens, activity)

    def _activity(self, name: str, query: AnyQuery) -> int | None:
        """Return the number of an activity; None for one that the camera was taught, which only the log
        has."""
        if name in self._names:
            return self._names.index(name)
        taught = [] if self._logged is None else list(self._logged.list_taught())
        if name in taught and isinstance(query, TimeQuery) and query.object is None:
            return None
        if name in taught:
            raise QueryError(
                f"{name} was taught from examples, which say when and not with what: ask when it was done, "
                "without an object"
            )
        names = self._names + taught
        rest = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
        raise QueryError(
            f"activity {name[:50]!r} is not known; nearest is {nearest(name, names)!r}, "
            f"all: {', '.join(known[:50] for known in names[:MAX_NAMES])}{rest}"
        )

    def _ticks(
        self, query: AnyQuery, covered: Coverage, inside: NDArray[np.bool_], context: Context
    ) -> NDArray[np.int64]:
        """Return the decoder steps: for boxes the remembered moments, else spread over the window."""
        if covered.start is None or covered.end is None:
            return np.zeros(0, np.int64)
        if isinstance(query, ObjectQuery):
            # A memory that keeps some tokens of every picture would spend the steps where nothing happened.
            likely = inside & context.relevant
            if self._network.even_tokens and likely.any():
                inside = likely
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

    def _feeds(self, queries: Sequence[ResolvedQuery], context: Context) -> dict[str, Array]:
        network, q = self._network, len(queries)
        shared = {
            "memory_features": context.features,
            "memory_tick": np.where(context.valid, context.tick - context.origin, 0).astype(np.int32),
            "memory_cell": context.cell,
            **context.svd,
        }
        feeds = {name: np.repeat(array[None], q, axis=0) for name, array in shared.items()}
        tokens = np.zeros((q, network.cells, network.d_backbone), np.float32)
        activity = np.zeros((q, network.activities), np.float32)
        tick = np.zeros((q, network.query_steps), np.int32)
        valid = np.zeros((q, network.query_steps), np.bool_)
        for row, resolved in enumerate(queries):
            if resolved.tokens is not None:
                tokens[row] = resolved.tokens
            if resolved.activity is not None:
                activity[row, resolved.activity] = 1
            steps = len(resolved.ticks)
            # A window may begin long before the oldest token: it must not wrap around to after it.
            tick[row, :steps] = np.clip(resolved.ticks - context.origin, -MAX_TICKS, 2 * MAX_TICKS - 1)
            valid[row, :steps] = True
        windows = [_tick_range(resolved.covered) for resolved in queries]
        return (
            feeds
            | context.queue_feeds(windows)
            | {
                "memory_valid": np.stack([resolved.inside for resolved in queries]),
                "object_tokens": tokens,
                "object_valid": np.array([resolved.tokens is not None for resolved in queries]),
                "activity": activity,
                "activity_valid": np.array([resolved.activity is not None for resolved in queries]),
                "query_tick": tick,
                "query_valid": valid,
            }
        )

    # -- answers -------------------------------------------------------------------------------------------

    def _answer(
        self,
        resolved: ResolvedQuery,
        context: Context,
        out: dict[str, Array],
        version: Version,
        milliseconds: float,
    ) -> Answer:
        thresholds = self._manifest.thresholds
        presence = float(decode.calibrated(out["presence_logit"], thresholds.presence_scaling))
        evidence = self._evidence(out["evidence"], resolved, context)
        seen = presence >= thresholds.presence
        parts: dict[str, object]
        if isinstance(resolved.query, ActivityQuery):
            parts = self._activities(out)
        elif isinstance(resolved.query, ObjectQuery):
            parts = self._boxes(resolved, out, context)
        else:
            parts = self._spans(resolved, out, context)
        confidence = float(parts.pop("confidence", presence))  # type: ignore[arg-type]
        reason = None if seen else "what was asked was not seen"
        if seen and isinstance(resolved.query, ObjectQuery) and not parts["boxes"]:
            seen, reason = False, "no evidence of a place is remembered in this window"
        return self._make_answer(
            resolved,
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

    def _boxes(self, resolved: ResolvedQuery, out: dict[str, Array], context: Context) -> dict[str, object]:
        steps = len(resolved.ticks)
        corners = decode.xyxy(out["boxes_cxcywh"][:steps])
        strong = resolved.inside & (
            out["evidence"] >= self._manifest.thresholds.evidence * out["evidence"].max()
        )
        supported = np.isin(resolved.ticks, context.tick[strong])
        max_gap = round(self._manifest.thresholds.interpolate_s * TICKS_PER_SECOND)
        boxes = tuple(
            TimedBox(t=tick / TICKS_PER_SECOND, box=_box(box), interpolated=interpolated)
            for tick, box, interpolated in decode.bridged_boxes(corners, resolved.ticks, supported, max_gap)
        )
        return {"boxes": boxes, "answer": f"{len(boxes)} boxes" if boxes else "no place"}

    def _spans(self, resolved: ResolvedQuery, out: dict[str, Array], context: Context) -> dict[str, object]:
        spans = self._spans_by(self._manifest.thresholds.time_head, resolved, out, context)
        return {"spans": spans, "answer": format_span(spans[0].start, spans[0].end, None)}

    def _spans_by(
        self, head: TimeHead, resolved: ResolvedQuery, out: dict[str, Array], context: Context
    ) -> tuple[SpanCandidate, ...]:
        steps, scaling = len(resolved.ticks), self._manifest.thresholds.span_scaling
        if head == "bins":
            spans = decode.spans_from_bins(
                out["start_logits"][:steps], out["end_logits"][:steps], resolved.ticks
            )
        else:
            logits = np.where(resolved.inside, out["pointer_logits"], np.float32(-1e9))
            spans = decode.spans_from_pointer(logits, out["pointer_offsets"], context.tick)
        return self._clip_spans(spans, resolved.covered, scaling)

    def _clip_spans(
        self, spans: Sequence[decode.Span], covered: Coverage, scaling: Scaling
    ) -> tuple[SpanCandidate, ...]:
        """Clip spans to what was watched of the window, and scale their confidence."""
        assert covered.start is not None and covered.end is not None
        low, high = covered.start, covered.end
        return tuple(
            SpanCandidate(
                start=min(max(s, low), high),
                end=min(max(e, low), high),
                confidence=decode.recalibrated(p, scaling),
            )
            for s, e, p in spans
        )

    def _evidence(self, weights: Array, resolved: ResolvedQuery, context: Context) -> tuple[Evidence, ...]:
        """Return the tokens with the largest shares of the answer's attention, largest first."""
        weights = np.where(resolved.inside, weights, 0)
        best = np.argsort(-weights, kind="stable")[:MAX_EVIDENCE]
        return tuple(
            Evidence(
                t=int(context.tick[i]) / TICKS_PER_SECOND,
                cell=int(context.cell[i]),
                box=decode.cell_box(int(context.cell[i]), self._network.grid),
                weight=float(weights[i]),
            )
            for i in best
            if weights[i] > 0
        )

    def _answer_by_appearance(
        self, resolved: ResolvedQuery, context: Context, version: Version, milliseconds: float
    ) -> Answer:
        """Answer about an unfamiliar camera: when was this there? Anything about activities is withheld."""
        query = resolved.query
        if resolved.tokens is None or not isinstance(query, TimeQuery) or query.activity is not None:
            return self._make_answer(
                resolved,
                version,
                milliseconds,
                confidence=0.0,
                abstained=True,
                reason=WITHHELD,
                familiar=False,
            )
        width = self._network.appearance
        match = match_appearance(
            context.features[:, :width], context.tick, resolved.inside, take_whole(resolved.tokens)[:, :width]
        )
        spans = self._clip_spans(match.spans(1 / self._network.sample_fps), resolved.covered, Scaling())
        weights = np.where(resolved.inside, np.exp(20 * (match.tokens - match.tokens.max())), 0)
        return self._make_answer(
            resolved,
            version,
            milliseconds,
            answer=format_span(spans[0].start, spans[0].end, None),
            confidence=spans[0].confidence,
            abstained=False,
            spans=spans,
            evidence=self._evidence(weights / weights.sum(), resolved, context),
            familiar=False,
        )

    def _answer_from_log(self, resolved: ResolvedQuery, version: Version, milliseconds: float) -> Answer:
        """Answer when something was done at all: by the activity log."""
        query = resolved.query
        assert isinstance(query, TimeQuery) and query.activity is not None
        familiar = is_familiar(version.recurrent_state)
        spans: tuple[SpanCandidate, ...] = ()
        reason: str | None = "it was not recognised in that time"
        low, high = resolved.covered.start, resolved.covered.end
        if low is not None and high is not None:
            found = None if self._logged is None else self._logged.find_times(query.activity, low, high)
            if found is None:
                reason = (
                    "activities are not recognised here: that is switched off, or the bundle is untrained"
                )
            else:
                spans = self._clip_spans(found[:MAX_SPANS], resolved.covered, Scaling())
        else:
            reason = _NOT_WATCHED.get(resolved.covered.main_reason()) or str(resolved.covered.main_reason())
        if not spans and not familiar and query.activity in self._names:
            reason = WITHHELD
        return self._make_answer(
            resolved,
            version,
            milliseconds,
            answer=format_span(spans[0].start, spans[0].end, None) if spans else "",
            confidence=spans[0].confidence if spans else 0.0,
            abstained=not spans,
            reason=None if spans else reason,
            spans=spans,
            familiar=familiar,
        )

    def _unanswered(self, resolved: ResolvedQuery, version: Version, milliseconds: float) -> Answer:
        watched = resolved.covered.watched_range()[1] > 0
        why = resolved.covered.main_reason()
        reason = "nothing is remembered of that time" if watched else _NOT_WATCHED.get(why) or str(why)
        return self._make_answer(
            resolved, version, milliseconds, answer=reason, confidence=0.0, abstained=True, reason=reason
        )

    def _make_answer(
        self, resolved: ResolvedQuery, version: Version, milliseconds: float, **parts: object
    ) -> Answer:
        trained = self._manifest.training.trained
        if parts["abstained"]:
            parts["answer"] = str(parts["reason"])
        if not trained:
            parts["answer"] = f"{parts['answer']} (untrained bundle: without meaning)"
        return Answer.model_validate(
            {
                "type": resolved.query.type,
                "coverage": Covered.from_coverage(resolved.covered),
                "activity": _activity_name(resolved.query),
                "asked": resolved.asked,
                "trained": trained,
                "memory_version": version.memory.version,
                "milliseconds": milliseconds,
                **parts,
            }
        )


def _activity_name(query: AnyQuery) -> str | None:
    return None if isinstance(query, ActivityQuery) else query.activity


def _box(xyxy: Array) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (float(v) for v in xyxy)
    return x1, y1, x2, y2


def _inside(covered: Coverage, context: Context) -> NDArray[np.bool_]:
    """Return which tokens lie in the window of the question. (n,)"""
    window = _tick_range(covered)
    if window is None:
        return np.zeros(len(context.valid), np.bool_)
    return context.valid & (context.tick >= window[0]) & (context.tick <= window[1])


def _tick_range(covered: Coverage) -> tuple[int, int] | None:
    """Return the first and last tick of the watched part of a window, None where nothing was watched."""
    if covered.start is None or covered.end is None:
        return None
    return to_tick(covered.start), to_tick(covered.end)
