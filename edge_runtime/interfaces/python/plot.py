"""Plot a memory, and an answer from it, with matplotlib; draw a memory as HTML."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np

from edge_runtime.frame import TICKS_PER_SECOND
from edge_runtime.memory.version import Version
from edge_runtime.query.answers import Answer
from edge_runtime.query.timeline_svg import draw_timeline, watched_parts
from engines.errors import Unavailable


def plot_memory(version: Version, answer: Answer | None, cells: int) -> Any:
    """Plot tokens as time against one of `cells`, darker for a higher score.

    Raises Unavailable without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise Unavailable('plots need matplotlib: pip install "lvm-edge[plot]"') from error
    tokens, coverage = version.memory, version.coverage
    figure = Figure(figsize=(9, 3), layout="constrained")  # not pyplot, which keeps every figure
    axes = figure.subplots()
    valid = tokens.valid
    t = tokens.tick[valid] / TICKS_PER_SECOND
    score = tokens.score[valid].astype(np.float64)
    shade = np.argsort(np.argsort(score)) / max(len(score) - 1, 1)
    axes.scatter(t, tokens.cell[valid], c=shade, cmap="Blues", vmin=-0.4, s=12, label="remembered")
    for gap in coverage.list_gaps():
        label = f"not watched{f' ({gap.reason})' if gap.reason else ''}"
        watched = sum(gap.watched_share or (0.0,)) / 2
        axes.axvspan(gap.start, gap.end, color="0.85", alpha=1 - watched, label=label)
    if answer is not None:
        for rank, span in enumerate(() if answer.abstained else answer.spans):
            axes.axvspan(span.start, span.end, color="tab:green", alpha=0.35 / (1 + rank))
        for box in answer.boxes:
            axes.axvline(box.t, color="tab:green", alpha=0.3)
        if evidence := sorted({(token.t, token.cell) for token in answer.evidence}):
            axes.scatter(*zip(*evidence, strict=True), marker="s", facecolors="none", edgecolors="tab:red")
        sure = "" if answer.abstained else f" ({answer.format_confidence()})"
        axes.set_title(f"{answer.answer}{sure}", fontsize=10)
    if coverage.start is not None and coverage.end is not None and coverage.end > coverage.start:
        axes.set_xlim(coverage.start, coverage.end)
    axes.set(xlabel="seconds", ylabel="cell", ylim=(cells, -1))
    return figure


def memory_html(version: Version, title: str) -> str:
    """Draw what was watched (grey) and the moments that are remembered of it (blue), under `title`."""
    tokens, coverage = version.memory, version.coverage
    moments = [int(tick) / TICKS_PER_SECOND for tick in tokens.tick[tokens.valid]]
    gaps = [(gap.start, gap.end, gap.watched_share) for gap in coverage.list_gaps()]
    watched = watched_parts(coverage.start, coverage.end, gaps)
    drawn = draw_timeline(coverage.start, coverage.end, watched, [], moments)
    return f"<div><code>{escape(title)}</code><br>{drawn}</div>"
