"""Open a live source again whenever it fails, so that its consumer only ever sees frames.

Three threads take part. The consumer iterates over a `LiveSource`. A `ReaderThread` opens the source
and reads it, once; it may hang in a driver. The supervisor's thread watches the reader, gives it up, waits
and starts the next one; it never calls a driver, so it never hangs, and no camera waits for another.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from edge_runtime.frame import Frame
from edge_runtime.sources.base import (
    BaseSource,
    Bookmark,
    Closeable,
    FrameTap,
    Recorded,
    Refused,
    Source,
    Tapped,
)
from edge_runtime.sources.clocks import Clock, SampleClock, StreamClock, boot_time
from edge_runtime.sources.source_status import SourceHealth, SourceState, SourceStatus
from edge_runtime.system.backoff import Backoff
from edge_runtime.system.secrets import hide_secrets, show_source
from engines.errors import LvmError, Unavailable

log = logging.getLogger(__name__)

POLL_S = 0.2
BURST_S = 1.0
"""For how long pictures may be late: what a network held back comes at once, and the present behind it."""
JOIN_S = 0.4
"""How long `close` waits for each thread: some pictures. One that sits in a read ends when that times out."""
MAX_LATE_PAUSE_S = 600.0


Transport = Literal["auto", "tcp", "udp"]
"""Of RTSP. TCP loses no packets; `auto` is UDP where a camera refuses TCP."""
SourceKind = Literal["live", "recording", "ask"]
"""What the address of a stream is; `ask` raises `Recorded` when the stream turns out to be a recording."""


@dataclass(frozen=True)
class Supervision:
    """Timeouts, limits and choices of a source. Seconds, unless stated otherwise."""

    kind: SourceKind = "live"
    transport: Transport = "auto"

    video_track: int | None = None
    """Which of several video tracks, from 1; None is the best that is a film."""
    bookmark: Bookmark | None = None
    """Where a folder goes on."""
    epoch: float | None = None
    """Seconds since 1970 of second 0 of a recorder's folder; None is its oldest segment."""
    open_timeout_s: float = 10.0
    """Of a network connection."""
    first_picture_timeout_s: float = 20.0
    """From the beginning of an opening to its first picture."""
    read_timeout_s: float = 5.0
    """Without a byte from the network."""
    picture_timeout_s: float = 10.0
    """Without a picture although connected; the reader is then given up, hanging in its driver or not."""
    stalled_after_s: float = 2.0
    """Without a picture until the state says so, or three usual periods if those are longer."""
    first_wait_s: float = 0.1
    max_wait_s: float = 0.8
    """Cap of the back-off. Together with connecting it has to stay under 2 s after a camera comes back."""
    refused_wait_s: float = 30.0
    """Between attempts at a fault that will hardly go away by itself: a wrong password, a missing plugin."""
    steady_after_s: float = 5.0
    """Of pictures, after which the next outage begins with short waits again."""
    late_after_s: float = 5.0
    """Behind real time, after which a new connection is the way back to the present."""
    late_pause_s: float = 20.0
    """Least time between two reconnects for that reason; doubles each time up to ten minutes."""
    max_abandoned: int = 4
    """Threads that may hang in a driver at one time, per source."""
    first_must_open: bool = False
    """Whether a source that is missing or refuses us at the very first opening is raised, as for a typing
    mistake."""


DEFAULT_SUPERVISION = Supervision()


