"""Read COCO's JSON: boxes of images that are frames of videos, and of whole videos.

An image says its video by `video_id` (COCO-VID, TAO) or by its name (`shelf/000012.jpg`). Objects are
followed by `track_id`, `instance_id` or CVAT's attribute of that name; without one, boxes of a label stand
for themselves. Annotations with `bboxes`, one for each frame of a video (YouTube-VIS), are read too. Groups
(`iscrowd`) are not.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, model_validator

from export.data.formats.forms import BoxKey, PictureBox, Place, ReadOptions, Report, Track, VideoAnnotations
from export.data.formats.reading import (
    Flag,
    Foreign,
    Frame,
    Identifier,
    JsonFile,
    Length,
    Name,
    Number,
    find_stride,
    parse,
    split_frame_name,
)

XYWH = tuple[Number, Number, Annotated[Number, Field(gt=0)], Annotated[Number, Field(gt=0)]]


class _Category(Foreign):
    id: Identifier
    name: Name


class _Video(Foreign):
    id: Identifier
    name: str = ""
    width: Length | None = None
    height: Length | None = None
    file_names: tuple[str, ...] = ()


class _Image(Foreign):
    id: Identifier
    file_name: str = ""
    width: Length
    height: Length
    video_id: Identifier | None = None
    frame_id: Frame | None = None
    frame_index: Frame | None = None


class _Attributes(Foreign):
    occluded: Flag = False
    track_id: Identifier | None = None


class _Annotation(Foreign):
    id: Identifier | None = None
    category_id: Identifier
    image_id: Identifier | None = None
    video_id: Identifier | None = None
    bbox: XYWH | None = None
    bboxes: tuple[XYWH | None, ...] | None = None
    track_id: Identifier | None = None
    instance_id: Identifier | None = None
    iscrowd: Flag = False
    occluded: Flag = False
    attributes: _Attributes = _Attributes()

    @model_validator(mode="after")
    def _check_box(self) -> _Annotation:
        if (self.bbox is None) == (self.bboxes is None):
            raise ValueError("an annotation has either a bbox or bboxes")
        return self

    @property
    def track(self) -> int | str | None:
        """The number of its object, if it has one."""
        known = (self.track_id, self.instance_id, self.attributes.track_id)
        return next((number for number in known if number is not None), None)


R = TypeVar("R", _Category, _Video, _Image)


def read_coco(path: Path, report: Report, options: ReadOptions) -> list[VideoAnnotations]:
    """Read a JSON file of COCO. Raises InvalidFile."""
    file = JsonFile(path)
    if not isinstance(file.tree, dict) or "annotations" not in file.tree:
        raise file.error("expected COCO's object with images, annotations and categories")
    categories = _read_table(file, "categories", _Category, report)
    videos = _read_table(file, "videos", _Video, report)
    images = _read_table(file, "images", _Image, report)
    return _Reader(file, report, options, categories, videos, images).read()


def _read_table(file: JsonFile, name: str, kind: type[R], report: Report) -> dict[int | str, R]:
    """Return the entries of a list by their ids; the second of two with one id is refused."""
    table: dict[int | str, R] = {}
    for keys, value in file.items(file.tree.get(name) or [], name):
        entry = parse(kind, value, file.place(*keys), report)
        if entry is None:
            continue
        if entry.id in table:
            report.refuse(file.place(*keys), f"id {entry.id} is there twice in {name}")
            continue
        table[entry.id] = entry
    return table


class _Reader:
    """Reader of the annotations, which refer to everything else."""

    def __init__(
        self, file: JsonFile, report: Report, options: ReadOptions, categories: dict[int | str, _Category],
        videos: dict[int | str, _Video], images: dict[int | str, _Image],
    ) -> None:  # fmt: skip
        self._file, self._report, self._categories = file, report, categories
        self._first = options.first_frame or 0
        self._videos, self._images = videos, images
        self._made: dict[str, VideoAnnotations] = {}
        frames: dict[str, list[int]] = defaultdict(list)
        for image in images.values():
            key, frame = self._find_frame(image)
            if frame is not None:
                frames[key].append(frame)
        self._strides = {key: find_stride(numbers) for key, numbers in frames.items()}

    def read(self) -> list[VideoAnnotations]:
        """Return every annotated video."""
        ids: set[int | str] = set()
        boxes: dict[tuple[str, str], Track] = {}
        for keys, value in self._file.items(self._file.tree["annotations"], "annotations"):
            place = self._file.place(*keys)
            annotation = parse(_Annotation, value, place, self._report)
            if annotation is None:
                continue
            if annotation.id is not None and annotation.id in ids:
                self._report.refuse(place, f"annotation id {annotation.id} is there twice")
                continue
            if annotation.id is not None:
                ids.add(annotation.id)
            self._add(annotation, place, boxes)
        for track in boxes.values():
            track.keys.sort(key=lambda key: key.at)
            self._check_frames(track)
        return list(self._made.values())

    def _add(self, annotation: _Annotation, place: Place, boxes: dict[tuple[str, str], Track]) -> None:
        category = self._categories.get(annotation.category_id)
        if category is None:
            self._report.refuse(place, f"category_id {annotation.category_id} is not among the categories")
            return
        if annotation.iscrowd:
            self._report.note(place, "a group of objects (iscrowd) was left out")
            return
        if annotation.bboxes is not None:
            self._add_tube(annotation, annotation.bboxes, category.name, place)
            return
        image = self._images.get(annotation.image_id) if annotation.image_id is not None else None
        if image is None or annotation.bbox is None:
            self._report.refuse(place, f"image_id {annotation.image_id} is not among the images")
            return
        key, frame = self._find_frame(image)
        if frame is None:
            self._report.refuse(place, f"the name {image.file_name!r} of its image ends in no frame number")
            return
        size = (image.width, image.height)
        video = self._open(key, image, size, place)
        if video.size is not None and size != video.size:
            self._report.refuse(
                place, f"its image is {size[0]:g}x{size[1]:g}, others are {video.size[0]:g}x{video.size[1]:g}"
            )
            return
        number = annotation.track
        name = category.name if number is None else f"{category.name} {number}"
        stride = self._strides.get(key, 1)
        track = boxes.get((key, name))
        if track is None:
            track = Track(name, (category.name,), place, gap=stride, reach=1.0, moves=number is not None)
            boxes[key, name] = track
            video.tracks.append(track)
        occluded = annotation.occluded or annotation.attributes.occluded
        track.keys.append(BoxKey(frame, _to_corners(annotation.bbox), place, occluded=occluded))

    def _add_tube(
        self, annotation: _Annotation, bboxes: tuple[XYWH | None, ...], label: str, place: Place
    ) -> None:
        entry = self._videos.get(annotation.video_id) if annotation.video_id is not None else None
        if entry is None:
            self._report.refuse(place, f"video_id {annotation.video_id} is not among the videos")
            return
        if not any(bboxes):
            self._report.note(place, "an object without a box was left out")
            return
        size = (entry.width, entry.height) if entry.width and entry.height else None
        video = self._open(f"id {entry.id}", None, size, place)
        numbers = [
            parts[1] if (parts := split_frame_name(name)) else at for at, name in enumerate(entry.file_names)
        ]
        numbers = numbers if len(numbers) == len(bboxes) else list(range(len(bboxes)))
        stride = find_stride(numbers)
        track = Track(f"{label} {len(video.tracks)}", (label,), place, gap=stride, reach=1.0)
        track.keys = [
            BoxKey(frame, _to_corners(box) if box else None, place)
            for frame, box in sorted(zip(numbers, bboxes, strict=True), key=lambda pair: pair[0])
        ]
        self._check_frames(track)
        video.tracks.append(track)

    def _find_frame(self, image: _Image) -> tuple[str, int | None]:
        """Return the key of an image's video, and its frame number."""
        parts = split_frame_name(image.file_name)
        known = [number for number in (image.frame_id, image.frame_index) if number is not None]
        frame = known[0] if known else parts[1] if parts else None
        if image.video_id is not None:
            return f"id {image.video_id}", frame
        return f"name {parts[0]}" if parts else "", frame

    def _open(self, key: str, image: _Image | None, size: Any, place: Place) -> VideoAnnotations:
        if key not in self._made:
            kind, _, name = key.partition(" ")
            entry = (
                next((one for one in self._videos.values() if str(one.id) == name), None)
                if kind == "id"
                else None
            )
            if kind == "id" and entry is None and image is not None:
                self._report.note(place, "video_id is not among the videos; names of images say the video")
                parts = split_frame_name(image.file_name)
                name = parts[0] if parts else ""
            hints = [entry.name, *entry.file_names[:1]] if entry else [name]
            if entry and not entry.name and entry.file_names:
                parts = split_frame_name(entry.file_names[0])
                hints = [parts[0] if parts else ""]
            self._made[key] = VideoAnnotations(
                tuple(hint for hint in hints if hint), place, "frames", size=size, first_frame=self._first
            )  # fmt: skip
        return self._made[key]

    def _check_frames(self, track: Track) -> None:
        """Refuse the second of two boxes of one object in a frame."""
        if not track.moves:
            return
        unique: dict[float, BoxKey] = {}
        for key in track.keys:
            if key.at in unique:
                self._report.refuse(key.place, f"{track.name} has two boxes at frame {key.at:g}")
            else:
                unique[key.at] = key
        track.keys = list(unique.values())


def _to_corners(box: XYWH) -> PictureBox:
    x, y, width, height = box
    return PictureBox(x, y, x + width, y + height)
