"""Sources of frames: cameras, streams, files, folders and the demo.

`open_source` opens what a user gives as `--source`.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from typing import Protocol

from edge_runtime.frame import Frame
from edge_runtime.sources.base import Source
from edge_runtime.sources.live_source import DEFAULT_SUPERVISION, LiveSource, Supervision
from edge_runtime.sources.spec import (
    CAMERA,
    CSI,
    DEMO,
    FOLLOW,
    GSTREAMER,
    canonicalise,
    is_demo,
    is_live,
    is_network,
    require_path,
    tidy,
    to_path,
)
from edge_runtime.system.secrets import MASK, show_source
from engines.errors import LvmError

_loading = threading.Lock()

__all__ = ["Opener", "canonicalise", "is_demo", "is_live", "is_network", "open_source", "read_frame_at"]


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
    spec = tidy(spec)
    _load_decoder(spec)
    if is_network(spec):
        return _open_network(spec, sample_fps, start, reconnect, settings)
    if reconnect and is_live(spec):

        def open_local(at: float) -> Source:
            return open_source(spec, sample_fps=sample_fps, start=at, reconnect=False, settings=settings)

        return LiveSource(open_local, spec, sample_fps=sample_fps, start=start, settings=settings)
    for pattern, opener in OPENERS:
        if re.match(pattern, spec):
            return opener(spec, sample_fps, start, settings)
    return _open_path(spec, sample_fps, start, settings)


def read_frame_at(spec: str, t: float, *, settings: Supervision = DEFAULT_SUPERVISION) -> Frame:
    """Return the picture that `spec` showed at `t` seconds. Raises LvmError where it cannot be read again.

    An address can be read again where it is of the kind `recording`.
    """
    spec = tidy(spec)
    _load_decoder(spec)
    is_recording = settings.kind == "recording" and is_network(spec)
    if MASK in spec and (is_recording or not is_live(spec)):
        raise LvmError(
            f"{spec} is kept without what may be secret, so it cannot be read again; ask the lvm-edge "
            "that watches it (--url), or name an image"
        )
    if is_recording:
        from edge_runtime.sources.network import RecordedStream

        with RecordedStream(spec, sample_fps=1.0, settings=settings) as stream:
            return stream.frame_at(t)
    if is_live(spec):
        raise LvmError(f"{show_source(spec)} is live: what it showed at {t:g} s is gone")
    if is_demo(spec):
        from edge_runtime.sources.demo import parse_demo

        return parse_demo(spec).frame_at(t)
    from edge_runtime.sources.folder import is_image
    from edge_runtime.sources.recorder import RecorderFolder, is_recorder
    from edge_runtime.sources.video import VideoFile

    if is_recorder(to_path(spec)):
        with RecorderFolder(to_path(spec), sample_fps=1.0, epoch=settings.epoch) as recorder:
            return recorder.frame_at(t)
    path = require_path(spec)
    if path.is_dir() or is_image(path):
        raise LvmError(f"{path}: a picture of a folder is its own object image; name it with --object")
    with VideoFile(path, sample_fps=1.0, track=settings.video_track) as video:
        return video.frame_at(t)


def _load_decoder(spec: str) -> None:
    """Import PyAV for a source that needs it, in one thread at a time.

    Cameras open their sources side by side, and its modules import each other in circles: threads that met
    in them saw half of it, and no source could be opened until the process was started again.
    """
    if not is_demo(spec):
        with _loading:
            import edge_runtime.sources.decoding  # noqa: F401


def _open_network(
    spec: str, sample_fps: float, start: float, reconnect: bool, settings: Supervision
) -> Source:
    from edge_runtime.sources.network import NetworkStream, RecordedStream, probe

    if settings.kind == "recording":
        return RecordedStream(spec, sample_fps=sample_fps, start=start, settings=settings)
    if not reconnect:
        return NetworkStream(spec, sample_fps=sample_fps, start=start, settings=settings)
    return LiveSource(
        lambda at: NetworkStream(spec, sample_fps=sample_fps, start=at, settings=settings),
        spec,
        sample_fps=sample_fps,
        start=start,
        settings=settings,
        probe=lambda attempt: probe(spec, attempt),
    )


def _open_camera(spec: str, sample_fps: float, start: float, settings: Supervision) -> Source:
    from edge_runtime.sources.camera import open_camera

    return open_camera(int(spec) if spec.isdecimal() else spec, sample_fps=sample_fps, start=start)


def _open_gstreamer(spec: str, sample_fps: float, start: float, settings: Supervision) -> Source:
    from edge_runtime.sources.gstreamer import GStreamerSource

    return GStreamerSource(spec.removeprefix("gst:"), sample_fps=sample_fps, start=start)


def _open_csi(spec: str, sample_fps: float, start: float, settings: Supervision) -> Source:
    from edge_runtime.sources.gstreamer import GStreamerSource, make_csi_pipeline

    sensor = int(spec.removeprefix("csi://"))
    return GStreamerSource(make_csi_pipeline(sensor), sample_fps=sample_fps, start=start, name=spec)


def _open_demo(spec: str, sample_fps: float, start: float, settings: Supervision) -> Source:
    from edge_runtime.sources.demo import open_demo

    return open_demo(spec, sample_fps=sample_fps, start=start)


def _open_growing(spec: str, sample_fps: float, start: float, settings: Supervision) -> Source:
    from edge_runtime.sources.folder import ImageFolder
    from edge_runtime.sources.growing_file import GrowingVideo

    if (recorder := _open_recorder(to_path(spec), sample_fps, start, settings, follow=True)) is not None:
        return recorder
    path = require_path(spec)
    if path.is_dir():
        return ImageFolder(path, sample_fps=sample_fps, start=start, follow=True, bookmark=settings.bookmark)
    return GrowingVideo(path, sample_fps=sample_fps, start=start, track=settings.video_track)


def _open_recorder(
    spec: str, sample_fps: float, start: float, settings: Supervision, *, follow: bool
) -> Source | None:
    """Return a recorder's folder, pattern or list; None where `spec` is another source."""
    from edge_runtime.sources.recorder import RecorderFolder, is_recorder

    spec = os.path.expanduser(spec)
    if not is_recorder(spec):
        return None
    track, epoch = settings.video_track, settings.epoch
    return RecorderFolder(spec, sample_fps=sample_fps, start=start, epoch=epoch, follow=follow, track=track)


def _open_path(spec: str, sample_fps: float, start: float, settings: Supervision) -> Source:
    from edge_runtime.sources.folder import ImageFolder, is_image
    from edge_runtime.sources.video import VideoFile

    if (recorder := _open_recorder(to_path(spec), sample_fps, start, settings, follow=False)) is not None:
        return recorder
    path = require_path(spec)
    if path.is_dir() or is_image(path):
        return ImageFolder(path, sample_fps=sample_fps, start=start, bookmark=settings.bookmark)
    return VideoFile(path, sample_fps=sample_fps, start=start, track=settings.video_track)


# The first match wins; a spec that matches nothing is a path.
OPENERS: tuple[tuple[str, Callable[[str, float, float, Supervision], Source]], ...] = (
    (CAMERA, _open_camera),
    (GSTREAMER, _open_gstreamer),
    (CSI, _open_csi),
    (DEMO, _open_demo),
    (FOLLOW, _open_growing),
)
