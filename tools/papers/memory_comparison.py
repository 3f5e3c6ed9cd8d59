"""Ways to remember side by side: samplers with the plain context, and contexts with one sampler.

A way is one system of some run folders, one for each training seed. Recall is LVM-Net's Recall@1x by kind of
question, all durations together. Gains are paired, by video and by question.
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
class Way:
    """`system` of the runs whose answers lie in `folders`; `heads`: the time head of each seed."""

    name: str
    folders: Sequence[Path]
    system: str
    heads: Mapping[int, TimeHead]


def compared(ways: Sequence[Way], split: str) -> dict[str, Any]:
    """Recall, coverage and seeds of every way, and what it gains over the first one, `[estimate, low, high]`.

    Raises LvmError where answers are missing, or where two ways answered different questions.
    """
    found = {way.name: _answers(way, split) for way in ways}
    base = ways[0].name
    said: dict[str, Any] = {}
    for way in ways:
        results, events = found[way.name]
        require_same_queries(results, found[base][0])
        scores = _by_kind(way, results)
        said[way.name] = {
            "seeds": list(report.list_seeds(results)),
            "recall_1x": {kind: list(bootstrap.mean_interval(one)[:3]) for kind, one in scores.items()},
            "coverage": list(report.coverage_interval(events)[:3]),
        }
        if way.name != base:
            theirs = _by_kind(ways[0], found[base][0])
            pairs = {kind: (scores[kind], theirs[kind]) for kind in scores}
            said[way.name]["gain"] = {
                k: list(bootstrap.difference_interval(*pair)[:3]) for k, pair in pairs.items()
            }
            said[way.name]["ratio"] = {
                k: list(bootstrap.ratio_interval(*pair)[:3]) for k, pair in pairs.items()
            }
    return said


def _answers(way: Way, split: str) -> tuple[list[Result], list[EventResult]]:
    results = read_results(way.folders, split, way.system)
    events = read_events(way.folders, split, way.system)
    if not results or not events:
        places = ", ".join(map(str, way.folders))
        raise LvmError(
            f"{way.name}: answers of {way.system} to split {split} expected in {places}, got none: "
            "write them with lvm-train evaluate"
        )
    return results, events


def _by_kind(way: Way, results: Sequence[Result]) -> dict[str, bootstrap.Scores]:
    metric = make_recall_by_seed(way.heads)
    parts = {kind: [one for one in results if kind in (one.type, ALL)] for kind in KINDS}
    found = {kind: report.to_scores(some, metric) for kind, some in parts.items()}
    return {kind: scores for kind, scores in found.items() if scores is not None}


def table(title: str, said: str, rows: Json, costs: Json, activity: Json, over: Sequence[str] = ()) -> str:
    """Rows of `compared` with what they cost, and mAP of activity detection where `activity` has one: `over`
    these activities, all where none are named."""
    precision = f"mAP of {', '.join(over)}, %" if over else "activity mAP, %"
    header = [
        "", *(f"{kind}, %" for kind in KINDS), "all, gain", "events covered, %", precision,
        "state, bytes", "ms a clip", "ms a question", "seeds",
    ]  # fmt: skip
    lines = []
    for name, one in rows.items():
        cost = costs.get(name)
        lines.append(
            [
                name,
                *(format_percent(one["recall_1x"].get(kind)) for kind in KINDS),
                format_percent(one.get("gain", {}).get(ALL), signed=True),
                format_percent(one["coverage"]),
                format_percent(activity.get(name)),
                f"{cost['state_bytes']:,}" if cost else format_percent(None),
                f"{cost['clip_ms']:.1f}" if cost else format_percent(None),
                f"{cost['question_ms']:.1f}" if cost else format_percent(None),
                str(len(one["seeds"])),
            ]
        )
    return render_section(title, said, header, lines)
