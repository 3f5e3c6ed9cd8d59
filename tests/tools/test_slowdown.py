"""The control of a busy machine: the slowdown that its rounds show, and the real control process."""

import time

import pytest

from tools.reliability.machine_load import IDLE_S, OVERHEAD, ControlRounds, LoadControl


def make_rounds(*took: float) -> tuple[ControlRounds, float]:
    """Return a control whose rounds took `took` seconds each from moment 1000 on, and their end."""
    control, at = ControlRounds(IDLE_S), 1000.0
    for seconds in took:
        at += seconds
        control.add(at, seconds)
    return control, at


def test_an_idle_machine_loosens_nothing():
    control, end = make_rounds(*[IDLE_S] * 20)
    assert control.slowdown(1000.0, end) == 1.0
    assert ControlRounds(IDLE_S).slowdown(0.0) == 1.0  # nothing is known yet


def test_rounds_that_take_longer_are_the_slowdown_of_their_time_only():
    control, end = make_rounds(*[IDLE_S] * 10, *[4 * IDLE_S] * 10)
    half = 1000.0 + 10 * IDLE_S
    assert control.slowdown(1000.0, half - IDLE_S) == 1.0
    assert control.slowdown(half + IDLE_S, end) == pytest.approx(4 / OVERHEAD)
    assert 1.5 < control.slowdown(1000.0, end) < 3


def test_a_moment_between_two_rounds_is_that_of_the_round_that_was_under_way():
    control, end = make_rounds(IDLE_S, 4 * IDLE_S)
    assert control.slowdown(end - IDLE_S, end - IDLE_S / 2) == pytest.approx(4 / OVERHEAD)
    assert control.slowdown(end + 1, end + 2) == pytest.approx(4 / OVERHEAD)  # the newest that is known


def test_the_real_control_runs_beside_us():
    with LoadControl() as control:
        began = time.monotonic()
        time.sleep(0.5)
        assert 1.0 <= control.slowdown(began) < 1000 and 1.0 <= control.slowdown_at_work(began) < 1000
