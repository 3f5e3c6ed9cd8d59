"""Run folders of several seeds become docs/lab/results.md and one JSON object.

    lvm-train evaluate runs/tiny-0 --data DATA --system all     (for each seed)
    python -m tools.papers.throughput --run runs/tiny-0 --bundle my-bundle --data DATA --output query.json
    python -m tools.papers.tables --runs runs/tiny-0 runs/tiny-1 runs/tiny-2 --without-ocl runs/none-0 ... \
        --data DATA --speed query.json property.json
    python -m tools.papers.tables memories ...                         (ways to remember:
    tools.papers.memory_table)

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


def frame_loads(data: DataFolder, split: Split, fps: float) -> dict[str, dict[str, float]]:
    """Frames of the query window that every query of a cell reads, beside each frame once."""
    videos = [video for video in data.videos.values() if video.split == split]
    names = {video.video for video in videos}
    found = {}
    for kind, duration in TABLE_CELLS:
        queries = [
            one for one in data.queries if (one.type, one.duration) == (kind, duration) and one.video in names
        ]
        if not queries:
            continue
        each = sum(len(list_read_frames(one, fps)) for one in queries) / len(queries)
        found[f"{kind}/{duration}"] = {
            "frames_a_query": each,
            "ratio": count_frame_reads(videos, queries, fps).ratio,
            "rest_ratio": REST_QUERIES * min(each, REST_VIDEO_S * fps) / (REST_VIDEO_S * fps),
        }
    return found


def speed_of(file: Path) -> dict[str, Any]:
    """What tools.papers.throughput wrote. LvmError where there is none."""
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(said, dict) or "cells" not in said:
            raise ValueError("it has no cells")
    except (OSError, ValueError) as error:
        raise LvmError(
            f"--speed must be what tools.papers.throughput wrote to its --output, got {file}: {error}"
        ) from None
    return dict(said)


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
    speeds = [speed_of(one) for one in arguments.speed]
    found: dict[str, Any] = summarise_runs(
        Runs(arguments.runs, arguments.random, arguments.without_ocl, arguments.split)
    )
    loads = None
    if arguments.data is not None:
        loads = frame_loads(read_data_folder(arguments.data), arguments.split, arguments.fps)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(render_page(found, loads, speeds), encoding="utf-8")
    finish({"output": str(arguments.output), **found, "loads": loads, "speeds": speeds})
    return 0


if __name__ == "__main__":
    run_tool(main)
