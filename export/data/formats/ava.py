"""Read AVA's CSV: `video,second,x1,y1,x2,y2,action,person` a line, one line for each action of a person.

A line is about the second around its moment. Names of actions are in a .pbtxt beside the file (`item {name: …
id: …}`); an action that is no number is its own name. A line without an action is a box only.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from export.data.formats.forms import (
    BoxKey,
    InvalidFile,
    PictureBox,
    Place,
    ReadOptions,
    Report,
    Span,
    Track,
    VideoAnnotations,
)
from export.data.formats.reading import Foreign, Name, Number, Time, parse, read_csv, read_text

FIELDS = ("video", "second", "x1", "y1", "x2", "y2", "action", "person")
HALF_S = 0.5
_ITEM = re.compile(r"\{([^{}]*)\}")
_NAMED = re.compile(r"\bname\s*:\s*(\"([^\"]*)\"|'([^']*)')")
_NUMBERED = re.compile(r"\b(?:id|label_id)\s*:\s*(\d{1,6})\b")


class _Line(Foreign):
    video: Name
    second: Time
    x1: Number
    y1: Number
    x2: Number
    y2: Number
    action: str = ""
    person: str = ""


def read_ava(path: Path, report: Report, options: ReadOptions) -> list[VideoAnnotations]:
    """Read a CSV file of AVA. Raises InvalidFile."""
    names = _read_names(path)
    videos: dict[str, VideoAnnotations] = {}
    boxes: dict[tuple[str, str], dict[float, tuple[PictureBox, Place]]] = defaultdict(dict)
    lines: set[tuple[str, ...]] = set()
    for place, row in read_csv(path):
        if row[0].lower() in ("video_id", "video") and not lines:
            continue
        if len(row) == 2 or not any(row[2:]):
            report.note(place, "a moment without a box was left out")
            continue
        line = parse(_Line, dict(zip(FIELDS, row, strict=False)), place, report)
        if line is None:
            continue
        video = videos.setdefault(
            line.video, VideoAnnotations((line.video,), place, "seconds", size=(1.0, 1.0))
        )
        person = f"person {line.person}" if line.person else f"person at line {place.line}"
        box = PictureBox(line.x1, line.y1, line.x2, line.y2)
        known = boxes[line.video, person].setdefault(line.second, (box, place))[0]
        if known != box:
            report.refuse(place, f"{person} has two boxes at {line.second:g} s")
            continue
        if line.action:
            if tuple(row) in lines:
                report.note(place, "a line that is there twice was read once")
            label = names.get(line.action.lstrip("0"), line.action)
            label = f"action {label}" if label.isdigit() else label
            start = max(line.second - HALF_S, 0.0)
            video.spans.append(Span((label,), start, line.second + HALF_S, place, person))
        lines.add(tuple(row))
    for (name, person), moments in boxes.items():
        videos[name].tracks.append(_make_track(person, moments))
    return list(videos.values())


def _make_track(person: str, moments: dict[float, tuple[PictureBox, Place]]) -> Track:
    """Return a person's boxes: they move between moments a second apart and stand for half a second at the
    ends."""
    track = Track(person, (), next(iter(moments.values()))[1], gap=2 * HALF_S + 0.01, reach=HALF_S)
    before = -10.0
    for second, (box, place) in sorted(moments.items()):
        if second - before > track.gap and second >= HALF_S:
            track.keys.append(BoxKey(second - HALF_S, box, place))
        track.keys.append(BoxKey(second, box, place))
        before = second
    return track


def _read_names(path: Path) -> dict[str, str]:
    """Return the names of actions by number, from the .pbtxt beside the file. Raises InvalidFile."""
    files = sorted(path.parent.glob("*.pbtxt"))
    if not files:
        return {}
    if len(files) > 1:
        raise InvalidFile(
            Place(path), f"has {files[0].name} and {files[1].name} beside it; leave one list of actions"
        )
    names = {}
    for item in _ITEM.findall(read_text(files[0])):
        name, number = _NAMED.search(item), _NUMBERED.search(item)
        if name and number:
            names[number[1].lstrip("0")] = name[2] or name[3]
    return names
