"""Summarise run folders as one JSON object, which `export.evaluation.markdown` writes as tables.

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
from export.evaluation.confidence import measure_calibration
from export.evaluation.report import TYPES, Cell, Metric
from export.evaluation.results import Result
from export.evaluation.run_folders import (
    CHECKPOINT,
    OWN,
    SYSTEMS,
    TUBEDETR,
    read_baselines,
    read_events,
    read_results,
)

Json = dict[str, Any]
RANDOM, WITHOUT_OCL = "random", "without-ocl"


@dataclass(frozen=True)
class Runs:
    """Run folders of several seeds, and of runs that differ from them in one thing.

    `random`: trained with a random memory; where there are none, the same networks with their sampler
    replaced stand for them. `without_ocl`: trained without past queries, at matched supervision.
    """

    own: Sequence[Path]
    random: Sequence[Path] = ()
    without_ocl: Sequence[Path] = ()
    split: str = "test"


def summarise_runs(runs: Runs) -> Json:
    """Summarise all results. Raises LvmError if a run lacks results of its own system, or if runs answered
    other queries."""
    ours = read_results(runs.own, runs.split, OWN)
    if not ours:
        raise LvmError(
            f"no results of {OWN} for split {runs.split} in {', '.join(map(str, runs.own))}: "
            f"write them with lvm-train evaluate"
        )
    thresholds = read_thresholds(runs.own)
    systems = {name: results for name in SYSTEMS if (results := read_results(runs.own, runs.split, name))}
    metric = _make_recall(thresholds)
    others = {name: (results, metric) for name, results in systems.items()}
    for name, folders in ((RANDOM, runs.random), (WITHOUT_OCL, runs.without_ocl)):
        if results := read_results(folders, runs.split, OWN):
            others[name] = results, _make_recall(read_thresholds(folders))
    return {
        "split": runs.split,
        "seeds": list(report.list_seeds(ours)),
        "videos": len({result.video for result in ours}),
        "queries": len({result.qid for result in ours}),
        "negatives": len({result.qid for result in ours if not result.happened}),
        "time_heads": {str(seed): values.time_head for seed, values in thresholds.items()},
        "baselines": read_baselines(runs.own, runs.split),
        "random_is_trained": bool(read_results(runs.random, runs.split, OWN)),
        "recall_1x": {
            name: _to_json(report.cell_intervals(results, theirs))
            for name, (results, theirs) in others.items()
        },
        "recall_3x": {
            name: _to_json(report.cell_intervals(results, report.recall_3x))
            for name, (results, _) in others.items()
        },
        "against": {
            name: _compare(ours, metric, results, theirs)
            for name, (results, theirs) in others.items()
            if name != OWN
        },
        "as_told": _to_json(report.cell_intervals(ours, report.make_delivered(metric))),
        "withheld": _measure_withheld(ours),
        "windows": {
            name: _split_windows(results, metric)
            for name, results in systems.items()
            if name in (OWN, TUBEDETR)
        },
        "heads": {
            head: _to_json(
                report.cell_intervals(
                    [result for result in ours if result.type == "time"], _make_head_metric(head)
                )
            )
            for head in get_args(TimeHead)
        },
        "coverage": {
            name: _measure_coverage(runs.own, runs.split, name) for name in systems if name != TUBEDETR
        },
        "covered_queries": _to_json(report.covered_query_shares(ours)),
        "object_by_gap": {
            name: {"queries": count, "recall_1x": list(interval[:3])}
            for name, (count, interval) in report.recall_by_gap(ours).items()
        },
        "auroc": _measure_presence(ours),
        "calibration": _measure_calibration(ours, thresholds),
    }


def read_thresholds(folders: Sequence[Path]) -> dict[int, Thresholds]:
    """Read the thresholds in each run's checkpoint, by seed."""
    thresholds: dict[int, Thresholds] = {}
    for folder in folders:
        if not (folder / CHECKPOINT).is_file():
            raise LvmError(f"{folder} has no {CHECKPOINT}: it is no finished run")
        with safe_open(folder / CHECKPOINT, framework="np") as file:
            metadata = file.metadata() or {}
        seed = TrainingRecord.model_validate_json(metadata["training"]).seed or 0
        thresholds[seed] = Thresholds.model_validate_json(metadata.get("thresholds", "{}"))
    return thresholds


def make_recall_by_seed(heads: Mapping[int, TimeHead]) -> Metric:
    """Return Recall@1x with the time head that each seed's manifest names."""
    by_head: dict[TimeHead, Metric] = {head: report.make_recall_1x(head) for head in get_args(TimeHead)}

    def metric(result: Result) -> float | None:
        if result.seed not in heads:
            raise LvmError(
                f"answers of seed {result.seed} need a run of that seed, got those of {list(heads)}"
            )
        return by_head[heads[result.seed]](result)

    return metric


def _make_recall(thresholds: Mapping[int, Thresholds]) -> Metric:
    return make_recall_by_seed({seed: values.time_head for seed, values in thresholds.items()})


def _make_head_metric(head: TimeHead) -> Metric:
    return lambda result: result.score(head)


def _compare(ours: Sequence[Result], metric: Metric, theirs: Sequence[Result], their_metric: Metric) -> Json:
    metrics = {"recall_1x": (metric, their_metric), "recall_3x": (report.recall_3x, report.recall_3x)}
    return {
        name: {
            _name_cell(cell): {"difference": list(difference[:3]), "ratio": list(ratio[:3])}
            for cell, (difference, ratio) in report.compare_cells(ours, theirs, *pair).items()
        }
        for name, pair in metrics.items()
    }


def _measure_coverage(folders: Sequence[Path], split: str, system: str) -> Json:
    events = read_events(folders, split, system)
    if not events:
        return {}
    return {
        f"at_least_{min_tokens}": list(report.coverage_interval(events, min_tokens)[:3])
        for min_tokens in (1, 4)
    }


def _measure_withheld(ours: Sequence[Result]) -> Json:
    shares_by_kind = {
        kind: report.withheld_shares([result for result in ours if result.type == kind]) for kind in TYPES
    }
    return {
        kind: {name: list(interval[:3]) for name, interval in shares.items()}
        for kind, shares in shares_by_kind.items()
    }


def _split_windows(results: Sequence[Result], metric: Metric) -> Json:
    parts = {kind: [result for result in results if result.window == kind] for kind in ("tight", "loose")}
    return {kind: _to_json(report.cell_intervals(some, metric)) for kind, some in parts.items()}


def _measure_calibration(ours: Sequence[Result], thresholds: Mapping[int, Thresholds]) -> Json:
    return {
        name: {
            "before": list(errors.before[:3]),
            "after": list(errors.after[:3]),
            "samples": errors.samples,
            "least": errors.honest_error,
        }
        for name, errors in measure_calibration(ours, thresholds).items()
    }


def _measure_presence(ours: Sequence[Result]) -> Json:
    parts = {"all": list(ours)} | {kind: [result for result in ours if result.type == kind] for kind in TYPES}
    intervals = {name: report.presence_auroc(some) for name, some in parts.items()}
    return {name: list(interval[:3]) for name, interval in intervals.items() if interval is not None}


def _to_json(intervals: Mapping[Cell, Interval]) -> Json:
    return {_name_cell(cell): list(interval[:3]) for cell, interval in intervals.items()}


def _name_cell(cell: Cell) -> str:
    return "/".join(cell)
