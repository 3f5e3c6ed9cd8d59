"""Write a data folder, and answers of a memory, in the form of an annotation tool, so that people can
correct them.

Beside the annotations lies a map of labels, with which `import` reads them back as what they were.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from edge_runtime.frame import TICKS_PER_SECOND
from edge_runtime.system.text import printable
from engines.errors import LvmError
from export.data.checks import read_data_folder
from export.data.files import DataFolder, Tracks
from export.data.formats.cvat_writer import FrameBox, LabelledTrack, format_cvat
from export.data.formats.forms import Place, Report
from export.data.formats.reading import Foreign, JsonFile, Name, Number, Time, parse, read_lines
from export.data.importing import SCENE, WHOLE
from export.data.label_map import LabelFile
from export.data.records import Box, Video
from export.data.timeline import VideoClock
from export.data.video_files import describe_video, time_frames

PRODUCT = "product"
"""The attribute that says with what an activity is done."""
MAP_FILE = "labels.yaml"


def export_cvat(source: Path, out: Path, answers: Sequence[Path] = (), label: str = "answer") -> list[str]:
    """Write one XML file for each video of `source`, a data folder or a video file; return the files' names.

    `answers` are files of `lvm-edge ask --json` and `lvm-edge activities --format json` about the only video.
    Their spans and boxes are called `label` where the answer does not say of which activity they are. Raises
    LvmError.
    """
    if source.is_dir():
        data = read_data_folder(source)
        clocks = [_open_clock(source, video) for video in data.videos.values()]
    else:
        data, clocks = None, [VideoClock(describe_video(source, source.name, "train"), time_frames(source))]
    if answers and len(clocks) != 1:
        raise LvmError(f"answers are about one video, {source} has {len(clocks)}; name the video file")
    out.mkdir(parents=True, exist_ok=True)
    activities, products, written = set[str](), set[str](), list[str]()
    for clock in clocks:
        tracks = list(_list_tracks(data, clock)) if data else []
        for file in answers:
            tracks += _list_answers(file, clock, label)
        for track in tracks:
            (products if track.label in _list_products(data) else activities).add(track.label)
            products |= {value for name, value in track.attributes.items() if name == PRODUCT}
        name = clock.video.video.replace("/", "_") + ".xml"
        (out / name).write_bytes(format_cvat(clock.video, len(clock.times), tracks))
        written.append(name)
    _write_map(out / MAP_FILE, data, activities, products)
    return written


def _open_clock(root: Path, video: Video) -> VideoClock:
    if video.path is None:
        raise LvmError(f"{video.video} is a drawn world, which has no video file to annotate")
    return VideoClock(video, time_frames(root / video.path))


def _list_products(data: DataFolder | None) -> set[str]:
    """Return the names of instances. Raises LvmError where one is an activity too: labels would not tell."""
    if data is None:
        return set()
    names = {instance.name for instance in data.names.instances}
    if both := sorted(names & {activity.name for activity in data.classes}):
        raise LvmError(f"{both[0]!r} is both an activity and an instance in classes.json; rename one of them")
    return names


def _list_tracks(data: DataFolder, clock: VideoClock) -> Iterable[LabelledTrack]:
    """Yield the boxes of every instance, and every event as a track of its own."""
    video, tracks = clock.video.video, data.tracks[clock.video.video]
    names = {one.id: one.name for one in data.names.instances if one.video in (None, video)}
    for instance in sorted(set(tracks.instance.tolist())):
        name = names.get(instance, f"object {instance}")
        if name != SCENE:
            yield from _list_boxes(tracks.select(instance), name, clock)
    for event in data.events[video]:
        name = names.get(event.instance, f"object {event.instance}")
        attributes = {} if name == SCENE else {PRODUCT: name}
        activity = data.classes[event.activity].name
        yield _make_span(activity, event.t_s, event.t_e, clock, attributes)


def _list_boxes(tracks: Tracks, label: str, clock: VideoClock) -> Iterable[LabelledTrack]:
    """Yield tracks of the boxes of one instance; several at one tick need several tracks."""
    by_tick: dict[int, list[Box]] = defaultdict(list)
    for tick, box in zip(tracks.tick5.tolist(), tracks.box.tolist(), strict=True):
        by_tick[tick].append(tuple(box))
    for at in range(max(map(len, by_tick.values()), default=0)):
        boxes: list[FrameBox] = []
        ticks = sorted(tick for tick, several in by_tick.items() if len(several) > at)
        for tick, following in zip(ticks, [*ticks[1:], None], strict=True):
            # The frame that is shown at the tick, so that a box is there at its tick and gone at the next.
            frame = max(bisect_right(clock.times, tick / TICKS_PER_SECOND + 1e-6) - 1, 0)
            if not boxes or boxes[-1].frame < frame:
                boxes.append(FrameBox(frame, by_tick[tick][at]))
            if following != tick + 1 and frame + 1 < len(clock.times):
                boxes.append(FrameBox(frame + 1, None))
        yield LabelledTrack(label, _drop_still(boxes))


def _drop_still(boxes: list[FrameBox]) -> list[FrameBox]:
    """Leave out boxes that are as those before and after them: CVAT's key frames are for changes."""
    return [
        box for at, box in enumerate(boxes)
        if not 0 < at < len(boxes) - 1 or not box.box == boxes[at - 1].box == boxes[at + 1].box
    ]  # fmt: skip


