"""Newest frame wins: a live source read at its own pace, so that a slow consumer never lags behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from edge_runtime.frame import Frame
from edge_runtime.sources.base import Closing, Source

JOIN_SECONDS = 1.0
"""How long `close` waits for the reading thread, which may sit in a read until that times out."""


class LatestFrames(Closing):
    """`source` read by a thread into one slot; what is not taken in time is replaced and counted as dropped.

    An error of the source is raised in the consumer, after the last frame. Iterate once.
    """

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source
        self.dropped = 0
        """Sampled frames that nobody took before the next one came."""
        self._change = threading.Condition()
        self._slot: Frame | None = None
        self._ended = False
        self._error: BaseException | None = None
        # A daemon: a camera that hangs inside its driver must not keep the process from ending.
        self._thread = threading.Thread(target=self._read, name=f"read {source.name}", daemon=True)

    @property
    def live(self) -> bool:
        return self._source.live

    @property
    def name(self) -> str:
        return self._source.name

    @property
    def duration(self) -> float | None:
        return self._source.duration

    @property
    def seen(self) -> int:
        return self._source.seen

    @property
    def errors(self) -> int:
        return self._source.errors

    def __iter__(self) -> Iterator[Frame]:
        """Frames as they are newest. Raises RuntimeError when iterated twice."""
        self._thread.start()
        while (frame := self._take()) is not None:
            yield frame
        if self._error is not None and not self.closed:
            raise self._error

    def close(self) -> None:
        """End the iteration at once, in whatever thread it waits."""
        super().close()
        self._source.close()
        with self._change:
            self._change.notify_all()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(JOIN_SECONDS)

    def _take(self) -> Frame | None:
        with self._change:
            self._change.wait_for(lambda: self._slot is not None or self._ended or self.closed)
            frame, self._slot = self._slot, None
        return None if self.closed else frame

    def _read(self) -> None:
        try:
            for frame in self._source:
                if self.closed:
                    return
                self._put(frame)
        except BaseException as error:  # whatever it is belongs to the consumer, who raises it
            self._error = error
        finally:
            with self._change:
                self._ended = True
                self._change.notify_all()

    def _put(self, frame: Frame) -> None:
        with self._change:
            self.dropped += self._slot is not None
            self._slot = frame
            self._change.notify_all()
