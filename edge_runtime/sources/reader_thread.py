"""One opening of a source, read by a thread of its own until it ends, fails or is given up."""

from __future__ import annotations

import threading
from collections.abc import Callable

from edge_runtime.frame import Frame
from edge_runtime.sources.base import Source


class Session:
    """Opens with `open` and hands every frame to `take`, in a thread for which nobody ever has to wait.

    A driver may hang for ever in either; then the session is given up: what it still gives is thrown away,
    and its thread, a daemon, ends when the driver returns.
    """

    def __init__(
        self, name: str, open: Callable[[], Source], take: Callable[[Session, Frame], None], begun: float
    ) -> None:
        self._open, self._take = open, take
        self.begun = begun
        self.moved, self.came = begun, 0
        """When something last came and how much there was by then, kept by whoever watches."""
        self.frames = 0
        self.error: BaseException | None = None
        self.failure: str | None = None
        """Why it was given up."""
        self.over = threading.Event()
        """Set when nothing more is to be expected: it has ended, or was given up."""
        self._given_up = False
        self._source: Source | None = None
        self._thread = threading.Thread(target=self._run, name=f"read {name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def given_up(self) -> bool:
        return self._given_up

    @property
    def seen(self) -> int:
        return 0 if self._source is None else self._source.seen

    @property
    def errors(self) -> int:
        return 0 if self._source is None else self._source.errors

    @property
    def finished(self) -> bool:
        """Whether the stream had a length and has come to its end, so that there is nothing to go back to."""
        return bool(getattr(self._source, "finished", False))

    def give_up(self, failure: str | None = None) -> None:
        """Expect nothing more of it. From any thread; does not wait."""
        if not self.over.is_set():
            self.failure = failure
        self._given_up = True
        if self._source is not None:
            self._source.close()
        self.over.set()

    def join(self, seconds: float) -> None:
        if self._thread is not threading.current_thread():
            self._thread.join(seconds)

    def _run(self) -> None:
        try:
            source = self._open()
            self._source = source
            with source:
                if self._given_up:  # while it was being opened
                    return
                for frame in source:
                    self._take(self, frame)
                    if self._given_up:
                        return
        except BaseException as error:  # whatever it is, the supervisor says it
            self.error = error
        finally:
            self.over.set()
