"""A failure during a stall of the process is tried again; any other failure is final."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.stalls import ATTEMPTS, Metronome, retry_if_stalled

pytest_plugins = ["pytester"]


def stand_still():
    """Stop this process for a while, as on a virtual machine without a processor."""
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
    assert metronome.longest_stall(began) > 0.3
    assert metronome.longest_stall(time.monotonic()) < 0.3


def test_what_failed_during_a_stall_is_run_again():
    runs = []

    def fails_first():
        runs.append(7)
        if len(runs) == 1:
            stand_still()
            raise AssertionError("late")

    with pytest.warns(UserWarning, match="fails is run again: 0.* without a processor .*late"):
        retry_if_stalled(fails_first, "fails")
    assert runs == [7, 7]


def test_a_test_is_run_again_with_fixtures_that_are_made_anew(pytester):
    pytester.makeconftest("from tests.support.stalls import protocol as pytest_runtest_protocol")
    pytester.makepyfile(
        """
        import pytest
        from tests.support.stalls import timed
        from tests.support.test_stalls import stand_still
        folders = []

        @pytest.fixture
        def folder(tmp_path):
            folders.append(tmp_path)
            yield tmp_path
            (tmp_path / "left").unlink()

        @timed
        def test_late_at_first(folder):
            (folder / "left").write_text("")
            if len(folders) == 1:
                stand_still()
                raise AssertionError("late")

        @timed
        def test_wrong(folder):
            (folder / "left").write_text("")
            assert False, "wrong"
        """
    )
    root = Path(__file__).parents[2]
    done = pytester.runpytest_subprocess("-p", "no:cacheprovider", f"--override-ini=pythonpath={root}")
    done.assert_outcomes(passed=1, failed=1, warnings=None)
    done.stdout.fnmatch_lines(["*test_late_at_first is run again: 0.* s without a processor*"])


def test_it_is_not_run_for_ever():
    runs = []

    def always():
        runs.append(1)
        stand_still()
        pytest.fail("late again")

    with pytest.warns(UserWarning), pytest.raises(pytest.fail.Exception, match="late again"):
        retry_if_stalled(always, "always")
    assert len(runs) == ATTEMPTS


def test_what_fails_by_itself_fails_at_once(monkeypatch):
    runs = []
    monkeypatch.setattr("tests.support.stalls.METRONOME.longest_stall", lambda since: 0.0)
    with pytest.raises(pytest.fail.Exception, match="wrong"):
        retry_if_stalled(lambda: runs.append(1) or pytest.fail("wrong"), "wrong")
    assert runs == [1]
