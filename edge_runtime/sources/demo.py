"""The checkout world as a source of frames, for a machine without a camera.

Letters: H, W picture.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

from edge_runtime.frame import Frame
from edge_runtime.simulation.config import LEVELS, WorldConfig
from edge_runtime.simulation.photo_folders import make_world
from edge_runtime.simulation.world import World
from edge_runtime.sources.base import BaseSource
from engines.errors import LvmError

_MAX_SIDE = 4096
DRAWING_S = 0.05
"""More than drawing one picture takes."""
IDLE_POLL_S, VIEWED_POLL_S = 0.2, 0.02
"""How often a paced demo that waits checks for a viewer, and how often while it has one."""


class DemoSource(BaseSource):
    """Frames of the world at t = k / sample_fps, endless.

    `speed` 0 gives frames as fast as they are consumed, 1 in real time, 2 twice as fast. Iterating again
    goes on after the last frame. Raises LvmError for a rate, start or speed that makes no sense.
    """

    def __init__(
        self,
        config: WorldConfig,
        *,
        sample_fps: float,
        start: float = 0.0,
        size: tuple[int, int] = (360, 640),
        speed: float = 0.0,
        world: World | None = None,
    ) -> None:
        """`world` is drawn where given, else the world of `config`."""
        if not 0.0 < sample_fps < math.inf:
            raise LvmError(f"the demo's sample_fps must be above 0, got {sample_fps}; take the bundle's rate")
        if not 0.0 <= start < math.inf:
            raise LvmError(f"the demo must start at 0 seconds or later, got {start}; start it at 0")
        if not 0.0 <= speed < math.inf:
            raise LvmError(f"the demo's speed must be 0 or more, got {speed}; use 1 for real time")
        super().__init__(f"demo?seed={config.seed}", live=False)
        self.paced = speed > 0
        """Frames come in real time, so that waiting for a batch of them would delay the first."""
        self._world = world or World(config)
        self._size = size
        self._sample_fps = sample_fps
        # A start that was itself a frame's time must not be rounded past that frame.
        self._first = math.ceil(start * sample_fps - 1e-6)
        self._speed = speed
        self._viewed_at = -math.inf

    def __iter__(self) -> Iterator[Frame]:
        begun, skipped = time.monotonic(), self.seen
        while not self._closed.is_set():
            if self._speed > 0.0:
                due = begun + (self.seen - skipped) / self._sample_fps / self._speed
                self._wait(due)
                if self._closed.is_set():
                    return
            t = (self._first + self.seen) / self._sample_fps
            self.tally.seen += 1
            frame = Frame(self._world.frame(t, self._size), t)
            self.show(frame)
            yield frame

    def _wait(self, due: float) -> None:
        """Wait until `due` by the clock, or until closed; draw pictures in between for a viewer.

        No such picture is begun that could delay the next sample.
        """
        while (left := due - time.monotonic()) > DRAWING_S:
            if self.has_viewer:
                t = (self._first + self.seen) / self._sample_fps - left * self._speed
                self.show(Frame(self._world.frame(t, self._size), t))
                self._viewed_at = time.monotonic()
            viewed = time.monotonic() - self._viewed_at < 1.0
            if self._closed.wait(min(left - DRAWING_S, VIEWED_POLL_S if viewed else IDLE_POLL_S)):
                return
        self._closed.wait(max(left, 0.0))


@dataclass(frozen=True)
class DemoSettings:
    """The settings in a demo's address; `size` is (H, W)."""

    config: WorldConfig
    size: tuple[int, int] = (360, 640)
    speed: float = 0.0
    products: Path | None = None
    backgrounds: Path | None = None

    def make_world(self) -> World:
        """Return the world of these settings. Raises LvmError where its folders have no pictures."""
        return make_world(self.config, self.products, self.backgrounds)

    def open(self, *, sample_fps: float, start: float = 0.0) -> DemoSource:
        """Return the source with these settings, sampled at `sample_fps` from `start` seconds on."""
        return DemoSource(
            self.config,
            sample_fps=sample_fps,
            start=start,
            size=self.size,
            speed=self.speed,
            world=self.make_world(),
        )

    def frame_at(self, t: float) -> Frame:
        """Return the picture at `t` seconds."""
        return Frame(self.make_world().frame(t, self.size), t)


def open_demo(spec: str, *, sample_fps: float, start: float = 0.0) -> DemoSource:
    """Open the source of a demo's address, see `parse_demo`."""
    return parse_demo(spec).open(sample_fps=sample_fps, start=start)


def parse_demo(spec: str) -> DemoSettings:
    """Return the settings of `demo` or `demo?seed=3&level=L2&speed=1&size=640x360`.

    `products=DIR` draws products from one sub-folder of photographs each, `backgrounds=DIR` the room's walls.
    Raises LvmError, which says what is wrong.
    """
    name, _, query = spec.partition("?")
    if name != "demo":
        raise LvmError(f"the demo's address must be demo or demo?key=value, got {spec!r}; try demo")
    known = ("seed", "level", "speed", "size", "products", "backgrounds")
    values: dict[str, str] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in known:
            raise LvmError(
                f"the demo's settings are {', '.join(known)}, got {key!r}; leave it out or correct it"
            )
        if key in values:
            raise LvmError(f"the demo's {key} must be given once, got it twice; leave one out")
        values[key] = value
    level, seed = _parse_level(values.get("level", "L1")), _parse_seed(values.get("seed", "0"))
    size, speed = _parse_size(values.get("size", "640x360")), _parse_speed(values.get("speed", "0"))
    folders = {key: _parse_folder(key, values[key]) for key in ("products", "backgrounds") if key in values}
    return DemoSettings(WorldConfig.level(level, seed=seed), size, speed, **folders)


def _parse_folder(key: str, text: str) -> Path:
    if not text or not Path(text).is_dir():
        raise LvmError(f"the demo's {key} must be a folder of pictures, got {text!r}; correct the path")
    return Path(text)


def _parse_level(text: str) -> str:
    if text not in LEVELS:
        raise LvmError(f"the demo's level must be one of {', '.join(LEVELS)}, got {text!r}; try level=L1")
    return text


def _parse_seed(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 2**63):
        raise LvmError(f"the demo's seed must be a whole number from 0 on, got {text!r}; try seed=3")
    return int(text)


def _parse_speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = math.nan
    if not 0.0 <= speed < math.inf:
        raise LvmError(
            f"the demo's speed must be a number from 0 on, got {text!r}; try speed=1 for real time"
        )
    return speed


def _parse_size(text: str) -> tuple[int, int]:
    sides = [int(side) for side in text.split("x") if side.isascii() and side.isdigit()]
    if text.count("x") != 1 or len(sides) != 2 or not all(32 <= side <= _MAX_SIDE for side in sides):
        raise LvmError(
            f"the demo's size must be WIDTHxHEIGHT, 32 to {_MAX_SIDE} pixels each, got {text!r}; "
            "try size=640x360"
        )
    return sides[1], sides[0]
