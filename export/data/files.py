"""Read and write a data folder: videos.jsonl, events.jsonl, tracks.jsonl, queries.jsonl and classes.json.

Files are read line by line. A problem is noted with file and line and reading continues, so that a user sees
many problems at once. tracks.jsonl and queries.jsonl may be missing.

Letters: n boxes of one video.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from edge_runtime.system.validation import StrictModel
from engines.errors import LvmError
from engines.manifest import ActivityClass
from export.data.records import Classes, EventRecord, QueryRecord, TrackRecord, Video
from export.support.errors import first_complaint

VIDEOS, EVENTS, TRACKS, QUERIES = "videos.jsonl", "events.jsonl", "tracks.jsonl", "queries.jsonl"
CLASSES = "classes.json"
CHANCE, REJECTED = "chance.json", "rejected.json"
OPTIONAL = (TRACKS, QUERIES)
R = TypeVar("R", bound=StrictModel)


class Problem(NamedTuple):
    """A problem in `line` (from 1; 0: the whole file) of `file`."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}" if self.line else f"{self.file}: {self.message}"


class TooManyProblems(Exception):
    """The limit of problems was reached; reading ends."""


@dataclass
class Problems:
    """The first `limit` problems of a folder."""

    limit: int
    items: list[Problem] = field(default_factory=list)

    def add(self, file: str, line: int, message: str) -> None:
        """Add a problem. Raises TooManyProblems when the limit is reached."""
        self.items.append(Problem(file, line, message))
        if len(self.items) >= self.limit:
            raise TooManyProblems


@dataclass(frozen=True)
class Tracks:
    """Boxes of one video, by instance and tick."""

    instance: NDArray[np.int32]  # (n,)
    tick5: NDArray[np.int64]  # (n,)
    box: NDArray[np.float32]  # (n, 4) xyxy, normalised
    active: NDArray[np.bool_]  # (n,)
    category: dict[int, str]

    def select(self, instance: int) -> Tracks:
        """Return the boxes of one instance, by tick."""
        return self._take(slice(*np.searchsorted(self.instance, [instance, instance + 1])))

    def between(self, first: int, last: int) -> Tracks:
        """Return the boxes at ticks `first` to `last` (exclusive)."""
        return self._take((self.tick5 >= first) & (self.tick5 < last))

    def _take(self, rows: slice | NDArray[np.bool_]) -> Tracks:
        return Tracks(self.instance[rows], self.tick5[rows], self.box[rows], self.active[rows], self.category)


class TrackTable:
    """Collect track records in a few bytes each."""

    def __init__(self) -> None:
        self._whole = array("q")
        self._box = array("f")
        self._category: dict[int, str] = {}

    def add(self, track: TrackRecord) -> None:
        self._whole.extend((track.instance, track.tick5, track.active))
        self._box.extend(track.box)
        self._category[track.instance] = track.category

    def tracks(self) -> Tracks:
        """Return the collected boxes by instance and tick."""
        whole = np.frombuffer(self._whole, np.int64).reshape(-1, 3)  # (n, 3)
        box = np.frombuffer(self._box, np.float32).reshape(-1, 4)
        order = np.lexsort((whole[:, 1], whole[:, 0]))
        instance, tick, active = whole[order].T
        return Tracks(instance.astype(np.int32), tick.copy(), box[order], active > 0, dict(self._category))


@dataclass(frozen=True)
class DataFolder:
    """A data folder in memory; `events` and `tracks` have an entry for every video, possibly empty."""

    root: Path
    videos: dict[str, Video]
    events: dict[str, tuple[EventRecord, ...]]
    tracks: dict[str, Tracks]
    queries: tuple[QueryRecord, ...]
    classes: tuple[ActivityClass, ...]
    names: Classes


def read_classes(root: Path, problems: Problems) -> Classes | None:
    """Return the classes, or None after noting a problem."""
    try:
        return Classes.model_validate_json((root / CLASSES).read_bytes())
    except FileNotFoundError:
        problems.add(CLASSES, 0, f"there is no such file in {root}")
    except ValidationError as error:
        problems.add(CLASSES, 0, first_complaint(error))
    return None


def read_records(root: Path, name: str, kind: type[R], problems: Problems) -> Iterator[tuple[int, R]]:
    """Yield each record of a file with its line number; note invalid lines, skip empty ones."""
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


def write_records(path: Path, records: Iterable[StrictModel]) -> int:
    """Write one JSON object a line and return their number; a finished file is replaced as a whole."""
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
    """Write videos, events, tracks and classes; remove questions about the former content of `root`."""
    for name in (QUERIES, CHANCE, REJECTED):
        (root / name).unlink(missing_ok=True)
    write_records(root / VIDEOS, videos)
    write_records(root / EVENTS, events)
    write_records(root / TRACKS, tracks)
    write_classes(root, classes)


def write_classes(root: Path, classes: Classes) -> None:
    """Write classes.json, whole or not at all."""
    root.mkdir(parents=True, exist_ok=True)
    unfinished = (root / CLASSES).with_suffix(".unfinished")
    unfinished.write_text(classes.model_dump_json(exclude_none=True, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(root / CLASSES)


def check_overwritable(root: Path) -> None:
    """Raise LvmError if `root` contains anything but a data folder's files, which may be overwritten."""
    known = {VIDEOS, EVENTS, TRACKS, QUERIES, CLASSES, CHANCE, REJECTED}
    if root.is_dir() and (others := sorted(path.name for path in root.iterdir() if path.name not in known)):
        raise LvmError(f"{root} holds {others[0]}, which is no data file; name an empty or new folder")


def parse_seconds(text: str) -> float:
    """Return the seconds of `12.5`, `3:12` or `1:03:12.5`. Raises ValueError."""
    try:
        parts = [float(part) for part in text.strip().split(":")]
    except ValueError:
        parts = []
    valid = all(math.isfinite(part) and part >= 0.0 for part in parts)
    if not 1 <= len(parts) <= 3 or not valid or any(part >= 60.0 for part in parts[1:]):
        raise ValueError(f"a time must be seconds, mm:ss or hh:mm:ss, got {text!r}")
    total = 0.0
    for part in parts:
        total = 60.0 * total + part
    return total
