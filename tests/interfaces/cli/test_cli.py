"""The command line as people and programs use it: real processes, their exit status and their lines."""

import contextlib
import http.server
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime.interfaces.cli import main as main_module
from edge_runtime.persistence import FILE, load_snapshot, to_arrays
from tests.support.media import write_video

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-m", "edge_runtime.interfaces.cli.main"]
FAST, PACED = "demo?size=64x48", "demo?size=64x48&speed=60"
JSON_QUESTION = b'{"type": "object", "activity": "scan"}\n'


def _environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def lvm(*arguments, status: int = 0, **more) -> subprocess.CompletedProcess:
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True, text=True, timeout=240, env=_environment(),
        **{"stdin": subprocess.DEVNULL, **more},
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    return done


@contextlib.contextmanager
def running(*arguments):
    """A process with open pipes, ended at the latest here."""
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with subprocess.Popen([*COMMAND, *map(str, arguments)], env=_environment(), **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def _wait_for(condition, what: str, seconds: float = 20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come in {seconds} s")


def _config(folder: Path) -> Path:
    """A snapshot after every batch, no door."""
    path = folder / "c.yaml"
    path.write_text("version: 1\nstate: {save_interval_s: 0}\nhttp: {enabled: false}\nmodel: {threads: 1}\n")
    return path


@pytest.fixture(scope="module")
def state(tmp_path_factory) -> Path:
    """The state of 40 s of the demo, made by the command line."""
    folder = tmp_path_factory.mktemp("cli") / "state"
    lvm("run", "--source", FAST, "--for", 40, "--state", folder, "--no-http", "--backend", "onnxruntime")
    return folder


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "milk.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8))
    return path


# -- what it does ------------------------------------------------------------------------------------------


def test_run_says_what_it_remembers_and_status_says_the_same(tmp_path):
    done = lvm("run", "--source", FAST, "--for", 33, "--state", tmp_path, "--no-http", "--json")
    summary = json.loads(done.stdout)
    assert summary["frames"] == 33 and summary["coverage"]["to"] == 33 and summary["trained"] is True
    assert done.stderr == ""
    status = json.loads(lvm("status", "--state", tmp_path, "--json").stdout)
    assert {**summary, **status} == summary and status["state_bytes"] == (tmp_path / FILE).stat().st_size


def test_a_second_start_goes_on_and_says_where(state, tmp_path):
    (tmp_path / FILE).write_bytes((state / FILE).read_bytes())
    done = lvm("run", "--source", FAST, "--for", 5, "--state", tmp_path, "--no-http", "--json")
    assert json.loads(done.stdout)["frames"] == 45
    assert done.stderr.splitlines()[0] == f"resumed from {tmp_path} at 40.0 s"


def test_each_question_is_answered_from_a_state(state, photo):
    for question in (
        ["activity", "--object", photo, "--object", photo],
        ["object", "--activity", "scan", "--from", 3, "--to", 30],
        ["time", "--activity", "scan", "--box", "0.1,0.1,0.6,0.6@12"],
    ):
        done = lvm("ask", *question, "--state", state, "--json")
        answer = json.loads(done.stdout)
        assert answer["type"] == question[0] and answer["evidence"] and done.stderr == ""


def test_an_answer_for_people_begins_with_the_answer(state):
    lines = lvm("ask", "object", "--activity", "scan", "--from", 900, "--state", state).stdout.splitlines()
    assert lines[0].startswith("nobody was watching at that time")


def test_a_folder_without_a_memory_has_no_status(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        for more in ((), ("--json",)):
            done = lvm("status", "--state", folder, *more, status=2)
            assert f"no memory in {folder}; run lvm-edge run --state" in done.stderr and not done.stdout
    assert not (tmp_path / "nowhere").exists()


def test_doctor_names_the_backends_and_the_choice():
    result = json.loads(lvm("doctor", "--json").stdout)
    assert result["backends"]["onnxruntime"] == "ready" and result["backends"][result["auto"]] == "ready"
    assert result["bundle"]["trained"] is True and result["cores"] >= 1


def test_the_last_line_of_bench_is_one_json_object():
    done = lvm("bench", "--rounds", 1, "--questions", 2, "--backend", "onnxruntime", "--threads", 1)
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["backend"] == "onnxruntime" and list(result["engines"]) == ["onnxruntime"]
    assert result["ingest"]["ratio"] > 0 and result["ingest"]["frames_per_s"] > 0
    for kind in ("activity", "object", "time"):
        assert 0 < result["query"][kind]["p50_ms"] <= result["query"][kind]["p99_ms"]
    assert result["sampler"]["ms"] > 0 and result["svd"]["ms"] > 0
    assert result["state"]["bytes"] > 0 and result["rss"]["bytes"] > 0


# -- while it runs -----------------------------------------------------------------------------------------


def test_questions_on_standard_input_are_answered_while_it_stays_until_sigterm(tmp_path, photo):
    options = ["--for", 20, "--stay", "--state", tmp_path, "--no-http", "--backend", "onnxruntime"]
    with running("run", "--source", FAST, *options, "--json") as process:
        ask = process.stdin
        ask.write(b"object --activity scan\n" + JSON_QUESTION)
        ask.write(f"ask activity --object {photo}\n".encode())
        ask.write(
            b"\xff\xfe\n" + b"activity --object a\x00b\n" + b"object --activity scam\n" + b"object 'x\n"
        )
        ask.flush()
        replies = [json.loads(process.stdout.readline()) for _ in range(7)]
        assert [reply.get("type") for reply in replies] == ["object", "object", "activity"] + [None] * 4
        assert all(reply["error"].isprintable() for reply in replies[3:])
        assert "nearest is 'scan'" in replies[5]["error"]

        def watched_all() -> bool:
            ask.write(JSON_QUESTION)
            ask.flush()
            return json.loads(process.stdout.readline())["coverage"]["to"] == 20

        _wait_for(watched_all, "the end of the source")
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert json.loads(process.stdout.readlines()[-1])["frames"] == 20


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The state of 64 s without an interruption."""
    folder = tmp_path_factory.mktemp("whole")
    options = ["--config", _config(folder), "--backend", "onnxruntime"]
    lvm("run", "--source", PACED, "--state", folder / "state", "--for", 64, *options)
    return folder / "state"


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 0), (signal.SIGTERM, 0), (signal.SIGKILL, -9)])
def test_a_run_that_is_ended_goes_on_as_the_uninterrupted_one(tmp_path, whole, number, status):
    options = ["--config", _config(tmp_path), "--backend", "onnxruntime"]
    cut = tmp_path / "cut"
    with running("run", "--source", PACED, "--state", cut, *options) as process:
        _wait_for(lambda: (cut / FILE).exists() and load_snapshot(cut).version.frames >= 12, "12 frames")
        process.send_signal(number)
        assert process.wait(10) == status
    done = load_snapshot(cut).version.frames
    assert 12 <= done < 64
    lvm("run", "--source", PACED, "--state", cut, "--for", 64 - done, *options)
    cut_version, whole_version = load_snapshot(cut).version, load_snapshot(whole).version
    assert cut_version.frames == whole_version.frames == 64
    assert cut_version.coverage == whole_version.coverage
    first, second = to_arrays(cut_version), to_arrays(whole_version)
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)


def test_a_video_is_watched_to_its_end_and_a_box_in_it_is_asked_later(tmp_path):
    video = write_video(tmp_path / "v.mp4", range(0, 12_000, 250))
    lvm("run", "--source", video, "--state", tmp_path / "s", "--no-http")
    saved = load_snapshot(tmp_path / "s")
    assert saved.version.frames == 12 and saved.header.ended
    answer = lvm("ask", "activity", "--box", "0,0,0.5,0.5@3", "--state", tmp_path / "s", "--json")
    assert len(json.loads(answer.stdout)["activities"]) == 10


def test_a_running_process_answers_over_http_as_on_its_state(tmp_path, wrong):
    run = ["run", "--source", FAST, "--for", 9]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        status, line = wrong(*run, "--state", tmp_path / "x", "--http", address)
        assert status == 2 and "choose another port or --no-http" in line
    url = f"http://{address}"
    with running(*run, "--stay", "--state", tmp_path, "--http", address):
        _wait_for(lambda: (tmp_path / FILE).exists(), "the state")
        question = ["ask", "object", "--activity", "scan", "--json"]
        one = json.loads(lvm(*question, "--url", url + "/").stdout)
        two = json.loads(lvm(*question, "--state", tmp_path).stdout)
        assert one | {"milliseconds": 0} == two | {"milliseconds": 0} and one["coverage"]["to"] == 9
        status, line = wrong("ask", "object", "--activity", "scam", "--url", url)
        assert status == 2 and "nearest is 'scan'" in line
        status, line = wrong(*run, "--state", tmp_path, "--no-http")
        assert status == 2 and "is in use by another lvm-edge" in line


def test_on_a_terminal_a_question_is_typed_into_the_panel(tmp_path):
    master, slave = pty.openpty()
    command = [
        *COMMAND,
        "run",
        "--source",
        FAST,
        "--for",
        "9",
        "--stay",
        "--state",
        str(tmp_path),
        "--no-http",
    ]
    environment = _environment(COLUMNS="160", LINES="40", TERM="xterm")
    output = b""

    def says(words: bytes) -> bool:
        nonlocal output
        while select.select([master], [], [], 0)[0]:
            output += os.read(master, 65536)
        return words in output

    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment) as process:
        try:
            _wait_for(lambda: says(b"Ctrl-C ends"), "the panel")
            time.sleep(0.3)  # what is typed before the keys are read is lost
            os.write(master, "object --activity scä\x7fam\x7fn\n".encode())
            _wait_for(lambda: says(b"? object --activity scan"), "the question")
            _wait_for(lambda: says(b" ms)"), "the answer")
            process.send_signal(signal.SIGINT)
            _wait_for(lambda: says(b"ask it: lvm-edge ask") or process.poll() is not None, "the end")
            assert process.wait(10) == 0
        finally:
            process.kill()
            os.close(slave)
            os.close(master)


# -- wrong use ---------------------------------------------------------------------------------------------


@pytest.fixture
def wrong(monkeypatch, capsys, tmp_path):
    """Runs the entry point in this process; the one line on standard error and the exit status."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LVM_EDGE_STATE", str(tmp_path / "states"))

    def run(*arguments) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["lvm-edge", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main_module.main()
        out, err = capsys.readouterr()
        assert err.startswith("lvm-edge: ") and err.count("\n") == 1 and out == "", out + err
        return ended.value.code, err.strip()

    return run


LONG = "x" * 300


@pytest.mark.parametrize(
    "arguments, status, words",
    [
        (["nonsense"], 2, "nonsense"),
        (["ask"], 2, "Missing argument"),
        (["ask", "--nope"], 2, "--nope"),
        (["run", "--for", "soon"], 2, "--for"),
        (["run"], 2, "nothing to watch"),
        (["run", "--source", "demo", "--camera", "0"], 2, "--camera or --source, not both"),
        (["run", "--source", "demo", "--for", "0"], 2, "--for must be"),
        (["run", "--source", "demo", "--for", "nan"], 2, "--for must be"),
        (["run", "--source", "demo", "--for", "-3"], 2, "--for must be"),
        (["run", "--source", "demo", "--backend", "gpu"], 2, "--backend must be auto or one of"),
        (["run", "--source", "demo", "--bundle", "nowhere"], 2, "does not exist"),
        (["run", "--source", "demo", "--bundle", LONG], 2, "too long"),
        (["run", "--source", "demo", "--config", "none.yaml"], 2, "cannot be read"),
        (["run", "--source", "demo", "--http", "0.0.0.0:80", "--state", "s"], 2, "lvm-edge token new"),
        (["run", "--source", "demo", "--http", "80", "--state", "s"], 2, "HOST:PORT"),
        (["run", "--source", "demo", "--sampler", "best", "--state", "s"], 2, "sampler must be one of"),
        (["run", "--source", "demo", "--sampler", "s5", "--state", "s"], 2, "has it as its neural one"),
        (["run", "--source", "demo", "--state", LONG], 2, "too long"),
        (["status"], 2, "no memory found"),
        (["status", "--state", LONG], 2, "too long"),
        (["status", "--state", "s"], 2, "no memory in s; run lvm-edge run"),
        (["status", "--state", "s", "--json"], 2, "no memory in s; run lvm-edge run"),
        (["status", "--config", "kiosk.yaml"], 2, "no memory in"),
        (["mqtt-withdraw"], 2, "no broker is remembered"),
        (["ask", "object", "--activity", "scan"], 2, "no memory found"),
        (["ask", "object", "--activity", "scan", "--state", "s"], 2, "no memory in s; run lvm-edge run"),
        (["ask", "colour", "--state", "s"], 2, "type must be activity, object or time"),
        (["ask", "object", "--state", "s"], 2, "a question of type object needs --activity NAME"),
        (["ask", "object", "--activity", "a", "--from", "nan", "--state", "s"], 2, "--from must be"),
        (["ask", "object", "--activity", "a", "--from", "5", "--to", "4", "--state", "s"], 2, "before to"),
        (["ask", "activity", "--box", "0,0,1", "--state", "s"], 2, "--box must be"),
        (["ask", "activity", "--box", "0,0,1,1", "--state", "s"], 2, "--box must be"),
        (["ask", "activity", "--box", "0,0,2,1@3", "--state", "s"], 2, "box must be"),
        (["ask", "activity", "--box", "0,0,1,1@nan", "--state", "s"], 2, "--box must be"),
        (["ask", "activity", "--box", "0,0,1,1@", "--state", "s"], 2, "--box must be"),
        (["ask", "activity", "--object", "none.jpg", "--state", "s"], 2, "none.jpg cannot be read"),
        (["ask", "activity", "--object", ".", "--state", "s"], 2, "is no file"),
        (["ask", "activity", "--object", "/dev/zero", "--state", "s"], 2, "is no file"),
        (
            ["ask", "activity", "--product", "a", "--box", "0,0,1,1@3", "--state", "s"],
            2,
            "name the object once",
        ),
        (["ask", "object", "--activity", "a", "--state", "s", "--url", "http://x"], 2, "not both"),
        (["ask", "object", "--activity", "a", "--url", "localhost:8971"], 2, "--url must be"),
        (["ask", "object", "--activity", "a", "--url", "http://127.0.0.1:port"], 2, "--url must be"),
        (["ask", "object", "--activity", "a", "--url", "http://[::1"], 2, "--url must be"),
        (["ask", "object", "--activity", "a", "--url", "http://127.0.0.1:1"], 4, "no lvm-edge answers at"),
        (["bench", "--rounds", "0"], 2, "--rounds"),
        (["bench", "--threads", "-1"], 2, "--threads"),
        (["doctor", "--bundle", "/dev/null"], 2, "is no bundle"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_a_wrong_use_is_one_line_and_its_status(wrong, arguments, status, words):
    assert wrong(*arguments)[0] == status
    assert words in wrong(*arguments)[1]


def test_a_source_that_is_not_there_is_one_line(tmp_path):
    for source in (tmp_path / "none.mp4", LONG):
        done = lvm("run", "--source", source, "--state", tmp_path / "s", "--no-http", status=2)
        assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("lvm-edge: ")


@pytest.mark.parametrize(
    "source", ["/nowhere.mp4", "/dev/video99", "no*.mp4", "empty", "torn.mp4", "gst:nothing ! appsink"]
)
@pytest.mark.parametrize("named", [True, False])
def test_a_mistyped_source_claims_nothing(tmp_path, source, named):
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn.mp4").write_bytes(b"no film")
    root = tmp_path / "states"
    done = subprocess.run(
        [*COMMAND, "run", "--source", source, "--no-http", *(("--state", root / "s") if named else ())],
        capture_output=True, text=True, timeout=240, stdin=subprocess.DEVNULL, cwd=tmp_path,
        env=_environment(LVM_EDGE_STATE=str(root)),
    )  # fmt: skip
    assert done.returncode in (2, 4) and done.stderr.startswith("lvm-edge: "), done.stderr
    assert "tried again" not in done.stderr
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["empty", "torn.mp4"]


@pytest.mark.parametrize("command", [["--version"], ["--version", "status"]])
def test_it_says_its_version(command):
    assert lvm(*command).stdout.startswith("lvm-edge ")


def test_what_is_missing_on_this_machine_has_status_4(wrong):
    from engines.onnxruntime_engine import providers

    if "CUDAExecutionProvider" in providers():
        pytest.skip("this machine has CUDA")
    status, line = wrong("run", "--source", "demo", "--backend", "onnxruntime-cuda")
    assert status == 4 and "cannot run here" in line


def test_a_damaged_state_is_one_line_and_is_left_alone(wrong, state, tmp_path):
    data = (state / FILE).read_bytes()[:-1]
    (tmp_path / FILE).write_bytes(data)
    for command in (["status"], ["ask", "object", "--activity", "scan"]):
        status, line = wrong(*command, "--state", tmp_path)
        assert status == 2 and "damaged (checksum)" in line
    assert (tmp_path / FILE).read_bytes() == data


@pytest.mark.parametrize(
    "reply", [b"", b"HTTP/1.0 200 OK\r\n\r\n{}", b"HTTP/1.0 500 No\r\n\r\nx", b"gibberish\r\n\r\n"]
)
def test_a_stranger_behind_the_address_is_one_line(wrong, reply):
    class Stranger(http.server.BaseHTTPRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            self.request.sendall(reply)

    with http.server.HTTPServer(("127.0.0.1", 0), Stranger) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            assert wrong("ask", "object", "--activity", "scan", "--url", url)[0] in (2, 4)
        finally:
            server.shutdown()
            thread.join()


def test_without_a_command_the_help_is_shown():
    done = lvm(status=2)
    assert "Usage:" in done.stderr + done.stdout
    assert "Usage:" in lvm("run", "--help").stdout
