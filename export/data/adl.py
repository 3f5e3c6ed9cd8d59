"""Convert annotations in the format of ADL (Pirsiavash & Ramanan 2012), the source of ReST, to a data folder.

Each person XX has two files:

    object_annot_P_XX.txt   track x1 y1 x2 y2 frame active label     one box of one object a line
    P_XX.txt                mm:ss mm:ss label [remark]               one action a line; # starts a remark

The files leave some things open, so these are assumed: frames are counted from 0 at `fps`; boxes are pixels
of a picture of `box_size`; the objects of an action are all tracks that are active in it, so an action can
become several events; an event lasts as long as its action. Boxes up to `bridge_s` apart are interpolated to
5 Hz, the rate of ReST's boxes; between others a track has no box.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from edge_runtime.frame import TICKS_PER_SECOND
from engines.errors import LvmError
from export.data.files import parse_seconds, write_annotations
from export.data.records import (
    Box,
    Classes,
    EventRecord,
    NamedActivity,
    NamedInstance,
    Split,
    TrackRecord,
    Video,
)

V = TypeVar("V")


@dataclass(frozen=True)
class AdlRules:
    """Assumptions about what the files leave open."""

    fps: float = 30.0
    box_size: tuple[int, int] = (640, 480)
    bridge_s: float = 1.5
    names: Mapping[str, str] = field(default_factory=dict)
    """Names of actions by label; other labels keep their own text."""


@dataclass(frozen=True)
class _BoxLine:
    """A line of an object file; `box` is normalised."""

    track: int
    tick: int
    active: bool
    label: str
    box: Box


@dataclass(frozen=True)
class _Action:
    start: float
    end: float
    label: str


def write_adl_dataset(
    root: Path, folder: Path, videos: Path, splits: Mapping[str, Split], rules: AdlRules | None = None
) -> None:
    """Write the data folder `root` of the annotations below `folder`; people not in `splits` train.

    The video of person XX is the file P_XX in `videos`. Raises LvmError that names the file and the line that
    cannot be read.
    """
    rules = rules or AdlRules()
    people = sorted(path.stem.removeprefix("object_annot_") for path in folder.rglob("object_annot_*.txt"))
    if not people:
        raise LvmError(f"{folder} has no object_annot_P_XX.txt; name the folder of the annotations")
    if unknown := set(splits) - set(people):
        raise LvmError(
            f"{folder} has no annotations of {', '.join(sorted(unknown))}; correct --val and --test"
        )
    boxes, actions = {}, {}
    for person in people:
        box_file, action_file = (_find_file(folder, f"{kind}{person}.txt") for kind in ("object_annot_", ""))
        boxes[person] = _parse_lines(box_file, lambda words: _parse_box(words, rules))
        actions[person] = _parse_lines(action_file, _parse_action)
    labels = sorted({action.label for lines in actions.values() for action in lines}, key=_label_order)
    number = {label: at for at, label in enumerate(labels)}
    classes = Classes(
        activities=tuple(_make_activity(at, rules.names.get(label, label)) for label, at in number.items()),
        instances=tuple(
            NamedInstance(id=track, name=label, video=person)
            for person in people
            for track, label in sorted({line.track: line.label for line in boxes[person]}.items())
        ),
    )
    records, events, tracks = [], [], []
    for person in people:
        records.append(_make_video(person, videos, boxes[person], actions[person], splits, rules))
        events += _make_events(person, boxes[person], actions[person], number)
        tracks += _make_tracks(person, boxes[person], rules)
    write_annotations(root, records, events, tracks, classes)


def _find_file(folder: Path, name: str) -> Path:
    files = sorted(folder.rglob(name))
    if len(files) != 1:
        raise LvmError(f"{folder} must have one file {name}, got {len(files)}")
    return files[0]


def _parse_lines(path: Path, read: Callable[[list[str]], V]) -> list[V]:
    """Return what `read` makes of the words of each line. Raises LvmError with file and line."""
    parsed = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            parsed.append(read(words))
        except (ValueError, IndexError) as error:
            raise LvmError(f"{path}:{number}: {line[:80]!r} is no annotation: {error}") from error
    return parsed


def _parse_box(words: list[str], rules: AdlRules) -> _BoxLine:
    if len(words) < 8:
        raise ValueError(f"expected track x1 y1 x2 y2 frame active label, got {len(words)} words")
    width, height = rules.box_size
    x1, y1, x2, y2 = (
        float(side) / length for side, length in zip(words[1:5], (width, height, width, height), strict=True)
    )
    if not (-0.02 <= x1 < x2 <= 1.02 and -0.02 <= y1 < y2 <= 1.02):
        raise ValueError(
            f"the box is not inside a picture of {width}x{height}; give the size of its pictures"
        )
    box = (max(x1, 0.0), max(y1, 0.0), min(x2, 1.0), min(y2, 1.0))
    tick = round(int(words[5]) / rules.fps * TICKS_PER_SECOND)
    return _BoxLine(int(words[0]), tick, words[6] == "1", words[7], box)


def _parse_action(words: list[str]) -> _Action:
    start, end = parse_seconds(words[0]), parse_seconds(words[1])
    if end <= start:
        raise ValueError("an action must end after it starts")
    return _Action(start, end, words[2])


def _make_video(
    person: str, videos: Path, boxes: list[_BoxLine], actions: list[_Action], splits: Mapping[str, Split],
    rules: AdlRules,
) -> Video:  # fmt: skip
    files = [path for path in sorted(videos.glob("*")) if path.stem == person and path.suffix != ".txt"]
    if not files:
        raise LvmError(f"{videos} has no video {person}; name the folder of the videos")
    end = max(
        [line.tick / TICKS_PER_SECOND for line in boxes] + [action.end for action in actions], default=0.0
    )
    width, height = rules.box_size
    return Video(
        video=person,
        path=str(files[0].resolve()),
        fps=rules.fps,
        width=width,
        height=height,
        duration_s=max(end, 1.0),
        split=splits.get(person, "train"),
    )


def _make_events(
    person: str, boxes: list[_BoxLine], actions: list[_Action], number: Mapping[str, int]
) -> list[EventRecord]:
    """Return every action with every track that is active in it; adjacent equal actions are merged."""
    spans: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    for action in sorted(actions, key=lambda line: line.start):
        inside = (round(action.start * TICKS_PER_SECOND), round(action.end * TICKS_PER_SECOND))
        active = {line.track for line in boxes if line.active and inside[0] <= line.tick < inside[1]}
        for track in sorted(active):
            intervals = spans[number[action.label], track]
            if intervals and action.start <= intervals[-1][1]:
                intervals[-1] = (intervals[-1][0], max(intervals[-1][1], action.end))
            else:
                intervals.append((action.start, action.end))
    return [
        EventRecord(
            video=person,
            event=f"{activity}-{track}-{at}",
            activity=activity,
            instance=track,
            t_s=start,
            t_e=end,
        )
        for (activity, track), times in sorted(spans.items())
        for at, (start, end) in enumerate(times)
    ]


def _make_tracks(person: str, boxes: list[_BoxLine], rules: AdlRules) -> list[TrackRecord]:
    by_track: dict[int, dict[int, _BoxLine]] = defaultdict(dict)
    for line in boxes:
        by_track[line.track][line.tick] = line
    records = []
    for track, ticks in sorted(by_track.items()):
        for line in _interpolate_gaps(sorted(ticks.values(), key=lambda line: line.tick), rules.bridge_s):
            record = TrackRecord(
                video=person,
                instance=track,
                category=line.label,
                tick5=line.tick,
                box=line.box,
                active=1 if line.active else 0,
            )
            records.append(record)
    return records


def _interpolate_gaps(boxes: list[_BoxLine], bridge_s: float) -> list[_BoxLine]:
    """Interpolate between close boxes; an interpolated box is active if both its neighbours are."""
    out = boxes[:1]
    for before, after in zip(boxes, boxes[1:], strict=False):
        gap = after.tick - before.tick
        if gap <= bridge_s * TICKS_PER_SECOND:
            for tick in range(before.tick + 1, after.tick):
                part = (tick - before.tick) / gap
                x1, y1, x2, y2 = (a + (b - a) * part for a, b in zip(before.box, after.box, strict=True))
                both = before.active and after.active
                out.append(_BoxLine(before.track, tick, both, before.label, (x1, y1, x2, y2)))
        out.append(after)
    return out


def _make_activity(number: int, name: str) -> NamedActivity:
    return NamedActivity(id=number, name=name, doing=name.replace("_", " "))


def _label_order(label: str) -> tuple[int, str]:
    return (int(label), "") if label.isdigit() else (1_000_000, label)
