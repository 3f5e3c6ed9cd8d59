"""Answer a set of queries with LVM-Net, by the same code that answers on a device.

    model = Model.from_network(*from_checkpoint(path))
    evaluation = evaluate(model, caches, queries, Setting(sampler="neural"))

Each video is watched once, then all its queries are asked in mixed batches. Equal inputs give equal results.

Letters: C classes, d token width, E events, N remembered tokens, F sampled moments of an event.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import TICKS_PER_SECOND
from edge_runtime.query.executor import AnswerWithOutputs, Asker
from edge_runtime.query.reader_inputs import make_context
from edge_runtime.query.schema import (
    ActivityQuery,
    AnyQuery,
    BoxInFrame,
    ObjectQuery,
    Photos,
    Product,
    TimeQuery,
)
from engines.errors import LvmError
from engines.manifest import Manifest, Scaling, TimeHead
from engines.network_config import GRID
from export.data.metrics import Tube, is_evidence, recall_at, tiou, viou
from export.data.records import CropView, QueryRecord
from export.data.token_cache import VideoCache
from export.data.video_labels import VideoTruth
from export.evaluation.controls import BlindReader, BlindTo, make_control_sampler
from export.evaluation.results import EventResult, Result, SpanResult, WindowKind
from export.evaluation.stream_run import ClipOrder, Model, build_memory

Whole = NDArray[np.int64]

MIN_LOOSE_S = 30.0
"""Windows of at least this length are `loose`: generated windows are the event's own or at least as long."""
Crops = Mapping[str, NDArray[np.float32]]
"""Tokens (49, d) of a query's object by qid, for objects that are not cached product photos."""
_HEADS: tuple[TimeHead, ...] = get_args(TimeHead)


def classify_window(query: QueryRecord) -> WindowKind | None:
    """Return how tightly the asked window was given; None for a time query, whose window is the
    query window."""
    if query.type == "time" or query.t_s is None or query.t_e is None:
        return None
    return "loose" if query.t_e - query.t_s >= MIN_LOOSE_S else "tight"


def find_asked_window(query: QueryRecord) -> tuple[float, float]:
    """Return the seconds that the question names: the query window for time, else the property window where
    given."""
    if query.type == "time" or query.t_s is None or query.t_e is None:
        return query.q_s, query.q_e
    return query.t_s, query.t_e


def find_target_events(query: QueryRecord, truth: VideoTruth) -> NDArray[np.intp]:
    """Return the indices of the events that answer the query: right object and activity, overlapping its
    truth in time."""
    if not query.happened:
        return np.zeros(0, np.intp)
    start, end = (query.q_s, query.q_e) if query.t_s is None or query.t_e is None else (query.t_s, query.t_e)
    matches = (truth.start < end * TICKS_PER_SECOND) & (truth.end > start * TICKS_PER_SECOND)
    matches &= np.isin(truth.activity, query.activities)
    if query.instance is not None:
        matches &= truth.instance == query.instance
    return np.flatnonzero(matches)


@dataclass(frozen=True)
class EvidenceIndex:
    """Ticks of the remembered tokens that show each event; `sampled` (F,) are all sampled ticks."""

    truth: VideoTruth
    evidence_ticks: tuple[Whole, ...]
    sampled: Whole

    @classmethod
    def build(
        cls, truth: VideoTruth, tick: Whole, cell: NDArray[np.int32], sampled: Whole, grid: int = GRID
    ) -> EvidenceIndex:
        """Index `tick` and `cell` (N,) of everything that a question could read."""
        tubes = [_make_tube(truth, event) for event in range(len(truth))]
        cells = cell.astype(np.int64)
        evidence_ticks = [np.sort(tick[is_evidence(tube, tick, cells, grid)]) for tube in tubes]
        return cls(truth, tuple(evidence_ticks), sampled)

    def count_by_event(self) -> Whole:
        """Return the number of evidence tokens of each event, (E,)."""
        return np.array([len(ticks) for ticks in self.evidence_ticks], np.int64)

    def measure_query(self, query: QueryRecord) -> tuple[int, float | None]:
        """Return the evidence of the query's target inside the asked window, and the mean gap to it in
        seconds.

        The gap is None where nothing of the target is remembered or none of its moments was sampled.
        """
        start, end = (round(t * TICKS_PER_SECOND) for t in find_asked_window(query))
        count, gaps = 0, []
        for event in find_target_events(query, self.truth):
            ticks = self.evidence_ticks[event]
            ticks = ticks[(ticks >= start) & (ticks <= end)]
            moments, _ = self.truth.select_boxes(int(event))
            moments = moments[(moments >= start) & (moments < end)]
            moments = moments[np.isin(moments, self.sampled)]
            count += len(ticks)
            if len(ticks) and len(moments):
                gaps.append(np.abs(moments[:, None] - ticks).min(1))
        gap = float(np.concatenate(gaps).mean()) / TICKS_PER_SECOND if gaps else None
        return count, gap


