"""Which operators keep full precision: a quantiser whose errors are known, and none of torch."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping

import numpy as np
import pytest

from engines.errors import LvmError
from engines.fake import FakeEngine
from engines.spec import Array, Engine, Feeds, TensorSpec
from export.quantization.int8 import QuantisedGraph
from export.quantization.variants import ErrorMeter, Sensitivity, find_fp32_parameters, rank_parameters

INPUT, OUTPUT = TensorSpec("x", "float32", (2,)), TensorSpec("y", "float32", (2,))
FEEDS = [{"x": np.array([3, 4], np.float32)}, {"x": np.array([6, 8], np.float32)}]
MINDS = {"stem": 0.03, "block": 0.004, "mix": 0.3, "head": 0.003}
"""Relative error that eight bits of each operator alone make; together they add up."""


def engine_of(error: float) -> Engine:
    def run(feeds: Feeds) -> dict[str, Array]:
        return {"y": feeds["x"] * np.float32(1 + error)}

    return FakeEngine(run, (INPUT,), (OUTPUT,))


class Known:
    """A quantiser: what it makes says which operators are eight bits."""

    parameters = tuple(MINDS)

    def __init__(self, minds: Mapping[str, float] = MINDS) -> None:
        self.minds, self.made = minds, list[tuple[str, ...]]()

    def quantise(self, keep: Collection[str] = ()) -> QuantisedGraph:
        self.made.append(tuple(keep))
        return QuantisedGraph(json.dumps([name for name in self.parameters if name not in keep]).encode())

    def load(self, quantised: QuantisedGraph) -> Engine:
        return engine_of(sum(self.minds[name] for name in json.loads(quantised.graph)))


def found(quantiser: Known, bound: float) -> tuple[QuantisedGraph | None, Sensitivity]:
    measured = ErrorMeter(engine_of(0), FEEDS)
    return find_fp32_parameters(
        quantiser, measured, lambda: rank_parameters(quantiser, measured, lambda words: None), bound
    )


def test_where_all_of_it_holds_nothing_is_kept_and_nothing_ranked() -> None:
    quantiser = Known()
    quantised, what = found(quantiser, 0.5)
    assert quantised is not None and json.loads(quantised.graph) == list(MINDS)
    assert not what.fp32 and what.error == pytest.approx(0.337, rel=1e-3)
    assert len(quantiser.made) == 1 and "all 4 operators int8" in what.words


@pytest.mark.parametrize(
    ("bound", "kept"), [(0.05, ["mix"]), (0.02, ["mix", "stem"]), (0.0035, ["mix", "stem", "block"])]
)
def test_the_worst_are_kept_out_until_the_bound_holds(bound: float, kept: list[str]) -> None:
    quantised, what = found(Known(), bound)
    assert quantised is not None
    assert list(what.fp32) == kept, "worst first"
    assert json.loads(quantised.graph) == [name for name in MINDS if name not in kept]
    assert what.error <= bound < what.all
    assert what.fp32["mix"] == pytest.approx(0.3, rel=1e-3), "with the error of each alone"
    assert f"{len(kept)} of 4 operators stay fp32" in what.words


def test_where_no_operator_holds_there_is_no_graph() -> None:
    quantised, what = found(Known(), 0.001)
    assert quantised is None and list(what.fp32) == ["mix", "stem", "block", "head"]


def test_nan_holds_no_bound() -> None:
    quantised, what = found(Known(dict.fromkeys(MINDS, math.nan)), 1e9)
    assert quantised is None and what.error == math.inf


def test_an_order_that_another_engine_found_serves_this_one() -> None:
    quantiser = Known()
    order = {"mix": 9.0, "unknown here": 8.0, "stem": 7.0, "block": 1.0, "head": 1.0}
    quantised, what = find_fp32_parameters(quantiser, ErrorMeter(engine_of(0), FEEDS), lambda: order, 0.05)
    assert quantised is not None and set(what.fp32) >= {"mix"} and "unknown here" not in what.fp32
    assert what.error <= 0.05


def test_without_feeds_nothing_is_measured() -> None:
    with pytest.raises(LvmError, match="calibrate on more pictures"):
        ErrorMeter(engine_of(0), [])
