"""Answer a set of queries with LVM-Net, by the same code that answers on a device.

    model = Model.from_network(*from_checkpoint(path))
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
from export.evaluation.controls import BlindReader, BlindTo, make_control_sampler
from export.evaluation.results import EventResult, Result, SpanResult
from export.evaluation.stream_run import ClipOrder, Model, build_memory
from export.evaluation.targets import EvidenceIndex, classify_window, find_asked_window

Crops = Mapping[str, NDArray[np.float32]]
"""Tokens (49, d) of a query's object by qid, for objects that are not cached product photos."""
_HEADS: tuple[TimeHead, ...] = get_args(TimeHead)


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
        cache.truth, context.tick[context.valid], context.cell[context.valid], cache.ticks
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
    ticks = [round(box.t * TICKS_PER_SECOND) for box in output.answer.boxes]
    return score_boxes(query, ticks, [box.box for box in output.answer.boxes])


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
