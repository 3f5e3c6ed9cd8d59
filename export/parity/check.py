"""Check that an exported graph answers like the network that it was made from.

Feeds are what a device sees: pictures, memories that are partly filled or empty, every kind of query, ticks
of ten hours, several batch sizes. Outputs that a caller must not read (scores of invalid tokens, offsets of
absent tokens, boxes of padded steps) are not compared. A target that cannot run here is compared through
another engine.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from engines.bundle import Bundle
from engines.errors import GateFailed, LvmError
from engines.manifest import GraphName, ParityRecord, Precision, Target
from engines.onnxruntime_engine import OnnxRuntimeEngine
from engines.select import load_engine, usable_cores
from engines.spec import Array, Engine, Feeds
from engines.tensorrt_versions import tensorrt_problem
from export.networks.model import LvmNet, TorchEngine
from export.networks.signatures import READABLE_WHERE
from export.parity import sample_inputs as examples
from export.parity.relative_error import Errors

_SEED = 20_240
_PICTURES = 4
_BATCHES = (1, 3)
_QUERIES = (
    (examples.ACTIVITY,),
    (examples.EMPTY,),
    (examples.OBJECT, examples.TIME, examples.EMPTY, examples.FULL, examples.ACTIVITY),
)
MIN_COSINE = 0.9
"""Minimum cosine of an int8 output with the network's on drawn feeds, which were not used for calibration."""


@dataclass(frozen=True)
class Case:
    """One comparison: a description of the feeds, and the feeds."""

    words: str
    feeds: dict[str, Array]


@dataclass(frozen=True)
class Difference:
    """Largest absolute error of one output in one case, and its cosine with the reference."""

    output: str
    case: str
    error: float
    cosine: float


def max_error(precision: Precision) -> float:
    """Return the largest error that passes; absolute, but for w8 and int8 relative: |got - expected| /
    |expected|.

    fp32 backends differ by the order of their sums: about 1e-5. An int8 graph errs by a share of its ranges;
    its largest single entry says little about answers: it was 1.8 in a token of the default bundle (values
    reach 4.3), where all tokens together were off by 3 %.
    """
    return {"fp32": 1e-3, "fp16": 5e-2, "bf16": 2e-1, "w8": 1e-1, "int8": 2e-1}[precision]


def make_cases(network: LvmNet, name: GraphName) -> Iterator[Case]:
    """Yield the cases that a graph is compared on; equal networks give equal cases."""
    config = network.config
    rng = np.random.default_rng(_SEED)
    if name == "backbone":
        for batch in _BATCHES:
            yield Case(f"batch {batch}", {"image": examples.draw_scenes(batch, config.image_size, rng)})
        return
    # Tokens (P, d_b) of drawn pictures from the backbone.
    pictures = examples.draw_scenes(_PICTURES, network.config.image_size, rng)
    tokens = TorchEngine(network, "backbone")({"image": pictures})["tokens"]  # (4, 49, d_b)
    pool = tokens.reshape(-1, tokens.shape[-1])
    if name == "sampler":
        for batch in _BATCHES[: _count_affordable(config.sampler_tokens)]:
            yield Case(f"batch {batch}", examples.draw_sampler_feeds(config, pool, batch, rng))
        return
    for queries in _QUERIES[: _count_affordable(config.reader_tokens)]:
        yield Case(f"{len(queries)} queries", examples.draw_reader_feeds(config, pool, queries, rng))


def compare(reference: Engine, engine: Engine, cases: list[Case]) -> list[Difference]:
    """Return the differences of all outputs in all cases. NaN counts as infinitely wrong."""
    differences = []
    for case in cases:
        expected, got = reference(case.feeds), engine(case.feeds)
        for output, array in expected.items():
            read = _find_readable(output, case.feeds)
            error = _max_absolute_error(array, got[output], read)
            differences.append(
                Difference(output, case.words, error, _compute_cosine(array, got[output], read))
            )
    return differences


