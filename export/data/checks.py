"""Check a data folder: every record must fit the others; problems are reported with file and line."""

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
    DataFolder,
    Problem,
    Problems,
    TooManyProblems,
    TrackTable,
    read_classes,
    read_records,
)
from export.data.records import (
    Classes,
    CropFile,
    CropInVideo,
    EventRecord,
    QueryRecord,
    TrackRecord,
    Video,
    event_order,
)

_SLACK_S = 1.0 / TICKS_PER_SECOND
"""A video's length is known to about a frame, so an end up to one tick later is accepted."""


def find_problems(root: Path, limit: int = 20) -> list[Problem]:
    """Return the first `limit` problems of the data folder `root`; without any it can be trained on."""
    return _read(root, limit)[1]


def read_data_folder(root: Path) -> DataFolder:
    """Read the data folder `root`. Raises LvmError with its first problem."""
    dataset, problems = _read(root, 20)
    if dataset is None or problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise LvmError(f"{root}: {problems[0]}{more}; python -m export.data check {root} lists all")
    return dataset


def _read(root: Path, limit: int) -> tuple[DataFolder | None, list[Problem]]:
    if not root.is_dir():
        raise LvmError(f"there is no data folder at {root}; correct the path")
    problems = Problems(max(limit, 1))
    try:
        return _Reader(root, problems).read(), problems.items
    except TooManyProblems:
        return None, problems.items


class _Reader:
    """Reader of the files, in the order of their references."""

    def __init__(self, root: Path, problems: Problems) -> None:
        self._root = root
        self._problems = problems
        self._videos: dict[str, Video] = {}
        self._known: dict[str, set[int]] = defaultdict(set)  # instances named for each video so far

    def read(self) -> DataFolder | None:
        classes = read_classes(self._root, self._problems)
        if classes is None:
            return None
        self._read_videos()
        for instance in classes.instances:
            for video in [instance.video] if instance.video else list(self._videos):
                self._known[video].add(instance.id)
        events = self._read_events(classes)
        tracks = self._read_tracks()
        queries = self._read_queries(classes)
        return DataFolder(
            root=self._root,
            videos=self._videos,
            events={video: tuple(sorted(events[video], key=event_order)) for video in self._videos},
            tracks={video: tracks[video].tracks() for video in self._videos},
            queries=tuple(queries),
            classes=tuple(
                ActivityClass(name=activity.name, doing=activity.doing, accuses=activity.accuses)
                for activity in classes.activities
            ),
            names=classes,
        )

    def _read_videos(self) -> None:
        splits: dict[object, tuple[str, str]] = {}
        sources: dict[str, tuple[str, str]] = {}
        for line, video in read_records(self._root, VIDEOS, Video, self._problems):
            if video.video in self._videos:
                self._problems.add(VIDEOS, line, f"video {video.video!r} is listed twice")
                continue
            self._videos[video.video] = video
            if video.path is not None and not (self._root / video.path).is_file():
                self._problems.add(VIDEOS, line, f"there is no file {video.path} (seen from {self._root})")
            other, split = splits.setdefault(_content_key(self._root, video), (video.video, video.split))
            if split != video.split:
                message = f"{video.video!r} in {video.split} is the same video as {other!r} in {split}"
                self._problems.add(VIDEOS, line, f"{message}: what is tested would have been trained on")
            elif video.source is not None:
                other, split = sources.setdefault(video.source, (video.video, video.split))
                if split != video.split:
                    message = (
                        f"{video.video!r} in {video.split} is of recording {video.source!r}, as is {other!r} "
                        f"in {split}: cut from one recording they look alike, and must be in one split"
                    )
                    self._problems.add(VIDEOS, line, message)

    def _read_events(self, classes: Classes) -> dict[str, list[EventRecord]]:
        by_video: dict[str, list[EventRecord]] = defaultdict(list)
        lines: dict[int, int] = {}
        named = {video: set(known) for video, known in self._known.items()}
        ids: set[tuple[str, str]] = set()
        for line, event in read_records(self._root, EVENTS, EventRecord, self._problems):
            video = self._find_video(EVENTS, line, event.video)
            if video is None:
                continue
            if (event.video, event.event) in ids:
                self._problems.add(EVENTS, line, f"event {event.event!r} of {event.video!r} is listed twice")
            ids.add((event.video, event.event))
            self._check_activity(EVENTS, line, event.activity, classes)
            self._check_time(EVENTS, line, "t_e", event.t_e, video)
            if named.get(event.video) and event.instance not in named[event.video]:
                self._problems.add(
                    EVENTS, line, f"instance {event.instance} is unknown: classes.json does not name it"
                )
            self._known[event.video].add(event.instance)
            lines[id(event)] = line
            by_video[event.video].append(event)
        for events in by_video.values():
            self._find_overlaps(events, lines)
        return by_video

    def _find_overlaps(self, events: list[EventRecord], lines: dict[int, int]) -> None:
        before: dict[tuple[int, int], EventRecord] = {}
        for event in sorted(events, key=event_order):
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
        for line, track in read_records(self._root, TRACKS, TrackRecord, self._problems):
            video = self._find_video(TRACKS, line, track.video)
            if video is None:
                continue
            self._check_time(TRACKS, line, "tick5 / 5", track.tick5 / TICKS_PER_SECOND, video)
            x1, y1, x2, y2 = track.box
            if x2 <= x1 or y2 <= y1:
                self._problems.add(TRACKS, line, f"box must be x1 < x2 and y1 < y2, got {list(track.box)}")
            self._check_track_order(line, track, last)
            self._known[track.video].add(track.instance)
            tables[track.video].add(track)
        return tables

    def _check_track_order(
        self, line: int, track: TrackRecord, last: dict[tuple[str, int], TrackRecord]
    ) -> None:
        """Note ticks that fall, and instances that are active twice at a tick."""
        key = (track.video, track.instance)
        before = last.get(key)
        if before is not None and track.tick5 < before.tick5:
            message = (
                f"ticks of instance {track.instance} must not fall, got {track.tick5} after {before.tick5}"
            )
            self._problems.add(TRACKS, line, message)
        if before is not None and track.tick5 == before.tick5 and track.active and before.active:
            message = f"instance {track.instance} is active in two places at tick {track.tick5}"
            self._problems.add(TRACKS, line, message)
        # Of several boxes at one tick the active one is compared with the next.
        if before is None or track.tick5 != before.tick5 or track.active:
            last[key] = track

    def _read_queries(self, classes: Classes) -> list[QueryRecord]:
        queries, ids = [], set()
        for line, query in read_records(self._root, QUERIES, QueryRecord, self._problems):
            video = self._find_video(QUERIES, line, query.video)
            if video is None:
                continue
            if query.qid in ids:
                self._problems.add(QUERIES, line, f"query {query.qid!r} is listed twice")
            ids.add(query.qid)
            for activity in query.activities:
                self._check_activity(QUERIES, line, activity, classes)
            if query.instance is not None and query.instance not in self._known[query.video]:
                reason = "it has no event or track, and classes.json does not name it"
                self._problems.add(QUERIES, line, f"instance {query.instance} is unknown: {reason}")
            self._check_time(QUERIES, line, "q_e", query.q_e, video)
            for message in query_errors(query):
                self._problems.add(QUERIES, line, message)
            crop = query.crop
            if isinstance(crop, CropFile) and not (self._root / crop.path).is_file():
                self._problems.add(QUERIES, line, f"there is no crop {crop.path} (seen from {self._root})")
            elif isinstance(crop, CropInVideo):
                self._check_time(QUERIES, line, "crop.tick5 / 5", crop.tick5 / TICKS_PER_SECOND, video)
            queries.append(query)
        return queries

    def _find_video(self, file: str, line: int, name: str) -> Video | None:
        if name not in self._videos:
            self._problems.add(file, line, f"video {name!r} is unknown: {VIDEOS} does not list it")
        return self._videos.get(name)

    def _check_activity(self, file: str, line: int, activity: int, classes: Classes) -> None:
        last = len(classes.activities) - 1
        if activity > last:
            self._problems.add(file, line, f"activity must be in 0..{last} of classes.json, got {activity}")

    def _check_time(self, file: str, line: int, name: str, t: float, video: Video) -> None:
        if t > video.duration_s + _SLACK_S:
            self._problems.add(
                file, line, f"{name} is {t:g} s, beyond the end of {video.video!r} at {video.duration_s:g} s"
            )


