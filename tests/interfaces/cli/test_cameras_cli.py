"""Several cameras as people and programs use them: one real process, its lines, signals and interfaces."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from edge_runtime.interfaces.cli.query_text import parse_line
from edge_runtime.persistence import load_snapshot
from tests.support.cameras import stop_limit_s
from tests.support.stalls import timed

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-m", "edge_runtime.interfaces.cli.main"]
SCAN = '{"type": "object", "activity": "scan", "camera": "%s"}\n'
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def _wait_for(condition, what: str, seconds: float = 40):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come in {seconds} s")


@contextlib.contextmanager
def _running(*arguments):
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with subprocess.Popen([*COMMAND, *map(str, arguments)], env=ENVIRONMENT, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def _lvm(*arguments, status: int = 0):
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True, text=True, timeout=240, env=ENVIRONMENT, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    return done


def _config(folder: Path, cameras: dict[str, str]) -> Path:
    listed = "".join(f"  {name}: {{source: '{source}'}}\n" for name, source in cameras.items())
    path = folder / "kiosk.yaml"
    path.write_text(
        "version: 1\nmodel: {threads: 1, backend: onnxruntime}\ndefaults: {save_interval_s: 0}\n"
        f"state: {{directory: {folder}/states}}\ncameras:\n{listed}"
    )
    return path


def _frames(folder: Path, name: str) -> int:
    snapshot = load_snapshot(folder / "states" / name)
    return snapshot.version.frames if snapshot else 0


@timed
def test_several_cameras_run_are_asked_reloaded_paused_and_stopped(tmp_path):
    """One of them is a server that takes the connection and never says a word."""
    paced = {name: f"demo?seed={seed}&size=64x48&speed=10" for seed, name in enumerate("abc")}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mute = f"http://127.0.0.1:{silent.getsockname()[1]}/live"
        config = _config(tmp_path, {"a": paced["a"], "mute": mute, "b": paced["b"]})
        with _running("run", "--config", config, "--http", "127.0.0.1:0", "--json") as process:
            address = re.search(r"http://\S+", process.stderr.readline()).group()
            _wait_for(lambda: _frames(tmp_path, "a") > 5 and _frames(tmp_path, "b") > 5, "frames of both")

            def ask(name: str) -> dict:
                process.stdin.write(SCAN % name)
                process.stdin.flush()
                return json.loads(process.stdout.readline())

            assert ask("a")["coverage"]["to"] > 5 and ask("mute")["coverage"]["to"] is None
            assert ask("z") == {"error": "there is no camera 'z'; there are a, mute, b"}
            answer = _lvm("ask", "object", "--activity", "scan", "--url", address, "--camera", "b", "--json")
            assert json.loads(answer.stdout)["coverage"]["to"] > 5

            def listed() -> dict:
                with urllib.request.urlopen(address + "/api/v1/cameras", timeout=10) as reply:
                    return {row["camera"]: row for row in json.loads(reply.read())["cameras"]}

            assert listed()["a"]["condition"] == "running" and listed()["mute"]["frames"] == 0
            pause = urllib.request.Request(address + "/api/v1/cameras/b/paused", b"true", method="PUT")
            with urllib.request.urlopen(pause, timeout=10):
                _wait_for(lambda: listed()["b"]["condition"] == "paused", "the pause")

            _config(tmp_path, {"a": paced["a"], "mute": mute, "c": paced["c"]})
            process.send_signal(signal.SIGHUP)
            _wait_for(lambda: "c" in listed() and listed()["c"]["frames"] > 2, "the camera that was added")
            assert list(listed()) == ["a", "mute", "c"]
            config.write_text("cameras: [")
            process.send_signal(signal.SIGHUP)
            time.sleep(0.5)
            assert process.poll() is None and list(listed()) == ["a", "mute", "c"]

            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=10)
            took = time.monotonic() - began
        summary = json.loads(out.splitlines()[-1])["cameras"]
        # On a machine that is slow enough the silent camera has run into its own time limit meanwhile.
        assert process.returncode == (2 if summary["mute"]["error"] else 0), err
        assert "not reloaded: " in err and "not YAML" in err
        assert list(summary) == ["a", "mute", "c"] and summary["a"]["frames"] == _frames(tmp_path, "a") > 5
        assert summary["a"]["coverage"]["gaps"] == [] and _frames(tmp_path, "b") > 5
        assert took < stop_limit_s()


def test_a_run_over_files_ends_when_all_have_ended_and_each_is_asked_by_name(tmp_path):
    from tests.support.media import write_video

    videos = {
        name: str(write_video(tmp_path / f"{name}.mp4", range(0, seconds * 1000, 500)))
        for name, seconds in (("short", 9), ("long", 25))
    }
    config = _config(tmp_path, {**videos, "none": str(tmp_path / "none.mp4")})
    done = _lvm("run", "--config", config, "--no-http", status=2)
    assert "short: watched 0.0 to 9.0 s, 9 frames" in done.stdout
    assert "long: watched 0.0 to 25.0 s, 25 frames" in done.stdout
    assert done.stderr.splitlines()[-1].startswith("lvm-edge: there is no source")
    states = tmp_path / "states"
    status = json.loads(_lvm("status", "--state", states, "--json").stdout)["cameras"]
    assert {name: (row["frames"], row["ended"]) for name, row in status.items()} == {
        "long": (25, True), "short": (9, True)
    }  # fmt: skip
    ask = ["ask", "object", "--activity", "scan", "--json"]
    answer = json.loads(_lvm(*ask, "--config", config, "--camera", "short").stdout)
    assert answer["coverage"] == {"from": 0, "to": 9, "watched_share": [1, 1], "gaps": []}
    again = _lvm("run", "--config", config, "--no-http", "--json", status=2)
    seen = {name: (row["frames"], row["seen"]) for name, row in json.loads(again.stdout)["cameras"].items()}
    assert seen == {"short": (9, 18), "long": (25, 50), "none": (0, 0)}


def test_a_camera_whose_memory_cannot_be_used_keeps_no_other_from_watching(tmp_path):
    config = _config(tmp_path, {"bad": "demo?size=64x48", "good": "demo?seed=1&size=64x48"})
    bad = tmp_path / "states" / "bad" / "memory.state"
    bad.parent.mkdir(parents=True)
    bad.write_bytes(b"what is this")
    done = _lvm("run", "--config", config, "--no-http", "--for", 5, "--json", status=2)
    assert json.loads(done.stdout)["frames"] == 5
    assert "bad is not watched: state" in done.stderr and bad.read_bytes() == b"what is this"


def test_bench_measures_several_cameras():
    options = ["--seconds", 0.3, "--rounds", 1, "--no-density", "--backend", "onnxruntime", "--threads", 1]
    result = json.loads(_lvm("bench", "--cameras", 2, *options).stdout.splitlines()[-1])
    assert result["threads"] == 1 and list(result["demo"]) == list(result["stalled"]) == ["1", "2"]
    assert result["same_in_any_batch"] in (True, False)
    two = result["demo"]["2"]
    assert len(two["each"]) == 2 and 0 <= two["fairness"] <= 1 and two["frames_per_s"] > 0
    assert sum(two["each"]) == pytest.approx(two["frames_per_s"]) and two["cpu_ms_per_frame"] > 0


def test_a_typed_question_may_name_its_camera():
    assert parse_line("object --activity scan --camera left").camera == "left"
    assert parse_line("object --activity scan").camera is None
    asked = parse_line('{"camera": "left", "type": "object", "activity": "scan"}')
    assert asked.camera == "left" and asked.query == parse_line("object --activity scan").query