def _make_tube(truth: VideoTruth, event: int) -> Tube:
    ticks, boxes = truth.select_boxes(event)
    return Tube(ticks, boxes.astype(np.float64))


@dataclass(frozen=True)
class Setting:
    """The sampler, the order of clips, and what is hidden; `seed` is that of the training run.

    Without `spread` the best scores stay, whatever the network was trained with
    (`edge_runtime/memory/diversity.py`).
    """

    sampler: str = "neural"
    order: ClipOrder = "stream"
    blind: BlindTo | None = None
    seed: int = 0
    spread: bool = True


class Evaluation(NamedTuple):
    results: list[Result]
    events: list[EventResult]


def evaluate(
    model: Model,
    caches: Iterable[VideoCache],
    queries: Sequence[QueryRecord],
    setting: Setting,
    crops: Crops | None = None,
    report: Callable[[str], None] = lambda video: None,
) -> Evaluation:
    """Ask each video's queries about it. `report` is called with the name of each finished video.

    Raises LvmError for a query about a video or a class that is not there.
    """
    by_video: dict[str, list[QueryRecord]] = defaultdict(list)
    for query in queries:
        by_video[query.video].append(query)
    whole = Evaluation([], [])
    for cache in caches:
        part = evaluate_video(model, cache, by_video.pop(cache.name, []), setting, crops)
        whole.results.extend(part.results)
        whole.events.extend(part.events)
        report(cache.name)
    if by_video:
        raise LvmError(f"no cached video for the queries about {', '.join(sorted(by_video))}")
    return whole


def evaluate_video(
    model: Model,
    cache: VideoCache,
    queries: Sequence[QueryRecord],
    setting: Setting,
    crops: Crops | None = None,
) -> Evaluation:
    """Watch a video, then answer all queries about it."""
    if not setting.spread:
        model = model.with_best_scores()
    sampler = make_control_sampler(setting.sampler, model.sampler, cache, model.network.memory_tokens)
    version = build_memory(model, cache, sampler, setting.order, setting.seed)
    reader = BlindReader(model.reader, setting.blind) if setting.blind else model.reader
    asker = Asker(_without_scaling(model.manifest), reader, CachedObjects(cache, queries, crops or {}))
    names = [activity.name for activity in model.manifest.classes]
    outputs = asker.answer_with_outputs([to_query(query, names) for query in queries], version)
    # Index everything that a question can read: memory and recency buffer.
    context = make_context(version, model.network)
    remembered = EvidenceIndex.build(
        cache.truth,
        context.tick[context.valid],
        context.cell[context.valid],
        cache.ticks,
        model.network.grid,
    )
    results = [
        _score_answer(asker, output, query, names, remembered, setting.seed)
        for output, query in zip(outputs, queries, strict=True)
    ]
    counts = remembered.count_by_event()
    events = [
        EventResult(video=cache.name, seed=setting.seed, event=event, evidence=int(count))
        for event, count in enumerate(counts)
    ]
    return Evaluation(results, events)


class CachedObjects:
    """Objects of queries, whose tokens are known: the object of a query is a product named by its qid."""

    def __init__(self, cache: VideoCache, queries: Sequence[QueryRecord], crops: Crops) -> None:
        self._tokens = {
            query.qid: find_object_tokens(cache, query, crops) for query in queries if query.type != "object"
        }

    def encode(self, item: Photos | BoxInFrame | Product) -> NDArray[np.float32]:
        assert isinstance(item, Product), "evaluation asks by qid"
        return self._tokens[item.product]


def find_object_tokens(cache: VideoCache, query: QueryRecord, crops: Crops) -> NDArray[np.float32]:
    """Return the tokens (49, d) of the query's object: from `crops`, or the cached photo of its instance and
    view.

    Views are counted modulo the cached ones: all of them are photographs that the video never shows.
    """
    if query.qid in crops:
        return np.asarray(crops[query.qid], np.float32)
    if query.instance is None or not isinstance(query.crop, CropView):
        raise LvmError(f"query {query.qid} shows no product photo: give its object's tokens in `crops`")
    if query.instance >= len(cache.objects):
        raise LvmError(
            f"query {query.qid} is about instance {query.instance}, {cache.name} has {len(cache.objects)}"
        )
    photos = cache.objects[query.instance]
    return np.asarray(photos[query.crop.view % len(photos)], np.float32)


