"""Read projects of the VGG Image Annotator 3 (JSON): segments of time and regions of frames, in seconds.

Every value of an attribute is a label: the option's text, or what was typed. A region stands for its moment
only. Of shapes that are no rectangles the box around them counts; points have none and are left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from export.data.formats.forms import (
    BoxKey,
    PictureBox,
    Place,
    ReadOptions,
    Report,
    Span,
    Track,
    VideoAnnotations,
)
from export.data.formats.reading import Foreign, JsonFile, Number, Time, parse

RECTANGLES = (2, 8)
CIRCLE, ELLIPSE, OUTLINES = (3, 9), (4,), (5, 6, 7)
VIDEO, AUDIO = 4, 8
GAP_S = 1.001
"""Regions of one label at most this far apart belong together."""


class _Attribute(Foreign):
    aname: str = ""
    type: int = 1
    options: dict[str, str] = Field(default_factory=dict)


class _File(Foreign):
    fname: str = ""
    src: str = ""
    type: int = VIDEO


class _View(Foreign):
    fid_list: tuple[str | int, ...]


class _Metadata(Foreign):
    vid: str | int
    z: tuple[Time, ...] = ()
    xy: tuple[Number, ...] = ()
    av: dict[str, Any] = Field(default_factory=dict)


def read_via(path: Path, report: Report, options: ReadOptions) -> list[VideoAnnotations]:
    """Read a project of VIA 3. Raises InvalidFile."""
    file = JsonFile(path)
    if not isinstance(file.tree, dict) or not {"metadata", "file", "view"} <= set(file.tree):
        old = isinstance(file.tree, dict) and "_via_img_metadata" in file.tree
        raise file.error(
            "is a project of VIA 2, which has no time; expected VIA 3" if old
            else "expected VIA 3's project with file, view and metadata"
        )  # fmt: skip
    attributes = _read_table(file, "attribute", _Attribute, report)
    files, views = _read_table(file, "file", _File, report), _read_table(file, "view", _View, report)
    videos: dict[str, VideoAnnotations] = {}
    tracks: dict[tuple[str, tuple[str, ...]], Track] = {}
    for keys, value in file.items(file.tree["metadata"], "metadata"):
        place = file.place(*keys)
        entry = parse(_Metadata, value, place, report)
        if entry is None:
            continue
        view = views.get(str(entry.vid))
        media = files.get(str(view.fid_list[0])) if view and view.fid_list else None
        if media is None:
            report.refuse(place, f"vid {entry.vid!r:.40} leads to no view with a file")
            continue
        if media.type == AUDIO:
            report.note(place, "what is about audio was left out")
            continue
        video = videos.setdefault(
            str(entry.vid),
            VideoAnnotations(tuple(hint for hint in (media.src, media.fname) if hint), place, "seconds"),
        )
        labels = _list_labels(entry, attributes, place, report)
        if labels:
            _add(entry, labels, video, tracks, place, report)
    for track in tracks.values():
        track.keys.sort(key=lambda key: key.at)
    return list(videos.values())


def _read_table(file: JsonFile, name: str, kind: Any, report: Report) -> dict[str, Any]:
    entries = (
        (keys[-1], parse(kind, value, file.place(*keys), report))
        for keys, value in file.items(file.tree.get(name, {}), name)
    )
    return {str(key): entry for key, entry in entries if entry is not None}


def _list_labels(
    entry: _Metadata, attributes: dict[str, _Attribute], place: Place, report: Report
) -> tuple[str, ...]:
    """Return the values of the attributes, options by their text; ticked boxes are separated by commas."""
    labels = []
    for number, value in entry.av.items():
        attribute = attributes.get(number)
        texts = [str(value)] if attribute is None or not attribute.options else str(value).split(",")
        for text in texts:
            label = (attribute.options.get(text, text) if attribute else text).strip()
            if label:
                labels.append(label[:200])
    if not labels:
        report.note(place, "what has no value of an attribute was left out")
    return tuple(labels)


def _add(
    entry: _Metadata, labels: tuple[str, ...], video: VideoAnnotations,
    tracks: dict[tuple[str, tuple[str, ...]], Track], place: Place, report: Report,
) -> None:  # fmt: skip
    if not entry.z:
        report.note(place, "what is about a whole file or a picture was left out")
    elif entry.xy:
        box = _find_box(entry.xy, place, report)
        if box is None:
            return
        if len(entry.z) > 1:
            report.note(place, "of a region with two times the first counts")
        key = (str(entry.vid), labels)
        if key not in tracks:
            name = f"{' '.join(labels)} {len(video.tracks)}"
            tracks[key] = Track(name, labels, place, gap=GAP_S, reach=0.0, moves=False)
            video.tracks.append(tracks[key])
        tracks[key].keys.append(BoxKey(entry.z[0], box, place))
    elif len(entry.z) == 1:
        report.note(place, "a moment without an end was left out")
    elif entry.z[-1] <= entry.z[0]:
        report.refuse(place, f"a segment must end after it starts, got {entry.z[0]:g} to {entry.z[-1]:g} s")
    else:
        video.spans.append(Span(labels, entry.z[0], entry.z[-1], place))


def _find_box(xy: tuple[float, ...], place: Place, report: Report) -> PictureBox | None:
    """Return the box around a shape, which begins with its kind; None after refusing or leaving it out."""
    kind, values = xy[0], xy[1:]
    if kind in RECTANGLES and len(values) == 4:
        return PictureBox(values[0], values[1], values[0] + values[2], values[1] + values[3])
    if kind in CIRCLE and len(values) == 3:
        x, y, radius = values
        return PictureBox(x - radius, y - radius, x + radius, y + radius)
    if kind in ELLIPSE and len(values) >= 4:
        x, y, across, up = values[:4]
        return PictureBox(x - across, y - up, x + across, y + up)
    if kind in OUTLINES and len(values) >= 4 and len(values) % 2 == 0:
        return PictureBox(min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2]))
    if kind == 1:
        report.note(place, "a point was left out")
    else:
        report.refuse(place, f"xy must be the kind of a shape and its numbers, got {list(xy)!r:.60}")
    return None