def _content_key(root: Path, video: Video) -> object:
    """Return a key that is equal for two records of the same pictures."""
    if video.path is not None:
        return (root / video.path).resolve()
    knobs = tuple(sorted(video.knobs.items()))
    return video.seed, video.level, video.products, video.backgrounds, video.only, knobs


def query_errors(query: QueryRecord) -> list[str]:
    """Return what is wrong with a query of its type."""
    errors = []
    if query.q_s >= query.q_e:
        errors.append(f"q_e must be after q_s={query.q_s:g}, got {query.q_e:g}")
    has_window = query.t_s is not None and query.t_e is not None
    if (query.type != "time" or query.happened) and not has_window:
        errors.append(
            f"t_s and t_e are missing: {'the truth' if query.type == 'time' else 'what is asked about'}"
        )
    if query.t_s is not None and query.t_e is not None:
        if not query.q_s <= query.t_s < query.t_e <= query.q_e:
            errors.append(
                f"t_s={query.t_s:g}, t_e={query.t_e:g} must be a window inside {query.q_s:g}-{query.q_e:g} s"
            )
    if query.type != "object" and (query.crop is None or query.instance is None):
        errors.append("crop and instance are missing: they show which object is asked about")
    if query.type != "activity" and len(query.activities) != 1:
        errors.append(
            f"activities must be the one activity that is asked about, got {list(query.activities)}"
        )
    if query.type == "activity" and bool(query.activities) != query.happened:
        errors.append(
            f"activities must be the truth, and empty if nothing happened: {list(query.activities)}"
        )
    if query.type == "object" and bool(query.boxes) != query.happened:
        errors.append(f"boxes must be the truth, and none if nothing happened: got {len(query.boxes)}")
    return errors
