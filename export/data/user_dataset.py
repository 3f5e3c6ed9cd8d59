"""A person's own videos and their own list of events, as a data folder.

The list is CSV with a header, or JSON Lines with the same keys:

    video,activity,product,start,end,split      split is optional: train, val or test
    shelf.mp4,take,left,0:06.5,0:07.5,train

Where products are in the picture can be told by a second list, `video,product,t,x1,y1,x2,y2`, with sides as
shares of the picture's width and height. Paths are relative to the list in which they stand.
"""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from edge_runtime.frame import to_tick
from edge_runtime.sources.video import VideoFile
from engines.errors import LvmError
from export.data.clock import seconds
from export.data.files import write_annotations
from export.data.records import (
    Classes,
    EventRecord,
    NamedActivity,
    NamedInstance,
    Split,
    TrackRecord,
    Video,
)
from export.support.validation_errors import first_complaint

_EVENT_KEYS = ("video", "activity", "product", "start", "end")
_BOX_KEYS = ("video", "product", "t", "x1", "y1", "x2", "y2")
_FRAMES_TIMED = 11


class Row(NamedTuple):
    """One line of a list, and where it stands."""

    place: str
    values: dict[str, Any]

    def wrong(self, words: object) -> LvmError:
        """The error that names file and line."""
        return LvmError(f"{self.place}: {words}")

    def time(self, key: str) -> float:
        """Seconds on the 1/5 s ticks of the memory."""
        try:
            return to_tick(seconds(str(self.values[key]))) / 5
        except ValueError as error:
            raise self.wrong(f"{key}: {error}") from error


def own_set(
    root: Path,
    events: Path,
    *,
    boxes: Path | None = None,
    doing: Mapping[str, str] | None = None,
    split: Split = "train",
) -> None:
    """Writes the data folder `root` of the lists `events` and `boxes`.

    `doing` completes "a person ..." for activities whose name does not; `split` is that of videos for which
    the list names none. Raises LvmError that names file and line of what cannot be read.
    """
    rows = _rows(events, _EVENT_KEYS)
    marks = _rows(boxes, _BOX_KEYS) if boxes else []
    if not rows:
        raise LvmError(f"{events} lists no events; each is a line of {','.join(_EVENT_KEYS)}")
    activities = {name: at for at, name in enumerate(dict.fromkeys(str(r.values["activity"]) for r in rows))}
    names = sorted({str(row.values["product"]) for row in [*rows, *marks]})
    products = {name: at for at, name in enumerate(names)}
    videos = _videos(rows, events.parent, split)
    records = [_event(row, at, activities, products) for at, row in enumerate(rows)]
    tracks = sorted(
        (_track(row, videos, products, records) for row in marks),
        key=lambda one: (one.video, one.tick5, one.instance),
    )
    words = doing or {}
    classes = Classes(
        activities=tuple(
            NamedActivity(id=at, name=name, doing=words.get(name, name.replace("_", " ")))
            for name, at in activities.items()
        ),
        instances=tuple(NamedInstance(id=at, name=name) for name, at in products.items()),
    )
    write_annotations(root, videos.values(), records, tracks, classes)


def _rows(path: Path, keys: tuple[str, ...]) -> list[Row]:
    """The lines of a list; every one has all of `keys`."""
    if not path.is_file():
        raise LvmError(f"there is no list {path}; correct the path")
    rows = list(_json_rows(path) if path.suffix == ".jsonl" else _csv_rows(path, keys))
    for row in rows:
        if missing := [key for key in keys if row.values.get(key) in (None, "")]:
            raise row.wrong(f"{missing[0]} is missing; a line has {','.join(keys)}")
    return rows


def _csv_rows(path: Path, keys: tuple[str, ...]) -> Iterator[Row]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        if missing := [key for key in keys if key not in (reader.fieldnames or ())]:
            raise LvmError(f"{path}:1: the header lacks {missing[0]}; it must be {','.join(keys)}")
        for values in reader:
            yield Row(f"{path}:{reader.line_num}", values)


def _json_rows(path: Path) -> Iterator[Row]:
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


def _videos(rows: list[Row], folder: Path, split: Split) -> dict[str, Video]:
    """Each video once, in the order of the list, with what its file says of itself."""
    videos: dict[str, Video] = {}
    for row in rows:
        name = str(row.values["video"])
        wanted = row.values.get("split") or (videos[name].split if name in videos else split)
        if name not in videos:
            videos[name] = _video(row, name, folder / name, wanted)
        elif wanted != videos[name].split:
            raise row.wrong(f"{name} is in {wanted} here and in {videos[name].split} above; it is one video")
    return videos


def _video(row: Row, name: str, path: Path, split: str) -> Video:
    try:
        source = VideoFile(path, sample_fps=1000.0)
        frames = list(itertools.islice(source, _FRAMES_TIMED))
        source.close()
    except LvmError as error:
        raise row.wrong(error) from error
    height, width = frames[0].image.shape[:2]
    lasting = frames[-1].t - frames[0].t
    try:
        return Video.model_validate({
            "video": name,
            "path": str(path.resolve()),
            "fps": round((len(frames) - 1) / lasting, 3) if lasting > 0 else 1.0,
            "width": width,
            "height": height,
            "duration_s": source.duration or _last_frame(path),
            "split": split,
        })  # fmt: skip
    except ValidationError as error:
        raise row.wrong(first_complaint(error)) from error


def _last_frame(path: Path) -> float:
    """Seconds of a file that does not state its length."""
    return max(frame.t for frame in VideoFile(path, sample_fps=1.0)) + 1.0


def _event(row: Row, at: int, activities: Mapping[str, int], products: Mapping[str, int]) -> EventRecord:
    start, end = row.time("start"), row.time("end")
    if end <= start:
        raise row.wrong(f"end must be after start={row.values['start']}, got {row.values['end']}")
    return EventRecord(
        video=str(row.values["video"]),
        event=f"e{at}",
        activity=activities[str(row.values["activity"])],
        instance=products[str(row.values["product"])],
        t_s=start,
        t_e=end,
    )


def _track(
    row: Row, videos: Mapping[str, Video], products: Mapping[str, int], events: list[EventRecord]
) -> TrackRecord:
    video, product, t = str(row.values["video"]), str(row.values["product"]), row.time("t")
    if video not in videos:
        raise row.wrong(f"video {video!r} has no events; known are {', '.join(videos)}")
    instance = products[product]
    busy = any(one.video == video and one.instance == instance and one.t_s <= t < one.t_e for one in events)
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
        raise row.wrong(first_complaint(error)) from error
    except ValueError as error:
        raise row.wrong(f"sides of a box are numbers from 0 to 1: {error}") from error