def check_graph(
    network: LvmNet,
    engine: Engine,
    name: GraphName,
    target: Target,
    precision: Precision = "fp32",
    reached: Sequence[dict[str, Array]] = (),
) -> ParityRecord:
    """Compare one graph with its network. Raises GateFailed beyond the largest error that passes.

    `reached` are feeds of real pictures and states; int8 cannot be checked without them.
    """
    cases = list(make_cases(network, name))
    reference = TorchEngine(network, name)
    differences = compare(reference, engine, cases)
    worst = max(differences, key=lambda difference: difference.error)
    cosine = min(difference.cosine for difference in differences)
    allowed, relative, largest = max_error(precision), None, worst.error
    problem = (
        f"{target} {name}: output {worst.output} differs from torch by {worst.error:.3g} ({worst.case}), "
    )
    if precision == "w8":
        reached = [case.feeds for case in cases]  # no range was taken from anything, so any feeds will do
    if precision in ("w8", "int8"):
        if not (cosine >= MIN_COSINE and np.isfinite(worst.error)):
            lowest = min(differences, key=lambda difference: difference.cosine)
            raise GateFailed(
                f"{target} {name}: output {lowest.output} has the cosine {lowest.cosine:.3f} with torch's "
                f"({lowest.case}), at least {MIN_COSINE} expected; nothing was written"
            )
        output, relative, largest = _worst_relative_error(reference, engine, reached)
        problem = f"{target} {name}: output {output} differs from torch by {relative:.1%} of its size, "
    if not (worst.error if relative is None else relative) <= allowed:
        raise GateFailed(f"{problem}at most {allowed:g} allowed; nothing was written")
    names = [case.words for case in cases] + ([f"{len(reached)} reached"] if precision == "int8" else [])
    # The median milliseconds of a call, over at most 15 calls and about `max_s` seconds.
    feeds = cases[0].feeds
    spent: list[float] = []
    while len(spent) < 15 and sum(spent) < 1.0:
        started = time.perf_counter()
        engine(feeds)
        spent.append(time.perf_counter() - started)
    return ParityRecord(
        target=target,
        graph=name,
        feeds=", ".join(names),
        max_abs_error=largest,
        error=relative,
        tolerance=allowed,
        cosine=cosine,
        ms=1000 * statistics.median(spent),
    )


def _worst_relative_error(
    reference: Engine, engine: Engine, reached: Sequence[dict[str, Array]]
) -> tuple[str, float, float]:
    """Return the output with the largest relative error over all feeds, that error, and the largest absolute
    error.

    Infinite for NaN.
    """
    errors = Errors()
    for feeds in reached:
        errors.add(reference(feeds), engine(feeds), feeds)
    relative = {
        name: error if np.isfinite(error) else float("inf") for name, error in errors.relative().items()
    }
    if not relative:
        raise LvmError("int8 is judged on feeds of real pictures, got none; name a --calibration")
    output = max(relative, key=lambda name: relative[name])
    return output, relative[output], errors.largest


def _count_affordable(tokens: int) -> int:
    """Return how many cases are worth their minutes: all for small memories, one where each takes many
    seconds."""
    return 1 if tokens > 4096 else len(_QUERIES)


def _find_readable(output: str, feeds: Feeds) -> Array | None:
    """Return flags of the entries that a caller may read; None for all."""
    return feeds[READABLE_WHERE[output]] if output in READABLE_WHERE else None


def _compute_cosine(expected: Array, got: Array, read: Array | None) -> float:
    """Return the cosine of the readable entries, taken as one vector; 1 where both are zero, 0 for NaN."""
    if expected.shape != got.shape:
        return 0.0
    a, b = (np.asarray(x, np.float64)[... if read is None else read].ravel() for x in (expected, got))
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    if lengths == 0:
        return float(np.array_equal(a, b))
    cosine = float(a @ b) / lengths
    return cosine if np.isfinite(cosine) else 0.0


def _max_absolute_error(expected: Array, got: Array, read: Array | None) -> float:
    if expected.shape != got.shape:
        return float("inf")
    error = np.abs(expected.astype(np.float64) - got)
    if read is not None:
        error = error[read]
    error = np.where(np.isnan(error), np.inf, error)
    return float(error.max(initial=0.0))


def load_for_comparison(bundle: Bundle, name: GraphName, target: Target) -> tuple[Engine, str | None]:
    """Load an engine for the graph. Return also its name where it is not the target's own.

    TensorRT's graphs are standard ONNX, so where there is no GPU onnxruntime on the CPU runs the same file.
    That proves the graph, not what TensorRT makes of it.
    """
    if target != "tensorrt" or tensorrt_problem() is None:
        return load_engine(bundle, name, target), None
    graph, _ = bundle.graph(target, name)
    engine = OnnxRuntimeEngine(graph, bundle.weights(), threads=usable_cores())
    return engine, engine.backend
