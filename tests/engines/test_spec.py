"""Feeds are refused before a backend sees them, and the message names the tensor."""

import numpy as np
import pytest

from engines.errors import EngineFault, first_line
from engines.fake import FakeEngine
from engines.spec import TensorSpec, check_feeds

SPECS = (TensorSpec("a", "float32", ("batch", 3)), TensorSpec("b", "int32", ("batch",)))


def _feeds(**changes):
    return {"a": np.zeros((2, 3), np.float32), "b": np.zeros(2, np.int32)} | changes


def test_right_feeds_pass():
    check_feeds(SPECS, _feeds())


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({"a": np.zeros((2, 3), np.float32)}, "missing .'b'"),
        (_feeds(c=np.zeros(1)), "unknown .'c'"),
        (_feeds(a=np.zeros((2, 3))), "a: float32.*got float64"),
        (_feeds(a=np.zeros((2, 4), np.float32)), r"a: float32\(batch, 3\) expected, got float32\(2, 4\)"),
        (_feeds(b=np.zeros((2, 1), np.int32)), r"b: int32\(batch\)"),
        (_feeds(b=np.zeros(5, np.int32)), "batch is 2 in a"),
        (_feeds(b=[1, 2]), "got list"),
    ],
)
def test_wrong_feeds_are_named(feeds, message):
    with pytest.raises(ValueError, match=message):
        check_feeds(SPECS, feeds)


def test_what_a_backend_says_gives_no_orders_to_a_terminal():
    assert first_line(RuntimeError("output (y\x12\x0e\x1b[2J) is away\nsecond line")) == (
        "output (y\\x12\\x0e\\x1b[2J) is away"
    )
    assert first_line(KeyError()) == "KeyError" and len(first_line(ValueError("x" * 1000))) == 300


def test_a_backend_that_fails_is_one_sentence():
    def fails(feeds):
        raise RuntimeError("out of memory\n  at kernel 7")

    with pytest.raises(EngineFault, match=r"^fake failed: out of memory$"):
        FakeEngine(fails, SPECS, ())(_feeds())


def test_the_backend_never_sees_wrong_feeds():
    calls = []
    engine = FakeEngine(lambda feeds: calls.append(feeds) or {}, SPECS, ())
    with pytest.raises(ValueError):
        engine(_feeds(b=np.zeros(2)))
    assert calls == []
    engine(_feeds())
    assert len(calls) == 1
