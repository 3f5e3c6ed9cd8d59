"""Turn results of several seeds into intervals: the plain numbers of the tables.

Every interval is a bootstrap over videos and seeds (`export.evaluation.bootstrap`); a difference or ratio is
paired, by video and by query. A run is the results of one system, of all its seeds in one list.

The figures that the paper reports (LVM-Net, ReST-ADL, one A100) are of other data, so only ratios and orders
compare: recall in per cent, time in minutes for one video's queries of one kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, get_args

import numpy as np

from engines.errors import LvmError
from engines.manifest import TimeHead
from export.data.metrics import auroc
from export.data.records import Duration, QueryType
from export.evaluation import bootstrap
from export.evaluation.bootstrap import Interval
from export.evaluation.results import EventResult, Result, require_same_queries

Cell = tuple[QueryType, Duration]
Metric = Callable[[Result], float | None]
"""A number for each result; None where it does not apply."""
TYPES: tuple[QueryType, ...] = get_args(QueryType)
DURATIONS: tuple[Duration, ...] = get_args(Duration)
TABLE_CELLS: tuple[Cell, ...] = tuple((kind, duration) for duration in DURATIONS for kind in TYPES)
GAPS_S = (1.0, 2.0, 4.0)
"""Borders of the distances to remembered evidence by which object queries are split."""
_HAPPENED = {"happened": True, "never": False}
NOT_REMEMBERED_LOGIT = -1e9
"""Presence where the network was not run, because nothing was remembered."""


class Minutes(NamedTuple):
    tubedetr: float
    lvm_net: float


class Recalls(NamedTuple):
    """Recall@1x, in per cent."""

    rest: float
    tubedetr: float
    lvm_net: float


class Ablation(NamedTuple):
    """Activity queries: Recall@1x and @3x with and without, in per cent."""

    recall_1x: float
    recall_3x: float
    without_1x: float
    without_3x: float


TABLE_1: dict[Cell, Minutes] = {
    ("activity", "short"): Minutes(264, 14),
    ("object", "short"): Minutes(99, 6),
    ("time", "short"): Minutes(11, 7),
    ("activity", "medium"): Minutes(180, 16),
    ("object", "medium"): Minutes(663, 15),
    ("time", "medium"): Minutes(31, 14),
    ("activity", "long"): Minutes(174, 15),
    ("object", "long"): Minutes(756, 10),
    ("time", "long"): Minutes(19, 10),
}

TABLE_2: dict[Cell, Recalls] = {
    ("activity", "short"): Recalls(48.1, 45.3, 32.4),
    ("object", "short"): Recalls(9.6, 27.5, 26.4),
    ("time", "short"): Recalls(31.3, 35.0, 22.9),
    ("activity", "medium"): Recalls(50.7, 31.6, 26.1),
    ("object", "medium"): Recalls(10.0, 25.4, 11.9),
    ("time", "medium"): Recalls(31.8, 6.7, 11.9),
    ("activity", "long"): Recalls(46.3, 29.9, 22.8),
    ("object", "long"): Recalls(10.0, 24.6, 21.3),
    ("time", "long"): Recalls(30.0, 12.8, 8.6),
}

TABLE_3: dict[Duration, Ablation] = {
    "short": Ablation(32.38, 56.78, 21.42, 43.20),
    "medium": Ablation(26.12, 44.80, 18.23, 40.57),
    "long": Ablation(22.81, 45.39, 18.42, 38.45),
}
"""The learned sampler against a random memory."""

TABLE_4: dict[Duration, Ablation] = {
    "short": Ablation(32.38, 56.78, 26.39, 47.31),
    "medium": Ablation(26.12, 44.80, 24.81, 44.63),
    "long": Ablation(22.81, 45.39, 18.28, 44.54),
}
"""Online continual learning against none."""


def make_recall_1x(head: TimeHead) -> Metric:
    """Return Recall@1x with one time head, or with the only head of a system."""
    return lambda result: result.score(head if head in result.spans else "bins")


def make_delivered(metric: Metric) -> Metric:
    """Return `metric` of what a person gets: an answer that is withheld finds nothing."""
    return lambda result: None if (score := metric(result)) is None else score * (not result.abstained)


def withheld_shares(results: Sequence[Result]) -> dict[str, Interval]:
    """Return the share of withheld answers: where it `happened`, and each is a loss, and where it `never`
    did."""
    split = {
        name: [result for result in results if result.happened is is_so] for name, is_so in _HAPPENED.items()
    }
    intervals = {
        name: metric_interval(some, lambda result: float(result.abstained)) for name, some in split.items()
    }
    return {name: interval for name, interval in intervals.items() if interval is not None}


def recall_3x(result: Result) -> float | None:
    """Return Recall@3x of an activity query."""
    return result.hit3


def select_cell(results: Iterable[Result], cell: Cell) -> list[Result]:
    return [result for result in results if (result.type, result.duration) == cell]


def metric_interval(results: Sequence[Result], metric: Metric) -> Interval | None:
    """Return the interval of a metric's mean; None where it applies to no result."""
    scores = to_scores(results, metric)
    return bootstrap.mean_interval(scores) if scores else None


