"""Which operators must keep full precision, found by measuring.

First every operator that may is quantised. Where that strays from the network by more than the bound, each
operator is quantised alone, in onnxruntime, whose quantiser makes a graph in tenths of a second: how much an
operator minds eight bits is a matter of its values, not of the engine. The worst are then kept out until the
bound holds, measured anew with the target's own quantiser and engine, on feeds that no range was taken
from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from engines.errors import LvmError
from engines.spec import Engine
from export.parity.relative_error import Errors
from export.quantization.int8 import Feeds, Quantised, Quantiser

BOUND = 0.02
"""Largest error of an output, |got - wanted| / |wanted|, that a quantised graph starts with.

5 % of the default bundle lost 4 of 100 answers about time (docs/precision.md)."""
_FOR_RANKING = 4
"""Feeds that each operator alone is measured on."""


@dataclass(frozen=True)
class Sensitivity:
    """What was found: `kept` parameters, worst first, with the error of their products' eight bits alone.

    `error` with them kept, `all` with every operator quantised, of `operators`.
    """

    kept: Mapping[str, float]
    error: float
    all: float
    bound: float
    operators: int

    @property
    def words(self) -> str:
        """Why, for the manifest."""
        if not self.kept:
            return (
                f"error {self.error:.1%} of at most {self.bound:.1%} with all {self.operators} operators int8"
            )
        return (
            f"{len(self.kept)} of {self.operators} operators stay fp32, the worst by sensitivity: error "
            f"{self.error:.1%} instead of {self.all:.1%}, at most {self.bound:.1%}"
        )


class Measured:
    """Error of quantised forms against what the network answers to `feeds`, computed once."""

    def __init__(self, reference: Engine, feeds: Feeds) -> None:
        if not feeds:
            raise LvmError("no feed is left to measure errors on; calibrate on more pictures")
        self._feeds = list(feeds)
        self._wanted = [reference(one) for one in feeds]

    def few(self) -> Measured:
        """On fewer feeds, evenly spread."""
        stride = -(-len(self._feeds) // _FOR_RANKING)
        out = Measured.__new__(Measured)
        out._feeds, out._wanted = self._feeds[::stride], self._wanted[::stride]
        return out

    def error(self, quantiser: Quantiser, quantised: Quantised) -> float:
        """Of the worst output; infinite for NaN."""
        errors = Errors()
        with quantiser.load(quantised) as engine:
            for feeds, wanted in zip(self._feeds, self._wanted, strict=True):
                errors.add(wanted, engine(feeds), feeds)
        found = errors.relative().values()
        return max(found) if all(map(math.isfinite, found)) else math.inf


def ranked(quantiser: Quantiser, measured: Measured, report: Callable[[str], None]) -> dict[str, float]:
    """Error of each parameter's products quantised alone, worst first."""
    names, few = list(quantiser.parameters), measured.few()
    alone = {}
    for number, name in enumerate(names, 1):
        report(f"sensitivity of operator {number} of {len(names)}")
        alone[name] = few.error(quantiser, quantiser.quantised([other for other in names if other != name]))
    return dict(sorted(alone.items(), key=lambda one: -one[1]))


def search(
    quantiser: Quantiser,
    measured: Measured,
    ranking: Callable[[], Mapping[str, float]],
    bound: float = BOUND,
) -> tuple[Quantised | None, Sensitivity]:
    """The quantised graph whose error is within `bound`, and what had to stay fp32; None: all of it had to.

    `ranking` is asked for only where something has to stay.
    """
    names = quantiser.parameters
    quantised = quantiser.quantised()
    everything = error = measured.error(quantiser, quantised)
    kept: list[str] = []
    alone: Mapping[str, float] = {}
    while not error <= bound and len(kept) < len(names):
        if not alone:
            alone = {name: value for name, value in ranking().items() if name in set(names)}
            kept = list(alone)[: _guess(list(alone.values()), bound)]
        else:
            kept = list(alone)[: len(kept) + max(1, len(kept) // 4)]
        if len(kept) < len(names):
            quantised = quantiser.quantised(kept)
            error = measured.error(quantiser, quantised)
    found = Sensitivity({name: alone[name] for name in kept}, error, everything, bound, len(names))
    return (quantised if len(kept) < len(names) else None), found


def _guess(alone: Sequence[float], bound: float) -> int:
    """How many of the worst to keep at first: until the others' errors, as if independent, fit the bound.

    Half of them at most, as the errors may be those of another engine.
    """
    half = max(1, len(alone) // 2)
    for count in range(1, half):
        if math.sqrt(sum(one * one for one in alone[count:])) <= bound:
            return count
    return half
