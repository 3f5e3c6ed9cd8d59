"""Make a data folder of other tools' annotations: the only place where their common form becomes records.

Labels become activities and products by a map. What is done with an object is an event of it; an activity
without an object is done with the whole picture, the instance `scene`. Boxes are written at the ticks of the
memory, each as the tool shows it in the frame of that tick.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_runtime.frame import TICKS_PER_SECOND
from edge_runtime.teaching.video import name_recording
from engines.errors import LvmError
from export.data.files import write_annotations
from export.data.formats.forms import (
    BoxKey,
    PictureBox,
    Place,
    ReadOptions,
    Report,
    Track,
    VideoAnnotations,
)
from export.data.formats.parsers import PARSERS
from export.data.label_map import LabelMap, Meaning
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
from export.data.timeline import Timeline, VideoClock
from export.data.video_files import VideoFolder, describe_video, time_frames

SCENE = "scene"
"""The instance with which something is done where no object is named."""
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
WHOLE_FROM = 0.98
"""A box of an activity that covers this share of each side says when it is done, not where."""
FindVideo = Callable[[VideoAnnotations], VideoClock]


@dataclass(frozen=True)
class ImportRules:
    """What the user says beyond the files."""

    fps: float | None = None
    shift: float = 0.0
    split: Split = "train"
    splits: dict[str, Split] = field(default_factory=dict)
    """By name, relative path or stem of a video."""
    group_by: str | None = None
    """Regular expression: videos whose names match it alike are cut from one recording."""


@dataclass
class Imported:
    """The records of an import, and what was odd about it."""

    videos: list[Video]
    events: list[EventRecord]
    tracks: list[TrackRecord]
    classes: Classes

    def summarise(self) -> dict[str, Any]:
        """Return counts, and the names of what was understood."""
        names = {instance.id: instance for instance in self.classes.instances}
        events = Counter(self.classes.activities[event.activity].name for event in self.events)
        return {
            "videos": dict(Counter(video.split for video in self.videos)),
            "hours": round(sum(video.duration_s for video in self.videos) / 3600.0, 3),
            "activities": dict(events),
            "products": sorted(
                {one.name for one in names.values() if one.video is None and one.name != SCENE}
            ),
            "boxes": len(self.tracks),
        }

    def write(self, root: Path) -> None:
        """Write the data folder `root`."""
        write_annotations(root, self.videos, self.events, self.tracks, self.classes)


def read_annotations(
    kind: str, paths: Iterable[Path], report: Report, options: ReadOptions | None = None
) -> list[VideoAnnotations]:
    """Read files of one format. Raises LvmError for an unknown format and for files that are not of it."""
    if kind not in PARSERS:
        raise LvmError(f"the format must be one of {', '.join(PARSERS)}, got {kind!r:.60}")
    read: list[VideoAnnotations] = []
    for path in paths:
        if not path.exists():
            raise LvmError(f"there is no {path}; correct the path")
        read += PARSERS[kind](path, report, options or ReadOptions())
    return read


def make_video_finder(folder: VideoFolder, name: str | None = None) -> FindVideo:
    """Return what finds the video of hints; `name` is the one of files that name none."""
    clocks: dict[str, VideoClock] = {}

    def find(annotations: VideoAnnotations) -> VideoClock:
        file = _find_file(folder, (name,) if name else annotations.hints, annotations.place.file.stem)
        if file not in clocks:
            path = folder.files[file]
            clock = VideoClock(describe_video(path, file, "train"), time_frames(path))
            video = clock.video.model_copy(update={"duration_s": round(clock.end, 6)})
            clocks[file] = VideoClock(video, clock.times)
        return clocks[file]

    return find


def _find_file(folder: VideoFolder, hints: Sequence[str], stem: str) -> str:
    """Return the video of hints; without any, the one named as the file is, or the only one."""
    if not hints:
        try:
            return folder.find((stem,))
        except LvmError:
            pass
    return folder.find(hints)


def import_annotations(
    annotations: Iterable[VideoAnnotations],
    find: FindVideo,
    labels: LabelMap,
    rules: ImportRules,
    report: Report,
) -> Imported:
    """Make records of annotations. Raises LvmError where they say nothing that can be learned."""
    collections: dict[str, _Collection] = {}
    for one in annotations:
        try:
            clock = find(one)
        except LvmError as error:
            report.refuse(one.place, str(error))
            continue
        name = clock.video.video
        split = _choose_split(name, one.split, rules)
        if name not in collections:
            collections[name] = _Collection(clock, split, labels, report)
        elif split != collections[name].split:
            report.refuse(one.place, f"{name} is in {split} here and in {collections[name].split} before")
            continue
        collections[name].add(one, Timeline(clock, one, fps=rules.fps, shift=rules.shift))
    known = {key for name in collections for key in _list_keys(name)}
    if strange := sorted(set(rules.splits) - known):
        raise LvmError(f"{strange[0]} is no video of the files; correct --val and --test")
    return _make_records(list(collections.values()), labels, rules.group_by, report)


def _list_keys(name: str) -> tuple[str, str, str]:
    """Return what a video may be called: its relative path, name and stem."""
    return name, Path(name).name, Path(name).stem


def _choose_split(name: str, file_split: Split | None, rules: ImportRules) -> Split:
    chosen = [rules.splits[key] for key in _list_keys(name) if key in rules.splits]
    return chosen[0] if chosen else file_split or rules.split


@dataclass(frozen=True)
class _Instance:
    """An object: a product of this name in every video, or something of one video."""

    name: str
    video: str | None = None


@dataclass(frozen=True)
class _Appearance:
    """A box at a tick; `doing` if the annotation says itself that something is being done with it."""

    box: Box
    occluded: bool
    doing: bool


@dataclass(frozen=True)
class _Interval:
    start: float
    end: float
    place: Place


class _Collection:
    """What is known about one video."""

    def __init__(self, clock: VideoClock, split: Split, labels: LabelMap, report: Report) -> None:
        self.clock, self.split, self._labels, self._report = clock, split, labels, report
        self.intervals: dict[tuple[str, _Instance], list[_Interval]] = defaultdict(list)
        self.boxes: dict[_Instance, dict[int, list[_Appearance]]] = defaultdict(lambda: defaultdict(list))

    def add(self, annotations: VideoAnnotations, timeline: Timeline) -> None:
        """Add everything that a file says about the video."""
        self._compare_shape(annotations)
        named: dict[str, _Instance] = {}
        for track in annotations.tracks:
            named[track.name] = self._add_track(track, timeline)
        for span in annotations.spans:
            try:
                start = timeline.seconds(span.start)
            except ValueError as error:
                self._report.refuse(span.place, str(error))
                continue
            meanings = self._explain(span.labels, span.values)
            end = self._cut_end(span.end, start, span.place, timeline)
            if not any(meaning.activity for meaning in meanings):
                if any(meaning.product for meaning in meanings):
                    self._report.note(span.place, "a span of a product without an activity was left out")
                continue
            self._add_events(meanings, named.get(span.track or "", _Instance(SCENE)), start, end, span.place)

    def _compare_shape(self, annotations: VideoAnnotations) -> None:
        """Note that boxes are given in a picture of another shape."""
        video, size = self.clock.video, annotations.size
        if size is None or size[0] == size[1]:
            return
        if abs(size[0] / size[1] * video.height / video.width - 1) > 0.02:
            self._report.note(
                annotations.place,
                f"boxes are of {size[0]:g}x{size[1]:g}, and {video.video} is {video.width}x{video.height}",
            )

    def _cut_end(self, at: float, start: float, place: Place, timeline: Timeline) -> float:
        if timeline.is_beyond(at):
            self._report.note(place, "what ends after the video was cut at its end")
        return max(timeline.end_seconds(at), start)

    def _explain(self, labels: Iterable[str], values: Iterable[str]) -> list[Meaning]:
        """Return what labels mean, and those values of attributes that the map names."""
        named = [value for value in values if self._labels.is_named(value)]
        return [self._labels.explain(label) for label in (*labels, *named)]

    def _add_events(
        self, meanings: Iterable[Meaning], instance: _Instance, start: float, end: float, place: Place
    ) -> None:
        """Add each activity with each product that is named, else with `instance`."""
        meanings = list(meanings)
        pairs = [(meaning.activity, meaning.product) for meaning in meanings]
        products = [product for activity, product in pairs if product and not activity]
        for activity, product in pairs:
            if activity is None:
                continue
            targets = [product] if product else products
            for acted in [_Instance(target) for target in targets] or [instance]:
                self.intervals[activity, acted].append(_Interval(start, end, place))

    # -- tracks --------------------------------------------------------------------------------------------

    def _add_track(self, track: Track, timeline: Timeline) -> _Instance:
        """Add the boxes of a track and what it says is being done; return its instance."""
        product = next((one.product for one in self._explain(track.labels, ()) if one.product), None)
        label = track.labels[0] if track.labels else ""
        own_name = track.name if track.name.startswith(label) else f"{label} {track.name}"
        instance = _Instance(product) if product else _Instance(own_name, self.clock.video.video)
        ignored = bool(track.labels) and all(one == Meaning() for one in self._explain(track.labels, ()))
        for run in _find_runs(track):
            self._add_run(track, run, instance, timeline, ignored)
        return instance

    def _add_run(
        self, track: Track, run: Sequence[_Segment], instance: _Instance, timeline: Timeline, ignored: bool
    ) -> None:
        """Add one unbroken appearance of a track."""
        missed: tuple[_Instance, float, _Appearance] | None = None
        written = False
        for segment in run:
            key = segment.key
            try:
                start = timeline.seconds(key.at)
                box, far = timeline.place_box(_box_of(key))
            except ValueError as error:
                self._report.refuse(key.place, str(error))
                continue
            if far:
                self._report.note(key.place, "a box that reaches beyond the picture was cut at its edge")
            end = timeline.end_seconds(segment.end)
            meanings = self._explain(track.labels, key.values)
            acts = any(meaning.activity for meaning in meanings)
            owner = next((_Instance(one.product) for one in meanings if one.product), instance)
            whole = acts and min(box[2] - box[0], box[3] - box[1]) >= WHOLE_FROM
            if acts:
                self._add_events(meanings, _Instance(SCENE) if whole else owner, start, end, key.place)
            if whole or ignored and not acts:
                written = True
                continue
            missed = missed or (owner, start, _Appearance(box, key.occluded, acts))
            for tick in range(*_ticks_between(start, end)):
                at = min(max(timeline.moment(tick / TICKS_PER_SECOND), key.at), segment.end)
                moved = _between(box, self._place_target(segment, box, timeline), key.at, segment.end, at)
                self._add_box(owner, tick, _Appearance(moved, key.occluded, acts))
                written = True
        if missed and not written:  # shorter than a tick
            self._add_box(missed[0], self._nearest(missed[1]), missed[2])

    def _add_box(self, instance: _Instance, tick: int, appearance: _Appearance) -> None:
        """Add a box, once if several files say the same."""
        known = self.boxes[instance][tick]
        if appearance not in known:
            known.append(appearance)

    def _place_target(self, segment: _Segment, box: Box, timeline: Timeline) -> Box:
        """Return the box to which that of a segment moves; one that is wrong is refused where it is a key."""
        if segment.target == segment.key.box:
            return box
        try:
            return timeline.place_box(segment.target)[0]
        except ValueError:
            return box

    def _nearest(self, t: float) -> int:
        """Return the tick nearest to `t` seconds within the video."""
        return max(min(round(t * TICKS_PER_SECOND), math.floor(self.clock.end * TICKS_PER_SECOND)), 0)


@dataclass(frozen=True)
class _Segment:
    """From a key of a track to `end`, where its box has become `target`."""

    key: BoxKey
    end: float
    target: PictureBox


def _find_runs(track: Track) -> Iterator[list[_Segment]]:
    """Yield the unbroken appearances of a track, each as segments from key to key."""
    keys = track.keys
    run: list[_Segment] = []
    moments = sorted({key.at for key in keys})
    after = dict(zip(moments, [*moments[1:], math.inf], strict=True))
    for at, key in enumerate(keys):
        if key.box is None:
            if run:
                yield run
            run = []
            continue
        following = after[key.at]
        joined = math.isfinite(following) and following - key.at <= track.gap
        target = keys[at + 1].box if joined and track.moves and at + 1 < len(keys) else None
        run.append(_Segment(key, following if joined else key.at + track.reach, target or key.box))
        if not joined:
            yield run
            run = []
    if run:
        yield run


def _box_of(key: BoxKey) -> PictureBox:
    return key.box or PictureBox(0.0, 0.0, 0.0, 0.0)


def _ticks_between(start: float, end: float) -> tuple[int, int]:
    """Return the first tick at or after `start`, and the first at or after `end`."""
    return math.ceil(start * TICKS_PER_SECOND - 1e-6), math.ceil(end * TICKS_PER_SECOND - 1e-6)


def _between(box: Box, target: Box, start: float, end: float, at: float) -> Box:
    if box == target or not math.isfinite(end) or end <= start:
        return box
    part = (at - start) / (end - start)
    x1, y1, x2, y2 = (round(a + (b - a) * part, 6) for a, b in zip(box, target, strict=True))
    return x1, y1, x2, y2


# -- records -----------------------------------------------------------------------------------------------


def _make_records(
    collections: list[_Collection], labels: LabelMap, group_by: str | None, report: Report
) -> Imported:
    activities: dict[str, int] = {}
    instances: dict[_Instance, int] = {}
    for collection in collections:
        for activity, instance in collection.intervals:
            activities.setdefault(activity, len(activities))
            instances.setdefault(instance, 0)
        for instance in collection.boxes:
            instances.setdefault(instance, 0)
    if not collections or not activities:
        if report.refused:
            return Imported([], [], [], _NO_CLASSES)
        raise LvmError("nothing in the files is an activity; say with --map which labels are")
    ordered = sorted(instances, key=lambda instance: (instance.video or "", instance.name))
    instances = {instance: number for number, instance in enumerate(ordered)}
    imported = Imported([], [], [], _make_classes(activities, instances, labels))
    for collection in sorted(collections, key=lambda one: one.clock.video.video):
        events = _make_events(collection, activities, instances, report)
        video = collection.clock.video
        source = name_recording(group_by, video.path or video.video)
        imported.videos.append(video.model_copy(update={"split": collection.split, "source": source}))
        imported.events += events
        imported.tracks += _make_tracks(collection, events, instances, report)
    return imported


_NO_CLASSES = Classes(activities=(NamedActivity(id=0, name="-", doing="-"),))


def _make_classes(activities: dict[str, int], instances: dict[_Instance, int], labels: LabelMap) -> Classes:
    return Classes(
        activities=tuple(
            NamedActivity(
                id=number, name=name[:200], doing=labels.doing.get(name, name.replace("_", " "))[:500]
            )
            for name, number in activities.items()
        ),
        instances=tuple(
            NamedInstance(id=number, name=instance.name, video=instance.video)
            for instance, number in instances.items()
        ),
    )


def _make_events(
    collection: _Collection, activities: dict[str, int], instances: dict[_Instance, int], report: Report
) -> list[EventRecord]:
    """Return the events of a video in order; intervals of one activity and instance that touch become one."""
    video, events = collection.clock.video, list[EventRecord]()
    for (activity, instance), intervals in collection.intervals.items():
        for interval in _join(intervals, report):
            start, end = interval.start, interval.end
            if round(end * TICKS_PER_SECOND) <= round(start * TICKS_PER_SECOND):
                report.note(interval.place, "what lasts less than a fifth of a second was made that long")
                start = min(start, collection.clock.end - 1.0 / TICKS_PER_SECOND)
                end = start + 1.0 / TICKS_PER_SECOND
            events.append(
                EventRecord(
                    video=video.video, event=f"e{len(events)}", activity=activities[activity],
                    instance=instances[instance], t_s=round(max(start, 0.0), 6), t_e=round(end, 6),
                )
            )  # fmt: skip
    return sorted(events, key=lambda event: (event.t_s, event.t_e, event.event))


def _join(intervals: list[_Interval], report: Report) -> list[_Interval]:
    joined: list[_Interval] = []
    for interval in sorted(intervals, key=lambda one: (one.start, one.end)):
        if joined and interval.start <= joined[-1].end + 1e-6:
            if interval.start < joined[-1].end - 1e-6:
                report.note(interval.place, "events of one activity and object that overlap became one")
            joined[-1] = _Interval(joined[-1].start, max(joined[-1].end, interval.end), joined[-1].place)
        else:
            joined.append(interval)
    return joined


def _make_tracks(
    collection: _Collection, events: list[EventRecord], instances: dict[_Instance, int], report: Report
) -> list[TrackRecord]:
    video = collection.clock.video.video
    busy: dict[int, set[int]] = defaultdict(set)
    for event in events:
        busy[event.instance] |= set(range(*_ticks_between(event.t_s, event.t_e)))
    rows = list[tuple[int, int, str, Box, bool]]()
    for instance, ticks in collection.boxes.items():
        number = instances[instance]
        for tick, appearances in ticks.items():
            active = _find_active(appearances) if tick in busy[number] else None
            if tick in busy[number] and active is None:
                report.note(
                    Place(Path(video)),
                    f"which of several boxes of {instance.name} an event is about is not known",
                )
            for at, appearance in enumerate(appearances):
                if at == active or not appearance.occluded:
                    rows.append((tick, number, instance.name, appearance.box, at == active))
    scene = instances.get(_Instance(SCENE))
    if scene is not None and scene in {event.instance for event in events}:
        last = math.floor(collection.clock.end * TICKS_PER_SECOND)
        idle = set(range(0, last, TICKS_PER_SECOND))
        rows += [
            (tick, scene, SCENE, WHOLE, tick in busy[scene])
            for tick in sorted(busy[scene] | idle)
            if tick <= last
        ]
    return [
        TrackRecord(
            video=video, instance=number, category=name, tick5=tick, box=box, active=1 if active else 0
        )
        for tick, number, name, box, active in sorted(rows, key=lambda row: row[:2])
    ]


def _find_active(appearances: list[_Appearance]) -> int | None:
    """Return which box an event is about: the one that says so itself, or the only one; None if unclear."""
    doing = [at for at, appearance in enumerate(appearances) if appearance.doing]
    choice = doing or list(range(len(appearances)))
    return choice[0] if len(choice) == 1 else None
