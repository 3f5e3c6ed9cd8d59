"""Does an exported graph answer like the network that it was made from?

Feeds are what a device sees: pictures, memories that are partly or not at all filled, every kind of query,
ticks of ten hours, several batch sizes. Outputs that a caller must not read (scores of invalid tokens,
offsets of absent tokens, boxes of padded steps) are not compared.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from engines.errors import GateFailed, LvmError
from engines.manifest import GraphName, ParityRecord, Precision, Target
from engines.spec import Array, Engine, Feeds
from export.networks.model import LvmNet
from export.networks.signatures import READ_WHERE
from export.networks.torch_engine import TorchEngine
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


@dataclass(frozen=True)
class Case:
    """One comparison: what the feeds are, in words, and the feeds."""

    words: str
    feeds: dict[str, Array]


@dataclass(frozen=True)
class Difference:
    """Largest absolute error of one output in one case, and its cosine with the reference."""

    output: str
    case: str
    error: float
    cosine: float


ALIKE = 0.9
"""Least cosine of an int8 output with the network's on drawn feeds, which no range was taken from."""


def tolerance(precision: Precision) -> float:
    """Largest error that passes; absolute, but for w8 and int8 relative: |got - wanted| / |wanted|.

    fp32 backends differ by the order of their sums: about 1e-5. An int8 graph errs by a share of the ranges
    that it was given; its largest single entry says little of answers: 1.8 in a token of the
    default bundle (they reach 4.3), where all tokens together were off by 3 %.
    """
    return {"fp32": 1e-3, "fp16": 5e-2, "bf16": 2e-1, "w8": 1e-1, "int8": 2e-1}[precision]


def cases(network: LvmNet, name: GraphName) -> Iterator[Case]:
    """What a graph is compared on; equal networks give equal cases."""
    config = network.config
    rng = np.random.default_rng(_SEED)
    if name == "backbone":
        for batch in _BATCHES:
            yield Case(f"batch {batch}", {"image": examples.scenes(batch, config.image_size, rng)})
        return
    pool = token_pool(network, rng)
    if name == "sampler":
        for batch in _BATCHES[: _affordable(config.sampler_tokens)]:
            yield Case(f"batch {batch}", examples.sampler_feeds(config, pool, batch, rng))
        return
    for asked in _QUERIES[: _affordable(config.reader_tokens)]:
        yield Case(f"{len(asked)} queries", examples.reader_feeds(config, pool, asked, rng))


def token_pool(network: LvmNet, rng: np.random.Generator) -> Array:
    """Tokens (P, d_b) that the backbone makes of drawn pictures."""
    pictures = examples.scenes(_PICTURES, network.config.image_size, rng)
    tokens = TorchEngine(network, "backbone")({"image": pictures})["tokens"]  # (4, 49, d_b)
    return tokens.reshape(-1, tokens.shape[-1])


def compare(reference: Engine, engine: Engine, given: list[Case]) -> list[Difference]:
    """Differences of all outputs in all cases. NaN counts as infinitely wrong."""
    found = []
    for case in given:
        wanted, got = reference(case.feeds), engine(case.feeds)
        for output, array in wanted.items():
            read = _read(output, case.feeds)
            error = _largest_error(array, got[output], read)
            found.append(Difference(output, case.words, error, _cosine(array, got[output], read)))
    return found


def check_graph(
    network: LvmNet,
    engine: Engine,
    name: GraphName,
    target: Target,
    precision: Precision = "fp32",
    reached: Sequence[dict[str, Array]] = (),
) -> ParityRecord:
    """Compare one graph with its network. Raises GateFailed beyond the tolerance.

    `reached` are feeds of real pictures and states, without which int8 cannot be judged.
    """
    given = list(cases(network, name))
    reference = TorchEngine(network, name)
    differences = compare(reference, engine, given)
    worst = max(differences, key=lambda one: one.error)
    cosine = min(one.cosine for one in differences)
    allowed, relative, largest = tolerance(precision), None, worst.error
    said = f"{target} {name}: output {worst.output} differs from torch by {worst.error:.3g} ({worst.case}), "
    if precision == "w8":
        reached = [case.feeds for case in given]  # no range was taken from anything, so any feeds will do
    if precision in ("w8", "int8"):
        if not (cosine >= ALIKE and np.isfinite(worst.error)):
            least = min(differences, key=lambda one: one.cosine)
            raise GateFailed(
                f"{target} {name}: output {least.output} has the cosine {least.cosine:.3f} with torch's "
                f"({least.case}), at least {ALIKE} expected; nothing was written"
            )
        output, relative, largest = _relative(reference, engine, reached)
        said = f"{target} {name}: output {output} differs from torch by {relative:.1%} of its size, "
    if not (worst.error if relative is None else relative) <= allowed:
        raise GateFailed(f"{said}at most {allowed:g} allowed; nothing was written")
    words = [case.words for case in given] + ([f"{len(reached)} reached"] if precision == "int8" else [])
    return ParityRecord(
        target=target,
        graph=name,
        feeds=", ".join(words),
        max_abs_error=largest,
        error=relative,
        tolerance=allowed,
        cosine=cosine,
        ms=milliseconds(engine, given[0].feeds),
    )


def _relative(
    reference: Engine, engine: Engine, reached: Sequence[dict[str, Array]]
) -> tuple[str, float, float]:
    """The output with the largest relative error over all feeds, that error and the largest absolute one.

    Infinite for NaN.
    """
    errors = Errors()
    for feeds in reached:
        errors.add(reference(feeds), engine(feeds), feeds)
    found = {name: one if np.isfinite(one) else float("inf") for name, one in errors.relative().items()}
    if not found:
        raise LvmError("int8 is judged on feeds of real pictures, got none; name a --calibration")
    output = max(found, key=lambda name: found[name])
    return output, found[output], errors.largest


def milliseconds(engine: Engine, given: Feeds, most_s: float = 1.0) -> float:
    """Median of one call, of at most 15 and about `most_s` seconds."""
    spent: list[float] = []
    while len(spent) < 15 and sum(spent) < most_s:
        started = time.perf_counter()
        engine(given)
        spent.append(time.perf_counter() - started)
    return 1000 * statistics.median(spent)


def _affordable(tokens: int) -> int:
    """How many cases are worth their minutes: all for small memories, one where each takes many seconds."""
    return 1 if tokens > 4096 else len(_QUERIES)


def _read(output: str, given: Feeds) -> Array | None:
    """Flags of the entries that a caller may read; None: all."""
    return given[READ_WHERE[output]] if output in READ_WHERE else None


def _cosine(wanted: Array, got: Array, read: Array | None) -> float:
    """Of the entries that a caller may read, taken as one vector; 1 where both are zero, 0 for NaN."""
    if wanted.shape != got.shape:
        return 0.0
    one, other = (np.asarray(x, np.float64)[... if read is None else read].ravel() for x in (wanted, got))
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    if lengths == 0:
        return float(np.array_equal(one, other))
    cosine = float(one @ other) / lengths
    return cosine if np.isfinite(cosine) else 0.0


def _largest_error(wanted: Array, got: Array, read: Array | None) -> float:
    if wanted.shape != got.shape:
        return float("inf")
    error = np.abs(wanted.astype(np.float64) - got)
    if read is not None:
        error = error[read]
    error = np.where(np.isnan(error), np.inf, error)
    return float(error.max(initial=0.0))
