"""Write CVAT's XML 1.1 for video, so that annotations and answers can be corrected in CVAT.

CVAT's video tasks know nothing but boxes, so what has no box becomes a box of the whole picture.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import XMLGenerator
from xml.sax.xmlreader import AttributesImpl

from export.data.records import Box, Video


@dataclass(frozen=True)
class FrameBox:
    """A box from a frame on; None where nothing is to be seen from then on."""

    frame: int
    box: Box | None


@dataclass(frozen=True)
class LabelledTrack:
    """Boxes in order of their frames, and values of attributes by name."""

    label: str
    boxes: Sequence[FrameBox]
    attributes: dict[str, str] = field(default_factory=dict)


def format_cvat(video: Video, frames: int, tracks: Iterable[LabelledTrack]) -> bytes:
    """Return the XML of one task: a video with so many frames, and its tracks."""
    out = io.BytesIO()
    writer = _Writer(out)
    tracks = list(tracks)
    with_values = {(track.label, name) for track in tracks for name in track.attributes}
    writer.open("annotations")
    writer.text("version", "1.1")
    writer.open("meta")
    writer.open("task")
    writer.text("name", video.video)
    writer.text("size", str(frames))
    writer.text("mode", "interpolation")
    writer.text("start_frame", "0")
    writer.text("stop_frame", str(frames - 1))
    writer.open("labels")
    for label in dict.fromkeys(track.label for track in tracks):
        writer.open("label")
        writer.text("name", label)
        writer.open("attributes")
        for name in sorted(name for owner, name in with_values if owner == label):
            writer.open("attribute")
            for key, value in (("name", name), ("mutable", "False"), ("input_type", "text")):
                writer.text(key, value)
            writer.close("attribute")
        writer.close("attributes")
        writer.close("label")
    writer.close("labels")
    writer.open("original_size")
    writer.text("width", str(video.width))
    writer.text("height", str(video.height))
    writer.close("original_size")
    writer.text("source", video.video)
    writer.close("task")
    writer.close("meta")
    for number, track in enumerate(tracks):
        _write_track(writer, number, track, video)
    writer.close("annotations")
    writer.finish()
    return out.getvalue()


def _write_track(writer: _Writer, number: int, track: LabelledTrack, video: Video) -> None:
    writer.open("track", id=str(number), label=track.label, source="file")
    last: Box | None = None
    for at in track.boxes:
        box = at.box or last
        if box is None:
            continue
        sides = zip(("xtl", "ytl", "xbr", "ybr"), box, (video.width, video.height) * 2, strict=True)
        pixels = {name: f"{side * length:.2f}" for name, side, length in sides}
        outside = "1" if at.box is None else "0"
        writer.open(
            "box", frame=str(at.frame), keyframe="1", outside=outside, occluded="0", **pixels, z_order="0"
        )
        for name, value in track.attributes.items():
            writer.text("attribute", value, name=name)
        writer.close("box")
        last = box
    writer.close("track")


class _Writer:
    """Indented XML."""

    def __init__(self, out: io.BytesIO) -> None:
        self._xml, self._depth = XMLGenerator(out, "utf-8"), 0
        self._xml.startDocument()

    def open(self, tag: str, **attributes: str) -> None:
        self._indent()
        self._xml.startElement(tag, AttributesImpl(attributes))
        self._depth += 1

    def close(self, tag: str) -> None:
        self._depth -= 1
        self._indent()
        self._xml.endElement(tag)

    def text(self, tag: str, text: str, **attributes: str) -> None:
        """Write an element that holds text."""
        self._indent()
        self._xml.startElement(tag, AttributesImpl(attributes))
        self._xml.characters(text)
        self._xml.endElement(tag)

    def finish(self) -> None:
        self._xml.characters("\n")
        self._xml.endDocument()

    def _indent(self) -> None:
        self._xml.ignorableWhitespace("\n" + "  " * self._depth)
