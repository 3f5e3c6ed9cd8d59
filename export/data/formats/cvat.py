"""Read CVAT's XML 1.1, for video (tracks) and for images.

Frame numbers are those of the video itself, whatever step the task had. A track's boxes lie between its key
frames evenly; `outside` hides it from that frame on, and after its last box it stays to the end of the task.
Of shapes that are no boxes the box around them counts. Attributes are further labels. A tag of an image,
and a box of the whole picture, says that something goes on in that frame.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
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
from export.data.formats.reading import (
    Element,
    Flag,
    Foreign,
    Frame,
    Length,
    Name,
    Number,
    find_stride,
    parse,
    read_xml,
    split_frame_name,
)

SHAPES = ("box", "polygon", "polyline", "points", "cuboid", "ellipse", "mask", "skeleton")


class _Track(Foreign):
    id: Name
    label: Name
    task_id: str = ""


class _Image(Foreign):
    id: Frame
    name: str = ""
    width: Length
    height: Length
    task_id: str = ""


class _Shape(Foreign):
    label: str = ""
    occluded: Flag = False
    rotation: Number = 0.0


class _TrackShape(_Shape):
    frame: Frame
    outside: Flag = False


class _Box(Foreign):
    xtl: Number
    ytl: Number
    xbr: Number
    ybr: Number


class _Mask(Foreign):
    left: Number
    top: Number
    width: Length
    height: Length


class _Ellipse(Foreign):
    cx: Number
    cy: Number
    rx: Length
    ry: Length


class _Task(Foreign):
    id: str = ""
    name: str = ""
    source: str = ""
    stop_frame: Frame | None = None
    size: Frame | None = None
    width: Length | None = None
    height: Length | None = None


def read_cvat(path: Path, report: Report, options: ReadOptions) -> list[VideoAnnotations]:
    """Read an XML file of CVAT. Raises InvalidFile."""
    root = read_xml(path)
    if root.name != "annotations":
        raise InvalidFile(root.place, f"expected CVAT's <annotations>, got <{root.name}>")
    version = root.get_text("version")
    if version not in ("", "1.1", "1.0"):
        report.note(root.place, f"version {version} of CVAT's XML is read as 1.1")
    tasks = _read_tasks(root, report)
    videos: dict[str, VideoAnnotations] = {}
    for element in root.all("track"):
        _read_track(element, tasks, videos, report)
    images: dict[str, list[tuple[Element, _Image]]] = defaultdict(list)
    for element in root.all("image"):
        if image := parse(_Image, element.attributes, element.place, report):
            parts = split_frame_name(image.name)
            images[f"{image.task_id}/{parts[0] if parts else ''}"].append((element, image))
    for key, group in images.items():
        videos[f"images/{key}"] = _read_images(group, tasks, report, options.first_frame or 0)
    return list(videos.values())


def _read_tasks(root: Element, report: Report) -> dict[str, _Task]:
    """Return the tasks by id, and the only one by an empty id too."""
    meta = [root.find("meta/task"), root.find("meta/job")]
    project = root.find("meta/project/tasks")
    found: list[_Task] = []
    for element in [*(one for one in meta if one), *(project.all("task") if project else [])]:
        texts = {child.name: child.text.strip() for child in element.children if child.text.strip()}
        for side in ("width", "height"):
            if size := element.get_text(f"original_size/{side}"):
                texts[side] = size
        if task := parse(_Task, texts, element.place, report):
            found.append(task)
    by_id = {task.id: task for task in found}
    if len(found) == 1:
        by_id[""] = found[0]
    return by_id


def _open_video(task: _Task | None, name: str, place: Place) -> VideoAnnotations:
    task = task or _Task()
    size = (task.width, task.height) if task.width and task.height else None
    hints = tuple(hint for hint in (name, task.source, task.name) if hint)
    return VideoAnnotations(hints=hints, place=place, clock="frames", size=size)


def _read_track(
    element: Element, tasks: dict[str, _Task], videos: dict[str, VideoAnnotations], report: Report
) -> None:
    head = parse(_Track, element.attributes, element.place, report)
    if head is None:
        return
    task = tasks.get(head.task_id)
    video = videos.setdefault(head.task_id, _open_video(task, "", element.place))
    if any(other.name == head.id for other in video.tracks):
        report.refuse(element.place, f"track {head.id} is there twice; ids of tracks must differ")
        return
    track = Track(head.id, (head.label,), element.place)
    keys: dict[int, BoxKey] = {}
    for shape in element.all(*SHAPES):
        parsed = parse(_TrackShape, shape.attributes, shape.place, report)
        box = _read_shape(shape, report) if parsed else None
        if parsed is None or box is None:
            continue
        if parsed.frame in keys:
            report.refuse(shape.place, f"track {head.id} has two boxes at frame {parsed.frame}")
            continue
        keys[parsed.frame] = BoxKey(
            parsed.frame, None if parsed.outside else box, shape.place, _read_values(shape), parsed.occluded
        )
    track.keys = [keys[frame] for frame in sorted(keys)]
    if not track.keys:
        report.note(element.place, "a track without a box was left out")
        return
    stop = _find_stop(task)
    if stop is not None and track.keys[-1].box is not None and track.keys[-1].at <= stop:
        track.keys.append(replace(track.keys[-1], at=stop + 1, box=None))
    video.tracks.append(track)


def _find_stop(task: _Task | None) -> int | None:
    """Return the last frame of a task, if it is known."""
    if task is None:
        return None
    return task.stop_frame if task.stop_frame is not None else (task.size or 0) - 1 if task.size else None


def _read_values(shape: Element) -> tuple[str, ...]:
    """Return the values of a shape's attributes; of a box that is ticked, its name."""
    values = []
    for attribute in shape.all("attribute"):
        name, value = attribute.attributes.get("name", ""), attribute.text.strip()
        if value.casefold() == "true":
            values.append(name)
        elif value and value.casefold() not in ("false", "__undefined__"):
            values.append(value)
    return tuple(values)


