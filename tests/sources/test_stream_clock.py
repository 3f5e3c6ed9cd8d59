from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.sources.clocks import WINDOW_S, StreamClock
from edge_runtime.sources.live_source import DEFAULT_SUPERVISION
from edge_runtime.sources.network import PROBE_S
from edge_runtime.system.backoff import Backoff


class Hand:
    """A clock that somebody moves."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def placed(stamps, *, every=0.2, sample_fps=5.0, start=0.0):
    """What comes out for stamps that arrive every `every` seconds, and the clock."""
    hand = Hand()
    times = StreamClock(sample_fps, start=start, clock=hand)
    out = []
    for stamp in stamps:
        hand.now += every
        out.append((times.place(stamp), times.now()))
    return out


def test_an_outage_is_as_long_as_it_was():
    hand = Hand()
    times = StreamClock(5.0, start=50.0, clock=hand)
    first = [times.place(t) for t in (7.0, 7.2)]
    assert first == [50.0, None]  # both arrived in the same moment, so the second is from before
    hand.now += 0.2
    assert times.place(7.4) == pytest.approx(50.2)
    hand.now += 60.0
    times.begin_opening()
    assert times.place(9.0) == pytest.approx(110.2)
    hand.now += 0.2
    assert times.place(9.2) == pytest.approx(110.4)


@pytest.mark.parametrize(
    "stamps",
    [
        [100 + k / 5 for k in range(40)] + [20 + k / 5 for k in range(40)],
        [100 + k / 5 for k in range(40)] + [99 + k / 5 for k in range(40)],
        [100.0] * 80,
        [k / 5 for k in range(40)] * 2,
        [(2**33 / 90_000 - 4 + k / 5) % (2**33 / 90_000) for k in range(80)],
        [100 + k / 5 for k in range(40)] + [5e9 + k / 5 for k in range(40)],
    ],
    ids=["back", "a second back", "still", "restart", "wrap", "forward"],
)
def test_a_camera_whose_clock_is_wrong_keeps_real_time(stamps):
    came = placed(stamps)
    assert sum(t is None for t, _ in came) <= 2
    times = [t for t, _ in came if t is not None]
    assert times == sorted(set(times))
    assert all(-0.41 < t - now < 0.051 for t, now in came if t is not None)


def test_a_burst_of_old_pictures_keeps_its_distances_in_the_past():
    hand = Hand()
    times = StreamClock(5.0, clock=hand)
    times.place(0.0)
    hand.now += 3.0  # the network stood still and then gave everything at once
    assert [times.place(k / 5) for k in range(1, 16)] == [pytest.approx(k / 5) for k in range(1, 16)]


def test_a_slow_quartz_is_followed_and_a_fast_one_never_runs_ahead():
    for speed in (0.9995, 1.0005):
        hand = Hand()
        times = StreamClock(1.0, clock=hand)
        out = []
        for second in range(4000):
            hand.now = 1000.0 + second
            out.append(times.place(second * speed))
        assert None not in out
        assert -WINDOW_S * 0.0005 - 0.45 < out[-1] - 3999 < 0.051, speed


def test_the_lag_is_known_and_can_be_given_up():
    hand = Hand()
    times = StreamClock(5.0, clock=hand)
    for k in range(50):  # a quarter of the speed of time
        hand.now += 0.2
        times.place(k * 0.05)
    assert times.lag > 7
    times.catch_up()
    hand.now += 0.2
    assert times.place(50 * 0.05) == pytest.approx(times.now(), abs=0.21)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(-1e6, 1e6), st.floats(0, 100), st.sampled_from(["frame", "frame", "begin", "catch up"])
        ),
        max_size=60,
    )
)
def test_whatever_comes_time_only_goes_forward_and_never_beyond_now(steps):
    hand = Hand()
    times = StreamClock(5.0, clock=hand)
    last = -1.0
    for stamp, wait, what in steps:
        hand.now += wait
        if what == "begin":
            times.begin_opening()
        elif what == "catch up":
            times.catch_up()
        t = times.place(stamp)
        if t is not None:
            assert last + 0.1 - 1e-6 <= t <= times.now() + 0.051 or last == -1.0
            last = t


def test_waits_double_up_to_a_cap_with_jitter_and_begin_anew():
    backoff = Backoff(0.1, 0.8, random.Random(1))
    for _ in range(2):
        waits = [backoff.next() for _ in range(50)]
        for wait, longest in zip(waits, [0.1, 0.2, 0.4] + [0.8] * 47, strict=True):
            assert longest / 2 <= wait <= longest
        assert len(set(waits[3:])) > 40
        backoff.reset()
    with pytest.raises(ValueError, match="waits must grow"):
        Backoff(1.0, 0.5)


def test_the_waits_that_ship_leave_time_to_be_back_within_two_seconds():
    backoff = Backoff(DEFAULT_SUPERVISION.first_wait_s, DEFAULT_SUPERVISION.max_wait_s)
    longest = max(backoff.next() for _ in range(200))
    # A probe that began just before the camera's return, the wait after it, and connecting (0.33 s measured).
    assert PROBE_S + longest < 2.0 - 0.5
