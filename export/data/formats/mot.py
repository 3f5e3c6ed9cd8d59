"""Read the ground truth of the MOT challenge: `frame,id,left,top,width,height,use,class,visibility` a line.

Frames are counted from 1. `seqinfo.ini` beside or above gives name, rate and size; labels.txt the names of
classes. Lines whose `use` is 0 are distractors and left out. Less than half visible counts as occluded.
"""

from __future__ import annotations

import configparser
from pathlib import Path
from typing import Annotated

from pydantic import Field

from export.data.formats.forms import (
    BoxKey,
    InvalidFile,
    PictureBox,
    Place,
    ReadOptions,
    Report,
    Track,
    VideoAnnotations,
)
from export.data.formats.reading import (
    Foreign,
    Frame,
    Length,
    Number,
    find_stride,
    parse,
    read_csv,
    read_lines,
    read_text,
)

FIELDS = ("frame", "id", "left", "top", "width", "height", "use", "kind", "visibility")
KINDS = (
    "pedestrian", "person on vehicle", "car", "bicycle", "motorbike", "non motorised vehicle",
    "static person", "distractor", "occluder", "occluder on the ground", "occluder full", "reflection",
    "crowd",
)  # fmt: skip
"""Classes of MOT16 to MOT20, from 1."""
OCCLUDED_BELOW = 0.5


class _Line(Foreign):
    frame: Frame
    id: int = Field(le=10**9, ge=-1)
    left: Number
    top: Number
    width: Annotated[Number, Field(gt=0)]
    height: Annotated[Number, Field(gt=0)]
    use: Number = 1.0
    kind: int = Field(default=1, ge=-1, le=10**6)
    visibility: Number = 1.0


class _Sequence(Foreign):
    name: str = ""
    framerate: Length | None = None
    imwidth: Length | None = None
    imheight: Length | None = None
    seqlength: Annotated[int, Field(gt=0, le=10**9)] | None = None


def read_mot(path: Path, report: Report, options: ReadOptions) -> list[VideoAnnotations]:
    """Read gt.txt, or every gt.txt below a folder. Raises InvalidFile."""
    files = sorted(path.rglob("gt.txt")) if path.is_dir() else [path]
    if not files:
        raise InvalidFile(Place(path), "holds no gt.txt")
    return [_read_file(file, report, options) for file in files]


def _read_file(path: Path, report: Report, options: ReadOptions) -> VideoAnnotations:
    folders = (path.parent, path.parent.parent)
    sequence = _read_sequence(
        next((folder / "seqinfo.ini" for folder in folders if (folder / "seqinfo.ini").is_file()), None),
        report,
    )
    names = next(
        (
            [line for _, line in read_lines(folder / "labels.txt")]
            for folder in folders
            if (folder / "labels.txt").is_file()
        ),
        list(KINDS),
    )
    size = (sequence.imwidth, sequence.imheight) if sequence.imwidth and sequence.imheight else None
    stem = path.parent.parent.name if path.stem == "gt" and path.parent.name == "gt" else path.stem
    video = VideoAnnotations(
        tuple(hint for hint in (sequence.name, stem) if hint and hint != "gt"), Place(path), "frames",
        size=size,         first_frame=1 if options.first_frame is None else options.first_frame,
    )  # fmt: skip
    if sequence.seqlength and sequence.framerate:  # it may be of the video at another rate
        video.frame_count, video.duration = sequence.seqlength, sequence.seqlength / sequence.framerate
    tracks: dict[int, Track] = {}
    keys: dict[int, dict[int, BoxKey]] = {}
    frames = set()
    for place, row in read_csv(path):
        line = parse(_Line, dict(zip(FIELDS, row, strict=False)), place, report)
        if line is None:
            continue
        frames.add(line.frame)
        if line.use == 0:
            report.note(place, "a line that is not to be considered (its seventh number is 0) was left out")
            continue
        label = names[line.kind - 1] if 1 <= line.kind <= len(names) else "object" if line.kind == -1 else ""
        if not label:
            report.refuse(place, f"class {line.kind} has no name; known are 1 to {len(names)}")
            continue
        track = tracks.setdefault(line.id, Track(f"{label} {line.id}", (label,), place, reach=1.0))
        if track.labels != (label,):
            report.refuse(place, f"object {line.id} is a {label} here and was a {track.labels[0]} before")
            continue
        box = PictureBox(line.left, line.top, line.left + line.width, line.top + line.height)
        key = BoxKey(line.frame, box, place, occluded=line.visibility < OCCLUDED_BELOW)
        if line.frame in keys.setdefault(line.id, {}):
            report.refuse(place, f"object {line.id} has two boxes at frame {line.frame}")
            continue
        keys[line.id][line.frame] = key
    stride = find_stride(frames)
    for number, track in tracks.items():
        track.keys, track.gap = [key for _, key in sorted(keys[number].items())], stride
    video.tracks = list(tracks.values())
    return video


def _read_sequence(path: Path | None, report: Report) -> _Sequence:
    if path is None:
        return _Sequence()
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(read_text(path))
    except configparser.Error as error:
        raise InvalidFile(Place(path), f"is no seqinfo.ini: {str(error).splitlines()[0]}") from None
    values = dict(parser["Sequence"]) if parser.has_section("Sequence") else {}
    return parse(_Sequence, values, Place(path), report) or _Sequence()
