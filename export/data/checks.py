"""What is wrong in a data folder: every record fits the others, or file and line of it are told."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from edge_runtime.frame import TICKS_PER_SECOND
from engines.errors import LvmError
from engines.manifest import ActivityClass
from export.data.files import (
    EVENTS,
    QUERIES,
    TRACKS,
    VIDEOS,
    Dataset,
    Enough,
    Problem,
    Problems,
    TrackTable,
    read_classes,
    read_lines,
)
from export.data.records import (
    Classes,
    CropFile,
    CropInVideo,
    EventRecord,
    QueryRecord,
    TrackRecord,
    Video,
)

_SLACK_S = 1.0 / TICKS_PER_SECOND
"""A video's length is known to about a frame; what ends within a tick of it is not beyond it."""


def check(root: Path, limit: int = 20) -> list[Problem]:
    """The first `limit` problems of the data folder `root`; none: it can be trained on."""
    return _read(root, limit)[1]


def read(root: Path) -> Dataset:
    """The data folder `root`; LvmError with its first problem where there is any."""
    dataset, problems = _read(root, 20)
    if dataset is None or problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise LvmError(f"{root}: {problems[0]}{more}; python -m export.data check {root} tells all")
    return dataset


def _read(root: Path, limit: int) -> tuple[Dataset | None, list[Problem]]:
    if not root.is_dir():
        raise LvmError(f"there is no data folder at {root}; correct the path")
    problems = Problems(max(limit, 1))
    try:
        return _Reader(root, problems).read(), problems.found
    except Enough:
        return None, problems.found


class _Reader:
    """Reads the files in the order in which they refer to one another."""

    def __init__(self, root: Path, problems: Problems) -> None:
        self._root = root
        self._problems = problems
        self._videos: dict[str, Video] = {}
        self._known: dict[str, set[int]] = defaultdict(set)  # instances of each video that anything names

    def read(self) -> Dataset | None:
        classes = read_classes(self._root, self._problems)
        if classes is None:
            return None
        self._read_videos()
        for one in classes.instances:
            for video in [one.video] if one.video else list(self._videos):
                self._known[video].add(one.id)
        events = self._read_events(classes)
        tracks = self._read_tracks()
        queries = self._read_queries(classes)
        return Dataset(
            root=self._root,
            videos=self._videos,
            events={video: tuple(sorted(events[video], key=_when)) for video in self._videos},
            tracks={video: tracks[video].tracks() for video in self._videos},
            queries=tuple(queries),
            classes=tuple(ActivityClass(name=one.name, doing=one.doing) for one in classes.activities),
            names=classes,
        )

    def _read_videos(self) -> None:
        splits: dict[object, tuple[str, str]] = {}
        for line, video in read_lines(self._root, VIDEOS, Video, self._problems):
            if video.video in self._videos:
                self._problems.add(VIDEOS, line, f"video {video.video!r} is listed twice")
                continue
            self._videos[video.video] = video
            if video.path is not None and not (self._root / video.path).is_file():
                self._problems.add(VIDEOS, line, f"there is no file {video.path} (seen from {self._root})")
            other, split = splits.setdefault(_content(self._root, video), (video.video, video.split))
            if split != video.split:
                words = f"{video.video!r} in {video.split} is the same video as {other!r} in {split}"
                self._problems.add(VIDEOS, line, f"{words}: what is tested would have been trained on")

    def _read_events(self, classes: Classes) -> dict[str, list[EventRecord]]:
        found: dict[str, list[EventRecord]] = defaultdict(list)
        lines: dict[int, int] = {}
        named = {video: set(known) for video, known in self._known.items()}
        ids: set[tuple[str, str]] = set()
        for line, event in read_lines(self._root, EVENTS, EventRecord, self._problems):
            video = self._video(EVENTS, line, event.video)
            if video is None:
                continue
            if (event.video, event.event) in ids:
                self._problems.add(EVENTS, line, f"event {event.event!r} of {event.video!r} is listed twice")
            ids.add((event.video, event.event))
            self._activity(EVENTS, line, event.activity, classes)
            self._inside(EVENTS, line, "t_e", event.t_e, video)
            if named.get(event.video) and event.instance not in named[event.video]:
                self._problems.add(
                    EVENTS, line, f"instance {event.instance} is unknown: classes.json does not name it"
                )
            self._known[event.video].add(event.instance)
            lines[id(event)] = line
            found[event.video].append(event)
        for events in found.values():
            self._find_overlaps(events, lines)
        return found

    def _find_overlaps(self, events: list[EventRecord], lines: dict[int, int]) -> None:
        before: dict[tuple[int, int], EventRecord] = {}
        for event in sorted(events, key=_when):
            key = (event.activity, event.instance)
            other = before.get(key)
            if other is not None and event.t_s < other.t_e:
                self._problems.add(
                    EVENTS,
                    lines[id(event)],
                    f"event {event.event!r} overlaps {other.event!r} of the same activity and instance "
                    f"({event.t_s:g}-{event.t_e:g} s and {other.t_s:g}-{other.t_e:g} s): make one of them",
                )
            if other is None or event.t_e > other.t_e:
                before[key] = event

    def _read_tracks(self) -> dict[str, TrackTable]:
        tables: dict[str, TrackTable] = defaultdict(TrackTable)
        last: dict[tuple[str, int], TrackRecord] = {}
        for line, track in read_lines(self._root, TRACKS, TrackRecord, self._problems):
            video = self._video(TRACKS, line, track.video)
            if video is None:
                continue
            self._inside(TRACKS, line, "tick5 / 5", track.tick5 / TICKS_PER_SECOND, video)
            x1, y1, x2, y2 = track.box
            if x2 <= x1 or y2 <= y1:
                self._problems.add(TRACKS, line, f"box must be x1 < x2 and y1 < y2, got {list(track.box)}")
            self._follows(line, track, last)
            self._known[track.video].add(track.instance)
            tables[track.video].add(track)
        return tables

    def _follows(self, line: int, track: TrackRecord, last: dict[tuple[str, int], TrackRecord]) -> None:
        """An object may be seen twice at a tick, in a hand and on the shelf, but is active in one place."""
        key = (track.video, track.instance)
        before = last.get(key)
        if before is not None and track.tick5 < before.tick5:
            words = (
                f"ticks of instance {track.instance} must not fall, got {track.tick5} after {before.tick5}"
            )
            self._problems.add(TRACKS, line, words)
        if before is not None and track.tick5 == before.tick5 and track.active and before.active:
            words = f"instance {track.instance} is active in two places at tick {track.tick5}"
            self._problems.add(TRACKS, line, words)
        # Of the boxes of one tick, the active one is what the next must differ from.
        if before is None or track.tick5 != before.tick5 or track.active:
            last[key] = track

    def _read_queries(self, classes: Classes) -> list[QueryRecord]:
        found, ids = [], set()
        for line, query in read_lines(self._root, QUERIES, QueryRecord, self._problems):
            video = self._video(QUERIES, line, query.video)
            if video is None:
                continue
            if query.qid in ids:
                self._problems.add(QUERIES, line, f"query {query.qid!r} is listed twice")
            ids.add(query.qid)
            for activity in query.activities:
                self._activity(QUERIES, line, activity, classes)
            if query.instance is not None and query.instance not in self._known[query.video]:
                nowhere = "it has no event or track, and classes.json does not name it"
                self._problems.add(QUERIES, line, f"instance {query.instance} is unknown: {nowhere}")
            self._inside(QUERIES, line, "q_e", query.q_e, video)
            for words in _wrong(query):
                self._problems.add(QUERIES, line, words)
            self._crop(line, query, video)
            found.append(query)
        return found

    def _crop(self, line: int, query: QueryRecord, video: Video) -> None:
        crop = query.crop
        if isinstance(crop, CropFile) and not (self._root / crop.path).is_file():
            self._problems.add(QUERIES, line, f"there is no crop {crop.path} (seen from {self._root})")
        elif isinstance(crop, CropInVideo):
            self._inside(QUERIES, line, "crop.tick5 / 5", crop.tick5 / TICKS_PER_SECOND, video)

    def _video(self, file: str, line: int, name: str) -> Video | None:
        if name not in self._videos:
            self._problems.add(file, line, f"video {name!r} is unknown: {VIDEOS} does not list it")
        return self._videos.get(name)

    def _activity(self, file: str, line: int, activity: int, classes: Classes) -> None:
        last = len(classes.activities) - 1
        if activity > last:
            self._problems.add(file, line, f"activity must be in 0..{last} of classes.json, got {activity}")

    def _inside(self, file: str, line: int, name: str, t: float, video: Video) -> None:
        if t > video.duration_s + _SLACK_S:
            self._problems.add(
                file, line, f"{name} is {t:g} s, beyond the end of {video.video!r} at {video.duration_s:g} s"
            )


