"""Read Label Studio's JSON (not JSON-MIN): boxes and timelines of videos.

Frames are counted from 1 at the rate of the labelling setup's <Video>. Where a result says how many frames it
saw and that is the video's own number, they are the video's frames; else its duration gives the rate. Boxes
move evenly from key frame to key frame; a key frame that is not `enabled` is the last one until the next. The
newest annotation of a task that was not cancelled counts; predictions do not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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
from export.data.formats.reading import Flag, Foreign, Frame, JsonFile, Length, Name, Number, parse


class _Range(Foreign):
    start: Frame
    end: Frame


class _Key(Foreign):
    frame: Frame
    x: Number
    y: Number
    width: Annotated[Number, Field(gt=0)]
    height: Annotated[Number, Field(gt=0)]
    rotation: Number = 0.0
    enabled: Flag = True


class _Value(Foreign):
    framesCount: Annotated[int, Field(gt=0, le=10**9)] | None = None
    duration: Length | None = None
    ranges: list[Any] = Field(default_factory=list)
    sequence: list[Any] = Field(default_factory=list)
    labels: tuple[Name, ...] = ()
    timelinelabels: tuple[Name, ...] = ()
    videorectanglelabels: tuple[Name, ...] = ()


class _Result(Foreign):
    id: str | int = ""
    type: str = ""
    value: _Value = _Value()


class _Annotation(Foreign):
    was_cancelled: Flag = False
    result: list[Any] = Field(default_factory=list)


class _Task(Foreign):
    id: int | str = ""
    data: dict[str, Any] = Field(default_factory=dict)
    file_upload: str | None = None
    annotations: list[Any] = Field(default_factory=list)


def read_label_studio(path: Path, report: Report, options: ReadOptions) -> list[VideoAnnotations]:
    """Read an export of Label Studio. Raises InvalidFile."""
    file = JsonFile(path)
    if not isinstance(file.tree, list):
        raise file.error("expected Label Studio's list of tasks")
    videos = []
    for keys, value in file.items(file.tree):
        place = file.place(*keys)
        if task := parse(_Task, value, place, report):
            if not isinstance(value, dict) or "annotations" not in value:
                report.refuse(place, "has no annotations; export as JSON, not as JSON-MIN")
                continue
            video = VideoAnnotations(_list_hints(task), place, "frames", size=(100.0, 100.0))
            video.first_frame = 1 if options.first_frame is None else options.first_frame
            _Reader(file, report, video).read(task, keys)
            videos.append(video)
    return videos


def _list_hints(task: _Task) -> tuple[str, ...]:
    """Return the names of a task's video: what was uploaded, and the data that look like a path."""
    data = sorted(
        (value for value in task.data.values() if isinstance(value, str)),
        key=lambda value: "." not in value[-6:],
    )
    return tuple(hint[:500] for hint in (*data[:3], task.file_upload or "") if hint)


class _Reader:
    """Reader of the results of one task."""

    def __init__(self, file: JsonFile, report: Report, video: VideoAnnotations) -> None:
        self._file, self._report, self._video = file, report, video

    def read(self, task: _Task, keys: tuple[str | int, ...]) -> None:
        for at in reversed(range(len(task.annotations))):
            here = (*keys, "annotations", at)
            annotation = parse(_Annotation, task.annotations[at], self._file.place(*here), self._report)
            if annotation is None or annotation.was_cancelled:
                continue
            if at:
                self._report.note(
                    self._file.place(*here), "of several annotations of a task the newest counts"
                )
            for path, value in self._file.items(annotation.result, *here, "result"):
                if result := parse(_Result, value, self._file.place(*path), self._report):
                    self._read_result(result, path)
            return

    def _read_result(self, result: _Result, keys: tuple[str | int, ...]) -> None:
        place, value = self._file.place(*keys), result.value
        labels = value.labels or value.timelinelabels or value.videorectanglelabels
        if value.framesCount and value.duration:
            self._video.frame_count, self._video.duration = value.framesCount, value.duration
        if not value.sequence and not value.ranges:
            self._report.note(place, f"a result of type {result.type!r:.40} was left out")
        elif not labels:
            self._report.note(place, "a region without a label was left out")
        elif value.ranges:
            for path, item in self._file.items(value.ranges, *keys, "value", "ranges"):
                span = parse(_Range, item, self._file.place(*path), self._report)
                if span is not None and span.end < span.start:
                    self._report.refuse(
                        self._file.place(*path), f"end {span.end} is before start {span.start}"
                    )
                elif span is not None:
                    self._video.spans.append(Span(labels, span.start, span.end + 1, self._file.place(*path)))
        else:
            self._read_sequence(value, labels, result, keys)

    def _read_sequence(
        self, value: _Value, labels: tuple[str, ...], result: _Result, keys: tuple[str | int, ...]
    ) -> None:
        place = self._file.place(*keys)
        name = str(result.id) or f"{labels[0]} {len(self._video.tracks)}"
        if any(track.name == name for track in self._video.tracks):
            self._report.refuse(place, f"region {name!r:.60} is there twice; ids must differ")
            return
        boxes: dict[int, tuple[_Key, Place]] = {}
        for path, item in self._file.items(value.sequence, *keys, "value", "sequence"):
            here = self._file.place(*path)
            key = parse(_Key, item, here, self._report)
            if key is not None and key.frame in boxes:
                self._report.refuse(here, f"region {name!r:.60} has two key frames at {key.frame}")
            elif key is not None:
                boxes[key.frame] = key, here
        track = Track(name, labels, place)
        for frame in sorted(boxes):
            key, here = boxes[frame]
            if key.rotation % 360:
                self._report.note(here, "the turn of a box was left aside")
            box = PictureBox(key.x, key.y, key.x + key.width, key.y + key.height)
            track.keys.append(BoxKey(frame, box, here))
            if not key.enabled and frame + 1 not in boxes:
                track.keys.append(BoxKey(frame + 1, None, here))
        if track.keys:
            self._video.tracks.append(track)
