"""Somebody who reads a source all the time and notes what came when: for tests of sources that fail."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from edge_runtime.sources.base import Source
from tools.fakes.numbered_pictures import number_in


@dataclass(frozen=True)
class Seen:
    """A frame: when it came (monotonic seconds), its time on the stream's clock, what it shows."""

    at: float
    t: float
    number: int
    size: tuple[int, int]


class Watch:
    """Iterates `source` in a thread until the end of the `with` block; `each` may take its time."""

    def __init__(self, source: Source, each: Callable[[], None] = lambda: None) -> None:
        self.source = source
        self.seen: list[Seen] = []
        self._each = each
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        for frame in self.source:
            height, width = frame.image.shape[:2]
            self.seen.append(Seen(time.monotonic(), frame.t, number_in(frame.image), (width, height)))
            self._each()

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.source.close()
        self._thread.join(5)

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def first_after(self, at: float) -> Seen | None:
        """The first frame that came after this moment."""
        return next((seen for seen in self.seen if seen.at > at), None)

    def wait(self, condition: Callable[[], object], seconds: float = 8.0) -> None:
        """Until `condition` holds. Raises TimeoutError, with what the source says of itself."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                said = getattr(self.source, "status", "no status")
                raise TimeoutError(f"waited {seconds} s: {len(self.seen)} frames, {said}")
            time.sleep(0.005)

    def wait_frames(self, count: int, seconds: float = 8.0) -> None:
        """Until `count` frames more have come."""
        wanted = len(self.seen) + count
        self.wait(lambda: len(self.seen) >= wanted, seconds)
