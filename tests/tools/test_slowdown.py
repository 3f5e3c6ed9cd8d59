"""The control of a busy machine: what its rounds say, and that the real one says something."""

import time

import pytest

from tools.reliability.machine_load import IDLE_S, OVERHEAD, Control, Rounds


def rounds(*took: float) -> tuple[Rounds, float]:
    """A control whose rounds took so long, one after the other, from moment 1000 on; and their end."""
    control, at = Rounds(IDLE_S), 1000.0
    for one in took:
        at += one
        control.note(at, one)
    return control, at


def test_an_idle_machine_loosens_nothing():
    control, end = rounds(*[IDLE_S] * 20)
    assert control.since(1000.0, end) == 1.0
    assert Rounds(IDLE_S).since(0.0) == 1.0  # nothing is known yet


def test_rounds_that_take_longer_are_the_slowdown_of_their_time_only():
    control, end = rounds(*[IDLE_S] * 10, *[4 * IDLE_S] * 10)
    half = 1000.0 + 10 * IDLE_S
    assert control.since(1000.0, half - IDLE_S) == 1.0
    assert control.since(half + IDLE_S, end) == pytest.approx(4 / OVERHEAD)
    assert 1.5 < control.since(1000.0, end) < 3


def test_a_moment_between_two_rounds_is_that_of_the_round_that_was_under_way():
    control, end = rounds(IDLE_S, 4 * IDLE_S)
    assert control.since(end - IDLE_S, end - IDLE_S / 2) == pytest.approx(4 / OVERHEAD)
    assert control.since(end + 1, end + 2) == pytest.approx(4 / OVERHEAD)  # the newest that is known


def test_the_real_control_runs_beside_us():
    with Control() as control:
        began = time.monotonic()
        time.sleep(0.5)
        assert 1.0 <= control.since(began) < 1000 and 1.0 <= control.at_work(began) < 1000
