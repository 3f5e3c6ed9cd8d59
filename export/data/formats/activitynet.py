"""Read ActivityNet's JSON: for each video of `database`, segments in seconds with a label, and its subset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from export.data.formats.forms import ReadOptions, Report, Span, VideoAnnotations
from export.data.formats.reading import Foreign, JsonFile, Name, Time, parse
from export.data.records import Split

SUBSETS: dict[str, Split] = {
    "training": "train", "train": "train", "validation": "val", "val": "val", "testing": "test", "test":
    "test", }  # fmt: skip


class _Video(Foreign):
    subset: str = ""
    annotations: list[Any] = Field(default_factory=list)


class _Segment(Foreign):
    label: Name
    segment: tuple[Time, Time]


def read_activitynet(path: Path, report: Report, options: ReadOptions) -> list[VideoAnnotations]:
    """Read a JSON file of ActivityNet. Raises InvalidFile."""
    file = JsonFile(path)
    database = file.tree.get("database") if isinstance(file.tree, dict) else None
    if not isinstance(database, dict):
        raise file.error("expected ActivityNet's object with a database of videos")
    videos = []
    for keys, value in file.items(database, "database"):
        entry = parse(_Video, value, file.place(*keys), report)
        if entry is None:
            continue
        split = SUBSETS.get(entry.subset.lower())
        if entry.subset and split is None:
            report.note(file.place(*keys), f"subset {entry.subset!r:.40} is no split; --split counts")
        video = VideoAnnotations((str(keys[-1]),), file.place(*keys), "seconds", split=split)
        for path_keys, item in file.items(entry.annotations, *keys, "annotations"):
            place = file.place(*path_keys)
            segment = parse(_Segment, item, place, report)
            if segment is None:
                continue
            start, end = segment.segment
            if end <= start:
                report.refuse(place, f"segment must end after it starts, got {start:g} to {end:g} s")
                continue
            video.spans.append(Span((segment.label,), start, end, place))
        if video.spans:
            videos.append(video)
    return videos
