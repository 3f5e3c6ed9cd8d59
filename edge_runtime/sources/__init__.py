"""Where frames come from. `open_source` takes what a person writes after `--source`."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

from edge_runtime.sources.base import Source, redacted
from engines.errors import LvmError

KINDS = (
    "a camera number or /dev/video*, an rtsp://, http:// or udp:// address, csi://N, gst:PIPELINE, demo, "
    "a video file, an image or a folder of images"
)
Opener = Callable[[str, float, float], Source]


def open_source(spec: str, *, sample_fps: float, start: float = 0.0) -> Source:
    """The source that `spec` names, giving `sample_fps` frames a second from `start` seconds on.

    Files continue at `start`; live sources begin to count there. Raises LvmError where `spec` names nothing
    that can be read, Missing where this machine lacks what it takes.
    """
    for pattern, opener in OPENERS:
        if re.match(pattern, spec):
            return opener(spec, sample_fps, start)
    return _path(spec, sample_fps, start)


def _camera(spec: str, sample_fps: float, start: float) -> Source:
    from edge_runtime.sources.camera import open_camera

    return open_camera(int(spec) if spec.isdecimal() else spec, sample_fps=sample_fps, start=start)


def _network(spec: str, sample_fps: float, start: float) -> Source:
    from edge_runtime.sources.network import NetworkStream

    return NetworkStream(spec, sample_fps=sample_fps, start=start)


def _gstreamer(spec: str, sample_fps: float, start: float) -> Source:
    from edge_runtime.sources.gstreamer import Pipeline

    return Pipeline(spec.removeprefix("gst:"), sample_fps=sample_fps, start=start)


def _csi(spec: str, sample_fps: float, start: float) -> Source:
    from edge_runtime.sources.gstreamer import Pipeline, csi_pipeline

    sensor = int(spec.removeprefix("csi://"))
    return Pipeline(csi_pipeline(sensor), sample_fps=sample_fps, start=start, name=spec)


def _demo(spec: str, sample_fps: float, start: float) -> Source:
    # By name: the world that the demo shows is the one part of the runtime that can be left out.
    demo = importlib.import_module("edge_runtime.sources.demo")
    source: Source = demo.open_demo(spec, sample_fps=sample_fps, start=start)
    return source


def _file_url(spec: str, sample_fps: float, start: float) -> Source:
    return _path(unquote(spec.removeprefix("file://")), sample_fps, start)


def _path(spec: str, sample_fps: float, start: float) -> Source:
    path = Path(os.path.expanduser(spec))
    # Not path.exists(): it raises for names that are too long or hold a null byte.
    if not spec or not os.path.exists(path):
        raise LvmError(f"there is no source {redacted(spec)!r}: expected {KINDS}")
    from edge_runtime.sources.folder import ImageFolder, is_image
    from edge_runtime.sources.video import VideoFile

    kind = ImageFolder if path.is_dir() or is_image(path) else VideoFile
    return kind(path, sample_fps=sample_fps, start=start)


# First match wins; what matches nothing is a path.
OPENERS: tuple[tuple[str, Opener], ...] = (
    (r"\d+$|/dev/video", _camera),
    (r"(rtsps?|https?|udp)://", _network),
    (r"gst:", _gstreamer),
    (r"csi://\d+$", _csi),
    (r"demo($|[:?])", _demo),
    (r"file://", _file_url),
)
