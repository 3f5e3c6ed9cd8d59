"""Replay sources: a checkout world that never ends, or files one after the other; draw questions about them.

Equal seeds give equal questions. Half of the questions about a checkout world are about something that
happened in it, as people ask. The others, and all about real video, combine any object with any activity and
any window, so that absence is asked about too.

Letters: S picture side, T frames of a clip.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import TICKS_PER_SECOND, Frame, to_tick
from edge_runtime.ingest.pipeline import Image
from edge_runtime.memory.version import Version
from edge_runtime.query.decode import cell_box
from edge_runtime.query.object_encoder import crop_image
from edge_runtime.query.schema import ActivityQuery, AnyQuery, ObjectQuery, Photos, TimeQuery
from edge_runtime.simulation.activities import ACTIVITIES
from edge_runtime.simulation.world import World
from edge_runtime.sources import is_demo, is_live, open_source
from edge_runtime.sources.demo import parse_demo
from edge_runtime.system.secrets import show_source
from engines.errors import LvmError

VIDEOS = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".ts", ".webm"})
_MAX_CUTOUTS = 24
_MARGIN = 1 / 7
"""Margin around a cell in a cut-out: what is remembered seldom fits into a single cell."""


class ReplaySource(Protocol):
    """Frames to watch, and questions about them. Equal sources give equal frames and questions."""

    @property
    def name(self) -> str:
        """The name for people."""

    def frames(self, sample_fps: float) -> Iterator[Frame]:
        """Yield sampled frames in time order, without end."""

    def note_clip(self, images: Sequence[Image], times: Sequence[float], version: Version) -> None:
        """Take note of a finished clip: its T pictures (S, S, 3), their times, and the reference's version
        after it."""

    def make_question_generator(self, activities: Sequence[str]) -> QuestionGenerator:
        """Return a generator of questions about what was watched so far."""


def open_footage(sources: Sequence[str], photos: Sequence[Path], seed: int) -> list[ReplaySource]:
    """Open each demo as a source of its own, and all files as one source, one after the other, in the order
    given.

    A folder stands for the videos in it, or for its images where it has none. `photos` are shown by questions
    about files. Raises LvmError for what is live, because it cannot be seen twice, and for what is not there.
    """
    demos, files = [], []
    for source in sources:
        if is_live(source):
            raise LvmError(
                f"{show_source(source)} is live and never the same again; name demo, files or folders"
            )
        if is_demo(source):
            demos.append(DemoReplay(source))
        else:
            files += _list_videos(source)
    opened: list[ReplaySource] = [*demos]
    if files:
        opened.append(FileReplay(tuple(files), [Photos(photos=(_read(path),)) for path in photos], seed))
    return opened


class DemoReplay:
    """A checkout world, drawn as fast as it is read."""

    def __init__(self, spec: str) -> None:
        self.name = spec
        self._settings = replace(parse_demo(spec), speed=0.0)
        self._asking: tuple[tuple[str, ...], QuestionGenerator] | None = None

    def frames(self, sample_fps: float) -> Iterator[Frame]:
        with self._settings.open(sample_fps=sample_fps) as source:
            yield from source

    def note_clip(self, images: Sequence[Image], times: Sequence[float], version: Version) -> None:
        """Do nothing: the world knows its products."""

    def make_question_generator(self, activities: Sequence[str]) -> QuestionGenerator:
        if self._asking is None or self._asking[0] != tuple(activities):
            self._asking = tuple(activities), make_world_questions(self._settings.make_world(), activities)
        return self._asking[1]


@dataclass
class FileReplay:
    """Videos or folders of images, one after the other on one clock, repeated without end.

    Questions are about `photos`, and about cut-outs of what the reference has remembered: at most 24, each
    clip's with equal chance.
    """

    paths: tuple[str, ...]
    photos: Sequence[Photos] = ()
    seed: int = 0
    cutouts: list[Photos] = field(default_factory=list)
    _clips: int = 0

    @property
    def name(self) -> str:
        return ", ".join(self.paths)

    def frames(self, sample_fps: float) -> Iterator[Frame]:
        self.cutouts, self._clips = [], 0
        begin, count, seen = 0.0, 0, -1
        while count > seen:
            seen = count
            for path in self.paths:
                last = None
                with open_source(path, sample_fps=sample_fps) as source:
                    for frame in source:
                        last = begin + frame.t
                        count += 1
                        yield Frame(frame.image, last)
                if last is not None:
                    # On a tick, so that two frames never share a tick.
                    begin = math.ceil((last + 1 / sample_fps) * TICKS_PER_SECOND - 1e-6) / TICKS_PER_SECOND
        raise LvmError(f"no picture could be read of {self.name}; name other files")

    def note_clip(self, images: Sequence[Image], times: Sequence[float], version: Version) -> None:
        self._clips += 1
        rng = np.random.default_rng([self.seed, self._clips])
        ticks, tokens = [to_tick(t) for t in times], version.memory.tokens()
        remembered = np.flatnonzero(np.isin(tokens.tick, ticks))
        place = self._clips - 1 if self._clips <= _MAX_CUTOUTS else int(rng.integers(self._clips))
        if not len(remembered) or place >= _MAX_CUTOUTS:
            return
        chosen = int(rng.choice(remembered))
        x1, y1, x2, y2 = cell_box(int(tokens.cell[chosen]))
        box = np.clip((x1 - _MARGIN, y1 - _MARGIN, x2 + _MARGIN, y2 + _MARGIN), 0, 1)
        photo = encode_photo(crop_image(images[ticks.index(int(tokens.tick[chosen]))], box.tolist()))
        self.cutouts[place : place + 1] = [photo]

    def make_question_generator(self, activities: Sequence[str]) -> QuestionGenerator:
        return QuestionGenerator(activities, [*self.photos, *self.cutouts])


def _list_videos(source: str) -> list[str]:
    path = Path(source.removeprefix("file://")).expanduser()
    if not path.exists():
        raise LvmError(f"there is no video, picture or folder {source!r}; correct the path")
    inside = sorted(file for file in path.iterdir() if file.suffix.lower() in VIDEOS) if path.is_dir() else []
    return [str(file) for file in inside] or [str(path)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LvmError(f"photo {path} cannot be read: {error.strerror}; correct the path") from error


KINDS = ("activity", "object", "time")
_SHARE_OF_EVENTS = 0.5
_MIN_WINDOW_S = 2.0
"""Minimum length of a window, so that it holds at least a few samples."""
_ANY_ACTIVITY = 0.2
"""Share of time questions that ask when anything was done with the object."""


class PastEvent(NamedTuple):
    """Something that happened and can be asked about: the activity, the object's photos, seconds."""

    activity: str
    object: Photos
    start: float
    end: float


