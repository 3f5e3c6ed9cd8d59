"""Start, ask, measure, kill and restart the `lvm-edge run` of a soak; check that its replies are answers."""

from __future__ import annotations

import base64
import collections
import http.client
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from prometheus_client.parser import text_string_to_metric_families
from pydantic import ValidationError

from edge_runtime.query.answers import Answer
from edge_runtime.sources.demo import parse_demo

ROOT = Path(__file__).resolve().parents[3]
TIMEOUT_S = 10.0
LOG_MAX_MB, LOG_FILES = 0.05, 2
TIMEOUT_ANSWER_S = 120.0


class EdgeProcess:
    """One real process at a time, on the same folders and port. Call `start` from the main thread only."""

    def __init__(self, folder: Path, sources: Mapping[str, str]) -> None:
        self.folder, self.sources = folder, dict(sources)
        self.config, self.states, self.logs = folder / "soak.yaml", folder / "states", folder / "logs"
        self.fault = folder / "engines-fail"
        self.port = _free_port()
        self.lives = 0
        self.output: collections.deque[str] = collections.deque(maxlen=200)
        self._process: subprocess.Popen[str] | None = None
        self.stopping = True
        """Whether the process is meant to be down now."""

    # -- start and stop ------------------------------------------------------------------------------------

    def write_config(self) -> None:
        cameras = "".join(f"  {name}: {{source: {json.dumps(s)}}}\n" for name, s in self.sources.items())
        self.logs.mkdir(parents=True, exist_ok=True)
        self.config.write_text(
            f"version: 1\nmodel: {{backend: onnxruntime}}\n"
            f"state: {{directory: {json.dumps(str(self.states))}}}\n"
            f"http: {{listen: '127.0.0.1:{self.port}'}}\n"
            f"logs: {{file: {json.dumps(str(self.logs / 'edge.log'))}, level: info, "
            f"max_mb: {LOG_MAX_MB}, kept: {LOG_FILES}}}\ncameras:\n{cameras}"
        )

    def start(self) -> float:
        """Start it and return the seconds until it answers. Raises RuntimeError if it does not."""
        self.fault.unlink(missing_ok=True)
        self.write_config()
        command = [
            sys.executable,
            "-m",
            "tools.reliability.soaking.edge",
            "run",
            "--config",
            str(self.config),
        ]
        env = os.environ | {"PYTHONPATH": str(ROOT), "SOAK_ENGINE_FAULT": str(self.fault)}
        began = time.monotonic()
        # A pipe, because a file would be on the full disk.
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()
        self.lives += 1
        while time.monotonic() - began < TIMEOUT_ANSWER_S:
            if self._process.poll() is not None:
                break
            try:
                self.cameras()
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)
                continue
            self.stopping = False
            return time.monotonic() - began
        raise RuntimeError(f"lvm-edge does not answer: {' '.join(list(self.output)[-3:])}")

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.output.append(line.rstrip())

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def send_signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self, number: signal.Signals) -> tuple[int, float]:
        """End it by this signal; return the exit status and the seconds that it took."""
        assert self._process is not None
        self.stopping = True
        began = time.monotonic()
        self._process.send_signal(number)
        status = self._process.wait(TIMEOUT_ANSWER_S)
        return status, time.monotonic() - began

    def allow_file_growth(self, allowed: bool) -> None:
        """Set whether its files may grow; if not, the process sees a full disk."""
        unlimited = resource.RLIM_INFINITY
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (unlimited if allowed else 1, unlimited))

    # -- requests ------------------------------------------------------------------------------------------

    def request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()

    def cameras(self) -> dict[str, dict[str, Any]]:
        """Return the status of each camera, by name."""
        status, body = self.request("GET", "/api/v1/cameras")
        if status != 200:
            raise OSError(f"/api/v1/cameras gave {status}: {body[:200]!r}")
        return {camera["camera"]: camera for camera in json.loads(body)["cameras"]}

    # -- measurements --------------------------------------------------------------------------------------

    def measure(self) -> dict[str, int]:
        """Return the process's use of memory, threads, descriptors and disk.

        `resident` bytes, `heap` bytes that malloc gave out, Python's `blocks`, `threads`, `descriptors`, and
        the bytes of the largest `state` and of the `log`.
        """
        process = psutil.Process(self.pid)
        with process.oneshot():
            measured = {
                "resident": process.memory_info().rss,
                "threads": process.num_threads(),
                "descriptors": process.num_fds(),
            }
        status, body = self.request("GET", "/metrics")
        if status != 200:
            raise OSError(f"/metrics gave {status}: {body[:200]!r}")
        metrics = {family.name: family.samples for family in text_string_to_metric_families(body.decode())}
        heaps = {sample.labels["state"]: sample.value for sample in metrics["lvm_heap_bytes"]}
        measured["heap"] = round(heaps.get("used", 0))  # musl's malloc has no such figure
        measured["blocks"] = round(metrics["lvm_python_blocks"][0].value)
        states = [_folder_bytes(self.states / name) for name in self.sources]
        return measured | {"state": max(states), "log": _folder_bytes(self.logs)}


def _folder_bytes(folder: Path) -> int:
    total = 0
    for file in folder.glob("*"):
        try:
            total += file.stat().st_size
        except FileNotFoundError:
            continue  # a new snapshot is replacing it right now
    return total


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@dataclass(frozen=True)
class AskedQuestion:
    """A question, how long its answer took, and the problem with the answer, if any."""

    kind: str
    camera: str
    seconds: float
    problem: str | None


class Questions:
    """The same questions from the first second to the last: each kind in turn, for each camera in turn."""

    def __init__(self, cameras: list[str], demo: str) -> None:
        photo = base64.b64encode(parse_demo(demo).make_world().encode_photo(0, side_px=128)).decode()
        about = {"photos": [photo]}
        kinds: list[dict[str, object]] = [
            {"type": "activity", "object": about},
            {"type": "object", "activity": "scan"},
            {"type": "time", "activity": "scan", "object": about},
        ]
        self._all = [kind | {"camera": camera} for camera in cameras for kind in kinds]
        self._next = 0

    def ask_next(self, edge: EdgeProcess, engines_fail: bool) -> AskedQuestion:
        """Ask the next question. While `engines_fail`, an error message counts as a right answer."""
        question = self._all[self._next % len(self._all)]
        self._next += 1
        began = time.monotonic()
        try:
            status, body = edge.request("POST", "/api/v1/query", json.dumps(question).encode())
            problem = find_problem(str(question["type"]), status, body, engines_fail)
        except (OSError, http.client.HTTPException) as error:
            problem = f"no answer: {error or type(error).__name__}"
        return AskedQuestion(
            str(question["type"]), str(question["camera"]), time.monotonic() - began, problem
        )


def find_problem(kind: str, status: int, body: bytes, engines_fail: bool) -> str | None:
    if engines_fail and status == 422 and "error" in json.loads(body):
        return None
    if status != 200:
        return f"status {status}: {body[:200].decode(errors='replace')}"
    try:
        answer = Answer.model_validate_json(body)
    except ValidationError as error:
        return f"not an answer: {error.errors(include_url=False)[0]}"
    if answer.type != kind or not 0 <= answer.confidence <= 1 or not answer.answer:
        return f"not an answer to {kind}: {body[:200].decode(errors='replace')}"
    return None
