"""Annotation folders in the manner of ADL (Pirsiavash & Ramanan 2012), of which ReST is made, as our records.

Two files a person XX:

    object_annot_P_XX.txt   track x1 y1 x2 y2 frame active label     one box of one object a line
    P_XX.txt                mm:ss mm:ss label [remark]               one action a line; # starts a remark

What the files do not say is assumed: frames are counted from 0 at `fps`; boxes are pixels of a picture of
`box_size`; an action's object is every track that is active in it, so one action can be several events; the
event lasts as long as the action. A track with boxes further apart than `bridge_s` has none between; closer
ones are interpolated to 5 Hz, as ReST gives its boxes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from edge_runtime.frame import TICKS_PER_SECOND
from engines.errors import LvmError
from export.data.clock import seconds
from export.data.files import write_annotations
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
    """What the files do not say."""

    fps: float = 30.0
    box_size: tuple[int, int] = (640, 480)
    bridge_s: float = 1.5
    names: Mapping[str, str] = field(default_factory=dict)
    """What an action's label means; labels that are missing here keep their own text."""


@dataclass(frozen=True)
class _Seen:
    """One line of an object file; `box` normalised."""

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


def adl(
    root: Path, folder: Path, videos: Path, splits: Mapping[str, Split], rules: AdlRules | None = None
) -> None:
    """Writes the data folder `root` of the annotations below `folder`; people in no other of `splits` train.

    The video of person XX is the file below `videos` whose name is P_XX. Raises LvmError that names file and
    line of what cannot be read.
    """
    rules = rules or AdlRules()
    people = sorted(path.stem.removeprefix("object_annot_") for path in folder.rglob("object_annot_*.txt"))
    if not people:
        raise LvmError(f"{folder} has no object_annot_P_XX.txt; name the folder of the annotations")
    if unknown := set(splits) - set(people):
        raise LvmError(
            f"{folder} has no annotations of {', '.join(sorted(unknown))}; correct --val and --test"
        )
    seen = {
        who: _lines(_one(folder, f"object_annot_{who}.txt"), lambda t: _object(t, rules)) for who in people
    }
    done = {who: _lines(_one(folder, f"{who}.txt"), _action) for who in people}
    labels = sorted({action.label for actions in done.values() for action in actions}, key=_by_number)
    number = {label: at for at, label in enumerate(labels)}
    classes = Classes(
        activities=tuple(_named(at, rules.names.get(label, label)) for label, at in number.items()),
        instances=tuple(
            NamedInstance(id=track, name=label, video=who)
            for who in people
            for track, label in sorted({one.track: one.label for one in seen[who]}.items())
        ),
    )
    write_annotations(
        root,
        [_video(who, videos, root, seen[who], done[who], splits.get(who, "train"), rules) for who in people],
        [event for who in people for event in _events(who, seen[who], done[who], number)],
        [track for who in people for track in _tracks(who, seen[who], rules)],
        classes,
    )


def _one(folder: Path, name: str) -> Path:
    found = sorted(folder.rglob(name))
    if len(found) != 1:
        raise LvmError(f"{folder} must have one file {name}, got {len(found)}")
    return found[0]


def _lines(path: Path, read: Callable[[list[str]], V]) -> list[V]:
    """What `read` makes of the words of each line."""
    made = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            made.append(read(words))
        except (ValueError, IndexError) as error:
            raise LvmError(f"{path}:{number}: {line[:80]!r} is no annotation: {error}") from error
    return made


