"""systemd is notified over its own socket, and gets no sign of life once the ingest is stuck."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from edge_runtime.interfaces.cli.run_console import RunConsole
from edge_runtime.service.camera_health import STUCK_AFTER_S, Watchdog
from edge_runtime.service.run import Run
from edge_runtime.system.systemd import Notifier, notify_systemd
from tests.support.stalls import timed
from tools.fuzzing.small import small_service

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "configs" / "systemd" / "lvm-edge.service"


@contextlib.contextmanager
def bind_socket(address: str):
    """systemd's end of the socket; `@` begins an abstract name."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind("\0" + address[1:] if address.startswith("@") else address)
        bound.settimeout(20)
        yield bound


def _until(bound: socket.socket, expected: str) -> list[str]:
    got, end = [bound.recv(4096).decode()], time.monotonic() + 20
    while got[-1] != expected:
        assert time.monotonic() < end, f"{expected} did not come, but {got[-5:]}"
        got.append(bound.recv(4096).decode())
    return got


@pytest.fixture(params=["path", "@abstract"])
def address(request, tmp_path):
    return str(tmp_path / "notify") if request.param == "path" else f"@lvm-edge-test-{os.getpid()}"


def test_ready_status_life_and_stopping_arrive(address):
    with bind_socket(address) as bound:
        with notify_systemd(Notifier(address, watchdog_s=0.1), lambda: True, lambda: "all\nis well"):
            got = _until(bound, "WATCHDOG=1") + _until(bound, "WATCHDOG=1")
        got += _until(bound, "STOPPING=1")
    assert got[0] == "READY=1" and got.count("STATUS=all is well") == 1


def test_the_sign_of_life_stops_when_nothing_gets_done_and_comes_back(tmp_path, caplog):
    now = [0.0]
    watchdog = Watchdog(clock=lambda: now[0])
    address = str(tmp_path / "notify")
    with bind_socket(address) as bound:
        with notify_systemd(Notifier(address, watchdog_s=0.04), watchdog.is_alive, lambda: ""):
            _until(bound, "WATCHDOG=1")
            watchdog.begin()
            now[0] = STUCK_AFTER_S + 1
            bound.settimeout(0.3)
            with pytest.raises(TimeoutError):
                for _ in range(100):
                    bound.recv(4096)
            assert "the ingest is stuck" in caplog.text
            watchdog.done()
            bound.settimeout(20)
            _until(bound, "WATCHDOG=1")


def test_an_idle_camera_is_no_reason_to_restart():
    now = [0.0]
    watchdog = Watchdog(clock=lambda: now[0])
    for _ in range(3):
        watchdog.begin()
        watchdog.begin()
        watchdog.done()
        now[0] += STUCK_AFTER_S - 1
        assert watchdog.is_alive()
        watchdog.done()
        now[0] += 86400
        assert watchdog.is_alive()
    watchdog.begin()
    now[0] += STUCK_AFTER_S
    assert not watchdog.is_alive()
    watchdog.clear()
    assert watchdog.is_alive()


def test_a_question_about_life_that_fails_is_no_life(tmp_path, caplog):
    address = str(tmp_path / "notify")
    with bind_socket(address) as bound:
        with notify_systemd(Notifier(address, watchdog_s=0.04), lambda: 1 / 0 > 0, lambda: ""):
            time.sleep(0.2)
        assert "WATCHDOG=1" not in _until(bound, "STOPPING=1")
    assert "is alive failed" in caplog.text


def test_outside_of_systemd_nothing_is_sent():
    with notify_systemd(Notifier.from_environment({}), lambda: 1 / 0 > 0, lambda: ""):
        assert not [thread for thread in threading.enumerate() if thread.name == "systemd"]


def test_systemd_that_is_gone_ends_nothing(tmp_path, caplog):
    notifier = Notifier(str(tmp_path / "nobody"))
    notifier.ready()
    notifier.stopping()
    assert caplog.text.count("systemd cannot be notified") == 1


@pytest.mark.parametrize(
    "environment, expected",
    [
        ({}, None),
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
    ],
    ids=range(6),
)  # fmt: skip
def test_the_watchdog_is_wanted_of_this_process_only(environment, expected):
    assert Notifier.from_environment(environment).watchdog_s == expected


