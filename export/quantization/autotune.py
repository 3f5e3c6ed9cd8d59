"""`--precision auto`: of the precisions that each graph may have, the fastest on this machine that holds.

Every candidate is written as a bundle of its own, so that what is timed is what a device loads. A candidate
that differs from the network by more than its tolerance is out; the others run in turn, in rounds, and the
one with the least median time wins. One that is less than 3 % faster than a finer one is not worth its
error.
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
from export.parity.check import cases, check_graph
from export.parity.sample_inputs import scenes
from export.quantization.calibration_data import Calibration
from export.quantization.plan import Choice, Plan
from export.quantization.variants import Variants

ROUNDS = 15
WORTH = 0.97
"""A coarser precision must take at most this share of the time of a finer one."""
Refused = tuple[Target, GraphName, Precision]
Write = Callable[[Path, dict[tuple[Target, GraphName], Choice]], Bundle]
"""Writes a whole bundle into an empty folder and opens it."""


def fastest(
    network: LvmNet,
    plan: Plan,
    variants: Variants,
    write: Write,
    report: Callable[[str], None] = lambda words: None,
    *,
    without: frozenset[Refused] = frozenset(),
) -> dict[tuple[Target, GraphName], Choice]:
    """What each graph gets; `without` names what a later gate refused."""
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
                chosen[target, name] = _of_graph(network, name, target, allowed, variants.calibration)
    return chosen


def _of_graph(
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
        feeds = _busiest(network, name)
        ms = timed(engines, feeds)
    best = next(iter(engines))
    for precision in engines:
        if ms[precision] < WORTH * ms[best]:
            best = precision
    shown = ", ".join(f"{precision} {ms[precision]:.2f}" for precision in engines)
    return Choice(best, "; ".join([f"ms on this machine: {shown}", *out]))


def _busiest(network: LvmNet, name: GraphName) -> Feeds:
    """What a device feeds the graph most: pictures come in batches, clips and questions one by one."""
    if name == "backbone":
        return {"image": scenes(BATCH_FRAMES, network.config.image_size, np.random.default_rng(0))}
    return next(iter(cases(network, name))).feeds


def timed(engines: dict[Precision, Engine], feeds: Feeds) -> dict[Precision, float]:
    """Median milliseconds of each engine, in interleaved rounds."""
    seconds: dict[Precision, list[float]] = {precision: [] for precision in engines}
    for engine in engines.values():
        engine(feeds)
    for number in range(ROUNDS):
        order = list(engines)[:: 1 if number % 2 else -1]
        for precision in order:
            started = time.perf_counter()
            engines[precision](feeds)
            seconds[precision].append(time.perf_counter() - started)
    return {precision: 1000 * statistics.median(found) for precision, found in seconds.items()}