def cell_intervals(results: Sequence[Result], metric: Metric) -> dict[Cell, Interval]:
    """Return means in the nine cells; a cell without queries is left out."""
    intervals = {cell: metric_interval(select_cell(results, cell), metric) for cell in TABLE_CELLS}
    return {cell: interval for cell, interval in intervals.items() if interval is not None}


def compare_cells(
    ours: Sequence[Result], theirs: Sequence[Result], metric: Metric, their_metric: Metric
) -> dict[Cell, tuple[Interval, Interval]]:
    """Return difference and ratio, ours against theirs on the same queries, in the nine cells; each by its
    own metric, as time heads may differ."""
    require_same_queries(ours, theirs)
    compared = {}
    for cell in TABLE_CELLS:
        ours_scores = to_scores(select_cell(ours, cell), metric)
        theirs_scores = to_scores(select_cell(theirs, cell), their_metric)
        if ours_scores and theirs_scores:
            compared[cell] = (
                bootstrap.difference_interval(ours_scores, theirs_scores),
                bootstrap.ratio_interval(ours_scores, theirs_scores),
            )
    return compared


def coverage_interval(events: Sequence[EventResult], min_tokens: int = 1) -> Interval:
    """Return the share of events of which at least `min_tokens` tokens were remembered."""
    reached = [event.evidence >= min_tokens for event in events]
    return bootstrap.mean_interval(
        bootstrap.sum_by_video(reached, [event.video for event in events], [event.seed for event in events])
    )


def covered_query_shares(results: Sequence[Result], min_tokens: int = 1) -> dict[Cell, Interval]:
    """Return the share of queries with at least `min_tokens` tokens of the target remembered inside the asked
    window."""
    return cell_intervals(
        results, lambda result: None if result.evidence is None else float(result.evidence >= min_tokens)
    )


def recall_by_gap(results: Sequence[Result]) -> dict[str, tuple[int, Interval]]:
    """Return object recall by the distance to the nearest remembered evidence: number of results, and the
    mean."""
    objects = [
        result
        for result in results
        if result.type == "object" and result.happened and result.evidence is not None
    ]
    split: dict[str, list[Result]] = {}
    for result in objects:
        split.setdefault(_name_gap(result.evidence_gap_s), []).append(result)
    names = [_name_gap(border) for border in (0.0, *GAPS_S)] + [_name_gap(None)]
    return {name: (len(split[name]), _mean_recall(split[name])) for name in names if name in split}


def presence_auroc(results: Sequence[Result]) -> Interval | None:
    """Return the AUROC of `this happened` against negatives; None unless there are both."""
    presence = (result.presence_logit for result in results)
    logits = np.array([NOT_REMEMBERED_LOGIT if logit is None else logit for logit in presence])
    happened = np.array([result.happened for result in results], bool)
    if happened.all() or not happened.any():
        return None
    return bootstrap.statistic_interval(
        lambda index: auroc(logits[index], happened[index]),
        [result.video for result in results],
        [result.seed for result in results],
    )


def summarise_for_manifest(
    results: Sequence[Result], events: Sequence[EventResult], head: TimeHead, split: str
) -> dict[str, float]:
    """Return the results that a manifest holds of `split`: recall of each cell, events with
    evidence, AUROC."""
    intervals = {
        f"{kind}.{duration}.recall_1x": interval
        for (kind, duration), interval in cell_intervals(results, make_recall_1x(head)).items()
    }
    intervals |= {"coverage": coverage_interval(events)} if events else {}
    presence = presence_auroc(results)
    intervals |= {"presence_auroc": presence} if presence else {}
    return {f"{split}.{name}": round(interval.estimate, 4) for name, interval in intervals.items()}


def to_scores(results: Sequence[Result], metric: Metric) -> bootstrap.Scores | None:
    """Sum a metric by seed and video; None where it applies to no result."""
    values = [(value, result) for result in results if (value := metric(result)) is not None]
    if not values:
        return None
    return bootstrap.sum_by_video(
        [value for value, _ in values],
        [result.video for _, result in values],
        [result.seed for _, result in values],
    )


def _mean_recall(results: Sequence[Result]) -> Interval:
    """Return the mean recall of a bin, whose content differs between seeds: over videos of all seeds."""
    values = [result.score() or 0.0 for result in results]
    return bootstrap.mean_interval(
        bootstrap.sum_by_video(values, [f"{result.seed}/{result.video}" for result in results])
    )


def _name_gap(gap: float | None) -> str:
    if gap is None:
        return "nothing remembered"
    above = [border for border in GAPS_S if gap < border]
    low = max((border for border in GAPS_S if border <= gap), default=0.0)
    return f"{low:g} to {above[0]:g} s" if above else f"{low:g} s and more"


def list_seeds(results: Sequence[Result]) -> tuple[int, ...]:
    """Return the training seeds in a run, sorted. Raises LvmError if a query was answered twice."""
    keys = [(result.seed, result.qid) for result in results]
    if len(set(keys)) < len(keys):
        raise LvmError("a query was answered twice by the same seed: give each run folder once")
    return tuple(sorted({result.seed for result in results}))
