"""Milliseconds of each graph of several bundles, called in turn: which precision is worth what here.

    lvm-export --precision auto --calibration demo --output auto
    lvm-export --precision int8 --calibration demo --output int8
    python -m tools.precisions --bundle auto --bundle int8 --rounds 60

Every engine is called once in a round, and the order turns with each round, so that whatever else the machine
does meets all of them alike. Beside the median stand the lowest and highest tenth, and how many times faster
it is than onnxruntime with the first bundle's network in fp32. Pictures come in batches of eight (--batch),
clips and questions one by one. Exit status 3 where --no-slower is given and a graph is over 3 % slower than
that. The last line of standard output is one JSON object.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.ingest.pipeline import BATCH_FRAMES
from engines.bundle import Bundle
from engines.manifest import GraphName
from engines.select import load_engine
from engines.spec import Engine, Feeds
from export.bundle.writer import card_of, network_of, write_bundle
from export.networks.model import GRAPHS, LvmNet
from export.parity.check import cases
from export.parity.sample_inputs import scenes
from export.quantization.plan import fp32
from tools.console import finish, progress, run_tool, show

REFERENCE = "onnxruntime fp32"
SLOWER = 1.03


def main(argv: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(argv)
    result = measured(given.bundle, given.graph or GRAPHS, given.rounds, given.threads, given.batch)
    columns = ["graph, bundle, target", "precision", "bytes", "ms", "p10", "p90", "times onnxruntime fp32"]
    rows = [
        [one["name"], one["precision"], one["bytes"], one["ms"], one["p10"], one["p90"], one["faster"]]
        for one in result
    ]
    show(f"{given.threads} threads, {given.rounds} rounds", columns, rows)
    slower = [one["name"] for one in result if one["faster"] * SLOWER < 1]
    finish({"rounds": given.rounds, "threads": given.threads, "graphs": result, "slower": slower})
    return 3 if given.no_slower and slower else 0


def measured(
    bundles: Sequence[Path], graphs: Sequence[GraphName], rounds: int, threads: int, batch: int
) -> list[dict[str, Any]]:
    """A row for each graph, bundle and target; each graph begins with onnxruntime fp32."""
    opened = {path.name: Bundle.open(path) for path in bundles}
    network = network_of(next(iter(opened.values())))
    rows = []
    with tempfile.TemporaryDirectory() as folder, progress(len(graphs) * rounds) as step:
        reference = Path(folder) / "fp32"
        write_bundle(network, card_of(next(iter(opened.values())).manifest), reference, fp32(["onnxruntime"]))
        for name in graphs:
            with ExitStack() as stack:
                lanes = _lanes(Bundle.open(reference), opened, name, threads, stack)
                feeds = _feeds(network, name, batch)
                times = _timed({key: engine for key, (engine, _) in lanes.items()}, feeds, rounds, step)
            for key, (_, record) in lanes.items():
                ms = np.array(times[key])
                middle, low, high = np.median(ms), *np.percentile(ms, [10, 90])
                faster = float(np.median(times[REFERENCE]) / middle)
                found = {"ms": float(middle), "p10": float(low), "p90": float(high), "faster": faster}
                rows.append({"name": f"{name}, {key}", **record, **found})
    return rows


def _lanes(
    reference: Bundle, bundles: dict[str, Bundle], name: GraphName, threads: int, stack: ExitStack
) -> dict[str, tuple[Engine, dict[str, Any]]]:
    lanes: dict[str, tuple[Engine, dict[str, Any]]] = {}
    wanted = [(REFERENCE, reference, "onnxruntime")]
    wanted += [
        (f"{label}, {target}", bundle, target)
        for label, bundle in bundles.items()
        for target in bundle.manifest.graphs
        if target != "tensorrt"
    ]
    for key, bundle, target in wanted:
        record = bundle.manifest.graphs[target][name]  # type: ignore[index]
        files = [bundle.manifest.files[one].bytes for one in (record.path, record.data) if one]
        engine = stack.enter_context(load_engine(bundle, name, target, threads=threads))
        lanes[key] = engine, {"precision": record.precision, "bytes": sum(files)}
    return lanes


def _feeds(network: LvmNet, name: GraphName, batch: int) -> Feeds:
    if name == "backbone":
        return {"image": scenes(batch, network.config.image_size, np.random.default_rng(0))}
    return next(iter(cases(network, name))).feeds


def _timed(engines: dict[str, Engine], feeds: Feeds, rounds: int, step: Any) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {key: [] for key in engines}
    order = list(engines)
    for engine in engines.values():
        engine(feeds)
    for number in range(rounds):
        for key in order:
            started = time.perf_counter()
            engines[key](feeds)
            times[key].append(1000 * (time.perf_counter() - started))
        order = order[1:] + order[:1]
        step(f"round {number + 1}")
    return times


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bundle", type=Path, action="append", required=True, help="may be repeated")
    parser.add_argument("--graph", action="append", choices=GRAPHS, help="default all three")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--batch", type=int, default=BATCH_FRAMES, help="pictures of one call of the backbone"
    )
    parser.add_argument("--no-slower", action="store_true", help="exit status 3 where one is slower")
    return parser


if __name__ == "__main__":
    run_tool(main)
