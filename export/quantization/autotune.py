"""`--precision auto`: choose for each graph the fastest precision on this machine that passes the checks.

Every candidate is written as a bundle of its own, so that what a device loads is what is timed. A candidate
whose error is beyond the limit is out. The others run in turn, in rounds, and the lowest median time wins. A
candidate that is less than 3 % faster than a finer precision is not worth its error.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from edge_runtime.ingest.pipeline import BATCH_FRAMES
from engines.bundle import Bundle
from engines.errors import BundleError, GateFailed, LvmError, Unavailable
from engines.manifest import GRAPHS, GraphName, Precision, Target
from engines.select import load_engine
from engines.spec import Engine, Feeds
from engines.tensorrt_versions import tensorrt_problem
from export.networks.model import LvmNet
from export.parity.check import check_graph, make_cases
from export.parity.sample_inputs import draw_scenes
from export.quantization.calibration_data import Calibration
from export.quantization.plan import Choice, Plan
from export.quantization.variants import Variants

ROUNDS = 15
MAX_TIME_SHARE = 0.97
"""A coarser precision must take at most this share of the time of a finer one."""
Rejected = tuple[Target, GraphName, Precision]
Write = Callable[[Path, dict[tuple[Target, GraphName], Choice]], Bundle]
"""Writes a whole bundle into an empty folder and opens it."""


def choose_fastest(
    network: LvmNet,
    plan: Plan,
    variants: Variants,
    write: Write,
    report: Callable[[str], None] = lambda message: None,
    *,
    without: frozenset[Rejected] = frozenset(),
) -> dict[tuple[Target, GraphName], Choice]:
    """Choose the precision of each graph; `without` lists what a later gate rejected."""
    chosen: dict[tuple[Target, GraphName], Choice] = {}
    if "tensorrt" in plan.targets and (problem := tensorrt_problem()) is not None:
        raise Unavailable(
            f"auto measures, and TensorRT cannot run here: {problem}; choose a precision for it"
        )
    with tempfile.TemporaryDirectory(prefix="lvm-export-") as folder:
        for target in plan.targets:
            bundles = {
                precision: write(
                    Path(folder) / target / precision,
                    {(target, name): Choice(precision, "tried") for name in GRAPHS},
                )
                for precision in plan.candidates(target)
            }
            for name in GRAPHS:
                report(f"measuring {name} on {target}")
                allowed = {p: b for p, b in bundles.items() if (target, name, p) not in without}
                chosen[target, name] = _choose_for_graph(network, name, target, allowed, variants.calibration)
    return chosen


def _choose_for_graph(
    network: LvmNet,
    name: GraphName,
    target: Target,
    bundles: dict[Precision, Bundle],
    calibration: Calibration | None,
) -> Choice:
    out: list[str] = []
    with ExitStack() as stack:
        engines: dict[Precision, Engine] = {}
        for precision, bundle in bundles.items():
            try:
                engine = stack.enter_context(load_engine(bundle, name, target))
                if bundle.manifest.graphs[target][name].precision != precision:
                    raise GateFailed(bundle.manifest.graphs[target][name].why)
                reached = () if calibration is None else calibration.held_out(name)
                check_graph(network, engine, name, target, precision, reached)
            except (GateFailed, BundleError) as error:
                out.append(f"{precision} is out: {error}")
            else:
                engines[precision] = engine
        if not engines:
            raise LvmError(f"no precision of {name} holds on {target}: {'; '.join(out)}")
        feeds = _make_typical_feeds(network, name)
        ms = time_engines(engines, feeds)
    best = next(iter(engines))
    for precision in engines:
        if ms[precision] < MAX_TIME_SHARE * ms[best]:
            best = precision
    times = ", ".join(f"{precision} {ms[precision]:.2f}" for precision in engines)
    return Choice(best, "; ".join([f"ms on this machine: {times}", *out]))


def _make_typical_feeds(network: LvmNet, name: GraphName) -> Feeds:
    """Return what a device feeds the graph most: pictures come in batches, clips and questions alone."""
    if name == "backbone":
        return {"image": draw_scenes(BATCH_FRAMES, network.config.image_size, np.random.default_rng(0))}
    return next(iter(make_cases(network, name))).feeds


def time_engines(engines: dict[Precision, Engine], feeds: Feeds) -> dict[Precision, float]:
    """Return the median milliseconds of each engine, in interleaved rounds."""
    seconds: dict[Precision, list[float]] = {precision: [] for precision in engines}
    for engine in engines.values():
        engine(feeds)
    for number in range(ROUNDS):
        order = list(engines)[:: 1 if number % 2 else -1]
        for precision in order:
            started = time.perf_counter()
            engines[precision](feeds)
            seconds[precision].append(time.perf_counter() - started)
    return {precision: 1000 * statistics.median(values) for precision, values in seconds.items()}