Events = Callable[[float], Sequence[PastEvent]]
"""Returns what has happened until a time, in seconds."""


class QuestionGenerator(NamedTuple):
    """What questions are made of. `objects` may be empty: then only activities are asked for."""

    activities: Sequence[str]
    objects: Sequence[Photos]
    events: Events = lambda until: ()

    def draw(self, count: int, until: float, seed: int) -> list[AnyQuery]:
        """Draw `count` questions about what was watched from 0 to `until` seconds, each kind in turn.

        Equal seeds join equal objects, activities and shares of the time watched, so that the set is the same
        at every checkpoint while its windows grow.
        """
        happened = self.events(until)
        kinds = KINDS if self.objects else ("object",)
        return [
            self._draw_question(kinds[i % len(kinds)], happened, until, np.random.default_rng([seed, i]))
            for i in range(count)
        ]

    def _draw_question(
        self, kind: str, happened: Sequence[PastEvent], until: float, rng: np.random.Generator
    ) -> AnyQuery:
        first, last = sorted(float(x) for x in rng.uniform(0, until, 2))
        activity = self.activities[int(rng.integers(len(self.activities)))]
        photo = self.objects[int(rng.integers(len(self.objects)))] if self.objects else None
        whole, about, anything = rng.random(3)
        if happened and about < _SHARE_OF_EVENTS:
            event = happened[int(rng.integers(len(happened)))]
            activity, photo = event.activity, event.object
            margin = float(rng.uniform(0, 60))
            first, last = max(0.0, event.start - margin), min(until, event.end + margin)
        window: dict[str, Any] = (
            {} if whole < 0.25 else {"from": first, "to": max(last, first + _MIN_WINDOW_S)}
        )
        if kind == "object" or photo is None:
            return ObjectQuery(activity=activity, **window)
        if kind == "activity":
            return ActivityQuery(object=photo, **window)
        return TimeQuery(activity=None if anything < _ANY_ACTIVITY else activity, object=photo, **window)


def make_world_questions(world: World, activities: Sequence[str], products: int = 16) -> QuestionGenerator:
    """Make a generator for a checkout world, with photos of its first `products` and its real events.

    Activities that the bundle's classes lack are left out.
    """
    known = range(min(products, world.config.instances))
    photos = {
        instance: to_photo(world.encode_photo(instance, world.query_views(instance)[0])) for instance in known
    }

    def events(until: float) -> list[PastEvent]:
        return [
            PastEvent(ACTIVITIES[event.activity].name, photos[event.instance], event.start, event.end)
            for event in world.events(0.0, until)
            if event.instance in photos and ACTIVITIES[event.activity].name in activities and event.start >= 0
        ]

    return QuestionGenerator(activities, list(photos.values()), events)


def to_photo(png: bytes) -> Photos:
    """Wrap one photo for a question."""
    return Photos(photos=(png,))


def encode_photo(image: NDArray[np.uint8]) -> Photos:
    """Encode (H, W, 3) RGB as a photo for a question."""
    return to_photo(bytes(cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()))
