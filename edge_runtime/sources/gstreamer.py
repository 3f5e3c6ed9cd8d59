"""Read GStreamer pipelines, as for CSI cameras of a Jetson, through PyGObject's appsink.

PyGObject is a system package (`python3-gi`), not a wheel, and the OpenCV wheel has no GStreamer; so this is
optional and imported when it is used. `csi://N` needs nvarguscamerasrc, which only JetPack has: its pipeline
below follows NVIDIA's documentation and has not been run by us.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import Frame
from edge_runtime.sources.base import BaseSource, Refused, Unsupported
from edge_runtime.sources.clocks import SampleClock
from edge_runtime.sources.failures import explain_pipeline
from edge_runtime.system.secrets import hide_secrets, show_source
from engines.errors import LvmError

NANOSECOND = 1e-9
POLL_NS = 200_000_000
"""How often a waiting iteration checks whether it was closed."""
CSI = (
    "nvarguscamerasrc sensor-id={sensor} ! video/x-raw(memory:NVMM),width=1920,height=1080,framerate=30/1 "
    "! nvvidconv ! video/x-raw,format=BGRx"
)
# The gate lets only sampled pictures through to the conversion.
TAIL = (
    " ! identity name=lvm_gate ! videoconvert ! video/x-raw,format=RGB "
    "! appsink name=lvm_sink sync=false max-buffers=2 drop=false"
)


class GStreamerSource(BaseSource):
    """Frames of a GStreamer pipeline that ends in raw video; our appsink is appended to it.

    Times are the buffers' presentation times from the first picture, plus `start`. Raises Unavailable without
    PyGObject or where an element is not installed; iterating raises LvmError for what the pipeline reports
    and for `stall_timeout` seconds without a picture.
    """

    def __init__(
        self,
        description: str,
        *,
        sample_fps: float,
        start: float = 0.0,
        stall_timeout: float = 20.0,
        name: str | None = None,
    ) -> None:
        super().__init__(name or show_source(f"gst:{description}"), live=True)
        self._gst, self._glib = load_gstreamer()
        self._description, self._sample_fps, self._start = description, sample_fps, start
        self._stall_ns = int(stall_timeout / NANOSECOND)
        self._clock = SampleClock(sample_fps)
        self._first_pts: int | None = None
        self._sampled: set[int] = set()
        """Times of sampled buffers between gate and sink; pictures for a viewer only are there too."""

    def __iter__(self) -> Iterator[Frame]:
        self._clock, self._first_pts, self._sampled = SampleClock(self._sample_fps), None, set()
        pipeline = self._parse()
        gate = pipeline.get_by_name("lvm_gate").get_static_pad("src")
        gate.add_probe(self._gst.PadProbeType.BUFFER, self._filter)
        pipeline.set_state(self._gst.State.PLAYING)
        try:
            yield from self._frames(pipeline)
        finally:
            pipeline.set_state(self._gst.State.NULL)

    def _parse(self) -> Any:
        try:
            return self._gst.parse_launch(self._description + TAIL)
        except self._glib.Error as error:
            text = hide_secrets(error.message)
            if error.matches(self._gst.parse_error_quark(), self._gst.ParseError.NO_SUCH_ELEMENT):
                raise Unsupported(f"{self.name}: {text}; install the GStreamer plugin that has it") from None
            raise Refused(
                f"{self.name} is no pipeline that GStreamer understands: {explain_pipeline(text)}"
            ) from None

    def _filter(self, _pad: Any, info: Any) -> Any:
        """Drop pictures that nobody needs behind the gate. Called in GStreamer's streaming thread."""
        self.tally.seen += 1
        probe, pts = self._gst.PadProbeReturn, info.get_buffer().pts
        if self._clock.accept(self._to_seconds(pts)):
            self._sampled.add(pts)
            return probe.OK
        # Without a time it could not be distinguished from a sampled picture behind the gate.
        return probe.OK if pts != self._gst.CLOCK_TIME_NONE and self.has_viewer else probe.DROP

    def _to_seconds(self, pts: int) -> float:
        if pts == self._gst.CLOCK_TIME_NONE:
            pts = time.monotonic_ns()  # an element without times gives pictures as they come
        if self._first_pts is None:
            self._first_pts = pts
        return self._start + (pts - self._first_pts) * NANOSECOND

    def _frames(self, pipeline: Any) -> Iterator[Frame]:
        sink, bus = pipeline.get_by_name("lvm_sink"), pipeline.get_bus()
        waited = 0
        seen = self.seen
        while not self.closed:
            sample = sink.emit("try-pull-sample", POLL_NS)
            if sample is not None:
                pts = sample.get_buffer().pts
                frame = Frame(to_rgb(sample), self._to_seconds(pts))
                self.show(frame)
                if pts == self._gst.CLOCK_TIME_NONE or pts in self._sampled:
                    self._sampled.discard(pts)
                    yield replace(frame, period=self._clock.frame_period)
            elif self._is_ended(bus, sink):
                return
            waited = 0 if self.seen > seen else waited + POLL_NS
            seen = self.seen
            if waited > self._stall_ns:
                raise LvmError(f"{self.name} gave no picture for {self._stall_ns * NANOSECOND:.0f} s")

    def _is_ended(self, bus: Any, sink: Any) -> bool:
        message = bus.pop_filtered(self._gst.MessageType.ERROR)
        if message is not None:
            raise LvmError(
                f"{self.name} failed: {explain_pipeline(hide_secrets(message.parse_error()[0].message))}"
            )
        return bool(sink.get_property("eos"))


def make_csi_pipeline(sensor: int) -> str:
    """Return the pipeline of a Jetson's CSI camera."""
    return CSI.format(sensor=sensor)


def find_gstreamer() -> tuple[Any, Any]:
    """Return the modules Gst, not initialised, and GLib. Raises Unsupported, which says what to install."""
    try:
        gi = importlib.import_module("gi")
        gi.require_version("Gst", "1.0")
        glib = importlib.import_module("gi.repository.GLib")
        gst = importlib.import_module("gi.repository.Gst")
    except (ImportError, ValueError):
        raise Unsupported(
            "GStreamer for Python is not installed for this interpreter: apt install python3-gi "
            "gir1.2-gstreamer-1.0 gstreamer1.0-plugins-base, and create the virtual environment "
            "with --system-site-packages"
        ) from None
    return gst, glib


def load_gstreamer() -> tuple[Any, Any]:
    """Return the modules Gst, initialised, and GLib. Raises as `find_gstreamer`."""
    gst, glib = find_gstreamer()
    gst.init(None)
    return gst, glib


def to_rgb(sample: Any) -> NDArray[np.uint8]:
    """Return a sample in RGB caps as (H, W, 3) uint8; GStreamer pads its rows to multiples of four bytes."""
    caps = sample.get_caps().get_structure(0)
    width, height = caps.get_value("width"), caps.get_value("height")
    buffer = sample.get_buffer()
    rows = np.frombuffer(buffer.extract_dup(0, buffer.get_size()), np.uint8).reshape(height, -1)
    return np.array(rows[:, : width * 3].reshape(height, width, 3))  # a copy: the bytes are read-only