def to_query(query: QueryRecord, names: Sequence[str]) -> AnyQuery:
    """Make the query as a person would ask it, without its truth."""
    start, end = find_asked_window(query)
    if query.type == "activity":
        return ActivityQuery(object=Product(product=query.qid), start=start, end=end)
    if len(query.activities) != 1 or query.activities[0] >= len(names):
        raise LvmError(
            f"query {query.qid} must name one of {len(names)} activities, got {list(query.activities)}"
        )
    activity = names[query.activities[0]]
    if query.type == "object":
        return ObjectQuery(activity=activity, start=start, end=end)
    return TimeQuery(activity=activity, object=Product(product=query.qid), start=start, end=end)


def _without_scaling(manifest: Manifest) -> Manifest:
    """Remove the scaling: results hold raw confidences, which scalings are fitted to."""
    thresholds = manifest.thresholds.model_copy(update={"span_scaling": Scaling()})
    return manifest.model_copy(update={"thresholds": thresholds})


def _score_answer(
    asker: Asker,
    output: AnswerWithOutputs,
    query: QueryRecord,
    names: Sequence[str],
    remembered: EvidenceIndex,
    seed: int,
) -> Result:
    evidence, gap = remembered.measure_query(query) if query.happened else (None, None)
    scores = {"activity": _score_activity_answer, "object": _score_object_answer, "time": _score_time_answer}[
        query.type
    ](asker, output, query, names)
    logit = output.outputs.get("presence_logit")
    return make_result(
        query,
        seed,
        abstained=output.answer.abstained,
        presence_logit=None if logit is None else float(logit),
        evidence=evidence,
        evidence_gap_s=gap,
        **scores,
    )


def make_result(query: QueryRecord, seed: int, **scores: object) -> Result:
    """Join what was found and what was asked."""
    return Result.model_validate(
        {
            "qid": query.qid,
            "video": query.video,
            "seed": seed,
            "type": query.type,
            "duration": query.duration,
            "window": classify_window(query),
            "happened": query.happened,
            "abstained": False,
            "labels": query.activities,
            **scores,
        }
    )


def _score_activity_answer(
    asker: Asker, output: AnswerWithOutputs, query: QueryRecord, names: Sequence[str]
) -> dict[str, object]:
    logits = output.outputs.get("activity_logits")
    scores_found: dict[str, object] = {"class_logits": None if logits is None else tuple(map(float, logits))}
    confidence = {activity.activity: activity.confidence for activity in output.answer.activities}
    return scores_found | score_activities(query, [confidence[name] for name in names] if confidence else [])


def score_activities(query: QueryRecord, scores: Sequence[float]) -> dict[str, object]:
    """Return Recall@1x and @3x of the scores (C,) of one answer; an answer without scores has 0."""
    if not query.happened:
        return {}
    if not len(scores):
        return {"hit1": 0.0, "hit3": 0.0}
    truth = np.isin(np.arange(len(scores)), query.activities)[None]
    hits = (recall_at(np.asarray(scores)[None], truth, multiple) for multiple in (1, 3))
    return dict(zip(("hit1", "hit3"), (float(hit.per_query[0]) for hit in hits), strict=True))


def _score_object_answer(
    asker: Asker, output: AnswerWithOutputs, query: QueryRecord, names: Sequence[str]
) -> dict[str, object]:
    boxes = output.full.boxes
    return score_boxes(query, [round(box.t * TICKS_PER_SECOND) for box in boxes], [box.box for box in boxes])


def score_boxes(
    query: QueryRecord, ticks: Sequence[int], boxes: Sequence[tuple[float, ...]] | NDArray[np.float32]
) -> dict[str, object]:
    """Return the vIoU of xyxy boxes (L, 4) at ticks (L,)."""
    if not query.happened:
        return {}
    truth = sorted(query.boxes.items())
    return {"viou": viou(ticks, boxes, [tick for tick, _ in truth], [box for _, box in truth])}


def _score_time_answer(
    asker: Asker, output: AnswerWithOutputs, query: QueryRecord, names: Sequence[str]
) -> dict[str, object]:
    best = {head: spans[0] for head in _HEADS if (spans := asker.spans(output, head))}
    return {
        "spans": {
            head: score_span(query, (span.start, span.end), span.confidence) for head, span in best.items()
        }
    }


def score_span(query: QueryRecord, span: tuple[float, float], confidence: float) -> SpanResult:
    """Return the tIoU of a span in seconds with the query's truth."""
    if not query.happened:
        return SpanResult(tiou=None, confidence=confidence)
    if query.t_s is None or query.t_e is None:
        raise LvmError(f"time query {query.qid} needs t_s and t_e, the truth, got none")
    return SpanResult(tiou=float(tiou(span, (query.t_s, query.t_e))), confidence=confidence)
