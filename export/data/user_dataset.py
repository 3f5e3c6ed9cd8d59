"""Write a data folder of users' own videos and their list of events.

The list is CSV with a header, or JSON Lines with the same keys:

    video,activity,product,start,end,split,source
    shelf.mp4,take,left,0:06.5,0:07.5,train,monday

`split` (train, val or test) and `source`, the recording that a video is cut from, are optional.

A second list may hold boxes of products, `video,product,t,x1,y1,x2,y2`, with sides as shares of the picture's
width and height. Paths are relative to the list that contains them.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args

from pydantic import ValidationError

from edge_runtime.frame import to_tick
from edge_runtime.teaching.video import name_recording
from engines.errors import LvmError
from export.data.files import parse_seconds, write_annotations
from export.data.records import (
    Classes,
    EventRecord,
    NamedActivity,
    NamedInstance,
    Split,
    TrackRecord,
    Video,
)
from export.data.video_files import describe_video
from export.support.errors import first_complaint

_EVENT_KEYS = ("video", "activity", "product", "start", "end")
_BOX_KEYS = ("video", "product", "t", "x1", "y1", "x2", "y2")


class Row(NamedTuple):
    """A line of a list; `place` names file and line."""

    place: str
    values: dict[str, Any]

    def error(self, message: object) -> LvmError:
        """Return an error that names file and line."""
        return LvmError(f"{self.place}: {message}")

    def parse_time(self, key: str) -> float:
        """Return seconds, rounded to the 1/5 s ticks of the memory. Raises LvmError."""
        try:
            return to_tick(parse_seconds(str(self.values[key]))) / 5
        except ValueError as error:
            raise self.error(f"{key}: {error}") from error


def write_user_dataset(
    root: Path,
    events: Path,
    *,
    boxes: Path | None = None,
    doing: Mapping[str, str] | None = None,
    accuses: Collection[str] = (),
    split: Split = "train",
    group_by: str | None = None,
) -> None:
    """Write the data folder `root` of the lists `events` and `boxes`.

    `doing` completes "a person ..." for activities whose name does not; those that name in `accuses` accuse
    somebody; `split` is used for videos without a split in the list, `group_by` (a regular expression for
    their names) for those without a source. Raises LvmError that names the file and the line that cannot be
    read.
    """
    rows = _read_rows(events, _EVENT_KEYS)
    box_rows = _read_rows(boxes, _BOX_KEYS) if boxes else []
    if not rows:
        raise LvmError(f"{events} lists no events; each is a line of {','.join(_EVENT_KEYS)}")
    activities = {
        name: at for at, name in enumerate(dict.fromkeys(str(row.values["activity"]) for row in rows))
    }
    names = sorted({str(row.values["product"]) for row in [*rows, *box_rows]})
    products = {name: at for at, name in enumerate(names)}
    videos = _make_videos(rows, events.parent, split, group_by)
    records = [_make_event(row, at, activities, products) for at, row in enumerate(rows)]
    tracks = sorted(
        (_make_track(row, videos, products, records) for row in box_rows),
        key=lambda track: (track.video, track.tick5, track.instance),
    )
    classes = Classes(
        activities=tuple(
            NamedActivity(
                id=at,
                name=name,
                doing=(doing or {}).get(name, name.replace("_", " ")),
                accuses=name in accuses,
            )
            for name, at in activities.items()
        ),
        instances=tuple(NamedInstance(id=at, name=name) for name, at in products.items()),
    )
    write_annotations(root, videos.values(), records, tracks, classes)


def _read_rows(path: Path, keys: tuple[str, ...]) -> list[Row]:
    """Return the lines of a list, each with all of `keys`. Raises LvmError."""
    if not path.is_file():
        raise LvmError(f"there is no list {path}; correct the path")
    rows = list(_read_json_rows(path) if path.suffix == ".jsonl" else _read_csv_rows(path, keys))
    for row in rows:
        if missing := [key for key in keys if row.values.get(key) in (None, "")]:
            raise row.error(f"{missing[0]} is missing; a line has {','.join(keys)}")
    return rows


def _read_csv_rows(path: Path, keys: tuple[str, ...]) -> Iterator[Row]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        if missing := [key for key in keys if key not in (reader.fieldnames or ())]:
            raise LvmError(f"{path}:1: the header lacks {missing[0]}; it must be {','.join(keys)}")
        for values in reader:
            yield Row(f"{path}:{reader.line_num}", values)


def _read_json_rows(path: Path) -> Iterator[Row]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            raise LvmError(f"{path}:{number}: no JSON ({error.msg})") from error
        if not isinstance(values, dict):
            raise LvmError(f"{path}:{number}: expected one JSON object a line, got {line[:60]!r}")
        yield Row(f"{path}:{number}", values)


def _make_videos(
    rows: list[Row], folder: Path, split: Split, group_by: str | None = None
) -> dict[str, Video]:
    """Return each video once, in the order of the list, with the properties of its file."""
    videos: dict[str, Video] = {}
    for row in rows:
        name = str(row.values["video"])
        requested = row.values.get("split") or (videos[name].split if name in videos else split)
        source = row.values.get("source") or (
            videos[name].source if name in videos else name_recording(group_by, name)
        )
        if name not in videos:
            described = _make_video(row, name, folder / name, requested)
            videos[name] = described.model_copy(update={"source": source})
        elif source != videos[name].source:
            raise row.error(
                f"{name} is of recording {source!r:.60} here and of {videos[name].source!r:.60} above; "
                "name one of them"
            )
        elif requested != videos[name].split:
            raise row.error(
                f"{name} is in {requested} here and in {videos[name].split} above; it is one video"
            )
    return videos


def _make_video(row: Row, name: str, path: Path, split: str) -> Video:
    if split not in get_args(Split):
        raise row.error(f"split: expected one of {', '.join(get_args(Split))}, got {split!r:.60}")
    try:
        return describe_video(path, name, cast(Split, split))
    except LvmError as error:
        raise row.error(error) from error


def _make_event(row: Row, at: int, activities: Mapping[str, int], products: Mapping[str, int]) -> EventRecord:
    start, end = row.parse_time("start"), row.parse_time("end")
    if end <= start:
        raise row.error(f"end must be after start={row.values['start']}, got {row.values['end']}")
    return EventRecord(
        video=str(row.values["video"]),
        event=f"e{at}",
        activity=activities[str(row.values["activity"])],
        instance=products[str(row.values["product"])],
        t_s=start,
        t_e=end,
    )


def _make_track(
    row: Row, videos: Mapping[str, Video], products: Mapping[str, int], events: list[EventRecord]
) -> TrackRecord:
    video, product, t = str(row.values["video"]), str(row.values["product"]), row.parse_time("t")
    if video not in videos:
        raise row.error(f"video {video!r} has no events; known are {', '.join(videos)}")
    instance = products[product]
    busy = any(
        event.video == video and event.instance == instance and event.t_s <= t < event.t_e for event in events
    )
    try:
        return TrackRecord.model_validate({
            "video": video,
            "instance": instance,
            "category": product,
            "tick5": to_tick(t),
            "box": [float(row.values[side]) for side in _BOX_KEYS[3:]],
            "active": 1 if busy else 0,
        })  # fmt: skip
    except ValidationError as error:
        raise row.error(first_complaint(error)) from error
    except ValueError as error:
        raise row.error(f"sides of a box are numbers from 0 to 1: {error}") from error
