"""Where frames come from. `open_source` takes what a person writes after `--source`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

from edge_runtime.frame import Frame
from edge_runtime.sources.base import Source
from edge_runtime.sources.supervised import Supervised
from edge_runtime.sources.supervision_settings import DEFAULT, Supervision
from edge_runtime.system.secrets import redacted
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
    """As `open_source`."""

    def __call__(self, spec: str, *, sample_fps: float, start: float, settings: Supervision) -> Source: ...


def open_source(
    spec: str,
    *,
    sample_fps: float,
    start: float = 0.0,
    supervised: bool = True,
    settings: Supervision = DEFAULT,
) -> Source:
    """The source that `spec` names, giving `sample_fps` frames a second from `start` seconds on.

    Files continue at `start`; live sources begin to count there. A live source is `Supervised`: it is opened
    again for as long as it takes, and its `status` says how it is. Raises LvmError where `spec` names nothing
    that can be read; with `supervised=False` also what opening and iterating a live source raise, Missing
    where this machine lacks what it takes.
    """
    if supervised and is_live(spec):
        return _supervised(spec, sample_fps, start, settings)
    for pattern, opener in OPENERS:
        if re.match(pattern, spec):
            return opener(spec, sample_fps, start)
    return _path(spec, sample_fps, start)


def is_live(spec: str) -> bool:
    """Whether `spec` names something that goes on without us: it cannot be read again."""
    return re.match(_LIVE, spec) is not None


def is_demo(spec: str) -> bool:
    """Whether `spec` is the checkout world, which knows what really happened."""
    return re.match(_DEMO, spec) is not None


def canonical(spec: str) -> str:
    """The same source by one name from wherever it is started: paths become absolute.

    Raises LvmError for a name that is no text: states and answers name their source in JSON.
    """
    try:
        spec.encode()
    except UnicodeEncodeError:
        raise LvmError(
            f"{ascii(spec)}: the name of a source must be valid UTF-8; rename it, or make a link to it"
        ) from None
    if is_live(spec) or is_demo(spec):
        return spec
    path = os.path.abspath(os.path.expanduser(_path_of(spec)))
    return f"follow:{path}" if re.match(_FOLLOW, spec) else path


def frame_at(spec: str, t: float) -> Frame:
    """The picture that `spec` showed at `t` seconds. Raises LvmError where it cannot be had again."""
    if is_live(spec):
        raise LvmError(f"{redacted(spec)} is live: what it showed at {t:g} s is gone")
    if is_demo(spec):
        from edge_runtime.sources.demo import parse_demo

        return parse_demo(spec).shown_at(t)
    from edge_runtime.sources.folder import is_image
    from edge_runtime.sources.video import frame_at as shown_in_video

    path = _existing(spec)
    if path.is_dir() or is_image(path):
        raise LvmError(f"{path}: a picture of a folder is its own object image; name it with --object")
    return shown_in_video(path, t)


def _supervised(spec: str, sample_fps: float, start: float, settings: Supervision) -> Supervised:
    def opened(at: float) -> Source:
        return open_source(spec, sample_fps=sample_fps, start=at, supervised=False)

    if not re.match(_NETWORK, spec):
        return Supervised(opened, spec, sample_fps=sample_fps, start=start, settings=settings)
    from edge_runtime.sources.network import NetworkStream, probe

    def connected(at: float) -> Source:
        timeouts = (settings.open_timeout_s, settings.read_timeout_s)
        return NetworkStream(
            spec, sample_fps=sample_fps, start=at, open_timeout=timeouts[0], read_timeout=timeouts[1]
        )

    return Supervised(
        connected,
        spec,
        sample_fps=sample_fps,
        start=start,
        settings=settings,
        probe=lambda attempt: probe(spec, attempt),
    )


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
    from edge_runtime.sources.demo import open_demo

    return open_demo(spec, sample_fps=sample_fps, start=start)


def _file_url(spec: str, sample_fps: float, start: float) -> Source:
    return _path(_path_of(spec), sample_fps, start)


def _follow(spec: str, sample_fps: float, start: float) -> Source:
    from edge_runtime.sources.growing_file import GrowingVideo

    return GrowingVideo(_existing(spec), sample_fps=sample_fps, start=start)


def _path(spec: str, sample_fps: float, start: float) -> Source:
    from edge_runtime.sources.folder import ImageFolder, is_image
    from edge_runtime.sources.video import VideoFile

    path = _existing(spec)
    kind = ImageFolder if path.is_dir() or is_image(path) else VideoFile
    return kind(path, sample_fps=sample_fps, start=start)


def _path_of(spec: str) -> str:
    spec = spec.removeprefix("follow:")
    return unquote(spec.removeprefix("file://")) if re.match(_FILE, spec) else spec


def _existing(spec: str) -> Path:
    # os.path, not Path: the latter raises for names that are too long, or of an unknown user.
    path = Path(os.path.expanduser(_path_of(spec)))
    if not spec or not os.path.exists(path):
        raise LvmError(f"there is no source {redacted(spec)!r}: expected {KINDS}")
    return path


# First match wins; what matches nothing is a path.
OPENERS: tuple[tuple[str, Callable[[str, float, float], Source]], ...] = (
    (_CAMERA, _camera),
    (_NETWORK, _network),
    (_GSTREAMER, _gstreamer),
    (_CSI, _csi),
    (_DEMO, _demo),
    (_FILE, _file_url),
    (_FOLLOW, _follow),
)
