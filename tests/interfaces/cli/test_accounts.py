"""Accounts and terminals as services and old machines have them: no home, no UTF-8, closed."""

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_runtime.config.paths import state_root
from engines.plans import folder_in_cache
from tests.support.broker import wait_until

COMMAND = [sys.executable, "-m", "edge_runtime.interfaces.cli.main"]
WITHOUT_HOME = """
import os, pwd, sys
def nobody(*_):
    raise KeyError("getpwuid(): uid not found")
pwd.getpwuid = pwd.getpwnam = nobody
os.environ.pop("HOME", None)
sys.argv = ["lvm-edge", *sys.argv[1:]]
import engines.home
engines.home.Path = lambda path, kind=engines.home.Path: kind(os.environ["INSTEAD"] + path)
engines.home.Path.home = __import__("pathlib").Path.home
from edge_runtime.interfaces.cli.main import main
main()
"""


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["status"], 2), (["doctor", "--json"], None), (["catalogue", "list"], 0), (["activities"], 2),
        (["check-config", "kiosk.yaml"], 0), (["forget", "--from", "1", "--to", "2"], 2),
        (["ask", "--type", "time", "--activity", "scan"], 2), (["run", "--source", "/nowhere.mp4"], 2),
        (["warmup"], None), (["token", "new"], 0),
    ],
)  # fmt: skip
def test_a_user_without_home_and_account_gets_no_traceback(arguments, status, tmp_path):
    environment = {key: value for key, value in os.environ.items() if key not in ("HOME", "XDG_STATE_HOME")}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_HOME, *arguments],
        env=environment | {"INSTEAD": str(tmp_path)},  # of the machine's own /var
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == status or status is None, done.stderr


def test_without_a_home_states_lie_where_services_have_them(monkeypatch):
    for name in ("LVM_EDGE_STATE", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert state_root() == Path("/var/lib/lvm-edge")
    assert folder_in_cache(Path("/b")).is_relative_to("/var/cache/lvm-edge")
    monkeypatch.setattr(Path, "home", lambda: Path("/home/kim"))
    assert state_root() == Path("/home/kim/.local/state/lvm-edge")


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "iso8859-15"])
@pytest.mark.parametrize(
    "arguments",
    [["doctor"], ["check-config", "\u0437\u0430\u043b \u2192 1.yaml"], ["ask", "--type", "\u5e97"]],
)
def test_no_character_is_too_much_for_a_terminal(arguments, encoding, tmp_path):
    done = subprocess.run(
        [*COMMAND, *arguments],
        env=os.environ | {"PYTHONIOENCODING": f"{encoding}:strict", "LVM_EDGE_STATE": str(tmp_path)},
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=False,
    )
    said = (done.stdout + done.stderr).decode(encoding)
    assert "Traceback" not in said and "UnicodeEncodeError" not in said and said.strip(), said


def _run(*arguments, **pipes) -> subprocess.Popen:
    command = [*COMMAND, "-v", "run", "--source", "demo?speed=1", "--no-http", "--backend", "onnxruntime"]
    # Not as `nohup` has it, under which the tests themselves may run.
    hears = lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL)  # noqa: E731
    return subprocess.Popen([*command, *map(str, arguments)], preexec_fn=hears, **pipes)


def _has_memory(state: Path):
    return lambda: any(state.glob("memory.*"))


def test_sighup_does_not_end_a_source_of_the_command_line(tmp_path):
    state, said = tmp_path / "s", tmp_path / "said"
    with said.open("wb") as out:
        run = _run("--state", state, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        wait_until(_has_memory(state), "a memory", 60)
        for _ in range(2):
            run.send_signal(signal.SIGHUP)
            time.sleep(0.5)
        wait_until(lambda: b"nothing to read again" in said.read_bytes(), "the sentence", 20)
        assert run.poll() is None
    finally:
        run.send_signal(signal.SIGTERM)
        assert run.wait(30) == 0


def test_a_closed_terminal_ends_a_source_of_the_command_line_and_saves_it(tmp_path):
    master, slave = pty.openpty()
    state, said = tmp_path / "s", tmp_path / "said"
    with said.open("wb") as out:
        run = _run("--state", state, stdin=slave, stdout=slave, stderr=out, start_new_session=True)
    os.close(slave)
    try:
        wait_until(_has_memory(state), "a memory", 60)
        os.close(master)
        run.send_signal(signal.SIGHUP)
        assert run.wait(30) == 0, said.read_text()
    finally:
        run.kill()
        run.wait()
