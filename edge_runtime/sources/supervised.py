"""A live source that is opened again whenever it fails, so that whoever reads it only ever sees frames.

Three threads take part. The consumer iterates. A session (`session.py`) opens and reads; its thread may hang
in a driver. The supervisor watches the session, gives it up, waits and begins the next one; it never calls a
driver, so it never hangs, and no camera waits for another.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

from edge_runtime.frame import Frame
from edge_runtime.sources.backoff import Backoff
from edge_runtime.sources.base import Closing, Refused, SampleClock, Source
from edge_runtime.sources.frame_tap import AtOurTime, Tap, Tapped
from edge_runtime.sources.reader_thread import Session
from edge_runtime.sources.source_status import Drop, Health, SourceStatus, State
from edge_runtime.sources.stream_clock import Clock, StreamClock, boot_time
from edge_runtime.sources.supervision_settings import DEFAULT, MOST_LATE_PAUSE_S, Supervision
from edge_runtime.system.secrets import redacted
from engines.errors import LvmError, Missing

log = logging.getLogger(__name__)

POLL_S = 0.2
BURST_S = 1.0
"""For how long pictures may be late: what a network held back comes at once, and the present behind it."""
JOIN_S = 0.4
"""How long `close` waits for each thread: some pictures. One that sits in a read ends when that times out."""


class Supervised(Closing):
    """The live source that `open(start)` opens, for as long as anybody iterates, which may be done once.

    Times are seconds since this object was made, plus `start`: strictly increasing, at least half a sampling
    period apart, with outages as long as they were (see `StreamClock`). The newest frame wins; what nobody
    took in time is counted in `status.drops`. No failure of the source is raised, `status` tells it (but see
    `Supervision.first_must_open`); only a stream of known length ends by itself. `probe` is called with a
    count before each opening but the first and raises LvmError where trying would only take long.
    """

    live = True
    duration: float | None = None

    def __init__(
        self,
        open: Callable[[float], Source],
        name: str,
        *,
        sample_fps: float,
        start: float = 0.0,
        settings: Supervision = DEFAULT,
        clock: Clock = boot_time,
        probe: Callable[[int], None] | None = None,
    ) -> None:
        super().__init__()
        SampleClock(sample_fps)  # a wrong rate fails here, not in a thread
        self.name = redacted(name)
        self._open, self._settings, self._clock, self._probe = open, settings, clock, probe
        self._times = StreamClock(sample_fps, start=start, clock=clock)
        self.tap: Tap | None = None
        self._change = threading.Condition()
        # All of these are guarded by it.
        self._health = Health(self.name)
        self._slot: Frame | None = None
        self._ended = False
        self._error: LvmError | None = None
        self._paused = False
        self._session: Session | None = None
        self._past_seen = self._past_errors = 0
        # These belong to the supervisor.
        self._hanging: list[Session] = []
        self._backoff = Backoff(settings.first_wait_s, settings.most_wait_s)
        self._late_since: float | None = None
        self._late_allowed_at, self._late_pause_s = 0.0, settings.late_pause_s
        self._thread = threading.Thread(target=self._supervise, name=f"supervise {self.name}", daemon=True)

    # -- what everybody may ask --------------------------------------------------------------------------

    @property
    def seen(self) -> int:
        with self._change:
            return self._past_seen + (self._session.seen if self._session else 0)

    @property
    def errors(self) -> int:
        with self._change:
            return self._past_errors + (self._session.errors if self._session else 0)

    @property
    def dropped(self) -> int:
        """Sampled frames that were read and that nobody got."""
        with self._change:
            return sum(self._health.drops.values())

    @property
    def status(self) -> SourceStatus:
        """How it is doing now. Immutable; from any thread, at any time."""
        with self._change:
            hanging = sum(session.alive for session in self._hanging)
            return self._health.snapshot(seen=self.seen, corrupt=self.errors, abandoned=hanging)

    def pause(self) -> None:
        """Privacy: from the return of this call on, no frame leaves. The connection stays."""
        with self._change:
            self._paused = True
            if self._slot is not None:
                self._slot = None
                self._drop("privacy pause")

    def resume(self) -> None:
        """The end of a pause; only frames that arrive from now on leave."""
        with self._change:
            self._paused = False

    def __iter__(self) -> Iterator[Frame]:
        """Frames as they are newest. Raises RuntimeError when iterated twice."""
        self._thread.start()
        while (frame := self._next()) is not None:
            yield frame
        if self._error is not None and not self.closed:
            raise self._error

    def close(self) -> None:
        """End the iteration at once, in whatever thread it waits."""
        super().close()
        with self._change:
            session = self._session
            self._health.enter("ended", "it was closed", self._times.now())
            self._change.notify_all()
        # Not under the lock: closing is the source's own code.
        if session is not None:
            session.give_up()
            session.join(JOIN_S)
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(JOIN_S)

    # -- frames: from the session's thread to the consumer's --------------------------------------------

    def _next(self) -> Frame | None:
        with self._change:
            self._change.wait_for(lambda: self._slot is not None or self._ended or self.closed)
            frame, self._slot = self._slot, None
        return None if self.closed else frame

    def _take(self, session: Session, frame: Frame) -> None:
        with self._change:
            if session is not self._session or session.given_up or self.closed:
                self._drop("reconnect")
                return
            session.frames += 1
            self._health.enter("live", "", self._times.now())
            t = self._times.place(frame.t)
            self._mind_lag(session)
            if self._paused:
                self._drop("privacy pause")
            elif t is None:
                self._drop("clock")
            else:
                if self._slot is not None:
                    self._drop("slow consumer")
                self._slot = Frame(frame.image, t)
                self._health.frame(self._slot)
                self._change.notify_all()

    def _drop(self, reason: Drop) -> None:
        self._health.drops[reason] += 1

    def _mind_lag(self, session: Session) -> None:
        """Pictures that come later and later: connect anew, or, where that was no help, go by our clock."""
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
        self._late_pause_s = min(2 * self._late_pause_s, MOST_LATE_PAUSE_S)
        session.give_up(f"its pictures came {self._times.lag:.1f} s late")

    # -- the supervisor's thread ------------------------------------------------------------------------

    def _supervise(self) -> None:
        try:
            pause: float | None = 0.0
            while pause is not None and not self._closed.wait(pause):
                pause = self._one_session() if self._may_open() else POLL_S
        finally:
            with self._change:
                self._ended = True
                self._change.notify_all()

    def _may_open(self) -> bool:
        self._hanging = [session for session in self._hanging if session.alive]
        if len(self._hanging) < self._settings.most_abandoned:
            return True
        why = f"{len(self._hanging)} reads of it hang in their driver; no more begin until one returns"
        with self._change:
            self._health.enter("failed", why, self._times.now())
        return False

    def _one_session(self) -> float | None:
        """Open, watch until it is over, and say how long to wait; None when there is nothing to wait for."""
        session = Session(self.name, self._opening(self._health.reconnects), self._take, self._clock())
        with self._change:
            if self.closed:
                return None
            self._session = session
            self._times.begin()
            self._late_since = None
            self._health.forget_rate()
            session.start()  # under the lock: whoever sees a session may join its thread
        while not session.over.wait(POLL_S):
            self._watch(session)
        with self._change:
            self._session = None
            self._past_seen += session.seen
            self._past_errors += session.errors
        if session.given_up:
            self._hanging.append(session)
        return None if self.closed else self._after(session)

    def _opening(self, reconnects: int) -> Callable[[], Source]:
        def opening() -> Source:
            if reconnects and self._probe is not None:
                self._probe(reconnects)
            source = self._open(self._times.now())
            if self.tap is not None and isinstance(source, Tapped):
                source.tap = AtOurTime(self.tap, self._times.now, lambda: not (self._paused or self.closed))
            return source

        return opening

    def _watch(self, session: Session) -> None:
        now, came = self._clock(), session.seen + session.frames
        advanced = came > session.came
        if advanced:
            session.came, session.moved = came, now
        quiet = now - session.moved
        with self._change:
            if self.closed:
                return
            if advanced:
                self._health.pictures(session.seen, now)
                self._health.enter("live", "", self._times.now())
            elif came and quiet > max(self._settings.stalled_after_s, 3 * self._health.period):
                self._health.enter("stalled", "no picture comes", self._times.now())
        patience = self._settings.picture_timeout_s + (0 if came else self._settings.open_timeout_s)
        if quiet > patience:
            session.give_up(f"no picture came for {patience:.0f} s")

    def _after(self, session: Session) -> float | None:
        """Say what happened, and for how long nothing will."""
        error, now = session.error, self._clock()
        if session.seen + session.frames and now - session.begun >= self._settings.steady_after_s:
            self._backoff.reset()
        refused = isinstance(error, Refused) and session.failure is None
        if session.failure is None and error is None and session.finished:
            with self._change:
                self._health.enter("ended", "the stream has come to its end", self._times.now())
            return None
        with self._change:
            state: State = "failed" if refused else "connecting"
            self._health.enter(state, self._reason(session), self._times.now())
            if self._hopeless(session):
                self._error = error if isinstance(error, LvmError) else None
                return None
            self._health.reconnects += 1
        session.error = None  # its traceback holds the session, and the session it
        return self._settings.refused_wait_s if refused else self._backoff.next()

    def _hopeless(self, session: Session) -> bool:
        first = self._settings.first_must_open and self._health.reconnects == 0
        return first and session.failure is None and isinstance(session.error, (Refused, Missing))

    def _reason(self, session: Session) -> str:
        if session.failure is not None:
            return session.failure
        if session.error is None:
            return "the stream ended"
        if isinstance(session.error, LvmError):
            return redacted(str(session.error))
        why = f"reading it failed unexpectedly ({type(session.error).__name__})"
        if why != self._health.why:  # once, not each second
            log.error("%s: %s", self.name, why, exc_info=session.error)
        return why