def _when(event: EventRecord) -> tuple[float, float, str]:
    return event.t_s, event.t_e, event.event


def _content(root: Path, video: Video) -> object:
    """What two records have in common that show the same pictures."""
    if video.path is not None:
        return (root / video.path).resolve()
    knobs = tuple(sorted(video.knobs.items()))
    return video.seed, video.level, video.products, video.backgrounds, video.only, knobs


def _wrong(query: QueryRecord) -> list[str]:
    """What a query of its type lacks."""
    found = []
    if query.q_s >= query.q_e:
        found.append(f"q_e must be after q_s={query.q_s:g}, got {query.q_e:g}")
    told = query.t_s is not None and query.t_e is not None
    if (query.type != "time" or query.happened) and not told:
        found.append(
            f"t_s and t_e are missing: {'the truth' if query.type == 'time' else 'what is asked about'}"
        )
    if query.t_s is not None and query.t_e is not None:
        if not query.q_s <= query.t_s < query.t_e <= query.q_e:
            found.append(
                f"t_s={query.t_s:g}, t_e={query.t_e:g} must be a window inside {query.q_s:g}-{query.q_e:g} s"
            )
    if query.type != "object" and (query.crop is None or query.instance is None):
        found.append("crop and instance are missing: what does the object look like?")
    if query.type != "activity" and len(query.activities) != 1:
        found.append(f"activities must be the one that is asked with, got {list(query.activities)}")
    if query.type == "activity" and bool(query.activities) != query.happened:
        found.append(f"activities must be the truth, and empty if nothing happened: {list(query.activities)}")
    if query.type == "object" and bool(query.boxes) != query.happened:
        found.append(f"boxes must be the truth, and none if nothing happened: got {len(query.boxes)}")
    return found
