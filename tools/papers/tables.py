"""Make docs/lab/results.md and one JSON object from the run folders of several seeds.

    lvm-train evaluate runs/tiny-0 --data DATA --system all     (for each seed)
    python -m tools.papers.throughput --run runs/tiny-0 --bundle my-bundle --data DATA --output query.json
    python -m tools.papers.tables --runs runs/tiny-0 runs/tiny-1 runs/tiny-2 --without-ocl runs/none-0 ... \
        --data DATA --speed query.json property.json
    python -m tools.papers.tables memories ...          (samplers and contexts: tools.papers.memory_table)

The last line of standard output is the JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from engines.errors import LvmError
from export.data.checks import read_data_folder
from export.data.files import DataFolder
from export.data.records import Split
from export.evaluation.cost_model import REST_QUERIES, REST_VIDEO_S, count_frame_reads, list_read_frames
from export.evaluation.markdown import render_page
from export.evaluation.report import TABLE_CELLS
from export.evaluation.summary import Runs, summarise_runs
from tools.console import finish, run_tool
from tools.papers import memory_table


def count_frame_loads(data: DataFolder, split: Split, fps: float) -> dict[str, dict[str, float]]:
    """Return the frames that each query of a cell reads, and their ratio to reading each frame once."""
    videos = [video for video in data.videos.values() if video.split == split]
    names = {video.video for video in videos}
    loads = {}
    for cell in TABLE_CELLS:
        queries = [
            query for query in data.queries if (query.type, query.duration) == cell and query.video in names
        ]
        if not queries:
            continue
        frames = sum(len(list_read_frames(query, fps)) for query in queries) / len(queries)
        loads["/".join(cell)] = {
            "frames_a_query": frames,
            "ratio": count_frame_reads(videos, queries, fps).ratio,
            "rest_ratio": REST_QUERIES * min(frames, REST_VIDEO_S * fps) / (REST_VIDEO_S * fps),
        }
    return loads


def read_speed(file: Path) -> dict[str, Any]:
    """Read the output of tools.papers.throughput. Raises LvmError if the file is none."""
    try:
        speed = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(speed, dict) or "cells" not in speed:
            raise ValueError("it has no cells")
    except (OSError, ValueError) as error:
        raise LvmError(
            f"--speed must be what tools.papers.throughput wrote to its --output, got {file}: {error}"
        ) from None
    return dict(speed)


def main() -> int:
    if sys.argv[1:2] == ["memories"]:
        return memory_table.main(sys.argv[2:])
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="one for each seed")
    parser.add_argument("--random", type=Path, nargs="*", default=[], help="runs trained on random memories")
    parser.add_argument("--without-ocl", type=Path, nargs="*", default=[], help="runs without past queries")
    parser.add_argument("--split", default="test", choices=["train", "val", "test"])
    parser.add_argument("--data", type=Path, help="data folder, for frame loads")
    parser.add_argument("--fps", type=float, default=1.0, help="sampled frames a second")
    parser.add_argument(
        "--speed", type=Path, nargs="*", default=[], help="what tools.papers.throughput wrote"
    )
    parser.add_argument("--output", type=Path, default=Path("docs/lab/results.md"))
    arguments = parser.parse_args()
    speeds = [read_speed(file) for file in arguments.speed]
    summary: dict[str, Any] = summarise_runs(
        Runs(arguments.runs, arguments.random, arguments.without_ocl, arguments.split)
    )
    loads = None
    if arguments.data is not None:
        loads = count_frame_loads(read_data_folder(arguments.data), arguments.split, arguments.fps)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(render_page(summary, loads, speeds), encoding="utf-8")
    finish({"output": str(arguments.output), **summary, "loads": loads, "speeds": speeds})
    return 0


if __name__ == "__main__":
    run_tool(main)
