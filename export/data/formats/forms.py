"""Hold what any annotation tool says about a video: tracks of boxes and spans of time, with labels and
places.

Moments are in the tool's own clock, frame numbers or seconds, and boxes in the tool's own units; the
annotated video says which. Ends are exclusive.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from edge_runtime.system.text import printable
from engines.errors import LvmError
from export.data.records import Split

MAX_SENTENCE = 400


@dataclass(frozen=True)
class Place:
    """A file and a line of it, from 1; the line may be computed when it is needed, and 0 is the whole
    file."""

    file: Path
    line: int | Callable[[], int] = 0

    def __str__(self) -> str:
        line = self.line if isinstance(self.line, int) else self.line()
        return f"{self.file}:{line}" if line else str(self.file)


class InvalidFile(LvmError):
    """A file that is not of its format. The message names file and line."""

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(printable(f"{place}: {message}")[:MAX_SENTENCE])


@dataclass
class Report:
    """What is wrong in files (`problems`, of which the first `limit` are kept) and what is odd (`notes`)."""

    limit: int = 20
    problems: list[str] = field(default_factory=list)
    refused: int = 0
    notes: dict[str, tuple[str, int]] = field(default_factory=dict)
    """By message: the first place, and how often it was noted."""

    def refuse(self, place: Place, message: str) -> None:
        """Count an annotation that is left out because it is wrong."""
        if len(self.problems) >= self.limit:
            self.refused += 1  # without looking up its line, which takes time in a large file
            return
        sentence = printable(f"{place}: {message}")[:MAX_SENTENCE]
        if sentence not in self.problems:
            self.refused += 1
            self.problems.append(sentence)

    def note(self, place: Place, message: str) -> None:
        """Count something that was understood in a way that the file does not say."""
        message = printable(message)[:MAX_SENTENCE]
        first, count = self.notes.get(message, ("", 0))
        if count or len(self.notes) < 1000:
            self.notes[message] = (first or printable(str(place)), count + 1)


class PictureBox(NamedTuple):
    """A box in the units of its file."""

    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True)
class BoxKey:
    """Where a track is from the moment `at` on; `box` is None where it is not to be seen from then on.

    `values` are values of attributes from then on. `occluded`: something hides part of it.
    """

    at: float
    box: PictureBox | None
    place: Place
    values: tuple[str, ...] = ()
    occluded: bool = False


@dataclass
class Track:
    """An object, `name` being unique in its video, with its boxes in order of time.

    Between two keys at most `gap` apart it is to be seen, and its box moves evenly if `moves`. After any
    other key it is to be seen for `reach`.
    """

    name: str
    labels: tuple[str, ...]
    place: Place
    keys: list[BoxKey] = field(default_factory=list)
    gap: float = math.inf
    reach: float = math.inf
    moves: bool = True


@dataclass(frozen=True)
class Span:
    """Something that goes on from `start` to `end`, with the object that `track` names, if any.

    `values`, as of attributes, are labels only if the user says so.
    """

    labels: tuple[str, ...]
    start: float
    end: float
    place: Place
    track: str | None = None
    values: tuple[str, ...] = ()


@dataclass
class VideoAnnotations:
    """What a file says about one video, of which `hints` are possible names or paths, the best first.

    `clock` says what moments are: seconds, or frames of the video, the first being number `first_frame`. If
    the tool counted other frames than the video has, `frame_count` in `duration` seconds says at what rate.
    `size` is the width and height in whose units boxes are; None: the video's pixels.
    """

    hints: tuple[str, ...]
    place: Place
    clock: Literal["frames", "seconds"]
    first_frame: int = 0
    frame_count: int | None = None
    duration: float | None = None
    size: tuple[float, float] | None = None
    split: Split | None = None
    tracks: list[Track] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)


@dataclass(frozen=True)
class ReadOptions:
    """What the user says about files beyond their contents: `first_frame` is the number of the first frame in
    formats that do not fix it."""

    first_frame: int | None = None


Parser = Callable[[Path, Report, ReadOptions], list[VideoAnnotations]]
"""Read a file or folder. Raises InvalidFile where it is not of the format at all."""
