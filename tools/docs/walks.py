"""Trace two walks through the code: a live frame from its source into memory, and a question over HTTP.

    python -m tools.docs.walks

A fake MJPEG camera on loopback is watched with the default bundle for two clips, a minute. Every file of
`edge_runtime` and `engines` whose code runs is listed once, in the order of its first call. The last line of
standard output is one JSON object.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from starlette.testclient import TestClient

from edge_runtime.config.paths import default_bundle
from edge_runtime.interfaces.http.app import make_app
from edge_runtime.service.camera_settings import CameraSettings
from edge_runtime.service.engine_pool import Engines
from edge_runtime.service.runtime import Service
from engines.bundle import Bundle
from tools.console import finish, run_tool
from tools.fakes.http_camera import HttpServer

ROOT = Path(__file__).parents[2]
PACKAGES = ("edge_runtime", "engines")
WARM_FRAMES = 31
"""One clip: from here on every branch of ordinary work is taken once a clip."""


class Trace:
    """The files whose code runs while it is on, in the order of their first call."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.on = False

    def __call__(self, frame: FrameType, event: str, arg: Any) -> None:
        if not self.on or event != "call":
            return
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in PACKAGES:
            self.files.setdefault(
                str(path.relative_to(ROOT)), getattr(frame.f_code, "co_qualname", frame.f_code.co_name)
            )

    @contextmanager
    def recording(self) -> Iterator[None]:
        self.on = True
        try:
            yield
        finally:
            self.on = False


def trace_walks() -> dict[str, dict[str, str]]:
    """Return the files of each walk, with the first function called in each."""
    frame, question = Trace(), Trace()

    def profile(stack: FrameType, event: str, arg: Any) -> None:
        frame(stack, event, arg)
        question(stack, event, arg)

    threading.setprofile(profile)
    sys.setprofile(profile)
    engines = Engines.load(Bundle.open(default_bundle()), "onnxruntime", threads=1)
    with tempfile.TemporaryDirectory() as folder, HttpServer(fps=30.0) as server:
        with Service(engines) as service:
            settings = CameraSettings(f"{server.url}/mjpeg", Path(folder), "lane1")
            camera = service.add(settings)
            runner = threading.Thread(target=service.run)
            runner.start()
            client = TestClient(make_app(service))
            _wait(lambda: camera.version.frames > WARM_FRAMES)
            seen = camera.version.frames
            with frame.recording():  # one clip, so that its end is in the walk
                _wait(lambda: camera.version.frames > seen + 31)
            service.stop()
            runner.join()
            body = {"type": "object", "activity": "scan", "camera": "lane1"}
            client.post("/api/v1/query", json=body)
            with question.recording():
                reply = client.post("/api/v1/query", json=body)
            assert reply.status_code == 200, reply.text
    sys.setprofile(None)
    threading.setprofile(None)
    return {"frame": frame.files, "question": question.files}


def _wait(condition: Any, limit_s: float = 120.0) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("the camera sent too few pictures")
        time.sleep(0.05)


def main() -> None:
    walks = trace_walks()
    for name, files in walks.items():
        print(f"{name}: {len(files)} files")
        for number, (path, function) in enumerate(files.items(), 1):
            print(f"  {number:2} {path}  {function}")
    finish({name: len(files) for name, files in walks.items()})


if __name__ == "__main__":
    run_tool(main)