def _read_shape(shape: Element, report: Report) -> PictureBox | None:
    """Return the box around a shape; None after refusing it."""
    corners: tuple[float, float, float, float] | None = None
    if shape.name == "box":
        if box := parse(_Box, shape.attributes, shape.place, report):
            corners = (box.xtl, box.ytl, box.xbr, box.ybr)
    elif shape.name == "mask":
        if mask := parse(_Mask, shape.attributes, shape.place, report):
            corners = (mask.left, mask.top, mask.left + mask.width, mask.top + mask.height)
    elif shape.name == "ellipse":
        if oval := parse(_Ellipse, shape.attributes, shape.place, report):
            corners = (oval.cx - oval.rx, oval.cy - oval.ry, oval.cx + oval.rx, oval.cy + oval.ry)
    else:
        corners = _surround(shape, report)
    if corners is None:
        return None
    if shape.name != "box":
        report.note(shape.place, f"of a {shape.name} the box around it counts")
    head = parse(_Shape, shape.attributes, shape.place, report)
    return PictureBox(*corners) if head is None else _turn(PictureBox(*corners), head.rotation, shape, report)


def _surround(shape: Element, report: Report) -> tuple[float, float, float, float] | None:
    """Return the corners of the box around points, of a skeleton's elements or of a cuboid."""
    texts = [
        shape.attributes.get("points", ""),
        *(one.attributes.get("points", "") for one in shape.all("points")),
    ]
    pairs = [pair.split(",") for text in texts for pair in text.split(";") if pair.strip()]
    for side in ("tl1", "bl1", "tr1", "br1", "tl2", "bl2", "tr2", "br2"):
        if f"x{side}" in shape.attributes:
            pairs.append([shape.attributes[f"x{side}"], shape.attributes.get(f"y{side}", "")])
    try:
        points = [(float(x), float(y)) for x, y in pairs]
        finite = all(math.isfinite(value) for point in points for value in point)
    except ValueError:
        points, finite = [], False
    if not points or not finite:
        report.refuse(shape.place, f"points of a {shape.name} must be x,y;x,y;…, got {texts[0][:60]!r}")
        return None
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return min(xs), min(ys), max(xs), max(ys)


def _turn(box: PictureBox, degrees: float, shape: Element, report: Report) -> PictureBox:
    """Return the box around a turned one."""
    if not degrees % 360:
        return box
    report.note(shape.place, "of a turned box the upright box around it counts")
    angle = math.radians(degrees)
    wide, high = (box.x2 - box.x1) / 2, (box.y2 - box.y1) / 2
    x, y = (box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2
    across = abs(wide * math.cos(angle)) + abs(high * math.sin(angle))
    up = abs(wide * math.sin(angle)) + abs(high * math.cos(angle))
    return PictureBox(x - across, y - up, x + across, y + up)


def _read_images(
    group: list[tuple[Element, _Image]], tasks: dict[str, _Task], report: Report, first_frame: int
) -> VideoAnnotations:
    """Return the boxes and tags of the images of one video; they have no track, so labels hold them
    together."""
    first, head = group[0]
    parts = split_frame_name(head.name)
    video = _open_video(tasks.get(head.task_id), parts[0] if parts else "", first.place)
    video.size, video.first_frame = (head.width, head.height), first_frame
    numbers: dict[int, Place] = {}
    tracks: dict[str, Track] = {}
    stride = find_stride(_number(image) for _, image in group)
    for element, image in sorted(group, key=lambda pair: _number(pair[1])):
        frame = _number(image)
        if frame in numbers:
            report.refuse(element.place, f"frame {frame} is there twice, first at {numbers[frame]}")
            continue
        numbers[frame] = element.place
        for shape in element.all(*SHAPES):
            parsed, box = parse(_Shape, shape.attributes, shape.place, report), _read_shape(shape, report)
            if parsed is None or box is None:
                continue
            if not parsed.label:
                report.refuse(shape.place, "label is missing")
                continue
            scaled = _scale(box, (image.width, image.height), video.size)
            track = tracks.setdefault(
                parsed.label,
                Track(parsed.label, (parsed.label,), shape.place, gap=stride, reach=1.0, moves=False),
            )
            track.keys.append(BoxKey(frame, scaled, shape.place, _read_values(shape), parsed.occluded))
        for tag in element.all("tag"):
            if label := tag.attributes.get("label", ""):
                span = Span((label,), frame, frame + stride, tag.place, values=_read_values(tag))
                video.spans.append(span)
            else:
                report.refuse(tag.place, "label is missing")
    video.tracks = list(tracks.values())
    return video


def _number(image: _Image) -> int:
    parts = split_frame_name(image.name)
    return parts[1] if parts else image.id


def _scale(box: PictureBox, size: tuple[float, float], to: tuple[float, float]) -> PictureBox:
    across, up = to[0] / size[0], to[1] / size[1]
    return PictureBox(box.x1 * across, box.y1 * up, box.x2 * across, box.y2 * up)
