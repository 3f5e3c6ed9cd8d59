"""A data folder: videos.jsonl, events.jsonl, tracks.jsonl, queries.jsonl and classes.json, read and written.

Files are read line by line. Whatever is wrong is told with file and line, and reading goes on, so that a
person sees the first so many problems at once. tracks.jsonl and queries.jsonl may be missing.

Letters: n boxes of one video.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from engines.errors import LvmError
from engines.manifest import ActivityClass
from export.data.records import Classes, EventRecord, QueryRecord, Record, TrackRecord, Video
from export.support.validation_errors import first_complaint

VIDEOS, EVENTS, TRACKS, QUERIES = "videos.jsonl", "events.jsonl", "tracks.jsonl", "queries.jsonl"
CLASSES = "classes.json"
CHANCE, REJECTED = "chance.json", "rejected.json"
OPTIONAL = (TRACKS, QUERIES)
R = TypeVar("R", bound=Record)


class Problem(NamedTuple):
    """Something wrong in `line` (from 1; 0: the whole file) of `file`."""

    file: str
    line: int
    words: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.words}" if self.line else f"{self.file}: {self.words}"


class Enough(Exception):
    """So many problems were found that looking for more helps nobody."""


@dataclass
class Problems:
    """The first `limit` problems of a folder."""

    limit: int
    found: list[Problem] = field(default_factory=list)

    def add(self, file: str, line: int, words: str) -> None:
        """Raises Enough with the last one that is wanted."""
        self.found.append(Problem(file, line, words))
        if len(self.found) >= self.limit:
            raise Enough


@dataclass(frozen=True)
class Tracks:
    """Boxes of one video, by instance and tick."""

    instance: NDArray[np.int32]  # (n,)
    tick5: NDArray[np.int64]  # (n,)
    box: NDArray[np.float32]  # (n, 4) xyxy, normalised
    active: NDArray[np.bool_]  # (n,)
    category: dict[int, str]

    def of(self, instance: int) -> Tracks:
        """The boxes of one instance, by tick."""
        first, last = np.searchsorted(self.instance, [instance, instance + 1])
        part = slice(int(first), int(last))
        return Tracks(self.instance[part], self.tick5[part], self.box[part], self.active[part], self.category)

    def between(self, first: int, last: int) -> Tracks:
        """The boxes at ticks `first` up to and without `last`."""
        inside = (self.tick5 >= first) & (self.tick5 < last)
        return Tracks(
            self.instance[inside], self.tick5[inside], self.box[inside], self.active[inside], self.category
        )


class TrackTable:
    """Collects track records in a few bytes each."""

    def __init__(self) -> None:
        self._whole = array("q")
        self._box = array("f")
        self._category: dict[int, str] = {}

    def add(self, track: TrackRecord) -> None:
        self._whole.extend((track.instance, track.tick5, track.active))
        self._box.extend(track.box)
        self._category[track.instance] = track.category

    def tracks(self) -> Tracks:
        """What was collected, sorted."""
        whole = np.frombuffer(self._whole, np.int64).reshape(-1, 3)  # (n, 3)
        box = np.frombuffer(self._box, np.float32).reshape(-1, 4)
        order = np.lexsort((whole[:, 1], whole[:, 0]))
        instance, tick, active = whole[order].T
        return Tracks(instance.astype(np.int32), tick.copy(), box[order], active > 0, dict(self._category))


def tracks_of(records: Iterable[TrackRecord]) -> Tracks:
    """The records of one video as arrays."""
    table = TrackTable()
    for record in records:
        table.add(record)
    return table.tracks()


@dataclass(frozen=True)
class Dataset:
    """A data folder in memory; every video has its entry in `events` and `tracks`, be it empty."""

    root: Path
    videos: dict[str, Video]
    events: dict[str, tuple[EventRecord, ...]]
    tracks: dict[str, Tracks]
    queries: tuple[QueryRecord, ...]
    classes: tuple[ActivityClass, ...]
    names: Classes


def read_classes(root: Path, problems: Problems) -> Classes | None:
    """The classes, or None with a problem more."""
    try:
        return Classes.model_validate_json((root / CLASSES).read_bytes())
    except FileNotFoundError:
        problems.add(CLASSES, 0, f"there is no such file in {root}")
    except ValidationError as error:
        problems.add(CLASSES, 0, first_complaint(error))
    return None


def read_lines(root: Path, name: str, kind: type[R], problems: Problems) -> Iterator[tuple[int, R]]:
    """Each record of a file with its line; lines that are none become problems, empty ones are skipped."""
    path = root / name
    if not path.is_file():
        if name not in OPTIONAL:
            problems.add(name, 0, f"there is no such file in {root}")
        return
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.isspace():
                continue
            try:
                record = kind.model_validate_json(line)
            except ValidationError as error:
                problems.add(name, number, first_complaint(error))
                continue
            yield number, record


def write_lines(path: Path, records: Iterable[Record]) -> int:
    """One JSON object a line; how many. An unfinished file never takes the place of a finished one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, unfinished = 0, path.with_suffix(".unfinished")
    with unfinished.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(record.model_dump_json(exclude_none=True) + "\n")
            count += 1
    unfinished.replace(path)
    return count


def write_annotations(
    root: Path,
    videos: Iterable[Video],
    events: Iterable[EventRecord],
    tracks: Iterable[TrackRecord],
    classes: Classes,
) -> None:
    """Writes videos, events, tracks and classes. Questions about what `root` held before are removed: nobody
    is to be judged by them."""
    for name in (QUERIES, CHANCE, REJECTED):
        (root / name).unlink(missing_ok=True)
    write_lines(root / VIDEOS, videos)
    write_lines(root / EVENTS, events)
    write_lines(root / TRACKS, tracks)
    write_classes(root, classes)


def write_classes(root: Path, classes: Classes) -> None:
    """Writes classes.json, whole or not at all."""
    root.mkdir(parents=True, exist_ok=True)
    unfinished = (root / CLASSES).with_suffix(".unfinished")
    unfinished.write_text(classes.model_dump_json(exclude_none=True, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(root / CLASSES)


def refuse_other(root: Path) -> None:
    """LvmError where `root` holds anything but a data folder's files, which are written anew."""
    known = {VIDEOS, EVENTS, TRACKS, QUERIES, CLASSES, CHANCE, REJECTED}
    if root.is_dir() and (others := sorted(path.name for path in root.iterdir() if path.name not in known)):
        raise LvmError(f"{root} holds {others[0]}, which is no data file; name an empty or new folder")
