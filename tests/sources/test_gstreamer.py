"""GStreamer for real, in a Python that has PyGObject: that is the system's more often than ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.sources.gstreamer import make_csi_pipeline
from engines.errors import Unavailable

PROGRAM = """
import json, sys
from edge_runtime.sources import open_source
from engines.errors import LvmError
try:
    with open_source(sys.argv[1], sample_fps=5.0, start=3.0, reconnect=False) as source:
        frames = list(source)
except LvmError as error:
    print(json.dumps({"error": type(error).__name__, "text": str(error)}))
else:
    image = frames[0].image
    print(json.dumps({
        "times": [frame.t for frame in frames], "shape": image.shape, "corner": image[0, 0].tolist(),
        "right": image[0, -1].tolist(), "seen": source.seen, "name": source.name,
    }))
"""


def paths_for(python: str) -> str:
    """Where `python` finds this project, and our numpy where it has none of its own."""
    return os.pathsep.join([str(Path(__file__).parents[2]), str(Path(np.__file__).parents[1])])


@pytest.fixture(scope="module")
def python():
    for python in (sys.executable, "/usr/bin/python3"):
        probe = "import gi, numpy; gi.require_version('Gst', '1.0'); from gi.repository import Gst"
        env = {**os.environ, "PYTHONPATH": paths_for(python)}
        command = [python, "-c", probe]
        if Path(python).exists() and subprocess.run(command, env=env, capture_output=True).returncode == 0:
            return python
    pytest.skip("no Python with PyGObject and numpy: apt install python3-gi gstreamer1.0-plugins-base")


def run(python, spec):
    env = {**os.environ, "PYTHONPATH": paths_for(python)}
    done = subprocess.run([python, "-c", PROGRAM, spec], env=env, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_pipeline_gives_frames_with_the_times_of_its_buffers(python):
    # 322 pixels: rows of RGB that GStreamer has to pad.
    caps = "video/x-raw,width=322,height=240,framerate=25/1"
    seen = run(python, f"gst:videotestsrc num-buffers=50 pattern=red ! {caps} ! videoconvert")
    assert seen["times"] == pytest.approx([3 + k / 5 for k in range(10)])
    assert seen["shape"] == [240, 322, 3] and seen["seen"] == 50
    for pixel in (seen["corner"], seen["right"]):
        assert pixel[0] > 240 and max(pixel[1:]) < 16


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        ("gst:lvmnosuchsrc ! videoconvert", "Unsupported", "install the GStreamer plugin"),
        ("gst:videotestsrc ! ! x", "Refused", "no pipeline that GStreamer understands"),
        ("gst:filesrc location=/nonexistent ! decodebin", "LvmError", "failed: what it reads is not there"),
        (
            "gst:videotestsrc ! jpegenc",
            "Refused",
            "its elements do not fit together: it must end in raw video",
        ),
        ("gst:videotestsrc patern=ball", "Refused", "an element has no such property; gst-inspect-1.0"),
        ("gst:filesrc location=/etc/passwd", "LvmError", "failed: its elements do not agree on a format"),
        (
            "gst:v4l2src device=/dev/video97",
            "LvmError",
            "does not answer; check location, address and device",
        ),
        ("csi://0", "Unsupported", 'csi://0: no element "nvarguscamerasrc"'),
    ],
)
def test_pipelines_that_cannot_run_are_one_sentence(python, spec, error, words):
    seen = run(python, spec)
    assert seen["error"] == error and words in seen["text"]


def test_without_pygobject_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gi", None)
    from edge_runtime.sources import open_source

    with pytest.raises(Unavailable, match="apt install python3-gi"):
        open_source("gst:videotestsrc", sample_fps=1.0, reconnect=False)


def test_a_csi_camera_is_named_by_its_sensor():
    assert "sensor-id=1 !" in make_csi_pipeline(1)
