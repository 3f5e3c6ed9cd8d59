"""Read a source in a thread and record which frame came when: for tests of sources that fail."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from edge_runtime.sources.base import Source
from tools.fakes.numbered_pictures import read_number


@dataclass(frozen=True)
class ReceivedFrame:
    """A frame: when it came (monotonic seconds), its time on the stream's clock, the number it shows."""

    at: float
    t: float
    number: int
    size: tuple[int, int]


class SourceReader:
    """Iterates `source` in a thread until the end of the `with` block; calls `on_frame` after each frame."""

    def __init__(self, source: Source, on_frame: Callable[[], None] = lambda: None) -> None:
        self.source = source
        self.seen: list[ReceivedFrame] = []
        self._on_frame = on_frame
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        for frame in self.source:
            height, width = frame.image.shape[:2]
            self.seen.append(
                ReceivedFrame(time.monotonic(), frame.t, read_number(frame.image), (width, height))
            )
            self._on_frame()

    def __enter__(self) -> SourceReader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.source.close()
        self._thread.join(5)

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def first_after(self, at: float) -> ReceivedFrame | None:
        """Return the first frame that came after this moment (monotonic s), None if there is none yet."""
        return next((frame for frame in self.seen if frame.at > at), None)

    def wait_frame_after(self, at: float, seconds: float) -> ReceivedFrame:
        """Return the first frame after `at` (monotonic s). Raises TimeoutError as `wait` does."""
        self.wait(lambda: self.first_after(at), seconds)
        frame = self.first_after(at)
        assert frame is not None
        return frame

    def wait(self, condition: Callable[[], object], seconds: float = 8.0) -> None:
        """Wait until `condition` holds. Raises TimeoutError with the source's status."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                status = getattr(self.source, "status", "no status")
                raise TimeoutError(f"waited {seconds} s: {len(self.seen)} frames, {status}")
            time.sleep(0.005)

    def wait_frames(self, count: int, seconds: float = 8.0) -> None:
        """Wait until `count` more frames have come."""
        target = len(self.seen) + count
        self.wait(lambda: len(self.seen) >= target, seconds)