def _object(words: list[str], rules: AdlRules) -> _Seen:
    if len(words) < 8:
        raise ValueError(f"expected track x1 y1 x2 y2 frame active label, got {len(words)} words")
    width, height = rules.box_size
    x1, y1, x2, y2 = (
        float(side) / of for side, of in zip(words[1:5], (width, height, width, height), strict=True)
    )
    if not (-0.02 <= x1 < x2 <= 1.02 and -0.02 <= y1 < y2 <= 1.02):
        raise ValueError(
            f"the box is not inside a picture of {width}x{height}; give the size of its pictures"
        )
    box = (max(x1, 0.0), max(y1, 0.0), min(x2, 1.0), min(y2, 1.0))
    tick = round(int(words[5]) / rules.fps * TICKS_PER_SECOND)
    return _Seen(int(words[0]), tick, words[6] == "1", words[7], box)


def _action(words: list[str]) -> _Action:
    start, end = seconds(words[0]), seconds(words[1])
    if end <= start:
        raise ValueError("an action must end after it starts")
    return _Action(start, end, words[2])


def _video(
    who: str, videos: Path, root: Path, seen: list[_Seen], done: list[_Action], split: Split, rules: AdlRules
) -> Video:
    files = [path for path in sorted(videos.glob("*")) if path.stem == who and path.suffix != ".txt"]
    if not files:
        raise LvmError(f"{videos} has no video {who}; name the folder of the videos")
    lasting = max(
        [one.tick / TICKS_PER_SECOND for one in seen] + [action.end for action in done], default=0.0
    )
    width, height = rules.box_size
    return Video(
        video=who,
        path=str(files[0].resolve()),
        fps=rules.fps,
        width=width,
        height=height,
        duration_s=max(lasting, 1.0),
        split=split,
    )


def _events(who: str, seen: list[_Seen], done: list[_Action], number: Mapping[str, int]) -> list[EventRecord]:
    """Every action with every track that is active in it; actions that follow without a break are one."""
    spans: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    for action in sorted(done, key=lambda one: one.start):
        inside = (round(action.start * TICKS_PER_SECOND), round(action.end * TICKS_PER_SECOND))
        used = {one.track for one in seen if one.active and inside[0] <= one.tick < inside[1]}
        for track in sorted(used):
            known = spans[number[action.label], track]
            if known and action.start <= known[-1][1]:
                known[-1] = (known[-1][0], max(known[-1][1], action.end))
            else:
                known.append((action.start, action.end))
    return [
        EventRecord(
            video=who, event=f"{activity}-{track}-{at}", activity=activity, instance=track, t_s=start, t_e=end
        )
        for (activity, track), times in sorted(spans.items())
        for at, (start, end) in enumerate(times)
    ]


def _tracks(who: str, seen: list[_Seen], rules: AdlRules) -> list[TrackRecord]:
    by_track: dict[int, dict[int, _Seen]] = defaultdict(dict)
    for one in seen:
        by_track[one.track][one.tick] = one
    records = []
    for track, ticks in sorted(by_track.items()):
        for one in _bridged(sorted(ticks.values(), key=lambda one: one.tick), rules.bridge_s):
            record = TrackRecord(
                video=who,
                instance=track,
                category=one.label,
                tick5=one.tick,
                box=one.box,
                active=1 if one.active else 0,
            )
            records.append(record)
    return records


def _bridged(seen: list[_Seen], bridge_s: float) -> list[_Seen]:
    """Boxes with those between close ones; a box between counts as active where both its ends are."""
    out = seen[:1]
    for before, after in zip(seen, seen[1:], strict=False):
        gap = after.tick - before.tick
        if gap <= bridge_s * TICKS_PER_SECOND:
            for tick in range(before.tick + 1, after.tick):
                part = (tick - before.tick) / gap
                x1, y1, x2, y2 = (a + (b - a) * part for a, b in zip(before.box, after.box, strict=True))
                both = before.active and after.active
                out.append(_Seen(before.track, tick, both, before.label, (x1, y1, x2, y2)))
        out.append(after)
    return out


def _named(number: int, name: str) -> NamedActivity:
    return NamedActivity(id=number, name=name, doing=name.replace("_", " "))


def _by_number(label: str) -> tuple[int, str]:
    return (int(label), "") if label.isdigit() else (1_000_000, label)
