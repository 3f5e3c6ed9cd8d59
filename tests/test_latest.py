from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from edge_runtime.frame import Frame
from edge_runtime.sources.base import Counting
from edge_runtime.sources.latest import LatestFrames
from engines.errors import LvmError

IMAGE = np.zeros((2, 2, 3), np.uint8)


class Fake(Counting):
    """Frames 0, 1, 2 …; waits before frame i for whoever opens gates[i]."""

    def __init__(self, count, gates=None, error=None):
        super().__init__("fake", live=True)
        self.count, self.gates, self.error = count, gates or {}, error
        self.finished = threading.Event()

    def __iter__(self):
        try:
            for index in range(self.count):
                if index in self.gates:
                    while not self.gates[index].wait(0.01) and not self.closed:
                        pass
                if self.closed:
                    return
                self.tally.seen += 1
                yield Frame(IMAGE, float(index))
            if self.error:
                raise self.error
        finally:
            self.finished.set()


def until(condition):
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "waited 5 s"
        time.sleep(0.005)


def test_the_newest_frame_wins_and_the_others_are_counted():
    gate = threading.Event()
    source = Fake(20, {1: gate})
    latest = LatestFrames(source)
    frames = iter(latest)
    assert next(frames).t == 0.0
    gate.set()
    until(source.finished.is_set)
    assert [frame.t for frame in frames] == [19.0]
    assert (latest.dropped, latest.seen, latest.errors) == (18, 20, 0)


def test_a_fast_consumer_gets_every_frame():
    gates = {index: threading.Event() for index in range(20)}
    latest = LatestFrames(Fake(20, gates))
    got = []
    gates[0].set()
    for frame in latest:
        got.append(frame.t)
        if frame.t < 19:
            gates[int(frame.t) + 1].set()
    assert got == [float(index) for index in range(20)]
    assert latest.dropped == 0


def test_closing_interrupts_a_consumer_that_waits():
    source = Fake(5, {1: threading.Event()})
    latest = LatestFrames(source)
    got = []
    consumer = threading.Thread(target=lambda: got.extend(latest))
    consumer.start()
    until(lambda: got)
    began = time.monotonic()
    latest.close()
    consumer.join(5)
    assert not consumer.is_alive() and time.monotonic() - began < 1
    assert [frame.t for frame in got] == [0.0]
    assert source.finished.wait(5)


def test_an_error_of_the_source_is_raised_in_the_consumer_after_the_last_frame():
    latest = LatestFrames(Fake(1, error=LvmError("the camera is gone")))
    frames = iter(latest)
    assert next(frames).t == 0.0
    with pytest.raises(LvmError, match="the camera is gone"):
        next(frames)


def test_closing_before_iterating_gives_nothing():
    latest = LatestFrames(Fake(3))
    latest.close()
    assert list(latest) == []


def test_name_and_kind_are_those_of_the_source():
    with LatestFrames(Fake(0)) as latest:
        assert (latest.name, latest.live, latest.duration) == ("fake", True, None)