def _make_span(
    label: str, start: float, end: float, clock: VideoClock, attributes: dict[str, str]
) -> LabelledTrack:
    """Return a span as a box of the whole picture."""
    frame = _nearest_frame(clock, start)
    boxes = [FrameBox(frame, WHOLE)]
    if after := _end_frame(clock, end, frame):
        boxes.append(FrameBox(after, None))
    return LabelledTrack(label, boxes, attributes)


def _nearest_frame(clock: VideoClock, t: float) -> int:
    """Return the frame whose time is nearest to `t` seconds."""
    at = bisect_left(clock.times, t)
    around = [frame for frame in (at - 1, at) if 0 <= frame < len(clock.times)]
    return min(around, key=lambda frame: abs(clock.times[frame] - t))


def _end_frame(clock: VideoClock, t: float, start: int) -> int | None:
    """Return the first frame after an end at `t` seconds; None where the video ends before."""
    if t >= clock.end - clock.step / 2:
        return None
    after = max(_nearest_frame(clock, t), start + 1)
    return after if after < len(clock.times) else None


def _write_map(path: Path, data: DataFolder | None, activities: set[str], products: set[str]) -> None:
    """Write what `import --map` needs to read the files back."""
    doing = {one.name: one.doing for one in data.classes if one.name in activities} if data else {}
    content = {
        "activities": dict.fromkeys(sorted(activities)),
        "products": dict.fromkeys(sorted(products)),
        "doing": doing,
    }
    LabelFile.model_validate(content)
    path.write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False), encoding="utf-8")


# -- answers -----------------------------------------------------------------------------------------------


class _Span(Foreign):
    start: Time = Field(alias="from")
    end: Time = Field(alias="to")


class _Row(_Span):
    activity: Name


class _TimedBox(Foreign):
    t: Time
    box: tuple[Number, Number, Number, Number]


class _Candidate(Foreign):
    activity: Name


class _Covered(Foreign):
    start: Time | None = Field(default=None, alias="from")
    end: Time | None = Field(default=None, alias="to")


class _Answer(Foreign):
    type: Name
    activity: Name | None = None
    abstained: bool = False
    activities: tuple[_Candidate, ...] = ()
    boxes: tuple[_TimedBox, ...] = ()
    spans: tuple[_Span, ...] = ()
    coverage: _Covered = _Covered()
    asked: _Covered | None = None


def _list_answers(path: Path, clock: VideoClock, label: str) -> list[LabelledTrack]:
    """Return the answers of a file: one JSON, or one a line. Raises LvmError with file and line."""
    report = Report()
    tracks: list[LabelledTrack] = []
    for place, content in _read_answers(path):
        if (
            isinstance(content, dict)
            and isinstance(content.get("activities"), list)
            and "type" not in content
        ):
            for value in content["activities"]:
                if row := parse(_Row, value, place, report):
                    tracks += _clip_span(row.activity, row.start, row.end, clock, place, report)
        elif answer := parse(_Answer, content, place, report):
            tracks += _make_answer(answer, clock, label, place, report)
    if report.problems:
        raise LvmError(report.problems[0])
    return tracks


def _read_answers(path: Path) -> list[tuple[Place, Any]]:
    try:
        tree = JsonFile(path).tree
        return [(Place(path, 1), one) for one in (tree if isinstance(tree, list) else [tree])]
    except LvmError:
        lines = list(read_lines(path))
        answers = [(place, _load(line)) for place, line in lines]
        if len(lines) < 2 or answers[0][1] is None:
            raise
    for (place, line), (_, content) in zip(lines, answers, strict=True):
        if content is None:
            raise LvmError(printable(f"{place}: expected an answer in JSON, got {line[:60]!r}"))
    return answers


def _load(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _make_answer(
    answer: _Answer, clock: VideoClock, label: str, place: Place, report: Report
) -> list[LabelledTrack]:
    """Return what an answer says happened; nothing where it abstained."""
    if answer.abstained:
        return []
    name = answer.activity or label
    tracks: list[LabelledTrack] = []
    for span in answer.spans[:1]:
        tracks += _clip_span(name, span.start, span.end, clock, place, report)
    window = answer.asked or answer.coverage
    if (
        answer.type == "activity"
        and answer.activities
        and window.start is not None
        and window.end is not None
    ):
        tracks += _clip_span(answer.activities[0].activity, window.start, window.end, clock, place, report)
    if answer.boxes:
        tracks.append(LabelledTrack(name, _answer_boxes(answer.boxes, clock)))
    return tracks


def _answer_boxes(boxes: Iterable[_TimedBox], clock: VideoClock) -> list[FrameBox]:
    """Return the boxes of an answer, which are a second apart; after a longer gap the object is gone."""
    made: list[FrameBox] = []
    before = 0.0
    for timed in sorted(boxes, key=lambda timed: timed.t):
        if timed.t >= clock.end:
            continue
        frame = _nearest_frame(clock, timed.t)
        if made and timed.t - before > 2.0 and (after := _end_frame(clock, before + 1.0, made[-1].frame)):
            made.append(FrameBox(after, None))
        if not made or made[-1].frame < frame:
            made.append(FrameBox(frame, timed.box))
        before = timed.t
    if made and (after := _end_frame(clock, before + 1.0, made[-1].frame)):
        made.append(FrameBox(after, None))
    return made


def _clip_span(
    label: str, start: float, end: float, clock: VideoClock, place: Place, report: Report
) -> list[LabelledTrack]:
    """Return the part of a span that the video shows."""
    if end < start:
        report.refuse(place, f"to must not be before from, got {start:g} to {end:g} s")
    if start >= clock.end or end < start:
        return []
    return [_make_span(label, start, end, clock, {})]
