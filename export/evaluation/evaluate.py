"""LVM-Net's answers to a set of queries, by the very code that answers on a device.

    model = Model.of_network(*from_checkpoint(path))
    evaluation = evaluate(model, caches, queries, Setting(sampler="neural"))

Each video is watched once, then all its queries are asked in mixed batches. Equal inputs give equal results.

Letters: C classes, d token width.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import TICKS_PER_SECOND
from edge_runtime.memory.version import Version
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
from export.data.metrics import recall_at, tiou, viou
from export.data.records import CropView, QueryRecord
from export.data.token_cache import VideoCache
from export.evaluation.controls import Blind, BlindReader, sampler_for
from export.evaluation.results import EventResult, Result, SpanResult
from export.evaluation.stream_run import Model, Order, watched
from export.evaluation.targets import Remembered, asked_window, window_kind

Crops = Mapping[str, NDArray[np.float32]]
"""Tokens (49, d) of a query's object by qid, for objects that are no cached product photo."""
_HEADS: tuple[TimeHead, ...] = get_args(TimeHead)


@dataclass(frozen=True)
class Setting:
    """Who samples, in which order clips are seen, what is hidden; `seed` is that of the training run.
    Without `spread` the best scores stay in any network (`edge_runtime/memory/diversity.py`)."""

    sampler: str = "neural"
    order: Order = "stream"
    blind: Blind | None = None
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
    """Ask each video's queries about it. `report` is called with the name of each video that is done.

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
    """Watch one video, then answer all queries about it."""
    if not setting.spread:
        model = model.by_score()
    sampler = sampler_for(setting.sampler, model.sampler, cache, model.network.memory_tokens)
    version = watched(model, cache, sampler, setting.order, setting.seed)
    reader = BlindReader(model.reader, setting.blind) if setting.blind else model.reader
    asker = Asker(_unscaled(model.manifest), reader, CachedObjects(cache, queries, crops or {}))
    names = [one.name for one in model.manifest.classes]
    told = asker.answer_with_outputs([question(query, names) for query in queries], version)
    remembered = _remembered(model, cache, version)
    results = [
        _result(asker, one, query, names, remembered, setting.seed)
        for one, query in zip(told, queries, strict=True)
    ]
    counts = remembered.counts()
    events = [
        EventResult(video=cache.name, seed=setting.seed, event=event, evidence=int(count))
        for event, count in enumerate(counts)
    ]
    return Evaluation(results, events)


class CachedObjects:
    """The objects of queries, whose tokens are known: a query's object is a product named by its qid."""

    def __init__(self, cache: VideoCache, queries: Sequence[QueryRecord], crops: Crops) -> None:
        self._tokens = {
            query.qid: object_tokens(cache, query, crops) for query in queries if query.type != "object"
        }

    def encode(self, wanted: Photos | BoxInFrame | Product) -> NDArray[np.float32]:
        assert isinstance(wanted, Product), "evaluation asks by qid"
        return self._tokens[wanted.product]


