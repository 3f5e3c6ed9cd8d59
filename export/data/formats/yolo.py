"""Read a folder of YOLO: a text file for each frame, a line `class x y width height` for each box.

Sides are shares of the picture, x and y the centre. A sixth number is a track if it is whole, else a
confidence; with seven, the track comes last. More numbers are the outline of a mask. Names of classes are in
data.yaml, obj.names or classes.txt. Frames are numbered by names: `shelf_12.txt` is the 12th from 1, as
Ultralytics writes them, and `frame_000012.txt` number 12 from 0, as CVAT does.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import yaml

from export.data.formats.forms import (
    BoxKey,
    InvalidFile,
    PictureBox,
    Place,
    ReadOptions,
    Report,
    Track,
    VideoAnnotations,
)
from export.data.formats.reading import find_stride, read_lines, read_text, split_frame_name
from export.data.records import Split

NAME_FILES = ("data.yaml", "data.yml", "dataset.yaml", "obj.names", "classes.txt", "labels.txt")
OTHER_FILES = {"train.txt", "val.txt", "valid.txt", "test.txt", "classes.txt", "labels.txt", "readme.txt"}
SPLITS: dict[str, Split] = {
    "train": "train", "obj_train_data": "train", "val": "val", "valid": "val", "obj_valid_data": "val",
    "test": "test", "obj_test_data": "test",
}  # fmt: skip


def read_yolo(path: Path, report: Report, options: ReadOptions) -> list[VideoAnnotations]:
    """Read a folder of YOLO's labels. Raises InvalidFile."""
    if not path.is_dir():
        raise InvalidFile(Place(path), "expected a folder of YOLO's label files")
    names = _read_names(path)
    frames: dict[tuple[str, bool], list[tuple[int, Path]]] = defaultdict(list)
    for file in sorted(path.rglob("*.txt")):
        if file.name.lower() in OTHER_FILES or not file.is_file():
            continue
        parts = split_frame_name(file.relative_to(path.parent).as_posix())
        if parts is None:
            report.refuse(
                Place(file), "its name ends in no frame number; expected shelf_12.txt or frame_000012.txt"
            )
            continue
        counted_from_0 = file.stem.lower().startswith(("frame_", "frame-")) or file.stem.isdigit()
        own = path.name == parts[0] and counted_from_0
        frames["" if own and path.name.lower() in ("yolo", "dataset") else parts[0], counted_from_0].append(
            (parts[1], file)
        )
    if not frames:
        raise InvalidFile(Place(path), "holds no label file; expected a text file for each frame")
    return [
        _read_video(video, numbered, group, names, report, options)
        for (video, numbered), group in frames.items()
    ]


def _read_names(folder: Path) -> dict[int, str]:
    """Return the names of classes; empty if no file says them. Raises InvalidFile."""
    for name in NAME_FILES:
        for file in (folder / name, folder.parent / name):
            if not file.is_file():
                continue
            if file.suffix not in (".yaml", ".yml"):
                return {number: line for number, (_, line) in enumerate(read_lines(file))}
            try:
                content = yaml.safe_load(read_text(file))
            except (yaml.YAMLError, ValueError, RecursionError) as error:
                line = getattr(getattr(error, "problem_mark", None), "line", -1) + 1
                raise InvalidFile(Place(file, line), "is no YAML") from None
            names = content.get("names") if isinstance(content, dict) else None
            if isinstance(names, list):
                return {number: str(name) for number, name in enumerate(names)}
            if isinstance(names, dict) and all(isinstance(number, int) for number in names):
                return {number: str(name) for number, name in names.items()}
            raise InvalidFile(Place(file), "has no list of names")
    return {}


def _read_video(
    video: str, from_0: bool, files: list[tuple[int, Path]], names: dict[int, str], report: Report,
    options: ReadOptions,
) -> VideoAnnotations:  # fmt: skip
    first = Place(files[0][1])
    number = options.first_frame if options.first_frame is not None else 0 if from_0 else 1
    if options.first_frame is None:
        report.note(first, f"the first frame was taken to be number {number}; --first-frame says another")
    stride = find_stride(number for number, _ in files)
    split = next((SPLITS[part] for part in reversed(files[0][1].parts) if part in SPLITS), None)
    annotations = VideoAnnotations(
        (video,) if video else (), first, "frames", size=(1.0, 1.0), first_frame=number, split=split
    )
    tracks: dict[str, Track] = {}
    seen: dict[int, Path] = {}
    for frame, file in sorted(files, key=lambda pair: (pair[0], str(pair[1]))):
        if frame in seen:
            report.refuse(Place(file), f"frame {frame} is there twice, first as {seen[frame]}")
            continue
        seen[frame] = file
        for place, line in read_lines(file):
            parsed = _parse_line(line, place, report)
            if parsed is None:
                continue
            number, box, followed = parsed
            if names and number not in names:
                report.refuse(place, f"class {number} has no name; known are 0 to {max(names)}")
                continue
            label = names.get(number, f"class {number}")
            name = label if followed is None else f"{label} {followed}"
            track = tracks.setdefault(
                name, Track(name, (label,), place, gap=stride, reach=1.0, moves=followed is not None)
            )
            if followed is not None and track.keys and track.keys[-1].at == frame:
                report.refuse(place, f"track {followed} has two boxes at frame {frame}")
                continue
            track.keys.append(BoxKey(frame, box, place))
    annotations.tracks = list(tracks.values())
    return annotations


def _parse_line(line: str, place: Place, report: Report) -> tuple[int, PictureBox, int | None] | None:
    """Return class, box and track of a line; None after refusing it."""
    words = line.split()
    try:
        number = int(words[0])
        values = [float(word) for word in words[1:]]
    except ValueError:
        number, values = -1, []
    if number < 0 or len(values) < 4 or not all(abs(value) < 1e6 for value in values):
        report.refuse(place, f"expected class x y width height, got {line[:60]!r}")
        return None
    if len(values) > 6:
        if len(values) % 2:
            report.refuse(place, f"expected class and pairs x y of an outline, got {len(values)} numbers")
            return None
        report.note(place, "of an outline the box around it counts")
        xs, ys = values[::2], values[1::2]
        return number, PictureBox(min(xs), min(ys), max(xs), max(ys)), None
    x, y, width, height = values[:4]
    followed = int(words[-1]) if len(values) > 4 and words[-1].isdigit() and len(words[-1]) < 10 else None
    return number, PictureBox(x - width / 2, y - height / 2, x + width / 2, y + height / 2), followed
