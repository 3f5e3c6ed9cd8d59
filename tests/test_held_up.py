"""A failure while the process stood still is tried again; any other one is a failure."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from held_up import ATTEMPTS, Metronome, timed, unless_held_up


def stand_still():
    """This process gets no processor for a while, as on a virtual machine that is held up."""
    script = (
        "import os, signal, sys, time; p = int(sys.argv[1]); os.kill(p, signal.SIGSTOP); time.sleep(.4); "
    )
    script += "os.kill(p, signal.SIGCONT)"
    with subprocess.Popen([sys.executable, "-S", "-c", script, str(os.getpid())]):
        pass


def test_a_pause_of_the_process_is_seen_and_its_end_forgets_it():
    metronome, began = Metronome(), time.monotonic()
    time.sleep(0.05)
    stand_still()
    assert metronome.longest(began) > 0.3
    assert metronome.longest(time.monotonic()) < 0.3


def test_what_failed_while_held_up_is_run_again():
    runs = []

    @timed
    def fails_first(value):
        runs.append(value)
        if len(runs) == 1:
            stand_still()
            raise AssertionError("late")

    with pytest.warns(UserWarning, match="fails_first is run again: 0.* without a processor .*late"):
        fails_first(7)
    assert runs == [7, 7]


def test_it_is_not_run_for_ever():
    runs = []

    def always():
        runs.append(1)
        stand_still()
        pytest.fail("late again")

    with pytest.warns(UserWarning), pytest.raises(pytest.fail.Exception, match="late again"):
        unless_held_up(always, "always")
    assert len(runs) == ATTEMPTS


def test_what_fails_by_itself_fails_at_once(monkeypatch):
    runs = []
    monkeypatch.setattr("held_up._metronome.longest", lambda since: 0.0)
    with pytest.raises(pytest.fail.Exception, match="wrong"):
        unless_held_up(lambda: runs.append(1) or pytest.fail("wrong"), "wrong")
    assert runs == [1]
