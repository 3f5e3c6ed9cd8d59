"""Compare variants of the memory: samplers with the plain context, and contexts with one sampler.

A variant is one system of some run folders, one folder for each training seed. Recall is LVM-Net's Recall@1x
by kind of question, all durations together. Gains are paired by video and by question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.errors import LvmError
from engines.manifest import TimeHead
from export.evaluation import bootstrap, report
from export.evaluation.markdown import Json, format_percent, render_section
from export.evaluation.report import TYPES
from export.evaluation.results import EventResult, Result, require_same_queries
from export.evaluation.run_folders import read_events, read_results
from export.evaluation.summary import make_recall_by_seed

ALL = "all"
"""Questions of every kind together."""
KINDS = (*TYPES, ALL)


@dataclass(frozen=True)
class MemoryVariant:
    """The answers of `system` in `folders`; `heads` has the time head of each seed."""

    name: str
    folders: Sequence[Path]
    system: str
    heads: Mapping[int, TimeHead]


def compare_variants(variants: Sequence[MemoryVariant], split: str) -> dict[str, Any]:
    """Return recall, coverage and seeds of every variant, and its gain over the first one.

    Figures are `[estimate, low, high]`. Raises LvmError if answers are missing, or if two variants answered
    different questions.
    """
    answers = {variant.name: _read_answers(variant, split) for variant in variants}
    base = variants[0].name
    rows: dict[str, Any] = {}
    for variant in variants:
        results, events = answers[variant.name]
        require_same_queries(results, answers[base][0])
        scores = _score_by_kind(variant, results)
        rows[variant.name] = {
            "seeds": list(report.list_seeds(results)),
            "recall_1x": {kind: list(bootstrap.mean_interval(own)[:3]) for kind, own in scores.items()},
            "coverage": list(report.coverage_interval(events)[:3]),
        }
        if variant.name != base:
            base_scores = _score_by_kind(variants[0], answers[base][0])
            pairs = {kind: (scores[kind], base_scores[kind]) for kind in scores}
            rows[variant.name]["gain"] = {
                k: list(bootstrap.difference_interval(*pair)[:3]) for k, pair in pairs.items()
            }
            rows[variant.name]["ratio"] = {
                k: list(bootstrap.ratio_interval(*pair)[:3]) for k, pair in pairs.items()
            }
    return rows


def _read_answers(variant: MemoryVariant, split: str) -> tuple[list[Result], list[EventResult]]:
    results = read_results(variant.folders, split, variant.system)
    events = read_events(variant.folders, split, variant.system)
    if not results or not events:
        places = ", ".join(map(str, variant.folders))
        raise LvmError(
            f"{variant.name}: answers of {variant.system} to split {split} expected in {places}, got none: "
            "write them with lvm-train evaluate"
        )
    return results, events


def _score_by_kind(variant: MemoryVariant, results: Sequence[Result]) -> dict[str, bootstrap.Scores]:
    metric = make_recall_by_seed(variant.heads)
    parts = {kind: [result for result in results if kind in (result.type, ALL)] for kind in KINDS}
    by_kind = {kind: report.to_scores(part, metric) for kind, part in parts.items()}
    return {kind: scores for kind, scores in by_kind.items() if scores is not None}


def render_table(
    title: str, text: str, rows: Json, costs: Json, activity: Json, over: Sequence[str] = ()
) -> str:
    """Render the rows of `compare_variants` with their costs, and mAP of detection where `activity` has one.

    The mAP is `over` these activities, over all if none are named.
    """
    precision = f"mAP of {', '.join(over)}, %" if over else "activity mAP, %"
    header = [
        "", *(f"{kind}, %" for kind in KINDS), "all, gain", "events covered, %", precision,
        "state, bytes", "ms a clip", "ms a question", "seeds",
    ]  # fmt: skip
    lines = []
    for name, row in rows.items():
        cost = costs.get(name)
        lines.append(
            [
                name,
                *(format_percent(row["recall_1x"].get(kind)) for kind in KINDS),
                format_percent(row.get("gain", {}).get(ALL), signed=True),
                format_percent(row["coverage"]),
                format_percent(activity.get(name)),
                f"{cost['state_bytes']:,}" if cost else format_percent(None),
                f"{cost['clip_ms']:.1f}" if cost else format_percent(None),
                f"{cost['question_ms']:.1f}" if cost else format_percent(None),
                str(len(row["seeds"])),
            ]
        )
    return render_section(title, text, header, lines)