def object_tokens(cache: VideoCache, query: QueryRecord, crops: Crops) -> NDArray[np.float32]:
    """Tokens (49, d) of what the query shows: from `crops`, or the cached photo of its instance and view.

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


def question(query: QueryRecord, names: Sequence[str]) -> AnyQuery:
    """The query as a person would ask it; only its truth is left out."""
    start, end = asked_window(query)
    if query.type == "activity":
        return ActivityQuery(object=Product(product=query.qid), start=start, end=end)
    activity = _named(query, names)
    if query.type == "object":
        return ObjectQuery(activity=activity, start=start, end=end)
    return TimeQuery(activity=activity, object=Product(product=query.qid), start=start, end=end)


def _named(query: QueryRecord, names: Sequence[str]) -> str:
    if len(query.activities) != 1 or query.activities[0] >= len(names):
        raise LvmError(
            f"query {query.qid} must name one of {len(names)} activities, got {list(query.activities)}"
        )
    return names[query.activities[0]]


def _unscaled(manifest: Manifest) -> Manifest:
    """Results hold raw confidences, from which scalings are fitted."""
    thresholds = manifest.thresholds.model_copy(update={"span_scaling": Scaling()})
    return manifest.model_copy(update={"thresholds": thresholds})


def _remembered(model: Model, cache: VideoCache, version: Version) -> Remembered:
    """All that a question can read: memory and recency buffer."""
    context = make_context(version, model.network)
    return Remembered.of(cache.truth, context.tick[context.valid], context.cell[context.valid], cache.ticks)


def _result(
    asker: Asker,
    told: AnswerWithOutputs,
    query: QueryRecord,
    names: Sequence[str],
    remembered: Remembered,
    seed: int,
) -> Result:
    evidence, gap = remembered.of_query(query) if query.happened else (None, None)
    scores = {"activity": _activity, "object": _object, "time": _time}[query.type](asker, told, query, names)
    logit = told.outputs.get("presence_logit")
    return result_of(
        query,
        seed,
        abstained=told.answer.abstained,
        presence_logit=None if logit is None else float(logit),
        evidence=evidence,
        evidence_gap_s=gap,
        **scores,
    )


def result_of(query: QueryRecord, seed: int, **found: object) -> Result:
    """What was found, beside what was asked."""
    return Result.model_validate(
        {
            "qid": query.qid,
            "video": query.video,
            "seed": seed,
            "type": query.type,
            "duration": query.duration,
            "window": window_kind(query),
            "happened": query.happened,
            "abstained": False,
            "labels": query.activities,
            **found,
        }
    )


def _activity(
    asker: Asker, told: AnswerWithOutputs, query: QueryRecord, names: Sequence[str]
) -> dict[str, object]:
    logits = told.outputs.get("activity_logits")
    found: dict[str, object] = {
        "class_logits": None if logits is None else tuple(map(float, logits)),
    }
    confidence = {one.activity: one.confidence for one in told.answer.activities}
    return found | activity_scores(query, [confidence[name] for name in names] if confidence else [])


def activity_scores(query: QueryRecord, scores: Sequence[float]) -> dict[str, object]:
    """Recall@1x and @3x of the scores (C,) of one answer; none is no hit."""
    if not query.happened:
        return {}
    if not len(scores):
        return {"hit1": 0.0, "hit3": 0.0}
    truth = np.isin(np.arange(len(scores)), query.activities)[None]
    hits = (recall_at(np.asarray(scores)[None], truth, multiple) for multiple in (1, 3))
    return dict(zip(("hit1", "hit3"), (float(hit.per_query[0]) for hit in hits), strict=True))


def _object(
    asker: Asker, told: AnswerWithOutputs, query: QueryRecord, names: Sequence[str]
) -> dict[str, object]:
    ticks = [round(one.t * TICKS_PER_SECOND) for one in told.answer.boxes]
    return object_scores(query, ticks, [one.box for one in told.answer.boxes])


def object_scores(
    query: QueryRecord, ticks: Sequence[int], boxes: Sequence[tuple[float, ...]] | NDArray[np.float32]
) -> dict[str, object]:
    """vIoU of xyxy boxes (L, 4) at ticks (L,)."""
    if not query.happened:
        return {}
    truth = sorted(query.boxes.items())
    return {"viou": viou(ticks, boxes, [tick for tick, _ in truth], [box for _, box in truth])}


def _time(
    asker: Asker, told: AnswerWithOutputs, query: QueryRecord, names: Sequence[str]
) -> dict[str, object]:
    best = {head: spans[0] for head in _HEADS if (spans := asker.spans(told, head))}
    return {
        "spans": {
            head: span_result(query, (span.start, span.end), span.confidence) for head, span in best.items()
        }
    }


def span_result(query: QueryRecord, span: tuple[float, float], confidence: float) -> SpanResult:
    """tIoU of one span in seconds with the query's truth."""
    if not query.happened:
        return SpanResult(tiou=None, confidence=confidence)
    if query.t_s is None or query.t_e is None:
        raise LvmError(f"time query {query.qid} needs t_s and t_e, the truth, got none")
    return SpanResult(tiou=float(tiou(span, (query.t_s, query.t_e))), confidence=confidence)
