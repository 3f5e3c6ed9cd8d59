"""doctor: each finding says what was found, whether it matters, and what to do about it."""

import socket
import sys

import pytest
from typer.testing import CliRunner

from edge_runtime.config.paths import default_bundle
from edge_runtime.interfaces.cli.main import app
from edge_runtime.interfaces.doctor import checks, machine
from edge_runtime.sources.discovery import CameraDevice
from engines.errors import Unavailable
from tests.support.bundles import copy_bundle


def test_the_shipped_bundle_passes_its_self_test_and_a_broken_one_says_why(tmp_path):
    assert checks.run_self_test(default_bundle()).state == "ok"
    broken = copy_bundle(tmp_path)
    graph = next(broken.rglob("reader.onnx"))
    graph.write_bytes(graph.read_bytes()[:-7])
    finding = checks.run_self_test(broken)
    assert finding.state == "problem" and "reader.onnx" in finding.found and finding.do


def test_a_disk_that_is_full_or_not_ours_is_a_problem(tmp_path, monkeypatch):
    assert machine.check_disk(tmp_path / "not" / "yet").state == "ok"
    usage = machine.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: usage._replace(free=5e6))
    assert machine.check_disk(tmp_path).state == "problem"
    monkeypatch.setattr(machine.os, "access", lambda path, mode: False)
    finding = machine.check_disk(tmp_path)
    assert (
        finding.state == "problem" and "cannot be written" in finding.found and "LVM_EDGE_STATE" in finding.do
    )


def test_python_bindings_without_gstreamer_behind_them_are_none(tmp_path, monkeypatch):
    # As on Debian with python3-gi alone.
    bare = "def require_version(name, version): raise ValueError(f'Namespace {name} not available')"
    (tmp_path / "gi.py").write_text(bare)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "gi", raising=False)
    finding = checks.check_gstreamer()
    assert finding.state == "note" and finding.do and "gir1.2-gstreamer-1.0" in finding.do
    monkeypatch.delitem(sys.modules, "gi")


@pytest.mark.parametrize(
    ("printed", "state", "words"),
    [("yes", "ok", "synchronised"), ("no", "note", "may be wrong"), (None, "note", "unknown whether")],
)
def test_the_clock(printed, state, words, monkeypatch):
    monkeypatch.setattr(machine, "run_command", lambda command: printed)
    finding = machine.check_clock()
    assert finding.state == state and words in finding.found


@pytest.mark.parametrize(
    ("mode", "state"), [("NV Power Mode: MAXN\n0", "ok"), ("NV Power Mode: 15W\n2", "note"), ("", "note")]
)
def test_a_jetson_below_its_full_power_is_told_how_to_get_it(mode, state, monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "run_command", lambda command: mode)
    finding = next(machine.check_power(tmp_path))
    assert finding.what == "power mode" and finding.state == state
    assert (finding.do is None) == (state == "ok")


@pytest.mark.parametrize(("driver", "state"), [("acpi-cpufreq", "note"), ("intel_pstate", "ok")])
def test_a_governor_that_keeps_it_slow_is_noted(driver, state, monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "run_command", lambda command: None)
    folder = tmp_path / "devices/system/cpu/cpu0/cpufreq"
    folder.mkdir(parents=True)
    (folder / "scaling_governor").write_text("powersave\n")
    (folder / "scaling_driver").write_text(driver)
    assert next(machine.check_power(tmp_path)).state == state


def test_the_port_is_free_or_taken():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        number = listener.getsockname()[1]
        assert machine.check_port(number=number).state == "ok", "nobody listens yet"
        listener.listen()
        finding = machine.check_port(number=number)
    assert finding.state == "note" and f"127.0.0.1:{number}" in finding.found and "--http" in finding.do


def test_the_service_is_looked_for_where_systemd_runs(tmp_path):
    assert "not the init system" in machine.check_service(tmp_path).found
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    assert "docs/unattended.md" in machine.check_service(tmp_path).do
    unit = tmp_path / "etc/systemd/system/lvm-edge.service"
    unit.parent.mkdir(parents=True)
    unit.touch()
    assert machine.check_service(tmp_path).state == "ok"


def test_a_program_that_fails_or_is_missing_says_nothing():
    assert machine.run_command(["no-such-program-here"]) is None and machine.run_command(["false"]) is None
    assert machine.run_command(["echo", "yes"]) == "yes"


def test_a_camera_that_may_not_be_opened_is_a_problem_and_ends_with_4(monkeypatch):
    closed = CameraDevice(
        "0", "/dev/video0", "HD Cam", "this user may not open it", "sudo usermod -aG video $USER"
    )
    monkeypatch.setattr(checks, "list_cameras", lambda: [closed])
    monkeypatch.setattr(checks, "run_self_test", lambda bundle: machine.check_memory())
    done = CliRunner().invoke(app, ["doctor"])
    assert isinstance(done.exception, Unavailable) and "this user may not open it" in str(done.exception)
    assert "BAD  camera: HD Cam at /dev/video0" in done.output and "usermod -aG video" in done.output
