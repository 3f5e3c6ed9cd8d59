"""Results of several seeds become intervals: what tables are made of, as plain numbers.

Every interval is a bootstrap over videos and seeds (`export.evaluation.bootstrap`); a difference or ratio is
paired, by video and by query. A run is the results of one system, of all its seeds in one list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import get_args

import numpy as np

from engines.errors import LvmError
from engines.manifest import TimeHead
from export.data.metrics import auroc
from export.data.records import Duration, QueryType
from export.evaluation import bootstrap
from export.evaluation.bootstrap import Interval
from export.evaluation.paper_figures import Cell
from export.evaluation.results import EventResult, Result, same_questions

Metric = Callable[[Result], float | None]
"""One number for each result; None where it does not apply."""

TYPES: tuple[QueryType, ...] = get_args(QueryType)
DURATIONS: tuple[Duration, ...] = get_args(Duration)
NINE: tuple[Cell, ...] = tuple((kind, duration) for duration in DURATIONS for kind in TYPES)
GAPS_S = (1.0, 2.0, 4.0)
"""Borders of the distances to remembered evidence by which object queries are split."""
_HAPPENED = {"happened": True, "never": False}
NOT_REMEMBERED_LOGIT = -1e9
"""Presence of what the network was not asked about, as nothing of it was remembered."""


def recall_1x(head: TimeHead) -> Metric:
    """Recall@1x with one time head, or with the only one that a system has."""
    return lambda one: one.score(head if head in one.spans else "bins")


def as_told(metric: Metric) -> Metric:
    """`metric` of what a person is told: an answer that is withheld finds nothing."""
    return lambda one: None if (score := metric(one)) is None else score * (not one.abstained)


def withheld(results: Sequence[Result]) -> dict[str, Interval]:
    """Share of answers that are withheld: of what `happened`, where each is lost, and of what `never` did."""
    split = {name: [one for one in results if one.happened is is_so] for name, is_so in _HAPPENED.items()}
    found = {name: mean_of(some, lambda one: float(one.abstained)) for name, some in split.items()}
    return {name: interval for name, interval in found.items() if interval is not None}


def recall_3x(one: Result) -> float | None:
    """Recall@3x of activity queries."""
    return one.hit3


def of_cell(results: Iterable[Result], cell: Cell) -> list[Result]:
    return [one for one in results if (one.type, one.duration) == cell]


def mean_of(results: Sequence[Result], metric: Metric) -> Interval | None:
    """Interval of a metric's mean; None where it applies to no result."""
    scores = scores_of(results, metric)
    return bootstrap.mean(scores) if scores else None


def cells(results: Sequence[Result], metric: Metric) -> dict[Cell, Interval]:
    """Means in the nine cells; a cell without queries is left out."""
    found = {cell: mean_of(of_cell(results, cell), metric) for cell in NINE}
    return {cell: interval for cell, interval in found.items() if interval is not None}


def compared(
    ours: Sequence[Result], theirs: Sequence[Result], metric: Metric, their_metric: Metric
) -> dict[Cell, tuple[Interval, Interval]]:
    """Difference and ratio, ours against theirs on the same queries, in the nine cells; each by its own
    metric: which head tells times may differ."""
    same_questions(ours, theirs)
    found = {}
    for cell in NINE:
        one = scores_of(of_cell(ours, cell), metric)
        two = scores_of(of_cell(theirs, cell), their_metric)
        if one and two:
            found[cell] = bootstrap.difference(one, two), bootstrap.ratio(one, two)
    return found


def coverage(events: Sequence[EventResult], least: int = 1) -> Interval:
    """Share of events of which at least so many tokens were remembered."""
    reached = [one.evidence >= least for one in events]
    return bootstrap.mean(
        bootstrap.by_video(reached, [one.video for one in events], [one.seed for one in events])
    )


def covered_queries(results: Sequence[Result], least: int = 1) -> dict[Cell, Interval]:
    """Share of queries of whose target at least so much was remembered inside the asked window."""
    return cells(results, lambda one: None if one.evidence is None else float(one.evidence >= least))


def by_gap(results: Sequence[Result]) -> dict[str, tuple[int, Interval]]:
    """Object recall by the distance to the nearest remembered evidence: how many results, and the mean."""
    objects = [one for one in results if one.type == "object" and one.happened and one.evidence is not None]
    split: dict[str, list[Result]] = {}
    for one in objects:
        split.setdefault(_gap_name(one.evidence_gap_s), []).append(one)
    names = [_gap_name(border) for border in (0.0, *GAPS_S)] + [_gap_name(None)]
    return {name: (len(split[name]), _pooled(split[name])) for name in names if name in split}


def answered(results: Sequence[Result]) -> Interval | None:
    """AUROC of `this happened` against negatives; None unless there are both."""
    told = (one.presence_logit for one in results)
    logits = np.array([NOT_REMEMBERED_LOGIT if logit is None else logit for logit in told])
    happened = np.array([one.happened for one in results], bool)
    if happened.all() or not happened.any():
        return None
    return bootstrap.statistic(
        lambda index: auroc(logits[index], happened[index]),
        [one.video for one in results],
        [one.seed for one in results],
    )


def noted(
    results: Sequence[Result], events: Sequence[EventResult], head: TimeHead, split: str
) -> dict[str, float]:
    """What a manifest says of answers to `split`: recall of each cell, events with evidence, AUROC."""
    said = {
        f"{kind}.{duration}.recall_1x": one
        for (kind, duration), one in cells(results, recall_1x(head)).items()
    }
    said |= {"coverage": coverage(events)} if events else {}
    presence = answered(results)
    said |= {"presence_auroc": presence} if presence else {}
    return {f"{split}.{name}": round(interval.estimate, 4) for name, interval in said.items()}


def scores_of(results: Sequence[Result], metric: Metric) -> bootstrap.Scores | None:
    """A metric by seed and video; None where it applies to no result."""
    values = [(value, one) for one in results if (value := metric(one)) is not None]
    if not values:
        return None
    return bootstrap.by_video(
        [value for value, _ in values], [one.video for _, one in values], [one.seed for _, one in values]
    )


def _pooled(results: Sequence[Result]) -> Interval:
    """Mean recall of what a bin happens to hold, which differs between seeds: over videos of all seeds."""
    values = [one.score() or 0.0 for one in results]
    return bootstrap.mean(bootstrap.by_video(values, [f"{one.seed}/{one.video}" for one in results]))


def _gap_name(gap: float | None) -> str:
    if gap is None:
        return "nothing remembered"
    above = [border for border in GAPS_S if gap < border]
    low = max((border for border in GAPS_S if border <= gap), default=0.0)
    return f"{low:g} to {above[0]:g} s" if above else f"{low:g} s and more"


def seeds_of(results: Sequence[Result]) -> tuple[int, ...]:
    """The training seeds in a run, sorted. Raises LvmError where one answered a query twice."""
    keys = [(one.seed, one.qid) for one in results]
    if len(set(keys)) < len(keys):
        raise LvmError("a query was answered twice by the same seed: give each run folder once")
    return tuple(sorted({one.seed for one in results}))