@timed
def test_the_real_process_tells_and_stops_within_two_seconds(tmp_path):
    address = str(tmp_path / "notify")
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "NOTIFY_SOCKET": address, "WATCHDOG_USEC": "400000",
        "LVM_EDGE_STATE": str(tmp_path / "state"),
    }  # fmt: skip
    command = [
        sys.executable,
        "-m",
        "edge_runtime.interfaces.cli.main",
        "run",
        "--source",
        "demo?size=64x48&speed=10",
    ]
    with bind_socket(address) as bound:
        process = subprocess.Popen(
            [*command, "--no-http", "--backend", "onnxruntime"],
            env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            got = _until(bound, "READY=1") + _until(bound, "WATCHDOG=1") + _until(bound, "WATCHDOG=1")
            process.send_signal(signal.SIGUSR1)
            got += _until(bound, "STATUS=demo?size=64x48&speed=10: paused for privacy")
            _until(bound, "WATCHDOG=1")  # a pause is no hang
            process.send_signal(signal.SIGTERM)
            asked = time.monotonic()
            _until(bound, "STOPPING=1")
            assert process.wait(10) == 0
            took = time.monotonic() - asked
        finally:
            process.kill()
            process.wait()
    assert took < 2.0, f"{took:.2f} s"
    assert any(re.match(r"STATUS=demo\?size=64x48&speed=10: \d+ min watched", line) for line in got)


@pytest.mark.parametrize(
    "terminal, after_s, lines", [(True, 4, 0), (True, 6, 1), (False, 590, 0), (False, 610, 1)]
)
def test_a_journal_and_a_pipe_get_a_line_in_ten_minutes_a_terminal_one_in_five_seconds(
    tmp_path, monkeypatch, capsys, terminal, after_s, lines
):
    monkeypatch.setattr(
        "rich.console.Console.is_terminal", property(lambda console: terminal and console.stderr)
    )
    clock = [100.0]
    monkeypatch.setattr(
        "edge_runtime.interfaces.cli.run_console.time", SimpleNamespace(monotonic=lambda: clock[0])
    )
    with small_service(tmp_path) as service:
        session = RunConsole(Run(service), as_json=False)
        clock[0] += after_s
        session._print_progress()
    assert capsys.readouterr().err.count(" frames, ") == lines


def _values(name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.M)


def test_the_unit_asks_for_what_the_process_gives():
    assert _values("Type") == ["notify"] and _values("WatchdogSec") == ["60s"]
    # The watchdog must outlast what counts as stuck, or a slow card would be a reason to restart.
    assert STUCK_AFTER_S < 60
    for name in ("MemoryMax", "StateDirectory", "Restart", "ExecReload", "TasksMax"):
        assert len(_values(name)) == 1, name
    assert _values("ProtectSystem") == ["strict"] and _values("DynamicUser") == ["true"]
    # Before systemd 254 there are no growing pauses: 60 starts were over, for good, after two minutes.
    assert _values("StartLimitIntervalSec") == ["0"]


@pytest.fixture
def unit(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    # Its binary is not installed here: /bin/true stands in for it.
    file = tmp_path / "lvm-edge.service"
    file.write_text(UNIT.read_text().replace("/opt/lvm-edge/bin/lvm-edge", "/bin/true"))
    return file


def test_systemd_understands_the_unit(unit):
    # Lines for newer versions are allowed.
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60
    )
    messages = [line for line in done.stderr.splitlines() if str(unit) in line or "lvm-edge.service" in line]
    newer = re.compile(r"Unknown key( name)? '(RestartSteps|RestartMaxDelaySec)'")
    assert [line for line in messages if not newer.search(line)] == [], done.stderr


def test_systemd_counts_little_that_the_unit_leaves_open(unit):
    version = subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True).stdout
    if int(version.split()[1]) < 250:
        pytest.skip("it cannot judge a file that is not loaded")
    # 2.0 by systemd 252: sockets and devices, which cameras need. Later versions count more.
    judge = ["systemd-analyze", "security", "--offline=true", "--threshold=25", "--no-pager", str(unit)]
    done = subprocess.run(judge, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
