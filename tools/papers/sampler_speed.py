"""How long one clip's candidates take to be scored: attention against state-space layers, in one run.

    python -m tools.papers.sampler_speed --tokens 11760 --width 256 --rounds 5
    python -m tools.papers.sampler_speed --tokens 882 --width 128 --layers 1 --rounds 50

Untrained samplers of the same width and number of layers, exported for onnxruntime and OpenVINO, take turns
at the same candidates: every round calls each once, in an order that turns with it. Beside the wall clock
stands processor time of the process, which other work on the machine changes less. What is compared is the
ratio within a round; its median is reported with its least and greatest. The last line of standard output is
one JSON object.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engines.manifest import Target
from engines.network_config import NetworkConfig
from engines.onnxruntime_engine import OnnxRuntimeEngine
from engines.openvino_engine import OpenVinoEngine
from engines.spec import Engine, Feeds
from export.onnx_graphs.external_weights import WEIGHTS
from export.parity.sample_inputs import sampler_feeds
from tools.console import finish, run_tool, show
from tools.papers.sampler_memory import BACKBONE_WIDTH, PAPER_TOKENS, write_sampler

SAMPLERS = ("neural", "s5")
TARGETS: tuple[Target, ...] = ("onnxruntime", "openvino")
GOAL = 5.0
"""How many times as fast the one of linear cost is meant to be at the size of the preset `paper`."""


def main(argv: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(argv)
    found = _measured(given)
    rows = found["rows"]
    show(
        f"{given.tokens:,} candidates, width {given.width}, {given.layers} layers, {given.threads} threads",
        ["backend", "attention ms", "s5 ms", "times as fast", "least", "greatest", "in processor time"],
        [
            [
                row["target"], row["neural"]["wall_ms"], row["s5"]["wall_ms"], row["wall"]["median"],
                row["wall"]["least"], row["wall"]["greatest"], row["processor"]["median"],
            ]
            for row in rows
        ],
    )  # fmt: skip
    finish(found)
    return 0


def at(tokens: int, rounds: int) -> dict[str, Any]:
    """What the command says of `tokens` candidates with the width and layers that it has by itself."""
    return _measured(_parser().parse_args(["--tokens", str(tokens), "--rounds", str(rounds)]))


def said(found: dict[str, Any]) -> str:
    """What `at` found, as Markdown."""
    head = f"### A clip of {found['tokens']:,} candidates, width {found['width']}, {found['layers']} layers"
    rows = [
        f"| {row['target']} | {row['neural']['wall_ms']:,.0f} | {row['s5']['wall_ms']:,.0f} "
        f"| {row['wall']['median']:.1f} ({row['wall']['least']:.1f}, {row['wall']['greatest']:.1f}) "
        f"| {row['processor']['median']:.1f} |"
        for row in found["rows"]
    ]
    titles = "| | attention, ms | S5, ms | times as fast (least, greatest) | in processor time |"
    return "\n".join([head, "", titles, "|---|---|---|---|---|", *rows])


def _measured(given: argparse.Namespace) -> dict[str, Any]:
    rows = [measured(target, given) for target in given.target or TARGETS]
    missed = [row["target"] for row in rows if row["wall"]["median"] < GOAL]
    return {"tokens": given.tokens, "width": given.width, "layers": given.layers, "threads": given.threads,
            "rounds": given.rounds, "goal": GOAL, "rows": rows, "below_goal": missed}  # fmt: skip


def measured(target: Target, given: argparse.Namespace) -> dict[str, Any]:
    """Medians of both samplers in milliseconds and the ratios within rounds, on one backend."""
    with tempfile.TemporaryDirectory(prefix="lvm-edge-") as name:
        lanes = {sampler: _lane(Path(name), sampler, target, given) for sampler in SAMPLERS}
        spent: dict[str, list[tuple[float, float]]] = {sampler: [] for sampler in SAMPLERS}
        for number in range(given.rounds + 1):
            for sampler in SAMPLERS[:: 1 if number % 2 else -1]:
                wall, processor = _once(*lanes[sampler])
                if number:  # the first round makes buffers
                    spent[sampler].append((1e3 * wall, 1e3 * processor))
        for engine, _ in lanes.values():
            engine.close()
    row: dict[str, Any] = {"target": target}
    for sampler, times in spent.items():
        row[sampler] = {
            "wall_ms": statistics.median(wall for wall, _ in times),
            "processor_ms": statistics.median(processor for _, processor in times),
        }
    for place, kind in enumerate(("wall", "processor")):
        ratios = [a[place] / b[place] for a, b in zip(spent["neural"], spent["s5"], strict=True)]
        row[kind] = {"median": statistics.median(ratios), "least": min(ratios), "greatest": max(ratios)}
    return row


def _lane(folder: Path, sampler: str, target: Target, given: argparse.Namespace) -> tuple[Engine, Feeds]:
    place = folder / sampler
    place.mkdir()
    config = write_sampler(
        place, given.width, given.tokens, [target], sampler=sampler, sampler_layers=given.layers
    )
    graph, weights = (place / f"{target}.onnx").read_bytes(), (place / WEIGHTS).read_bytes()
    engine: Engine
    if target == "openvino":
        engine = OpenVinoEngine(graph, weights, weights_name=WEIGHTS, precision="fp32", threads=given.threads)
    else:
        engine = OnnxRuntimeEngine(graph, weights, threads=given.threads)
    return engine, _feeds(config)


def _feeds(config: NetworkConfig) -> Feeds:
    """The same candidates for both, all of them there."""
    rng = np.random.default_rng(0)
    pool = rng.normal(size=(500, BACKBONE_WIDTH)).astype(np.float32)
    feeds = sampler_feeds(config, pool, 1, rng)
    return {**feeds, "valid": np.ones_like(feeds["valid"])}


def _once(engine: Engine, feeds: Feeds) -> tuple[float, float]:
    """Seconds of one call, by the wall and of the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    engine(feeds)
    return time.perf_counter() - wall, time.process_time() - processor


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokens", type=int, default=PAPER_TOKENS, help="memory and clip, half each")
    parser.add_argument("--width", type=int, default=256, help="of the model")
    parser.add_argument("--layers", type=int, default=2, help="of each sampler")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--target", action="append", choices=TARGETS)
    return parser


if __name__ == "__main__":
    run_tool(main)
