"""Signals to a run that has only begun to load: they end nothing, and are obeyed once there are cameras."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_runtime.interfaces.cli.signals import defer_signals, take_deferred

ROOT = Path(__file__).parents[3]
ENTRY = "import sys; sys.argv[0] = 'lvm-edge'; from edge_runtime.interfaces.cli.entry import main; main()"


def _loads_numpy(process: subprocess.Popen) -> bool:
    return "numpy" in Path(f"/proc/{process.pid}/maps").read_text()


def test_a_pause_and_a_reload_sent_while_it_loads_are_kept(tmp_path):
    config = tmp_path / "kiosk.yaml"
    config.write_text(
        "version: 1\nmodel: {threads: 1, backend: onnxruntime}\nactivities: {enabled: false}\n"
        f"state: {{directory: {tmp_path}/states}}\n"
        "cameras: {a: {source: 'demo?size=64x48&speed=1'}, b: {source: 'demo?size=64x48&speed=1'}}\n"
    )
    command = [sys.executable, "-c", ENTRY, "run", "--config", str(config), "--no-http", "--stay"]
    with subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            end = time.monotonic() + 60
            while not _loads_numpy(process):
                assert time.monotonic() < end and process.poll() is None
                time.sleep(0.002)
            for number in (signal.SIGHUP, signal.SIGUSR1):
                process.send_signal(number)
            notes = [tmp_path / "states" / name / "privacy.json" for name in "ab"]
            while not all(note.exists() and '"paused":true' in note.read_text() for note in notes):
                assert time.monotonic() < end and process.poll() is None, process.stderr.read()
                time.sleep(0.02)
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, err
    assert out.count(": watched nothing") == 2, out


@pytest.mark.parametrize(
    "sent, obeyed",
    [
        ((), []),
        ((signal.SIGUSR2, signal.SIGUSR2), [signal.SIGUSR2]),
        ((signal.SIGUSR2, signal.SIGUSR1, signal.SIGHUP), [signal.SIGUSR1, signal.SIGHUP]),
    ],
    ids=["none", "the end of a pause", "a pause wins"],
)
def test_what_was_kept_is_told_once(sent, obeyed):
    before = signal.getsignal(signal.SIGUSR1)
    hangup = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, and stays so
    try:
        with defer_signals():
            for number in sent:
                signal.raise_signal(number)
            assert take_deferred() == obeyed and take_deferred() == []
    finally:
        signal.signal(signal.SIGHUP, hangup)
    assert signal.getsignal(signal.SIGUSR1) is before


def test_who_ignores_a_hangup_goes_on_ignoring_it():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with defer_signals():
            signal.raise_signal(signal.SIGHUP)
            assert take_deferred() == []
    finally:
        signal.signal(signal.SIGHUP, before)
