"""What both runs watch: a checkout world that never ends, or files one after the other.

Letters: S picture side, T frames of a clip.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from edge_runtime.frame import TICKS_PER_SECOND, Frame, to_tick
from edge_runtime.ingest.pipeline import Image
from edge_runtime.memory.version import Version
from edge_runtime.query.decode import cell_box
from edge_runtime.query.object_encoder import cut_out
from edge_runtime.query.schema import Photos
from edge_runtime.sources import is_demo, is_live, open_source
from edge_runtime.sources.demo import parse_demo
from edge_runtime.system.secrets import redacted
from engines.errors import LvmError
from export.stream_runs.questions import Asking, about_world, picture

VIDEOS = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".ts", ".webm"})
_MOST_CUT = 24
_MARGIN = 1 / 7
"""A cut-out is a cell with its neighbours: what is remembered is seldom in one cell alone."""


class Footage(Protocol):
    """Frames to watch, and what can be asked about them. Equal footage gives equal frames and questions."""

    @property
    def name(self) -> str:
        """For people."""

    def frames(self, sample_fps: float) -> Iterator[Frame]:
        """Sampled frames in time order, without end."""

    def noted(self, images: Sequence[Image], times: Sequence[float], version: Version) -> None:
        """A clip is over: its T pictures (S, S, 3), and what the reference remembers after it."""

    def asking(self, activities: Sequence[str]) -> Asking:
        """What can be asked by now."""


def footage_of(sources: Sequence[str], photos: Sequence[Path], seed: int) -> list[Footage]:
    """Each demo is watched on its own, all files as one video after the other, in the order given.

    A folder stands for the videos in it, or for its images where it has none. `photos` are shown by questions
    about files. Raises LvmError for what is live, because it cannot be seen twice, and for what is not there.
    """
    demos, files = [], []
    for source in sources:
        if is_live(source):
            raise LvmError(
                f"{redacted(source)} is live and never the same again; name demo, files or folders"
            )
        if is_demo(source):
            demos.append(Demo(source))
        else:
            files += _videos(source)
    found: list[Footage] = [*demos]
    if files:
        found.append(Files(tuple(files), [Photos(photos=(_read(path),)) for path in photos], seed))
    return found


class Demo:
    """A checkout world, drawn as fast as it is taken."""

    def __init__(self, spec: str) -> None:
        self.name = spec
        self._settings = replace(parse_demo(spec), speed=0.0)
        self._asking: tuple[tuple[str, ...], Asking] | None = None

    def frames(self, sample_fps: float) -> Iterator[Frame]:
        with self._settings.open(sample_fps=sample_fps) as source:
            yield from source

    def noted(self, images: Sequence[Image], times: Sequence[float], version: Version) -> None:
        """Nothing: the world knows its products."""

    def asking(self, activities: Sequence[str]) -> Asking:
        if self._asking is None or self._asking[0] != tuple(activities):
            self._asking = tuple(activities), about_world(self._settings.world(), activities)
        return self._asking[1]


@dataclass
class Files:
    """Videos or folders of images, one after the other on one clock, and from the first again without end.

    Asked about are `photos`, and cut-outs of what the reference has remembered: at most 24, each clip's with
    equal chance.
    """

    paths: tuple[str, ...]
    photos: Sequence[Photos] = ()
    seed: int = 0
    cut: list[Photos] = field(default_factory=list)
    _clips: int = 0

    @property
    def name(self) -> str:
        return ", ".join(self.paths)

    def frames(self, sample_fps: float) -> Iterator[Frame]:
        self.cut, self._clips = [], 0
        begin, given, seen = 0.0, 0, -1
        while given > seen:
            seen = given
            for path in self.paths:
                last = None
                with open_source(path, sample_fps=sample_fps) as source:
                    for frame in source:
                        last = begin + frame.t
                        given += 1
                        yield Frame(frame.image, last)
                if last is not None:
                    # On a tick, so that no two frames ever share one.
                    begin = math.ceil((last + 1 / sample_fps) * TICKS_PER_SECOND - 1e-6) / TICKS_PER_SECOND
        raise LvmError(f"no picture could be read of {self.name}; name other files")

    def noted(self, images: Sequence[Image], times: Sequence[float], version: Version) -> None:
        self._clips += 1
        rng = np.random.default_rng([self.seed, self._clips])
        ticks, tokens = [to_tick(t) for t in times], version.memory.tokens()
        kept = np.flatnonzero(np.isin(tokens.tick, ticks))
        place = self._clips - 1 if self._clips <= _MOST_CUT else int(rng.integers(self._clips))
        if not len(kept) or place >= _MOST_CUT:
            return
        chosen = int(rng.choice(kept))
        x1, y1, x2, y2 = cell_box(int(tokens.cell[chosen]))
        box = np.clip((x1 - _MARGIN, y1 - _MARGIN, x2 + _MARGIN, y2 + _MARGIN), 0, 1)
        shown = picture(cut_out(images[ticks.index(int(tokens.tick[chosen]))], box.tolist()))
        self.cut[place : place + 1] = [shown]

    def asking(self, activities: Sequence[str]) -> Asking:
        return Asking(activities, [*self.photos, *self.cut])


def _videos(source: str) -> list[str]:
    path = Path(source.removeprefix("file://")).expanduser()
    if not path.exists():
        raise LvmError(f"there is no video, picture or folder {source!r}; correct the path")
    inside = sorted(one for one in path.iterdir() if one.suffix.lower() in VIDEOS) if path.is_dir() else []
    return [str(one) for one in inside] or [str(path)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LvmError(f"photo {path} cannot be read: {error.strerror}; correct the path") from error
