"""What is remembered, and an answer in it, as a matplotlib figure."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_runtime.frame import TICKS_PER_SECOND
from edge_runtime.memory.version import Version
from edge_runtime.query.answers import Answer
from engines.errors import Unavailable


def plotted(version: Version, answer: Answer | None) -> Any:
    """Time against cells of the picture; the darker, the more telling. Raises Unavailable without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise Unavailable('plots need matplotlib: pip install "lvm-edge[plot]"') from error
    tokens, coverage = version.memory, version.coverage
    figure = Figure(figsize=(9, 3), layout="constrained")  # not pyplot, which would keep each one
    axes = figure.subplots()
    valid = tokens.valid
    t = tokens.tick[valid] / TICKS_PER_SECOND
    score = tokens.score[valid].astype(np.float64)
    shade = np.argsort(np.argsort(score)) / max(len(score) - 1, 1)
    axes.scatter(t, tokens.cell[valid], c=shade, cmap="Blues", vmin=-0.4, s=12, label="remembered")
    for start, end, why in coverage.gaps_explained():
        axes.axvspan(start, end, color="0.85", label=f"not watched{f' ({why})' if why else ''}")
    if answer is not None:
        for place, span in enumerate(answer.spans):
            axes.axvspan(span.start, span.end, color="tab:green", alpha=0.35 / (1 + place))
        for box in answer.boxes:
            axes.axvline(box.t, color="tab:green", alpha=0.3)
        rests = sorted({(one.t, one.cell) for one in answer.evidence})
        axes.scatter(
            *zip(*rests, strict=True), marker="s", facecolors="none", edgecolors="tab:red"
        ) if rests else None
        axes.set_title(f"{answer.answer} ({answer.confidence:.0%})", fontsize=10)
    if coverage.start is not None and coverage.end is not None and coverage.end > coverage.start:
        axes.set_xlim(coverage.start, coverage.end)
    axes.set(xlabel="seconds", ylabel="cell", ylim=(49, -1))
    return figure
