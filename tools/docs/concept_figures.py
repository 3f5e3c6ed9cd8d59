"""The pictures of docs/concepts.md, from a real run of the default bundle over ten minutes of the demo.

    python -m tools.docs.concept_figures [--folder docs]

The last line of standard output is one JSON object: the pictures and their bytes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime import Memory
from edge_runtime.frame import TICKS_PER_SECOND
from edge_runtime.interfaces.cli.demo_questions import make_demo_questions
from edge_runtime.query.schema import Photos
from edge_runtime.sources import read_frame_at
from edge_runtime.sources.demo import parse_demo
from tools.console import run_tool

DEMO = "demo"
SECONDS = 600.0
SIDE = 7
"""Cells of the grid, each way."""
DPI = 100


def draw_grid(memory: Memory) -> Any:
    """Draw the moment of which most is remembered: its picture, and the same with the remembered cells."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    tokens = memory.version.memory
    ticks, cells = tokens.tick[tokens.valid], tokens.cell[tokens.valid]
    moments, counts = np.unique(ticks, return_counts=True)
    tick = int(moments[np.argmax(counts)])
    image = read_frame_at(DEMO, tick / TICKS_PER_SECOND).image  # (H, W, 3)
    height, width = image.shape[:2]
    figure = Figure(figsize=(9, 2.9), layout="constrained")
    for axes, title in zip(figure.subplots(1, 2), ("seen: 49 cells", "remembered of it"), strict=True):
        axes.imshow(image, alpha=1.0 if title.startswith("seen") else 0.25)
        axes.set(title=title, xticks=[], yticks=[])
        for cell in range(SIDE * SIDE):
            x, y = cell % SIDE * width / SIDE, cell // SIDE * height / SIDE
            chosen = not title.startswith("seen") and cell in cells[ticks == tick]
            shape = Rectangle((x, y), width / SIDE, height / SIDE, fill=chosen, linewidth=0.5)
            shape.set(edgecolor="white", facecolor="tab:blue", alpha=0.7)
            axes.add_patch(shape)
    return figure


def draw_memory(memory: Memory) -> Any:
    """What is remembered of all ten minutes, and when something really happened."""
    figure = memory.plot()
    (axes,) = figure.axes
    world = parse_demo(DEMO).make_world()
    for event in world.events(0.0, SECONDS):
        axes.axvspan(event.start, event.end, color="tab:orange", alpha=0.25, zorder=0)
    axes.set_title(f"{memory.version.memory.filled} tokens of {SECONDS / 60:.0f} minutes", fontsize=10)
    return figure


def draw_answer(memory: Memory) -> Any:
    """When something was done with a product, what that rests on, and the truth."""
    question = make_demo_questions(DEMO, SECONDS)[2]
    assert isinstance(question.query.object, Photos)  # type: ignore[union-attr]
    answer = memory.ask(question.query)
    figure = memory.plot(answer)
    (axes,) = figure.axes
    result = f"{answer.answer} ({answer.confidence:.0%}); truth: {question.truth}"
    axes.set_title(f"{question.text} {result}", fontsize=10)
    return figure


PICTURES = {
    "concept-grid.png": draw_grid,
    "concept-memory.png": draw_memory,
    "concept-answer.png": draw_answer,
}


def draw_all(folder: Path) -> dict[str, int]:
    """All of them. Returns their bytes by name."""
    with Memory(backend="onnxruntime", threads=1) as memory:
        memory.watch(DEMO, seconds=SECONDS)
        for name, picture in PICTURES.items():
            # Without the version of what drew it, so that the same picture is the same file.
            picture(memory).savefig(folder / name, dpi=DPI, metadata={"Software": None})
    return {name: (folder / name).stat().st_size for name in PICTURES}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path("docs"))
    print(json.dumps({"pictures": draw_all(parser.parse_args().folder)}))


if __name__ == "__main__":
    run_tool(main)
