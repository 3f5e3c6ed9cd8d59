"""All that run folders say, as one JSON object: what `export.evaluation.markdown` writes as tables.

Intervals are [estimate, low, high]; a cell of the tables is `type/duration`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from safetensors import safe_open

from engines.errors import LvmError
from engines.manifest import Thresholds, TimeHead, TrainingRecord
from export.evaluation import report
from export.evaluation.bootstrap import Interval
from export.evaluation.confidence import calibrations
from export.evaluation.paper_figures import Cell
from export.evaluation.report import TYPES, Metric
from export.evaluation.results import Result
from export.evaluation.run_folders import (
    CHECKPOINT,
    OWN,
    SYSTEMS,
    TUBEDETR,
    baselines_of,
    events_of,
    results_of,
)

Json = dict[str, Any]
RANDOM, WITHOUT_OCL = "random", "without-ocl"


@dataclass(frozen=True)
class Runs:
    """Run folders of several seeds, and of those that differ from them in one thing.

    `random`: trained with a random memory; where there are none, the same networks with their sampler
    replaced stand for them. `without_ocl`: trained without past queries, at matched supervision.
    """

    own: Sequence[Path]
    random: Sequence[Path] = ()
    without_ocl: Sequence[Path] = ()
    split: str = "test"


def findings(runs: Runs) -> Json:
    """Raises LvmError where a run lacks results of its own system, or where runs answered other queries."""
    ours = results_of(runs.own, runs.split, OWN)
    if not ours:
        raise LvmError(
            f"no results of {OWN} for split {runs.split} in {', '.join(map(str, runs.own))}: "
            f"write them with lvm-train evaluate"
        )
    thresholds = thresholds_of(runs.own)
    systems = {name: found for name in SYSTEMS if (found := results_of(runs.own, runs.split, name))}
    metric = _metric_of(thresholds)
    others = {name: (found, metric) for name, found in systems.items()}
    for name, folders in ((RANDOM, runs.random), (WITHOUT_OCL, runs.without_ocl)):
        if found := results_of(folders, runs.split, OWN):
            others[name] = found, _metric_of(thresholds_of(folders))
    return {
        "split": runs.split,
        "seeds": list(report.seeds_of(ours)),
        "videos": len({one.video for one in ours}),
        "queries": len({one.qid for one in ours}),
        "negatives": len({one.qid for one in ours if not one.happened}),
        "time_heads": {str(seed): one.time_head for seed, one in thresholds.items()},
        "baselines": baselines_of(runs.own, runs.split),
        "random_is_trained": bool(results_of(runs.random, runs.split, OWN)),
        "recall_1x": {name: _cells(report.cells(found, theirs)) for name, (found, theirs) in others.items()},
        "recall_3x": {
            name: _cells(report.cells(found, report.recall_3x)) for name, (found, _) in others.items()
        },
        "against": {
            name: _against(ours, metric, found, theirs)
            for name, (found, theirs) in others.items()
            if name != OWN
        },
        "as_told": _cells(report.cells(ours, report.as_told(metric))),
        "withheld": _withheld(ours),
        "windows": {
            name: _windows(found, metric) for name, found in systems.items() if name in (OWN, TUBEDETR)
        },
        "heads": {
            head: _cells(report.cells([one for one in ours if one.type == "time"], _with_head(head)))
            for head in get_args(TimeHead)
        },
        "coverage": {name: _coverage(runs.own, runs.split, name) for name in systems if name != TUBEDETR},
        "covered_queries": _cells(report.covered_queries(ours)),
        "object_by_gap": {
            name: {"queries": count, "recall_1x": list(interval[:3])}
            for name, (count, interval) in report.by_gap(ours).items()
        },
        "auroc": _answered(ours),
        "calibration": _calibration(ours, thresholds),
    }


def thresholds_of(folders: Sequence[Path]) -> dict[int, Thresholds]:
    """What each run's checkpoint says of its answers, by seed."""
    found: dict[int, Thresholds] = {}
    for folder in folders:
        if not (folder / CHECKPOINT).is_file():
            raise LvmError(f"{folder} has no {CHECKPOINT}: it is no finished run")
        with safe_open(folder / CHECKPOINT, framework="np") as file:
            metadata = file.metadata() or {}
        seed = TrainingRecord.model_validate_json(metadata["training"]).seed or 0
        found[seed] = Thresholds.model_validate_json(metadata.get("thresholds", "{}"))
    return found


def first_answer(heads: Mapping[int, TimeHead]) -> Metric:
    """Recall@1x, time read by the head that each seed's manifest names."""
    by_head: dict[TimeHead, Metric] = {head: report.recall_1x(head) for head in get_args(TimeHead)}

    def metric(one: Result) -> float | None:
        if one.seed not in heads:
            raise LvmError(f"answers of seed {one.seed} need a run of that seed, got those of {list(heads)}")
        return by_head[heads[one.seed]](one)

    return metric


def _metric_of(thresholds: Mapping[int, Thresholds]) -> Metric:
    return first_answer({seed: one.time_head for seed, one in thresholds.items()})


def _with_head(head: TimeHead) -> Metric:
    return lambda one: one.score(head)


def _against(ours: Sequence[Result], metric: Metric, theirs: Sequence[Result], their_metric: Metric) -> Json:
    metrics = {"recall_1x": (metric, their_metric), "recall_3x": (report.recall_3x, report.recall_3x)}
    return {
        name: {
            _name(cell): {"difference": list(difference[:3]), "ratio": list(ratio[:3])}
            for cell, (difference, ratio) in report.compared(ours, theirs, *pair).items()
        }
        for name, pair in metrics.items()
    }


def _coverage(folders: Sequence[Path], split: str, system: str) -> Json:
    events = events_of(folders, split, system)
    if not events:
        return {}
    return {f"at_least_{least}": list(report.coverage(events, least)[:3]) for least in (1, 4)}


def _withheld(ours: Sequence[Result]) -> Json:
    found = {kind: report.withheld([one for one in ours if one.type == kind]) for kind in TYPES}
    return {
        kind: {name: list(interval[:3]) for name, interval in shares.items()}
        for kind, shares in found.items()
    }


def _windows(results: Sequence[Result], metric: Metric) -> Json:
    parts = {kind: [one for one in results if one.window == kind] for kind in ("tight", "loose")}
    return {kind: _cells(report.cells(some, metric)) for kind, some in parts.items()}


def _calibration(ours: Sequence[Result], thresholds: Mapping[int, Thresholds]) -> Json:
    return {
        name: {
            "before": list(one.before[:3]),
            "after": list(one.after[:3]),
            "samples": one.samples,
            "least": one.least,
        }
        for name, one in calibrations(ours, thresholds).items()
    }


def _answered(ours: Sequence[Result]) -> Json:
    parts = {"all": list(ours)} | {kind: [one for one in ours if one.type == kind] for kind in TYPES}
    found = {name: report.answered(some) for name, some in parts.items()}
    return {name: list(interval[:3]) for name, interval in found.items() if interval is not None}


def _cells(intervals: Mapping[Cell, Interval]) -> Json:
    return {_name(cell): list(interval[:3]) for cell, interval in intervals.items()}


def _name(cell: Cell) -> str:
    return "/".join(cell)
