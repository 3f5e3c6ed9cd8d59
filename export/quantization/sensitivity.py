"""Find by measurement which operators must stay in full precision.

First every operator that may is quantised. If the error is beyond the bound, each operator is quantised
alone, in onnxruntime, whose quantiser makes a graph in tenths of a second: the sensitivity of an operator
depends on its values, not on the engine. The worst operators are then left in fp32 until the bound holds,
measured again with the target's own quantiser and engine, on feeds that were not used for ranges.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from engines.errors import LvmError
from engines.spec import Engine
from export.parity.relative_error import Errors
from export.quantization.int8 import Feeds, QuantisedGraph, Quantiser

MAX_ERROR = 0.02
"""Largest error of an output, |got - expected| / |expected|, that a quantised graph starts with.

With 5 % the default bundle lost 4 of 100 answers about time (docs/lab/precision.md).
"""
_FOR_RANKING = 4
"""Number of feeds that each operator alone is measured on."""


@dataclass(frozen=True)
class Sensitivity:
    """The result: `fp32` parameters, worst first, with the error of quantising their products alone.

    `error` is that with them in fp32, `all` that with every operator quantised; `operators` is their number.
    """

    fp32: Mapping[str, float]
    error: float
    all: float
    bound: float
    operators: int

    @property
    def words(self) -> str:
        """The reason for the manifest."""
        if not self.fp32:
            return (
                f"error {self.error:.1%} of at most {self.bound:.1%} with all {self.operators} operators int8"
            )
        return (
            f"{len(self.fp32)} of {self.operators} operators stay fp32, the worst by sensitivity: error "
            f"{self.error:.1%} instead of {self.all:.1%}, at most {self.bound:.1%}"
        )


class ErrorMeter:
    """Measures quantised forms against what the network answers to `feeds`; those answers are
    computed once."""

    def __init__(self, reference: Engine, feeds: Feeds) -> None:
        if not feeds:
            raise LvmError("no feed is left to measure errors on; calibrate on more pictures")
        self._feeds = list(feeds)
        self._wanted = [reference(feed) for feed in feeds]

    def subsample(self) -> ErrorMeter:
        """Return a meter on fewer feeds, evenly spread."""
        stride = -(-len(self._feeds) // _FOR_RANKING)
        out = ErrorMeter.__new__(ErrorMeter)
        out._feeds, out._wanted = self._feeds[::stride], self._wanted[::stride]
        return out

    def error(self, quantiser: Quantiser, quantised: QuantisedGraph) -> float:
        """Return the error of the worst output; infinite for NaN."""
        errors = Errors()
        with quantiser.load(quantised) as engine:
            for feeds, expected in zip(self._feeds, self._wanted, strict=True):
                errors.add(expected, engine(feeds), feeds)
        relative = errors.relative().values()
        return max(relative) if all(map(math.isfinite, relative)) else math.inf


def rank_parameters(
    quantiser: Quantiser, measured: ErrorMeter, report: Callable[[str], None]
) -> dict[str, float]:
    """Return the error of quantising each parameter's products alone, worst first."""
    names, few = list(quantiser.parameters), measured.subsample()
    alone = {}
    for number, name in enumerate(names, 1):
        report(f"sensitivity of operator {number} of {len(names)}")
        alone[name] = few.error(quantiser, quantiser.quantise([other for other in names if other != name]))
    return dict(sorted(alone.items(), key=lambda item: -item[1]))


def find_fp32_parameters(
    quantiser: Quantiser,
    measured: ErrorMeter,
    ranking: Callable[[], Mapping[str, float]],
    bound: float = MAX_ERROR,
) -> tuple[QuantisedGraph | None, Sensitivity]:
    """Return the quantised graph whose error is within `bound`, and what had to stay fp32; None if everything
    had to.

    `ranking` is called only if something has to stay.
    """
    names = quantiser.parameters
    quantised = quantiser.quantise()
    everything = error = measured.error(quantiser, quantised)
    fp32: list[str] = []
    alone: Mapping[str, float] = {}
    while not error <= bound and len(fp32) < len(names):
        if not alone:
            alone = {name: value for name, value in ranking().items() if name in set(names)}
            fp32 = list(alone)[: _guess_count(list(alone.values()), bound)]
        else:
            fp32 = list(alone)[: len(fp32) + max(1, len(fp32) // 4)]
        if len(fp32) < len(names):
            quantised = quantiser.quantise(fp32)
            error = measured.error(quantiser, quantised)
    sensitivity = Sensitivity({name: alone[name] for name in fp32}, error, everything, bound, len(names))
    return (quantised if len(fp32) < len(names) else None), sensitivity


def _guess_count(alone: Sequence[float], bound: float) -> int:
    """Guess how many of the worst to leave in fp32 at first: until the other errors, taken as independent,
    fit the bound.

    At most half of them, as the errors may be those of another engine.
    """
    half = max(1, len(alone) // 2)
    for count in range(1, half):
        if math.sqrt(sum(error * error for error in alone[count:])) <= bound:
            return count
    return half
