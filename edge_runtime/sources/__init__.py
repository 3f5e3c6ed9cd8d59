"""Sources of frames: cameras, streams, files, folders and the demo.

`open_source` opens what a user gives as `--source`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

from edge_runtime.frame import Frame
from edge_runtime.sources.base import Source
from edge_runtime.sources.live_source import DEFAULT_SUPERVISION, LiveSource, Supervision
from edge_runtime.system.secrets import redact
from engines.errors import LvmError

KINDS = (
    "a camera number or /dev/video*, an rtsp://, http:// or udp:// address, csi://N, gst:PIPELINE, demo, "
    "a video file (follow:FILE while it grows), an image or a folder of images"
)

_CAMERA = r"\d+$|/dev/video"
_NETWORK = r"(rtsps?|https?|udp)://"
_GSTREAMER = r"gst:"
_CSI = r"csi://\d+$"
_DEMO = r"demo($|[:?])"
_FILE = r"file://"
_FOLLOW = r"follow:"
_LIVE = "|".join((_CAMERA, _NETWORK, _GSTREAMER, _CSI))


class Opener(Protocol):
    """The signature of `open_source`."""

    def __call__(self, spec: str, *, sample_fps: float, start: float, settings: Supervision) -> Source: ...


def open_source(
    spec: str,
    *,
    sample_fps: float,
    start: float = 0.0,
    reconnect: bool = True,
    settings: Supervision = DEFAULT_SUPERVISION,
) -> Source:
    """Open the source that `spec` names, with `sample_fps` frames a second from `start` seconds on.

    Files continue at `start`; live sources begin to count there. A live source is a `LiveSource`: it is
    opened again for as long as it takes, and its `status` says how it is. Raises LvmError where `spec` names
    nothing that can be read; with `reconnect=False` also what opening and iterating a live source raise,
    Unavailable where this machine lacks a driver or device.
    """
    if reconnect and is_live(spec):
        return _supervise(spec, sample_fps, start, settings)
    for pattern, opener in OPENERS:
        if re.match(pattern, spec):
            return opener(spec, sample_fps, start)
    return _open_path(spec, sample_fps, start)


def is_live(spec: str) -> bool:
    """Return whether `spec` names a source that cannot be read again: a camera or a network stream."""
    return re.match(_LIVE, spec) is not None


def is_demo(spec: str) -> bool:
    """Return whether `spec` is the checkout world, which has a ground truth."""
    return re.match(_DEMO, spec) is not None


def canonicalise(spec: str) -> str:
    """Return one name for a source, whatever folder it is started from: paths become absolute.

    Raises LvmError for a name that is not UTF-8: states and answers name their source in JSON.
    """
    try:
        spec.encode()
    except UnicodeEncodeError:
        raise LvmError(
            f"{ascii(spec)}: the name of a source must be valid UTF-8; rename it, or make a link to it"
        ) from None
    if is_live(spec) or is_demo(spec):
        return spec
    path = os.path.abspath(os.path.expanduser(_to_path(spec)))
    return f"follow:{path}" if re.match(_FOLLOW, spec) else path


def read_frame_at(spec: str, t: float) -> Frame:
    """Return the picture that `spec` showed at `t` seconds. Raises LvmError where it cannot be read again."""
    if is_live(spec):
        raise LvmError(f"{redact(spec)} is live: what it showed at {t:g} s is gone")
    if is_demo(spec):
        from edge_runtime.sources.demo import parse_demo

        return parse_demo(spec).frame_at(t)
    from edge_runtime.sources.folder import is_image
    from edge_runtime.sources.video import VideoFile

    path = _require_path(spec)
    if path.is_dir() or is_image(path):
        raise LvmError(f"{path}: a picture of a folder is its own object image; name it with --object")
    with VideoFile(path, sample_fps=1.0) as video:
        return video.frame_at(t)


def _supervise(spec: str, sample_fps: float, start: float, settings: Supervision) -> LiveSource:
    if not re.match(_NETWORK, spec):

        def open_local(at: float) -> Source:
            return open_source(spec, sample_fps=sample_fps, start=at, reconnect=False)

        return LiveSource(open_local, spec, sample_fps=sample_fps, start=start, settings=settings)
    from edge_runtime.sources.network import NetworkStream, probe

    def connect(at: float) -> Source:
        return NetworkStream(
            spec,
            sample_fps=sample_fps,
            start=at,
            open_timeout=settings.open_timeout_s,
            read_timeout=settings.read_timeout_s,
        )

    return LiveSource(
        connect,
        spec,
        sample_fps=sample_fps,
        start=start,
        settings=settings,
        probe=lambda attempt: probe(spec, attempt),
    )


def _open_camera(spec: str, sample_fps: float, start: float) -> Source:
    from edge_runtime.sources.camera import open_camera

    return open_camera(int(spec) if spec.isdecimal() else spec, sample_fps=sample_fps, start=start)


def _open_network(spec: str, sample_fps: float, start: float) -> Source:
    from edge_runtime.sources.network import NetworkStream

    return NetworkStream(spec, sample_fps=sample_fps, start=start)


def _open_gstreamer(spec: str, sample_fps: float, start: float) -> Source:
    from edge_runtime.sources.gstreamer import GStreamerSource

    return GStreamerSource(spec.removeprefix("gst:"), sample_fps=sample_fps, start=start)


def _open_csi(spec: str, sample_fps: float, start: float) -> Source:
    from edge_runtime.sources.gstreamer import GStreamerSource, make_csi_pipeline

    sensor = int(spec.removeprefix("csi://"))
    return GStreamerSource(make_csi_pipeline(sensor), sample_fps=sample_fps, start=start, name=spec)


def _open_demo(spec: str, sample_fps: float, start: float) -> Source:
    from edge_runtime.sources.demo import open_demo

    return open_demo(spec, sample_fps=sample_fps, start=start)


def _open_file_url(spec: str, sample_fps: float, start: float) -> Source:
    return _open_path(_to_path(spec), sample_fps, start)


def _open_growing(spec: str, sample_fps: float, start: float) -> Source:
    from edge_runtime.sources.growing_file import GrowingVideo

    return GrowingVideo(_require_path(spec), sample_fps=sample_fps, start=start)


def _open_path(spec: str, sample_fps: float, start: float) -> Source:
    from edge_runtime.sources.folder import ImageFolder, is_image
    from edge_runtime.sources.video import VideoFile

    path = _require_path(spec)
    kind = ImageFolder if path.is_dir() or is_image(path) else VideoFile
    return kind(path, sample_fps=sample_fps, start=start)


def _to_path(spec: str) -> str:
    spec = spec.removeprefix("follow:")
    return unquote(spec.removeprefix("file://")) if re.match(_FILE, spec) else spec


def _require_path(spec: str) -> Path:
    # os.path, not Path: the latter raises for names that are too long or name an unknown user.
    path = Path(os.path.expanduser(_to_path(spec)))
    if not spec or not os.path.exists(path):
        raise LvmError(f"there is no source {redact(spec)!r}: expected {KINDS}")
    return path


# The first match wins; a spec that matches nothing is a path.
OPENERS: tuple[tuple[str, Callable[[str, float, float], Source]], ...] = (
    (_CAMERA, _open_camera),
    (_NETWORK, _open_network),
    (_GSTREAMER, _open_gstreamer),
    (_CSI, _open_csi),
    (_DEMO, _open_demo),
    (_FILE, _open_file_url),
    (_FOLLOW, _open_growing),
)