class ReaderThread:
    """One opening of a source, read by a thread of its own until it ends, fails or is given up.

    The thread calls `open` and hands every frame to `on_frame`. Nobody ever has to wait for it: a driver may
    hang for ever in either. Then the reader is given up: frames that it still gives are thrown away, and its
    thread, a daemon, ends when the driver returns.
    """

    def __init__(
        self,
        name: str,
        open: Callable[[], Source],
        on_frame: Callable[[ReaderThread, Frame], None],
        began: float,
    ) -> None:
        self._open, self._on_frame = open, on_frame
        self.began = began
        self.progress_at, self.progress = began, 0
        """When pictures or frames last came and how many there were by then, noted by the supervisor."""
        self.frames = 0
        self.error: BaseException | None = None
        self.failure: str | None = None
        """Why it was given up."""
        self.over = threading.Event()
        """Set when nothing more is expected: it has ended, or was given up."""
        self.given_up = False
        self._source: Source | None = None
        self._thread = threading.Thread(target=self._run, name=f"read {name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def seen(self) -> int:
        return 0 if self._source is None else self._source.seen

    @property
    def errors(self) -> int:
        return 0 if self._source is None else self._source.errors

    @property
    def repairs(self) -> Mapping[str, int]:
        return {} if self._source is None else self._source.repairs

    @property
    def finished(self) -> bool:
        """Whether the stream had a known length and has come to its end: there is nothing to reconnect to."""
        return bool(getattr(self._source, "finished", False))

    def give_up(self, failure: str | None = None) -> None:
        """Expect nothing more of it. From any thread; does not wait."""
        if not self.over.is_set():
            self.failure = failure
        self.given_up = True
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
                if self.given_up:  # while it was being opened
                    return
                for frame in source:
                    self._on_frame(self, frame)
                    if self.given_up:
                        return
        except BaseException as error:  # whatever it is, the supervisor reports it
            self.error = error
        finally:
            self.over.set()


class LiveSource(Closeable):
    """The live source that `open(start)` opens, for as long as somebody iterates, which may be done once.

    Times are seconds since this object was made, plus `start`: strictly increasing, at least half a sampling
    period apart, with outages as long as they were (see `StreamClock`). The newest frame wins; frames that
    were not consumed in time are counted in `status.drops`. No failure of the source is raised, `status`
    reports it (but see `Supervision.first_must_open`, and `kind`); only a stream of known length ends by
    itself. `probe`
    is called with a count before each opening but the first; it raises LvmError where an attempt would only
    cost time.
    """

    live = True
    duration: float | None = None
    epoch: float | None = None

    def __init__(
        self,
        open: Callable[[float], Source],
        name: str,
        *,
        sample_fps: float,
        start: float = 0.0,
        settings: Supervision = DEFAULT_SUPERVISION,
        clock: Clock = boot_time,
        probe: Callable[[int], None] | None = None,
    ) -> None:
        super().__init__()
        SampleClock(sample_fps)  # a wrong rate fails here, not in a thread
        self.name = show_source(name)
        self._open, self._settings, self._clock, self._probe = open, settings, clock, probe
        self._times = StreamClock(sample_fps, start=start, clock=clock)
        self.tap: FrameTap | None = None
        self._change = threading.Condition()
        # Guarded by it:
        self._health = SourceHealth(self.name)
        self._newest: Frame | None = None  # not yet consumed
        self._period: float | None = None  # that a frame stands for, also right after opening again
        self._ended = False
        self._error: LvmError | None = None
        self._reader: ReaderThread | None = None
        self._past_seen = self._past_errors = 0
        self._past_repairs: Counter[str] = Counter()
        # Used by the supervisor's thread only:
        self._hanging: list[ReaderThread] = []
        self._backoff = Backoff(settings.first_wait_s, settings.max_wait_s)
        self._late_since: float | None = None
        self._late_allowed_at, self._late_pause_s = 0.0, settings.late_pause_s
        self._thread = threading.Thread(target=self._supervise, name=f"supervise {self.name}", daemon=True)

    def bookmark_at(self, t: float) -> Bookmark | None:
        """Return None: what is live cannot be read again."""
        return None

    # -- for every thread --------------------------------------------------------------------------------

    @property
    def seen(self) -> int:
        with self._change:
            return self._past_seen + (self._reader.seen if self._reader else 0)

    @property
    def errors(self) -> int:
        with self._change:
            return self._past_errors + (self._reader.errors if self._reader else 0)

    @property
    def repairs(self) -> Mapping[str, int]:
        with self._change:
            return self._past_repairs + Counter(self._reader.repairs if self._reader else {})

    @property
    def status(self) -> SourceStatus:
        """The status now. Immutable; from any thread, at any time."""
        with self._change:
            hanging = sum(reader.alive for reader in self._hanging)
            return self._health.snapshot(seen=self.seen, corrupt=self.errors, abandoned=hanging)

    def __iter__(self) -> Iterator[Frame]:
        """Yield the newest frame each time. Raises RuntimeError when iterated twice."""
        self._thread.start()
        while True:
            with self._change:
                self._change.wait_for(lambda: self._newest is not None or self._ended or self.closed)
                frame, self._newest = self._newest, None
            if frame is None or self.closed:
                break
            yield frame
        if self._error is not None and not self.closed:
            raise self._error

    def close(self) -> None:
        """End the iteration at once, in whatever thread it waits."""
        super().close()
        with self._change:
            reader = self._reader
            self._health.enter("ended", "it was closed", self._times.now())
            self._change.notify_all()
        # Not under the lock: closing is the source's own code.
        if reader is not None:
            reader.give_up()
            reader.join(JOIN_S)
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(JOIN_S)

    # -- the reader's thread -----------------------------------------------------------------------------

    def _open_source(self, reconnects: int) -> Source:
        if reconnects and self._probe is not None:
            self._probe(reconnects)
        source = self._open(self._times.now())
        if isinstance(source, BaseSource):
            source.tally.earlier = self._past_errors  # a page instead of each picture must not fill the log
        if self.tap is not None and isinstance(source, Tapped):
            source.tap = _RetimedTap(self.tap, self)
        return source

    def _deliver(self, reader: ReaderThread, frame: Frame) -> None:
        """Place a frame on the stream's clock and leave it for the consumer."""
        with self._change:
            if reader is not self._reader or reader.given_up or self.closed:
                self._health.drop("reconnect")
                return
            reader.frames += 1
            self._health.enter("live", "", self._times.now())
            t = self._times.place(frame.t)
            self._check_lag(reader)
            if t is None:
                self._health.drop("clock")
                return
            if self._newest is not None:
                self._health.drop("slow consumer")
            self._period = frame.period or self._period
            self._newest = Frame(frame.image, t, self._period)
            self._health.note_frame(self._newest)
            self._change.notify_all()

    def _check_lag(self, reader: ReaderThread) -> None:
        """Reconnect where pictures come later and later; where that did not help, follow our clock."""
        now = self._clock()
        if self._times.lag <= self._settings.late_after_s:
            self._late_since = None
            return
        self._late_since = now if self._late_since is None else self._late_since
        if now - self._late_since < BURST_S:
            return
        if now < self._late_allowed_at:
            self._times.catch_up()
            return
        self._late_allowed_at = now + self._late_pause_s
        self._late_pause_s = min(2 * self._late_pause_s, MAX_LATE_PAUSE_S)
        reader.give_up(f"its pictures came {self._times.lag:.1f} s late")

    # -- the supervisor's thread ------------------------------------------------------------------------

    def _supervise(self) -> None:
        try:
            pause: float | None = 0.0
            while pause is not None and not self._closed.wait(pause):
                pause = self._run_reader() if self._may_open() else POLL_S
        finally:
            with self._change:
                self._ended = True
                self._change.notify_all()

    def _may_open(self) -> bool:
        self._hanging = [reader for reader in self._hanging if reader.alive]
        if len(self._hanging) < self._settings.max_abandoned:
            return True
        why = f"{len(self._hanging)} reads of it hang in their driver; no more begin until one returns"
        with self._change:
            self._health.enter("failed", why, self._times.now())
        return False

    def _run_reader(self) -> float | None:
        """Open the source, watch until it is over, and return the seconds to wait; None to end."""
        reconnects = self._health.reconnects
        reader = ReaderThread(
            self.name, lambda: self._open_source(reconnects), self._deliver, began=self._clock()
        )
        with self._change:
            if self.closed:
                return None
            self._reader = reader
            self._times.begin_opening()
            self._late_since = None
            self._health.reset_rate()
            reader.start()  # under the lock: another thread that sees a reader may join it
        while not reader.over.wait(POLL_S):
            self._watch(reader)
        with self._change:
            self._reader = None
            self._past_seen += reader.seen
            self._past_errors += reader.errors
            self._past_repairs.update(reader.repairs)
        if reader.given_up:
            self._hanging.append(reader)
        return None if self.closed else self._conclude(reader)

    def _watch(self, reader: ReaderThread) -> None:
        """Update the state from what has come since the last call; give up a reader that is silent."""
        now, progress = self._clock(), reader.seen + reader.frames
        advanced = progress > reader.progress
        if advanced:
            reader.progress, reader.progress_at = progress, now
        silent_s = now - reader.progress_at
        with self._change:
            if self.closed:
                return
            if advanced:
                self._health.note_seen(reader.seen, now)
                self._health.enter("live", "", self._times.now())
            elif progress and silent_s > max(self._settings.stalled_after_s, 3 * self._health.period):
                self._health.enter("stalled", "no picture comes", self._times.now())
        settings = self._settings
        timeout_s = settings.picture_timeout_s if progress else settings.first_picture_timeout_s
        if silent_s > timeout_s:
            reader.give_up(f"no picture came for {timeout_s:.0f} s")

    def _conclude(self, reader: ReaderThread) -> float | None:
        """Report how a reader ended; return the seconds until the next one, None where there is none."""
        error, now = reader.error, self._clock()
        if reader.seen + reader.frames and now - reader.began >= self._settings.steady_after_s:
            self._backoff.reset()
        if reader.failure is None and error is None and reader.finished:
            with self._change:
                self._health.enter("ended", "the stream has come to its end", self._times.now())
            return None
        if isinstance(error, Recorded) and reader.failure is None:
            self._error = error
            return None
        refused = reader.failure is None and isinstance(error, Refused)
        first = self._settings.first_must_open and self._health.reconnects == 0
        asked = first and reader.failure is None
        final = error if asked and isinstance(error, (Refused, Unavailable)) else None
        with self._change:
            state: SourceState = "failed" if refused else "connecting"
            self._health.enter(state, self._explain(reader), self._times.now(), final=final is not None)
            if final is not None:
                self._error = final
                return None
            self._health.reconnects += 1
        reader.error = None  # its traceback holds the reader, and the reader holds it
        return self._settings.refused_wait_s if refused else self._backoff.next()

    def _explain(self, reader: ReaderThread) -> str:
        """Return why a reader is over, one sentence without credentials."""
        if reader.failure is not None:
            return reader.failure
        if reader.error is None:
            return "the stream ended"
        if isinstance(reader.error, LvmError):
            return hide_secrets(str(reader.error))
        why = f"reading it failed unexpectedly ({type(reader.error).__name__})"
        if why != self._health.why:  # once, not each second
            log.error("%s: %s", self.name, why, exc_info=reader.error)
        return why


class _RetimedTap:
    """Passes the pictures of one opening to the tap of the live source, with that source's time."""

    def __init__(self, tap: FrameTap, owner: LiveSource) -> None:
        self._tap, self._owner = tap, owner

    @property
    def active(self) -> bool:
        return not self._owner.closed and self._tap.active

    def offer(self, frame: Frame) -> None:
        if not self._owner.closed:
            self._tap.offer(Frame(frame.image, self._owner._times.now()))
